# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.holding import ask, line_of, start_holder
from tests.support.running import FLAGS, ROOT, clean_environment
from vit.errors import EXIT_CODES, LockedError, StorageError
from vit.run.folder import RunFolder

RACES, SEED = int(os.environ.get("LOCK_RACES", "2")), int(os.environ.get("LOCK_SEED", "0"))
LOST = int(os.environ.get("LOST_FOLDERS", "2"))
ERRORS = ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL")


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test starts ends with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def copy_in_its_place(path: Path) -> None:
    shutil.copytree(path, path.with_name("copy"))
    shutil.rmtree(path)
    path.with_name("copy").rename(path)


def put_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("absent")


def renew_lock(path: Path) -> None:
    content = (path / "lock").read_bytes()
    (path / "lock").unlink()
    (path / "lock").write_bytes(content)


def link_lock(path: Path) -> None:
    (path / "lock").rename(path / "moved")
    (path / "lock").symlink_to("moved")


LOSSES: dict[str, Callable[[Path], object]] = {
    "deleted": shutil.rmtree,
    "renamed": lambda path: path.rename(path.with_name("moved")),
    "made anew": lambda path: (shutil.rmtree(path), path.mkdir()),
    "replaced by a copy": copy_in_its_place,
    "replaced by a file": lambda path: (shutil.rmtree(path), path.touch()),
    "replaced by a link that leads nowhere": put_link,
    "parent renamed": lambda path: path.parent.rename(path.parent.with_name("elsewhere")),
    "lock deleted": lambda path: (path / "lock").unlink(),
    "lock made anew with the same content": renew_lock,
    "lock behind a link": link_lock,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_a_folder_that_is_not_the_one_opened_is_never_written(tmp_path: Path, lose: Callable[[Path], object]) -> None:
    path = tmp_path / "output/run"
    folder = RunFolder(path)
    folder.acquire()
    folder.add_metrics("{}")
    lose(path)
    before = sorted(tmp_path.rglob("*"))
    writes: tuple[Callable[[], object], ...] = (
        folder.verify,
        folder.make_checkpoints,
        lambda: folder.add_metrics("{}"),
        lambda: folder.add_event("stop", 1),
        lambda: folder.write_evaluation({}),
        lambda: folder.point("last", "step_00000001"),
    )
    for write in writes:
        with pytest.raises(StorageError, match=r"another folder or mount|was deleted, renamed or unmounted") as caught:
            write()
        assert caught.value.exit_code == 7
    folder.release()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["deleted", "renamed", "made anew", "replaced by a copy", "parent renamed"])
def test_a_folder_lost_after_it_was_verified_gets_no_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (folder := RunFolder(tmp_path / "output/run")).acquire()
    assert folder.lock is not None
    monkeypatch.setattr(folder.lock, "verify_place", lambda: None)
    LOSSES[name](folder.path)
    with contextlib.suppress(StorageError):
        folder.make_checkpoints()
    folder.release()
    assert not folder.checkpoints.exists()


