# SPDX-License-Identifier: Apache-2.0
"""Images a second from JPEG file to batch, ours beside other loaders, on one core and on all; prints ratios.

scripts/venv test, then: .venv/bin/python bench/input.py [--rounds 10] [--photographs 64] [--no-peers]

The loaders are those of bench/input_sides.py, each in processes of its own; they take turns in each round, so that
other work on the machine meets all of them. All figures are CPU time, for the same reason. Peers are installed once,
into build/bench-venv beside the project's own packages; after that nothing is fetched.

"All cores" is what a process keeps of its speed when as many of them work as there are cores: the loss is that of
caches and memory. What handing batches over costs is measured by bench/loader.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from input_sides import SIDES

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench/peers.txt"
LEVELS = 8  # a loader that is further from Pillow does other work, mostly that it does not antialias


def bench_python() -> str:
    """The Python that has the peers: an environment of its own, which sees this one's packages."""
    folder, stamp = ROOT / "build/bench-venv", ROOT / "build/bench-venv/installed"
    python = folder / "bin/python"
    wanted = PEERS.read_text() + (ROOT / "constraints.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {PEERS.name} into build/bench-venv (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        found = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            text=True,
            capture_output=True,
        )
        (Path(found.stdout.strip()) / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
        words = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*words, "-c", str(ROOT / "constraints.txt"), "-r", str(PEERS)], check=True)
        stamp.write_text(wanted)
    return str(python)


@dataclass
class Measured:
    """One loader's processes and what they have taken."""

    key: str
    processes: list[subprocess.Popen[str]]
    level: int
    one_core: list[float] = field(default_factory=list)
    """CPU seconds of one pass, a round each."""
    all_cores: list[float] = field(default_factory=list)
    """CPU seconds of a pass in one process alone / in each of all at once, a round each."""

    def measure(self) -> None:
        """One round."""
        (alone,) = run(self.processes[:1])
        self.one_core.append(alone)
        self.all_cores.append(alone / statistics.mean(run(self.processes)))


def run(processes: list[subprocess.Popen[str]]) -> list[float]:
    """CPU seconds of a pass in each of them, all at once."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [float(process.stdout.readline()) for process in processes]  # type: ignore[union-attr]


@contextlib.contextmanager
def loaders(python: str, folder: Path, cores: int) -> Iterator[list[Measured]]:
    """All loaders that are installed, warm and waiting; what is not measured is said."""
    found: list[Measured] = []
    try:
        for key, side in SIDES.items():
            processes = list(start(python, key, folder, cores))
            said = [process.stdout.readline().strip() for process in processes]  # type: ignore[union-attr]
            if all(text.isdigit() for text in said):
                found.append(Measured(key, processes, int(said[0])))
            else:
                print(f"not measured: {side.name} ({said[0] or 'it failed, see above'})")
        yield found
    finally:
        for each in found:
            for process in each.processes:
                process.stdin.close()  # type: ignore[union-attr]
                process.wait()


def start(python: str, key: str, folder: Path, count: int) -> Iterator[subprocess.Popen[str]]:
    """The processes of one loader; ours crop by the library that VIT_TURBOJPEG names or the system has, or by none."""
    common = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    words = [python, str(ROOT / "bench/input_sides.py"), key, str(folder)]
    for _ in range(count):
        environment = os.environ | common | ({} if key == "crop" else {"VIT_TURBOJPEG": ""})
        yield subprocess.Popen(words, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def spread(values: list[float], form: str = "{:.2f}") -> str:
    """Median (least to most)."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def ratios(slow: Measured, fast: Measured) -> list[float]:
    return [a / b for a, b in zip(slow.one_core, fast.one_core, strict=True)]


def report(found: list[Measured], num_photographs: int) -> None:
    by_key = {each.key: each for each in found}
    existing, default, crop = (by_key.get(key) for key in ("existing", "ours", "crop"))
    assert existing is not None, "torchvision comes with the project's own test environment"
    print("| loader | images/s, one core | / existing trainer | ours, default / it | all cores | levels from Pillow |")
    print("|---|---|---|---|---|---|")
    for each in found:
        rate = num_photographs / statistics.median(each.one_core)
        beside = spread(ratios(each, default)) if default else "-"
        cells = [f"{rate:.0f}", spread(ratios(existing, each)), beside, spread(each.all_cores, "{:.0%}"), each.level]
        print(f"| {SIDES[each.key].name} | {' | '.join(map(str, cells))} |")
    peers = [each for each in found if SIDES[each.key].peer and each.level <= LEVELS]
    best = min(peers, key=lambda each: statistics.median(each.one_core))
    for each in (default, crop):
        if each is not None:
            print(
                f"{SIDES[each.key].name}, against the best peer ({SIDES[best.key].name}): {spread(ratios(best, each))}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--photographs", type=int, default=64)
    parser.add_argument("--no-peers", action="store_true", help="only what this Python has; installs nothing")
    options = parser.parse_args()
    python = sys.executable if options.no_peers else bench_python()
    cores = len(os.sched_getaffinity(0))
    with TemporaryDirectory() as folder:
        (Path(folder) / "one").mkdir()
        writing = (
            "import sys, pathlib, photographs as p; p.write_photographs(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"
        )
        words = [python, "-c", writing, f"{folder}/one", str(options.photographs)]  # that Python may have more of them
        subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT / "bench")}, check=True)
        size = statistics.mean(path.stat().st_size for path in Path(folder).glob("one/*")) / 1000
        setting = f"{options.rounds} rounds, {cores} cores, Python {sys.version.split()[0]}"
        print(f"{options.photographs} photographs of 500 x 375, {size:.0f} KB each; {setting}")
        with loaders(python, Path(folder), cores) as found:
            for number in range(options.rounds):
                turn = number % len(found)
                for each in found[turn:] + found[:turn]:
                    each.measure()
            report(found, options.photographs)


if __name__ == "__main__":
    main()
