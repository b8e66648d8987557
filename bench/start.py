# SPDX-License-Identifier: Apache-2.0
"""From `kubectl apply` to the first optimizer step on real pods, phase by phase, against another checkout.

python bench/start.py [--before CHECKOUT] [--rounds 5] [--nodes 2]

It needs the test cluster (scripts/cluster up) and root, who may read what the pods write. A round submits the same job
(values/cpu.yaml and `scripts/cluster values`) from this checkout and from CHECKOUT, in turning order,
then imports torch in its worker pods at once, once the job is complete. Moments come from the API (whole seconds),
from the launcher's log and from events.jsonl of the run. Prints medians with quartiles, and the ratios of the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "default"
PHASES = ("scheduled", "pod start", "ssh", "set-up", "mpirun", "imports", "data", "first step")
STEPS = 20
WAIT_SECONDS = 300


def run(*words: object, text: str | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run([*map(str, words)], input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words[0]}: {done.stderr or done.stdout}")
    return done.stdout


def kubectl(*words: str, text: str | None = None) -> str:
    return run("kubectl", "-n", NAMESPACE, *words, text=text)


def moment(text: str) -> float:
    """Unix time of the API's or a log's time; the log has nanoseconds."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = (datetime.fromisoformat(f"{whole}+00:00") - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) / (
        timedelta(seconds=1)
    )
    return seconds + float(f"0.{rest or 0}")


def pods(job: str) -> list[dict[str, Any]]:
    selector = f"training.kubeflow.org/job-name={job}"
    found: list[dict[str, Any]] = json.loads(kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return found


def role(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["training.kubeflow.org/job-role"])


def start(checkout: Path, values: Path, output: Path, options: argparse.Namespace) -> tuple[dict[str, float], float]:
    """Seconds of each phase, and of an import of torch in the job's worker pods at once."""
    name = f"start-{os.getpid()}-{time.time_ns() % 10**9}"
    settings = (
        *(f"name={name}", f"output={output}", "user=bench", "train.log_every=1", f"train.num_steps={STEPS}"),
        *(f"train.eval_every={STEPS}", "runPolicy.cleanPodPolicy=None"),  # the workers stay for the imports
    )
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, checkout / "generate.py", "--no-user-file", "-f", "cpu.yaml", "-f", values]
    manifest = run(*command, "--nodes", str(options.nodes), *words, "-n", NAMESPACE)
    applied = time.time()
    told = kubectl("apply", "-f", "-", text=manifest)
    job = next(line.split()[0].partition("/")[2] for line in told.splitlines() if line.startswith("mpijob"))
    try:
        log = wait_for_end(job)
        imports = imports_at_once(job, values)
        found = phases(applied, pods(job), log, next(output.glob("*/events.jsonl")))
    finally:
        kubectl("delete", "-f", "-", "--wait=true", text=manifest)
    return found, imports


def imports_at_once(job: str, values: Path) -> float:
    """Import torch in all workers at the same time; the mean of the seconds."""
    python = next(line.split('"')[1] for line in values.read_text().splitlines() if line.startswith("python:"))
    workers = [pod["metadata"]["name"] for pod in pods(job) if role(pod) == "worker"]
    timed = "import time; t = time.perf_counter(); import torch; print(time.perf_counter() - t)"
    with ThreadPoolExecutor(len(workers)) as pool:
        told = pool.map(lambda pod: kubectl("exec", pod, "--", python, "-c", timed), workers)
        return statistics.mean(float(text) for text in told)


def launcher_log(job: str) -> str:
    found = [pod for pod in pods(job) if role(pod) == "launcher"]
    started = found and found[0]["status"].get("containerStatuses", [{}])[0].get("state", {}).keys() - {"waiting"}
    return kubectl("logs", "--timestamps", found[0]["metadata"]["name"]) if started else ""


def wait_for_end(job: str) -> str:
    """The launcher's log once the run is complete."""
    wait(lambda: "the run is complete" in launcher_log(job), f"the end of {job}")
    return launcher_log(job)


def wait(condition: Any, what: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited {WAIT_SECONDS} s for {what}")
        time.sleep(0.5)


def said(log: str, words: str) -> float:
    """When the launcher first said this."""
    return moment(next(line for line in log.splitlines() if words in line).split(maxsplit=1)[0])


def phases(applied: float, found: list[dict[str, Any]], log: str, events: Path) -> dict[str, float]:
    """Seconds of each phase; together the time from apply to the end of the first step."""
    workers = [pod for pod in found if role(pod) == "worker"]
    scheduled = max(
        moment(one["lastTransitionTime"])
        for pod in workers
        for one in pod["status"]["conditions"]
        if one["type"] == "PodScheduled"
    )
    started = max(
        moment(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])
        for pod in workers
        if "running" in pod["status"]["containerStatuses"][0]["state"]
    )
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    record = next(row for row in reversed(rows) if row["event"] == "phases")
    seconds = record["seconds"]
    answered, checked = said(log, "workers answer after"), said(log, "run_vit.sh: mpirun")
    marks = [applied, scheduled, started, answered, checked, record["started"]]
    lasted = [after - before for before, after in itertools.pairwise(marks)]
    lasted += [seconds["init"] + seconds["load"], seconds["first_batch"], seconds["compile"]]
    return dict(zip(PHASES, lasted, strict=True))


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return f"{middle:6.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2)
    options = parser.parse_args()
    os.environ["KUBECONFIG"] = run(ROOT / "scripts/cluster", "kubeconfig").strip()
    values = Path(run(ROOT / "scripts/cluster", "values").strip())
    sides = {"now": ROOT} | ({"before": options.before.resolve()} if options.before else {})
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    imports: list[float] = []
    for number in range(options.rounds + 1):  # the first round fills caches
        for side in sorted(sides, reverse=bool(number % 2)):
            with tempfile.TemporaryDirectory() as output:
                Path(output).chmod(0o777)
                lasted, imported = start(sides[side], values, Path(output), options)
            if number:
                found[side].append(lasted)
                imports.append(imported)
    tell(found, imports)


def tell(found: dict[str, list[dict[str, float]]], imports: list[float]) -> None:
    """Print a line for each phase and side."""
    for side, rounds in found.items():
        print(f"{side}, {len(rounds)} rounds, seconds: median (quartiles)")
        for phase in PHASES:
            print(f"  {phase:11} {spread([one[phase] for one in rounds])}")
        totals = [sum(one.values()) for one in rounds]
        ends = [sum(one[phase] for phase in PHASES[2:]) for one in rounds]
        print(f"  {'in all':11} {spread(totals)}\n  {'after pods':11} {spread(ends)}")
    print(f"import of torch in all pods at once: {spread(imports)}")
    mine = statistics.median(sum(one[phase] for phase in PHASES[2:]) for one in found["now"])
    print(f"apply to first step without pod start / import of torch: {mine / statistics.median(imports):.2f}")
    if "before" in found:
        pairs = zip(found["now"], found["before"], strict=True)
        print(f"now / before, in all: {spread([sum(now.values()) / sum(old.values()) for now, old in pairs])}")


if __name__ == "__main__":
    main()
