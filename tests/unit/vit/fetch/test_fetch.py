# SPDX-License-Identifier: Apache-2.0
"""python -m vit.fetch against a server that breaks in every way: the file is whole, or not there and told why."""

from __future__ import annotations

import fcntl
import io
import random
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")

from tests.support.webserver import (  # noqa: E402  # after the skip
    Fault,
    Handler,
    Site,
    cut_after,
    cut_before_the_answer,
    serving,
    silent_after,
    slow,
    status,
)
from vit.fetch.__main__ import main  # noqa: E402

ROOT = Path(__file__).resolve().parents[4]
PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>" + b" " * 3000
XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
Fetch = Callable[..., tuple[int, str]]


def npz(num_bytes: int = 3 << 20) -> bytes:
    """An .npz of about that many bytes, which do not compress."""
    file = io.BytesIO()
    noise = np.random.RandomState(0).randint(0, 256, num_bytes).astype("uint8")
    np.savez(file, a=noise[: num_bytes // 2], b=noise[num_bytes // 2 :])
    return file.getvalue()


CONTENT = npz()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(CONTENT) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "pretrained" / "file.npz"


@pytest.fixture
def fetch(target: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """The exit code and the talk of a download of the site's file, or of another address."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def run(site: Site, *flags: str, url: str = "") -> tuple[int, str]:
        code = main([url or site.url, str(target), "--pause_seconds", "0.01", "--tries", "4", *flags])
        return code, capfd.readouterr().err

    return run


def check_whole(target: Path) -> None:
    """The file is the server's, and nothing lies beside it."""
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_a_file_comes_whole_and_is_checked(site: Site, fetch: Fetch, target: Path) -> None:
    code, said = fetch(site)
    assert code == 0, said
    check_whole(target)
    assert "MD5" in said
    assert "2 whole arrays" in said
    assert len(site.asked) == 1


MENDED: dict[str, list[Fault]] = {
    "cut before the answer": [cut_before_the_answer],
    "cut after the headers": [cut_after(0)],
    "cut after a byte": [cut_after(1)],
    "cut in the middle, three times": [cut_after(1 << 20), cut_after(1000), cut_after(1 << 19)],
    "cut before the last byte": [cut_after(len(CONTENT) - 1)],
    "429": [status(429, Retry_After="0")],
    "500": [status(500, b"oops")],
    "503 with a page": [status(503, PAGE)],
    "silent in the middle": [silent_after(1 << 20, 5)],
    "slow, but steady": [slow(20, 0.05)],
    "a cut after a 503 after a cut": [cut_after(1 << 20), status(503), cut_after(5)],
    "416 to the rest": [cut_after(1 << 20), status(416)],
}


@pytest.mark.parametrize("name", MENDED)
def test_what_passes_is_mended(site: Site, fetch: Fetch, target: Path, name: str) -> None:
    site.faults = list(MENDED[name])
    code, said = fetch(site, "--stall_seconds", "2")
    assert code == 0, said
    check_whole(target)


def test_a_rest_is_asked_for_from_where_the_part_ends(site: Site, fetch: Fetch, target: Path) -> None:
    site.faults = [cut_after(1 << 20)]
    assert fetch(site)[0] == 0
    assert site.asked[1]["Range"] == f"bytes={1 << 20}-"
    assert site.asked[1]["If-Range"] == site.stated()["ETag"]


def test_cuts_at_random_places_are_mended(site: Site, fetch: Fetch, target: Path) -> None:
    places = random.Random(0)
    for _ in range(6):
        site.faults = [cut_after(places.randrange(len(CONTENT))) for _ in range(3)]
        assert fetch(site)[0] == 0
        check_whole(target)
        target.unlink()


def test_a_range_that_is_ignored_starts_anew(site: Site, fetch: Fetch, target: Path) -> None:
    def whole_again(handler: Handler) -> None:
        del handler.headers["Range"]
        handler.give()

    site.faults = [cut_after(1 << 20), whole_again]
    assert fetch(site)[0] == 0
    check_whole(target)


def test_a_file_that_changes_between_tries_is_not_mixed(site: Site, fetch: Fetch, target: Path) -> None:
    old = b"PK\x03\x04" + bytes(2 << 20)
    site.content = old

    def cut_then_change(handler: Handler) -> None:
        handler.give(upto=1 << 20)
        site.content = CONTENT

    site.faults = [cut_then_change]
    assert fetch(site)[0] == 0
    check_whole(target)


def test_a_partial_answer_of_another_version_is_not_mixed(site: Site, fetch: Fetch, target: Path) -> None:
    def ignores_if_range(handler: Handler) -> None:
        handler.headers.replace_header("If-Range", '"another"')
        handler.give(ETag='"another"')

    site.faults = [cut_after(1 << 20), ignores_if_range]
    code, said = fetch(site)
    assert code == 0, said
    assert "another one than before" in said
    check_whole(target)


def test_a_server_without_versions_is_asked_for_all_of_it_again(site: Site, fetch: Fetch, target: Path) -> None:
    site.headers = {"ETag": None}
    site.faults = [cut_after(1 << 20)]
    assert fetch(site)[0] == 0
    assert "Range" not in site.asked[1]
    check_whole(target)


REFUSED: dict[str, tuple[Fault, int, str]] = {
    "403": (status(403, XML), 9, "HTTP 403 .*AccessDenied"),
    "404": (status(404, PAGE), 9, "HTTP 404 .*Log in"),
    "a page": (status(200, PAGE), 8, "answers with a page"),
    "an XML error with 200": (status(200, XML), 8, "answers with a page"),
    "another file": (status(200, b"GIF89a" + bytes(5000)), 8, r"does not begin as a \.npz file"),
    "nothing": (status(200), 8, "not a complete archive"),
    "packed": (lambda handler: handler.give(**{"Content-Encoding": "gzip"}), 8, r"packed \(gzip\)"),
    "a redirect to itself": (status(302, Location="/bucket/file.npz"), 9, "HTTP 404|without end"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_is_refused_in_one_line(site: Site, fetch: Fetch, target: Path, name: str) -> None:
    fault, wanted, words = REFUSED[name]
    site.faults = [fault] * 30
    code, said = fetch(site)
    assert code == wanted, said
    last = said.rstrip().splitlines()[-1]
    assert re.search(words, last), said
    assert "Traceback" not in said
    assert not target.exists()


def test_failures_without_end_are_given_up_and_the_next_start_goes_on(site: Site, fetch: Fetch, target: Path) -> None:
    site.faults = [cut_after(1 << 21), *[status(503)] * 4]
    code, said = fetch(site)
    assert code == 9
    assert "4 tries failed, the last one: HTTP 503" in said
    assert not target.exists()
    site.faults, site.asked = [], []
    code, said = fetch(site)
    assert code == 0
    assert site.asked[0]["Range"] == f"bytes={1 << 21}-"
    check_whole(target)


def test_no_server_is_told_as_such(site: Site, fetch: Fetch) -> None:
    code, said = fetch(site, url="http://127.0.0.1:9/file.npz")
    assert code == 9
    assert "Connection refused" in said


def test_a_server_that_says_when_is_asked_then(site: Site, fetch: Fetch) -> None:
    site.faults = [status(429, Retry_After="1")]
    began = time.monotonic()
    assert fetch(site)[0] == 0
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("header", ["Content-Length", "x-goog-hash"])
def test_a_wrong_length_or_checksum_leaves_nothing(site: Site, fetch: Fetch, target: Path, header: str) -> None:
    wrong = {"Content-Length": str(len(CONTENT) + 10), "x-goog-hash": "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    site.headers = {header: wrong[header]}
    site.faults = [lambda handler: handler.give(upto=len(CONTENT))] * 8 if header == "Content-Length" else []
    code, said = fetch(site)
    assert code in (8, 9), said
    assert not target.exists()
    if header == "x-goog-hash":
        assert "damaged (MD5" in said
        assert not list(target.parent.iterdir())


def test_where_no_md5_is_stated_the_file_is_read_instead(site: Site, fetch: Fetch, target: Path) -> None:
    site.headers = {"x-goog-hash": "crc32c=AAAAAA=="}  # another file's, which nobody reads
    code, said = fetch(site)
    assert code == 0, said
    assert "the server states no MD5" in said
    check_whole(target)
    target.unlink()
    middle = len(CONTENT) // 2
    site.content = CONTENT[:middle] + bytes([CONTENT[middle] ^ 1]) + CONTENT[middle + 1 :]
    code, said = fetch(site)
    assert code == 8, said
    assert not list(target.parent.iterdir())


def test_the_md5_that_the_user_gives_stands_above_the_servers(site: Site, fetch: Fetch, target: Path) -> None:
    code, said = fetch(site, "--md5", "0" * 32)
    assert code == 8
    assert "not " + "0" * 32 in said


def test_a_file_that_is_no_archive_within_is_refused_without_any_checksum(
    site: Site, fetch: Fetch, target: Path
) -> None:
    site.content = CONTENT[:-4000]
    site.headers = {"x-goog-hash": None}
    code, said = fetch(site)
    assert code == 8
    assert "not a complete archive" in said
    assert not target.exists()


def test_redirects_are_followed(site: Site, fetch: Fetch, target: Path) -> None:
    site.faults = [status(302, Location="/elsewhere/file.npz")]
    assert fetch(site)[0] == 0
    check_whole(target)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/file.npz"])
def test_redirects_away_from_the_web_are_refused(site: Site, fetch: Fetch, location: str) -> None:
    site.faults = [status(302, Location=location)]
    code, said = fetch(site)
    assert code == 9, said


def test_a_redirect_from_https_to_http_is_refused() -> None:
    import urllib.request

    from vit.errors import NetworkError
    from vit.fetch.http import _Redirects

    request = urllib.request.Request("https://a.example/x?signature=secret")
    with pytest.raises(NetworkError, match="leaves https") as caught:
        _Redirects().redirect_request(request, None, 302, "", {}, "http://a.example/x")
    assert "secret" not in str(caught.value)


def test_a_proxy_of_the_environment_is_asked(
    site: Site, fetch: Fetch, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.port}")
    assert fetch(site, url="http://storage.example/bucket/file.npz")[0] == 0
    assert site.asked[0]["Host"] == "storage.example"
    check_whole(target)


def test_a_file_that_is_there_is_left_and_another_one_is_refused(site: Site, fetch: Fetch, target: Path) -> None:
    assert fetch(site)[0] == 0
    before = target.stat().st_mtime_ns
    code, said = fetch(site)
    assert code == 0
    assert "is there already" in said
    assert target.stat().st_mtime_ns == before
    target.write_bytes(CONTENT[:-1] + b"x")
    code, said = fetch(site)
    assert code == 8
    assert "is another file" in said
    assert target.read_bytes() == CONTENT[:-1] + b"x"


def test_a_second_download_of_the_same_file_is_refused(site: Site, fetch: Fetch, target: Path) -> None:
    target.parent.mkdir()
    with target.with_name("file.npz.part").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = fetch(site)
    assert code == 3
    assert "another download writes it" in said


def test_a_folder_that_cannot_be_made_or_written_is_told(site: Site, fetch: Fetch, target: Path) -> None:
    target.parent.write_text("a file in its place")
    code, said = fetch(site)
    assert code == 7
    assert "cannot be written" in said


def test_a_folder_that_nobody_may_write_to_is_told(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """/sys refuses root too."""
    assert main([site.url, "/sys/kernel/file.npz"]) == 7
    assert "cannot be written (" in capfd.readouterr().err


def test_a_full_disk_is_told_and_the_part_stays(site: Site, fetch: Fetch, target: Path) -> None:
    """A limit on the size of files stands in for the disk: both fail the write itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        code = main([site.url, str(target), "--pause_seconds", "0.01"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 7
    assert not target.exists()
    assert target.with_name("file.npz.part").stat().st_size == 1 << 20
    assert fetch(site)[0] == 0
    check_whole(target)


def start(site: Site, target: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vit.fetch", site.url, str(target)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_stop_keeps_the_part(site: Site, fetch: Fetch, target: Path) -> None:
    site.faults = [silent_after(1 << 20, 30)]
    process = start(site, target)
    part = target.with_name("file.npz.part")
    while not part.exists() or part.stat().st_size < 1 << 20:
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143, said
    assert "stopped as asked" in said
    assert fetch(site)[0] == 0
    assert site.asked[-1]["Range"] == f"bytes={1 << 20}-"
    check_whole(target)


def test_a_kill_at_any_moment_ends_in_the_same_file(site: Site, fetch: Fetch, target: Path) -> None:
    moments = random.Random(1)
    site.faults = [slow(40, 0.02)] * 5
    for _ in range(3):
        process = start(site, target)
        time.sleep(0.1 + moments.random() * 0.9)
        process.kill()
        process.communicate()
        assert not target.exists() or target.read_bytes() == CONTENT
    assert fetch(site)[0] == 0
    assert target.read_bytes() == CONTENT


def test_off_a_terminal_the_lines_are_few(site: Site, fetch: Fetch) -> None:
    site.faults = [slow(200, 0.001)]
    assert len(fetch(site)[1].splitlines()) < 20


def test_weights_are_loaded_into_the_model_that_is_named(site: Site, fetch: Fetch, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    from vit.model.transformer import create_model
    from vit.weights.load import save_npz

    save_npz(create_model("tiny", img_size=32, num_classes=10), tmp_path / "tiny.npz")
    site.content = (tmp_path / "tiny.npz").read_bytes()
    code, said = fetch(site, "--model_type", "ViT-B_16")
    assert code == 2
    assert "looks like tiny" in said
    code, said = fetch(site, "--model_type", "tiny")
    assert code == 0, said
    assert "loaded into tiny" in said


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file.npz", "not the address"),
        ("ftp://a/b", "not the address"),
        ("http://u:secret@a/b", "a user or a password"),
    ],
)
def test_a_wrong_address_is_a_wrong_flag(fetch: Fetch, site: Site, url: str, words: str) -> None:
    code, said = fetch(site, url=url)
    assert code == 2
    assert words in said
    assert "secret" not in said


def test_needs_no_torch_and_no_numpy(site: Site, target: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = None\n"
        "import runpy; sys.argv = ['vit.fetch', *sys.argv[1:]]; runpy.run_module('vit.fetch', run_name='__main__')"
    )
    site.headers = {"x-goog-hash": site.stated()["x-goog-hash"].split(",")[0]}
    words = [sys.executable, "-c", program, site.url, str(target), "--model_type", "tiny"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not loaded into a model" in done.stderr
    assert zipfile.is_zipfile(target)
