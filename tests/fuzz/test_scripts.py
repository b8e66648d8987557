# SPDX-License-Identifier: Apache-2.0
"""The rendered scripts under hostile values: what arrives is what the model has, and nothing in a value is run.

Real bash runs worker.sh, run_vit.sh, setup.sh and rank.sh one after the other. mpirun, ssh, sshd and Python are
stand-ins that show what reaches them; that of mpirun starts one rank. scripts/soak scripts --cases N [--seed S] tries N
jobs, each with four hostile values; a failing one names its seed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpikit.config.job import Job
from mpikit.config.loader import load_job
from mpikit.config.values import load_values
from mpikit.errors import ValuesError
from mpikit.local import AGENT
from mpikit.render.context import ScriptContext
from mpikit.render.payload import Payload
from mpikit.render.renderer import Rendered, render
from tests.support.hostile.cases import random_text
from tests.support.hostile.strings import STRINGS
from tests.support.stage import Stage

CASES, FIRST = int(os.environ.get("SCRIPTS_CASES", "12")), int(os.environ.get("SCRIPTS_SEED", "0"))
PAYLOAD = Payload({"vit/__init__.py": b"", "vit/train.py": b""})
UNUSED = "SC2250,SC2310,SC2311,SC2312"  # of shellcheck's optional checks; scripts/check leaves out the same
PART_BYTES = 200  # of a folder's name; the kernel's limit is 255

# Stand-ins. Each writes its words, each ended by NUL, to a file beside the scripts.
SSHD = '#!/bin/bash\nprintf "%s\\0" "$@" >"$SEEN/sshd"\n'
MPIRUN = """printf '%s\\0' "$@" >"$SEEN/mpirun"
while [ "$1" != bash ]; do shift; done # ssh loses the environment
kept=(SEEN="$SEEN" MPIKIT_KIT="$MPIKIT_KIT" MPIKIT_STATE="$MPIKIT_STATE" MPIKIT_ATTEMPT="$MPIKIT_ATTEMPT")
exec env -i PATH="$PATH" "${kept[@]}" "$@"
"""
PYTHON = """#!/bin/bash
case "$*" in
*vit.node*) printf 'packages 2.2 1.26 10.0\\ncards 1\\n' ;;
*vit.train*) printf '{"attempt": "%s"}' "$MPIKIT_ATTEMPT" >"$MPIKIT_STATE/completion.json"
  printf '%s\\0' "$@" >"$SEEN/python"; printf '%s\\0' "$A" "$B" >"$SEEN/environment" ;;
