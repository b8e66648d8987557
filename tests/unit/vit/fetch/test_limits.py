# SPDX-License-Identifier: Apache-2.0
"""python -m vit.fetch: files too large, bombs, changed under an ETag that stays, not the published ones."""

from __future__ import annotations

import gzip
import io
import resource
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")

from tests.support.webserver import Handler, Site, cut_after, serving  # noqa: E402
from tests.unit.vit.fetch.test_fetch import CONTENT, npz  # noqa: E402  # after the skip
from vit.fetch.__main__ import main  # noqa: E402
from vit.pins import FASHION_PINS, PINS, pin_of_url  # noqa: E402

MIB = 1 << 20
NO_CHECKSUM = {"x-goog-hash": None}
Get = Callable[..., tuple[int, str, Path]]


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(CONTENT) as running:
        yield running


@pytest.fixture
def get(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Get:
    """The exit code, the talk and the path of a download under a name."""

    def run(name: str, *flags: str) -> tuple[int, str, Path]:
        path = tmp_path / "into" / name
        url = f"http://127.0.0.1:{site.port}/{name}"
        code = main([url, str(path), "--pause_seconds", "0.01", "--tries", "4", *flags])
        return code, capfd.readouterr().err, path

    return run


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(**members: int) -> bytes:
    """A packed tar of members of zeros."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, size in members.items():
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    return file.getvalue()


# Size


def test_a_stated_size_above_the_limit_is_refused_before_a_byte_is_kept(site: Site, get: Get) -> None:
    code, said, path = get("a.bin", "--max_mib", "1")
    assert (code, "has more than 1 MiB" in said, "--max_mib raises" in said) == (8, True, True)
    assert not list(path.parent.iterdir())
    assert get("a.bin", "--max_mib", "4")[0] == 0


def test_a_body_without_a_stated_size_is_cut_at_the_limit(site: Site, get: Get) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        for _ in range(64):
            handler.wfile.write(b"x" * MIB)

    site.faults = [endless]
    code, said, path = get("a.bin", "--max_mib", "2")
    assert (code, "has more than 2 MiB" in said) == (8, True)
    assert not list(path.parent.iterdir())


# Bombs


BOMBS: dict[str, Callable[[], bytes]] = {
    "one.zip": lambda: zipped(a=bytes(24 * MIB)),
    "many.zip": lambda: zipped(**{f"a{number}": bytes(4 * MIB) for number in range(6)}),
    "a.npz": lambda: zipped(a=b"\x93NUMPY" + bytes(24 * MIB)),
    "a.gz": lambda: gzip.compress(bytes(24 * MIB)),
    "twice.gz": lambda: gzip.compress(bytes(4 * MIB)) * 6,
    "a.tar.gz": lambda: tarred(a=24 * MIB),
    "many.tgz": lambda: tarred(**{f"a{number}": 4 * MIB for number in range(6)}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_and_the_flag_lets_it_in(name: str, site: Site, get: Get) -> None:
    site.content, site.headers = BOMBS[name](), dict(NO_CHECKSUM)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, said, path = get(name, "--max_unpacked_mib", "8")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10
    assert (code, "would unpack to" in said, "--max_unpacked_mib raises" in said) == (8, True, True), said
    assert not list(path.parent.iterdir())
    assert get(name, "--max_unpacked_mib", "32")[0] == 0


def test_a_declared_size_is_refused_before_anything_is_unpacked(site: Site, get: Get) -> None:
    content = bytearray(zipped(a=b"small"))
    place = content.rindex(b"PK\x01\x02") + 24  # uncompressed size in the central directory, APPNOTE 4.3.12
    content[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    site.content = bytes(content)
    code, said, _ = get("a.zip", "--max_unpacked_mib", "1024")
    assert (code, "would unpack to 4095 MiB" in said) == (8, True), said


def test_a_declared_size_that_is_too_small_does_not_help_a_bomb(site: Site, get: Get) -> None:
    content = bytearray(zipped(a=bytes(24 * MIB)))
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = (5).to_bytes(4, "little")
    site.content = bytes(content)
    code, said, path = get("a.zip", "--max_unpacked_mib", "16")
    assert code == 8, said
    assert not list(path.parent.iterdir())


# An ETag that stays


def changed_after(site: Site, num_bytes: int, other: bytes) -> None:
    """The server sends a start, then holds another file of the same length under the same ETag."""
    site.headers = {**site.headers, "ETag": '"stays"'}
    site.faults = [
        lambda handler: handler.give(upto=num_bytes),
        lambda handler: (setattr(site, "content", other), handler.give())[1],
    ]


OTHER = npz()[:-1000] + CONTENT[-1000:]
OTHER = bytes(255 - byte if 2 * MIB < place < 2 * MIB + 50 else byte for place, byte in enumerate(OTHER))


def test_a_file_that_changes_under_its_etag_fails_the_servers_checksum(site: Site, get: Get) -> None:
    site.headers = {"x-goog-hash": site.stated()["x-goog-hash"]}
    changed_after(site, MIB, OTHER)
    code, said, path = get("a.bin")
    assert (code, "the downloaded file is damaged (MD5" in said) == (8, True), said
    assert not list(path.parent.iterdir())


def test_without_a_checksum_an_archive_fails_its_own(site: Site, get: Get) -> None:
    site.headers = dict(NO_CHECKSUM)
    changed_after(site, MIB, OTHER)
    code, said, path = get("a.npz")
    assert (code, "damaged" in said or "not a complete archive" in said) == (8, True), said
    assert not list(path.parent.iterdir())


def test_a_part_of_what_cannot_be_checked_is_not_continued(site: Site, get: Get) -> None:
    site.headers = dict(NO_CHECKSUM)
    changed_after(site, MIB, OTHER)
    code, said, path = get("a.bin")
    assert code == 0, said
    assert path.read_bytes() == OTHER
    assert not any("Range" in asked for asked in site.asked)


def test_a_part_is_continued_where_the_user_gives_a_checksum(site: Site, get: Get) -> None:
    site.headers = dict(NO_CHECKSUM)
    site.faults = [cut_after(MIB)]
    import hashlib

    code, said, path = get("a.bin", "--sha256", hashlib.sha256(CONTENT).hexdigest().upper())
    assert code == 0, said
    assert site.asked[1]["Range"] == f"bytes={MIB}-"
    assert path.read_bytes() == CONTENT


# SHA-256


def test_a_wrong_sha256_leaves_nothing(site: Site, get: Get) -> None:
    code, said, path = get("a.npz", "--sha256", "0" * 64)
    assert (code, "damaged (SHA-256" in said) == (8, True), said
    assert not list(path.parent.iterdir())


def test_a_file_by_a_published_name_must_be_the_published_one(site: Site, get: Get) -> None:
    site.content = tarred(a=10)
    code, said, path = get("cifar-10-python.tar.gz")
    assert (code, PINS["cifar-10-python.tar.gz"] in said) == (8, True), said
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("url", "pin"),
    [
        ("https://mirror/x/cifar-100-binary.tar.gz?sig=1", PINS["cifar-100-binary.tar.gz"]),
        ("http://fashion-mnist.example/train-labels-idx1-ubyte.gz", FASHION_PINS["train-labels-idx1-ubyte.gz"]),
        ("http://yann.example/exdb/mnist/train-labels-idx1-ubyte.gz", None),
        ("https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz", None),
    ],
)
def test_pins_go_by_the_name_and_fashion_mnists_by_the_address(url: str, pin: str | None) -> None:
    assert pin_of_url(url) == pin


@pytest.mark.parametrize(
    "flags", [("--sha256", "12"), ("--max_mib", "0"), ("--max_unpacked_mib", "-1"), ("--md5", "x" * 32)]
)
def test_wrong_limits_and_checksums_are_wrong_flags(flags: tuple[str, str], get: Get) -> None:
    code, said, _ = get("a.npz", *flags)
    assert (code, flags[0] in said) == (2, True)
