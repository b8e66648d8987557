# SPDX-License-Identifier: Apache-2.0
"""Up, down and status of the cluster, as seen from this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from testcluster import control_plane, node, simulated
from testcluster.build import find_programs, locked, say
from testcluster.errors import ClusterError, missing
from testcluster.image import find_images, find_pods_python
from testcluster.keys import token_of, write_keys, write_kubeconfig
from testcluster.pins import cache_folder
from testcluster.state import State

POLL_SECONDS = 0.1
ISOLATED = (
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--ipc",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation",
    "slave",
)


def up(state: State, site: simulated.Site) -> None:
    """Bring a cluster up; one that runs already with the same site is left as it is."""
    check_machine()
    with state.locked():
        if state.exists and state.running and state.outcome.exists():
            _same_site(state, site)
            say(f"it runs already: {state.folder}")
            return
        _clear(state)
        _prepare(state, site, *build(site.operator))
        try:
            _start(state)
            _follow(state)
        except BaseException:
            state.stop()  # the folder stays, for its logs; `down` or the next `up` removes it
            raise


def build(operator: str) -> tuple[dict[str, Path], Path, Path]:
    """Install and build what a cluster needs: its programs by name, the archive of images, the pods' Python."""
    with locked(cache_folder() / "packages.lock"):
        node.install_missing()
    return find_programs(operator), find_images(), find_pods_python()


def down(state: State) -> bool:
    """Stop the cluster and remove all that it left; False if there was none."""
    with state.locked():
        there = state.exists
        _clear(state)
        return there


def check_machine() -> None:
    """Refuse a machine that cannot have a node of its own."""
    if not sys.platform.startswith("linux"):
        raise missing(f"a node needs Linux, and this is {sys.platform}", "use a Linux machine")
    if os.geteuid() != 0:
        raise missing("a node that runs pods needs root", "run it as root")


def status(state: State) -> list[str]:
    """What there is to say about the cluster, one line each."""
    if not state.exists:
        return [f"no cluster in {state.folder}"]
    if not state.running:
        return [f"a cluster that is not running left {state.folder}; scripts/cluster down removes it"]
    ended = state.folder / "ended"
    outcome = state.outcome.read_text().splitlines()[0] if state.outcome.exists() else "starting"
    process = state.process
    assert process
    site = _plan(state)["site"]
    lines = [f"cluster in {state.folder}, {site['name']}, operator {site['operator']}: {outcome}"]
    lines += [f"kubeconfig {state.kubeconfig}", f"enter it with: nsenter --all --target {_first_process(process.pid)}"]
    return lines + (ended.read_text().splitlines() if ended.exists() else [])


def _first_process(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]


def _plan(state: State) -> dict[str, dict[str, str]]:
    content: dict[str, dict[str, str]] = json.loads((state.folder / "plan.json").read_text())
    return content


def _same_site(state: State, site: simulated.Site) -> None:
    running = _plan(state)["site"]
    if running != json.loads(json.dumps(dataclasses.asdict(site))):
        what = f"another cluster runs already: {', '.join(f'{key} {value}' for key, value in running.items())}"
        raise ClusterError(what, "scripts/cluster down, then up; or a second one: MPIKIT_CLUSTER=/tmp/second", 2)


def _clear(state: State) -> None:
    if state.exists:
        state.stop()
        state.remove()


def _prepare(state: State, site: simulated.Site, programs: dict[str, Path], images: Path, python: Path) -> None:
    """Write everything that the processes will read."""
    state.create()
    state.cover(node.COVERED)
    write_keys(state)
    control_plane.write_admission(state)
    simulated.write_stages(programs, state)
    node.write_configs(state)
    write_values(state, python)
    paths = {name: str(path) for name, path in programs.items()}
    plan = {"programs": paths, "images": str(images), "site": dataclasses.asdict(site)}
    (state.folder / "plan.json").write_text(json.dumps(plan, indent=2))


def write_values(state: State, python: Path) -> None:
    """A values file for jobs on the real node: the pods get torch from this machine, and little enough is requested."""
    state.values.write_text(f"""# For jobs on this test cluster's real node: generate.py -f values/cpu.yaml -f THIS.
python: "{python}/bin/python"
resources:
  requests: {{cpu: 200m, memory: 512Mi}}
worker:
  volumes:
    - name: pods-python
      hostPath: {{path: "{python}", type: Directory}}
  volumeMounts:
    - {{name: pods-python, mountPath: "{python}", readOnly: true}}
""")


def _start(state: State) -> None:
    """Start the first process in namespaces of its own; it gets a listening socket of this machine's loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    write_kubeconfig(state, state.kubeconfig, listener.getsockname()[1], token_of(state, "admin"))
    words = [*ISOLATED, sys.executable, "-m", "testcluster.inside", str(state.folder), str(listener.fileno())]
    with (state.folder / "log" / "inside.log").open("wb") as log:
        subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
            pass_fds=[listener.fileno()],
            preexec_fn=state.record,  # no thread runs here
        )
    listener.close()


def _follow(state: State) -> None:
    """Pass the progress on until the cluster is ready; an error if it is not going to be."""
    told = 0
    while True:
        ended, over = not state.running, state.outcome.exists()
        lines = state.progress.read_text().splitlines() if state.progress.exists() else []
        for line in lines[told:]:
            say(line)
        told = len(lines)
        if over and state.outcome.read_text() == "ready":
            return
        if over or ended:
            text = state.outcome.read_text() if over else f"its first process ended\nread {state.folder}/log/inside.log"
            what, _, fix = text.partition("\n")
            raise ClusterError(what, fix)
        time.sleep(POLL_SECONDS)