*) echo 3.11 2.2 10.0 ;;
esac
"""


def hostile_job(seed: int, root: Path, folder: Path) -> Job:
    """A job whose name of the run, interpreter and variables are hostile; of a refused value the next is taken."""
    chance = random.Random(f"scripts {seed}")

    def value() -> str:
        return chance.choice(STRINGS) if chance.random() < 0.7 else random_text(chance)

    while True:
        part = (
            f" {value()[:30]} {value()}".replace("/", "")
            .encode("utf-8", "ignore")[:PART_BYTES]
            .decode("utf-8", "ignore")
        )
        settings = {
            "train.name": value(),
            "python": f"{folder}/bin{part}/python",
            "env": json.dumps([{"name": "A", "value": value()}, {"name": "B", "value": value()}]),
            "runAsUser": "1000",
            "sshAuthMountPath": "/home/mpi/.ssh",
        }
        try:
            return load_job(
                load_values(root, ["cpu.yaml"], [("--set", f"{k}={v}") for k, v in settings.items()], "ada")
            )[0]
        except ValuesError:
            continue


def staged(folder: Path, job: Job, rendered: Rendered) -> Stage:
    """The scripts with the stand-ins; the whole run happens in `folder`."""
    made = Stage(folder, job, rendered)
    made.program(MPIRUN)
    made.environment |= {"SEEN": str(folder / "seen"), "LC_ALL": "C.UTF-8"}
    (folder / "seen").mkdir()
    (folder / "work").mkdir()
    made.write("bin/sshd", SSHD)
    made.write("bin/ssh-keygen", "#!/bin/sh\n")
    made.write(str(Path(job.python).relative_to(folder)), PYTHON)
    made.write("kit/setup.sh", rendered.scripts["setup.sh"])
    return made


def arrivals(job: Job, made: Stage) -> Iterator[tuple[str, list[str], list[str]]]:
    """What reached each program (its name, the words), and what the model says that should."""
    script = ScriptContext(job)
    kit, rank = str(made.folder / "kit"), [word for flag in script.trainer_flags for word in flag]
    own_names = [word for name in job.literal_env for word in ("-x", name)]
    placed = ["--hostfile", str(made.folder / "hostfile"), "-np", str(job.num_ranks), *script.placement_unbound]
    flags = [*rank, "--output_dir", str(made.folder / "output")]
    passed = ["-x", "MASTER_ADDR", "-x", "MASTER_PORT", "-x", "MPIKIT_ATTEMPT", *own_names]
    command = [*placed, *passed, "bash", f"{kit}/rank.sh", *flags]
    yield "mpirun", seen(made, "mpirun"), command
    yield "python", seen(made, "python"), ["-m", "vit.train", *flags]
    yield "environment", seen(made, "environment"), [job.literal_env["A"], job.literal_env["B"]]
    keys = f"AuthorizedKeysFile={job.ssh_auth_mount_path}/authorized_keys"
    yield "sshd", [word for word in seen(made, "sshd") if word.startswith("Authorized")], [keys]


def seen(made: Stage, name: str) -> list[str]:
    """The words that reached a stand-in."""
    file = made.folder / "seen" / name
    return (
        file.read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1] if file.exists() else ["was not started"]
    )


def wrong_with(job: Job, folder: Path) -> list[str]:
    """What did not arrive as the model has it, and what was run that is a value."""
    rendered = render(job, PAYLOAD)
    made = staged(folder, job, rendered)
    own = made.environment
    made.environment = own | job.literal_env
    started = made.run("worker.sh", here="work")
    made.environment = own
    done = made.run("run_vit.sh", here="work")
    told = [
        f"{name}: {found!r:.300}, not {wanted!r:.300}" for name, found, wanted in arrivals(job, made) if found != wanted
    ]
    if started.returncode or done.returncode:
        told.append(f"exit {started.returncode}, {done.returncode}: {(started.stderr + done.stderr).decode()[-500:]}")
    if list((folder / "work").iterdir()) or list(folder.rglob("canary")):
        told.append("a value was run")
    return told


@pytest.fixture
def hostile_jobs(values_root: Path, tmp_path: Path) -> Callable[[], Iterator[tuple[int, Job, Path]]]:
    """Seed, job and an empty folder of each case."""

    def made() -> Iterator[tuple[int, Job, Path]]:
        for seed in range(FIRST, FIRST + CASES):
            folder = tmp_path / "case"
            folder.mkdir()
            yield seed, hostile_job(seed, values_root, folder), folder
            shutil.rmtree(folder)

    return made


def test_hostile_values_arrive_as_they_are_and_run_nothing(
    hostile_jobs: Callable[[], Iterator[tuple[int, Job, Path]]],
) -> None:
    wrong = [f"seed {seed}: {told}" for seed, job, folder in hostile_jobs() for told in wrong_with(job, folder)]
    assert not wrong, f"{len(wrong)} of {CASES}\n" + "\n".join(wrong)


def test_shells_and_shellcheck_find_nothing_in_scripts_with_hostile_values(
    hostile_jobs: Callable[[], Iterator[tuple[int, Job, Path]]], tmp_path: Path
) -> None:
    texts = {text for _, job, _ in hostile_jobs() for text in render(job, PAYLOAD).scripts.values()} | {AGENT}
    (tmp_path / "scripts").mkdir()
    for number, text in enumerate(sorted(texts)):
        path = tmp_path / "scripts" / f"{number}.sh"
        path.write_text(text)
        shells = ["dash", "bash"] if text.startswith("#!/bin/sh\n") else ["bash"]
        for shell in filter(shutil.which, shells):
            subprocess.run([shell, "-n", str(path)], check=True)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    for start in range(0, len(texts), 200):
        paths = [str(tmp_path / "scripts" / f"{n}.sh") for n in range(start, min(start + 200, len(texts)))]
        command = [str(shellcheck), "--enable=all", f"--exclude={UNUSED}", *paths]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[:5000]