def test_a_mount_over_the_folder_is_another_folder(tmp_path: Path) -> None:
    program = f"""
import ctypes, pathlib, subprocess, sys
from vit.errors import StorageError
from vit.run.folder import RunFolder
folder = RunFolder(pathlib.Path({str(tmp_path / "run")!r}))
folder.acquire()
done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", {str(tmp_path / "run")!r}])
if done.returncode:
    sys.exit(100)
try:
    folder.verify()
except StorageError as error:
    sys.exit(error.exit_code)
"""
    done = subprocess.run(["unshare", "--mount", sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    if b"unshare failed" in done.stderr or done.returncode == 100:
        pytest.skip("mounts need root: run the tests as root")
    assert done.returncode == EXIT_CODES["storage"], done.stderr


def test_a_lock_that_another_run_wrote_is_its(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.acquire()
    (tmp_path / "run/lock").write_text("host other-7 pid 12 machine a nonce b\n")
    with pytest.raises(LockedError, match="run: is in use by host other-7 pid 12, "):
        folder.verify()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x1b[2J pid 1", b"host a\x1b]0;x\x07 pid 1 ", b"x" * 10**6])
def test_a_holder_of_any_bytes_is_named_in_one_printable_line(tmp_path: Path, content: bytes) -> None:
    holder = RunFolder(tmp_path / "run")
    holder.acquire()
    (tmp_path / "run/lock").write_bytes(content)
    with pytest.raises(LockedError, match="is in use by an unknown process") as caught:
        RunFolder(tmp_path / "run").acquire()
    assert str(caught.value).isprintable()


def test_a_lock_that_is_a_link_a_pipe_or_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    lock, victim = tmp_path / "lock", tmp_path / "victim"
    victim.write_text("kept")
    makers: tuple[Callable[[], object], ...] = (
        lambda: lock.symlink_to(victim),
        lambda: (lock.unlink(), os.mkfifo(lock)),
        lambda: (lock.unlink(), lock.mkdir()),
    )
    for make in makers:
        make()
        with pytest.raises(StorageError, match=str(tmp_path)):
            RunFolder(tmp_path).acquire()
    assert victim.read_text() == "kept"


def test_a_forked_loader_that_outlives_its_rank_does_not_hold_the_lock(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, signal
from vit.run.folder import RunFolder
folder = RunFolder(pathlib.Path({str(tmp_path)!r})); folder.acquire()
if not os.fork():
    print(os.getpid(), flush=True)
signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        RunFolder(tmp_path).acquire()
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize("error", ERRORS)
def test_without_flock_a_heartbeat_holds_the_folder_and_goes_with_its_run(
    tmp_path: Path, processes: list[subprocess.Popen[str]], error: str
) -> None:
    processes.append(holder := start_holder(tmp_path, error, beat_seconds=0.5))
    name = errno.errorcode[getattr(errno, error)]  # EOPNOTSUPP is ENOTSUP
    assert f"this mount has no flock ({name})" in line_of(holder, str(tmp_path))
    assert line_of(holder, "held") == "held\n"
    processes.append(other := start_holder(tmp_path, error, beat_seconds=0.5))
    assert f"is in use by host {os.uname().nodename} pid {holder.pid}, wait" in line_of(other, "ended")
    assert other.wait() == EXIT_CODES["locked"]
    assert ask(holder) == "still held\n"
    holder.communicate()
    assert not list(tmp_path.glob("lock.*"))


def test_a_folder_set_aside_without_flock_has_no_lock_file_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "a stand-in for NFS without lockd")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = RunFolder(tmp_path / "run")
    folder.acquire()
    folder.write_config({})
    old = folder.set_aside()
    assert old is not None
    assert [path.name for path in old.glob("lock*")] == ["lock"]
    assert sorted(path.name for path in folder.path.glob("lock*")) == ["lock", "lock.1"]
    folder.verify()
    folder.release()


@pytest.mark.parametrize("number", [errno.EIO, errno.EPERM, errno.EBADF])
def test_any_other_error_of_flock_is_no_reason_to_go_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match=os.strerror(number)):
        RunFolder(tmp_path / "run").acquire()


def test_a_killed_owners_lock_is_taken_over_after_its_silence_also_with_flock(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    for error in ("ENOLCK", "ENOLCK", "none"):
        started = time.monotonic()
        processes.append(holder := start_holder(tmp_path, error))
        assert line_of(holder, "held") == "held\n"
        assert time.monotonic() - started > 0.4 or len(processes) == 1
        holder.kill()
        holder.wait()
    assert [path.name for path in tmp_path.glob("lock*")] == ["lock"]


def test_an_owner_that_stood_still_too_long_has_lost_the_folder(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    processes.append(owner := start_holder(tmp_path, "ENOLCK"))
    line_of(owner, "held")
    owner.send_signal(signal.SIGSTOP)
    processes.append(heir := start_holder(tmp_path, "ENOLCK"))
    assert line_of(heir, "held") == "held\n"
    owner.send_signal(signal.SIGCONT)
    assert f"pid {heir.pid}" in ask(owner)
    assert owner.wait() == EXIT_CODES["locked"]
    assert ask(heir) == "still held\n"


@pytest.mark.parametrize("race", range(RACES))
def test_of_all_that_want_a_folder_without_flock_at_most_one_has_it(
    tmp_path: Path, processes: list[subprocess.Popen[str]], race: int
) -> None:
    """Some start together, over a dead owner's lock or none; then the owner is stopped for a while."""
    random = Random(SEED * 1_000_003 + race)
    if random.random() < 0.7:
        (tmp_path / "lock.3").write_text("host gone pid 1 machine m nonce n beat 000000000001\n")
    for _ in range(random.randint(2, 6)):
        processes.append(start_holder(tmp_path, "ENOLCK"))
        time.sleep(random.choice((0, 0, 0.05)))
    owners = [process for process in processes if line_of(process, "held") == "held\n"]
    codes = [process.wait() for process in processes if process not in owners]
    assert codes == [EXIT_CODES["locked"]] * len(codes)
    assert ["still held" in ask(owner) for owner in owners].count(True) <= 1  # of two, one lost it to the other
    for owner in owners:
        owner.send_signal(signal.SIGSTOP)
    processes.append(heir := start_holder(tmp_path, "ENOLCK"))
    taken = line_of(heir, "held") == "held\n"
    for owner in owners:
        owner.send_signal(signal.SIGCONT)
    assert [ask(owner) == "still held\n" for owner in owners].count(True) <= 1 - taken


def start_trainer(data: Path, output: Path, *flags: str, program: str = "") -> subprocess.Popen[str]:
    """One rank, after `program`."""
    run = f"{program}\nimport runpy\nrunpy.run_module('vit.train', run_name='__main__', alter_sys=True)"
    words = [*FLAGS, "--name", "run", "--data_path", str(data), "--output_dir", str(output), *flags]
    return subprocess.Popen(
        [sys.executable, "-c", run, *words],
        cwd=ROOT,
        env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def stop(process: subprocess.Popen[str]) -> None:
    """Return once every thread stands still: the signal alone takes effect later."""
    process.send_signal(signal.SIGSTOP)
    threads = Path("/proc", str(process.pid), "task")
    while any(") T " not in (thread / "stat").read_text() for thread in threads.iterdir()):
        time.sleep(0.01)


def named(root: Path) -> set[str]:
    """A folder and everything in it but what a save that was under way had not finished."""
    return {path for path in map(str, (root, *root.rglob("*"))) if "/.tmp_" not in path and os.path.lexists(path)}


@pytest.mark.parametrize("case", range(LOST))
def test_a_run_whose_folder_is_lost_ends_with_7_and_makes_nothing_anew(
    images: Path, tmp_path: Path, processes: list[subprocess.Popen[str]], case: int
) -> None:
    pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    run, random = tmp_path / "output/run", Random(SEED * 1_000_003 + case)
    name = ("deleted", "replaced by a copy", *LOSSES)[case % (2 + len(LOSSES))]
    flags = ("--num_steps", "1000000", "--save_every", "1", "--log_every", "1")
    processes.append(trainer := start_trainer(images, run.parent, *flags))
    while not (run / "last").exists() and trainer.poll() is None:
        time.sleep(0.05)
    time.sleep(random.random())
    stop(trainer)  # else it may write while the folder is being deleted
    opened = run.stat().st_ino
    LOSSES[name](run)
    before = named(run)
    trainer.send_signal(signal.SIGCONT)
    _, err = trainer.communicate(timeout=300)
    assert trainer.returncode == 7, (name, err)
    assert "nothing was created in its place" in err.splitlines()[-1], name
    assert "Traceback" not in err, name
    made = named(run) - before
    assert not made or run.stat().st_ino == opened, (name, made)  # only a save into the opened folder may have gone on


def test_a_run_on_a_mount_without_flock_trains_to_its_end(
    images: Path, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
    refuse = "from tests.support.holding import refuse_flock\nrefuse_flock('ENOLCK')"
    processes.append(trainer := start_trainer(images, tmp_path, program=refuse))
    _, err = trainer.communicate(timeout=300)
    assert trainer.returncode == 0, err
    assert err.count("this mount has no flock (ENOLCK)") == 1
    assert not list((tmp_path / "run").glob("lock.*"))
