# SPDX-License-Identifier: Apache-2.0
"""What each verb costs by number of nodes: seconds, processor time, requests to the API server, and memory.

scripts/cluster up --nodes 5000
python bench/scale.py [--nodes 8 42 336 1000] [--rounds 3]

The cluster's Gaudi nodes are simulated by kwok, which runs pods in name only. In each round, jobs of these sizes are
submitted in turn, and each verb is called once all workers run. Prints medians.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "simulated"
WAIT_SECONDS = 900
ASKED = re.compile(r"debug: (GET|POST|PUT|PATCH|DELETE) /")
# Runs generate.py; at its end, a line on stderr with its peak memory and its processor time.
COUNTED = """
import atexit, resource, sys
def tell():
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("COUNTED", used.ru_maxrss, used.ru_utime + used.ru_stime, file=sys.stderr)
atexit.register(tell)
sys.argv[0] = "generate.py"
from mpikit.cli.app import main
main()
"""
VERBS = ("render", "check", "doctor", "submit", "status", "list", "diff", "delete")
Cost = tuple[float, float, int, float]


def call(*words: str, codes: tuple[int, ...] = (0,)) -> tuple[Cost, str]:
    """Seconds, those of the processor, requests and MiB of a command, and its output."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", COUNTED, *words, "--debug"], cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    _, kib, busy = next(line for line in done.stderr.splitlines() if line.startswith("COUNTED")).split()
    requests = sum(bool(ASKED.match(line)) for line in done.stderr.splitlines())
    return (seconds, float(busy), requests, int(kib) / 1024), done.stdout


def kubectl(*words: str) -> str:
    done = subprocess.run(["kubectl", "-n", NAMESPACE, *words], capture_output=True, text=True, check=True)
    return done.stdout


def wait(what: str, seconds: float, num_pods: int) -> None:
    """Wait until so many worker pods run."""
    end = time.monotonic() + seconds
    selector = "training.kubeflow.org/job-role=worker"
    while True:
        found = kubectl("get", "pods", "-l", selector, "--no-headers", "-o", "custom-columns=P:.status.phase")
        lines = found.split()
        if lines.count("Running") == len(lines) == num_pods:
            return
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds:.0f} s for {what}: {len(lines)} pods, {lines.count('Running')} run")
        time.sleep(2)


def measure(nodes: int) -> dict[str, Cost]:
    """The cost of each verb for a job of this size."""
    name = f"scale-{nodes}"
    settings = (f"name={name}", "user=bench", f"globalBatch={nodes * 8}", "output=/tmp", "dataset=/tmp")
    more = ("train.gradient_accumulation_steps=1", "pretrained=null")
    words = [word for setting in (*settings, *more) for word in ("--set", setting)]
    job = ("--no-user-file", "--profile", "gaudi2", "--nodes", str(nodes), *words)
    there = ("-n", NAMESPACE)
    found = {"render": call(*job)[0], "check": call("check", *job)[0]}
    print(f"{name} ...", file=sys.stderr, flush=True)
    found["doctor"] = call("doctor", *job, *there, codes=(0, 1))[0]
    found["submit"] = call("submit", *job, *there)[0]
    wait(f"the workers of {name}", WAIT_SECONDS, nodes)
    found["status"], told = call("status", name, *there, "-o", "json")
    if json.loads(told)["pods_running"] < nodes:
        raise SystemExit(f"status sees {json.loads(told)['pods_running']} pods of {nodes}")
    found["list"] = call("list", "--all-users", *there)[0]
    found["diff"] = call("diff", *job, *there)[0]
    found["delete"] = call("delete", name, "--force", "--no-user-file", *there)[0]
    wait(f"the end of {name}", WAIT_SECONDS, 0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 42, 336, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    told = subprocess.run([ROOT / "scripts/cluster", "kubeconfig"], capture_output=True, text=True, check=True)
    os.environ["KUBECONFIG"] = told.stdout.strip()
    rounds: dict[int, list[dict[str, Cost]]] = {nodes: [] for nodes in options.nodes}
    for _ in range(options.rounds):
        for nodes in options.nodes:
            rounds[nodes].append(measure(nodes))
    all_nodes = len(kubectl("get", "nodes", "-o", "name").split())
    print(f"{all_nodes} nodes in the cluster, {options.rounds} rounds; the cluster's own programs use this machine too")
    print("median seconds, those of its processor time, requests, MiB")
    print("verb    " + "".join(f"{f'{nodes} nodes':>26}" for nodes in options.nodes))
    for verb in VERBS:
        cells = []
        for nodes in options.nodes:
            middle = [statistics.median(values) for values in zip(*(one[verb] for one in rounds[nodes]), strict=True)]
            cells.append(f"{middle[0]:.1f}, {middle[1]:.2f}, {middle[2]:.0f}, {middle[3]:.0f}")
        print(f"{verb:8}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
