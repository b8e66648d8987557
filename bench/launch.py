# SPDX-License-Identifier: Apache-2.0
"""The launcher's part of a start by number of nodes: seconds from run_vit.sh to mpirun, here and at an earlier commit.

python bench/launch.py [--before COMMIT] [--nodes 8 42 336 1000] [--rounds 3] [--ssh 0.05] [--setup 20]

ssh is a stand-in that takes --ssh seconds, and setup.sh takes --setup seconds on each node; mpirun only notes the time.
The sides take turns. --memory also prints the most memory (PSS) of the launcher's processes, ssh's stand-in included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOOK_SECONDS = 0.5


def check_out(commit: str, folder: Path) -> Path:
    """Return a folder with the files of a commit."""
    folder.mkdir()
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def lay_out(tree: Path, folder: Path, nodes: int, options: argparse.Namespace) -> dict[str, str]:
    """Render a job with the code of `tree` and lay it out as the launcher sees it; returns its environment."""
    settings = ("user=ada", "image=x:1", "output=/output", "delivery=mydir", "mydir=/kit")
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, tree / "generate.py", "--no-user-file", "-f", "cpu.yaml", "--nodes", str(nodes)]
    subprocess.run([*command, *words, "--out", folder / "kit"], check=True, capture_output=True)
    agent = f'#!/bin/bash\nsleep {options.ssh}\ncase "$2" in *setup.sh*) exec sleep {options.setup} ;; esac\n'
    version = '[[ $1 == --version ]] && echo "mpirun (Open MPI) 5.0.8" && exit'
    mpirun = f'#!/bin/bash\n{version}\ndate +%s.%N >"$OUTPUT/mpirun"\n'
    for name, text in (("agent", agent), ("mpirun", mpirun)):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    (folder / "hostfile").write_text("".join(f"w-{number}.w.ns.svc slots=1\n" for number in range(nodes)))
    checksum = subprocess.run(["sha256sum", folder / "kit/SHA256SUMS"], check=True, capture_output=True, text=True)
    return os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "MPIKIT_KIT": str(folder / "kit"),
        "MPIKIT_HOSTFILE": str(folder / "hostfile"),
        "MPIKIT_RSH": str(folder / "bin/agent"),
        "MPIKIT_STATE": str(folder / "state"),
        "MPIKIT_OUTPUT": str(folder / "output"),
        "MPIKIT_SUPERVISED": "1",
        "MPIKIT_SCRIPTS_SHA256": checksum.stdout.split()[0],
        "OUTPUT": str(folder),
    }


def memory_mib(group: int) -> float:
    """PSS of all processes of a process group."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == group:
                rollup = (process / "smaps_rollup").read_text()
                total += int(rollup.partition("\nPss:")[2].split()[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def measure(tree: Path, nodes: int, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds from the start of run_vit.sh to mpirun's, and MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = lay_out(tree, folder, nodes, options)
        began, most = time.time(), 0.0
        command = ["bash", str(folder / "kit/run_vit.sh")]
        with subprocess.Popen(
            command, env=environment, process_group=0, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as launcher:
            assert launcher.stderr
            os.set_blocking(launcher.stderr.fileno(), False)
            while launcher.poll() is None:
                if options.memory:
                    most = max(most, memory_mib(launcher.pid))
                launcher.stderr.read()
                time.sleep(LOOK_SECONDS)
        return float((folder / "mpirun").read_text()) - began, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", metavar="COMMIT")
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 42, 336, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ssh", type=float, default=0.05)
    parser.add_argument("--setup", type=float, default=20)
    parser.add_argument("--memory", action="store_true", help="also measure memory, which slows the launcher down")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sides = {"now": ROOT}
        if options.before:
            sides[options.before] = check_out(options.before, Path(name, "before"))
        found: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for number in range(options.rounds):
            for nodes in options.nodes:
                for side in sorted(sides, reverse=bool(number % 2)):
                    found.setdefault((side, nodes), []).append(measure(sides[side], nodes, options))
    print(
        f"ssh {options.ssh} s, setup.sh {options.setup} s; {options.rounds} rounds; seconds from run_vit.sh to mpirun"
    )
    for side in sides:
        first = statistics.median(seconds for seconds, _ in found[side, options.nodes[0]])
        for nodes in options.nodes:
            seconds = sorted(one for one, _ in found[side, nodes])
            middle, memory = statistics.median(seconds), max(most for _, most in found[side, nodes])
            held = f", {memory:.0f} MiB" if options.memory else ""
            print(
                f"{side}, {nodes} nodes: {middle:.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f}), "
                f"{middle / first:.2f} times that of {options.nodes[0]} nodes{held}"
            )


if __name__ == "__main__":
    main()
