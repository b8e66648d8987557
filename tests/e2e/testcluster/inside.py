# SPDX-License-Identifier: Apache-2.0
"""The first process of the cluster's namespaces: starts everything in order, then looks after what it started.

    python -m testcluster.inside STATE_FOLDER LISTENING_FD

It runs as process 1, so the kernel ends all others with it. What it tells goes to `progress`, one line a step, and to
`outcome`: "ready", or why there is no cluster.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testcluster import control_plane, node, simulated
from testcluster.errors import ClusterError
from testcluster.image import write_pause
from testcluster.keys import API_PORT, REAL_NODE, write_kubeconfig
from testcluster.state import State

STEP_SECONDS = 120  # the slowest step takes 10 s on a quiet machine
NODES_PER_SECOND = 10  # that become ready, at least
KUBECTL_SECONDS = 60
AT_ONCE = 250  # objects that kubectl creates within that time
OPERATOR = "mpi-operator"


Plan = dict[str, object]


class Inside:
    """The cluster as its first process sees it."""

    def __init__(self, state: State, plan: Plan, listener: int) -> None:
        self.state, self.listener = state, listener
        self.programs = {name: Path(path) for name, path in dict(plan["programs"]).items()}  # type: ignore[call-overload]  # JSON
        self.images = Path(str(plan["images"]))
        self.site = simulated.Site(**plan["site"])  # type: ignore[arg-type]  # JSON
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.began = time.monotonic()

    def bring_up(self) -> None:
        """Start everything; returns when the first pod would run."""
        cover_folders(self.state)
        node.make_bridge()
        node.make_cgroups(self.state)
        self.start("etcd", control_plane.etcd(self.programs, self.state))
        self.start("kube-apiserver", control_plane.apiserver(self.programs, self.state))
        self.start("containerd", node.containerd(self.state))
        self.start_doorway("doorway", self.listener)
        with socket.create_server((control_plane.API_SERVICE, 443)) as service:  # in the place of kube-proxy
            self.start_doorway("api-service", service.fileno())
        imports = self.import_images()
        self.wait_for("the API server", lambda: self.kubectl("get", "--raw", "/readyz") == "ok")
        self.start_controllers()
        self.wait_for("the images to be imported", lambda: all(self.ended_well(one) for one in imports))
        self.start("kubelet", node.kubelet(self.programs, self.state))
        self.start("coredns", node.coredns(self.programs, self.state))
        self.wait_for("the name server", name_server_ready)
        self.wait_for("every node to be ready", self.nodes_ready)
        self.wait_for("the first service account", self.service_account_exists)

    def start_doorway(self, name: str, listener: int) -> None:
        """Join the connections to a listening socket with the API server."""
        command = [sys.executable, "-m", "testcluster.doorway", str(listener), str(API_PORT)]
        self.start(name, command, [listener])

    def start(self, name: str, command: list[str], listeners: Sequence[int] = ()) -> None:
        """Start a daemon whose output goes to log/NAME.log."""
        with (self.state.folder / "log" / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.state.folder,
                pass_fds=listeners,
            )

    def import_images(self) -> list[subprocess.Popen[bytes]]:
        """Load the images beside the other steps; containerd takes them as soon as its socket answers."""
        self.wait_for("containerd", node.socket(self.state).exists)
        pause = self.state.folder / "pause.tar"
        write_pause(self.programs["pause"], pause)
        log = (self.state.folder / "log" / "images.log").open("wb")
        return [
            subprocess.Popen(node.import_image(self.state, archive), stdout=log, stderr=subprocess.STDOUT)
            for archive in (pause, self.images)
        ]

    def ended_well(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether an import is over; one that failed ends all."""
        if process.poll():
            raise ClusterError("an image could not be imported", f"read {self.state.folder}/log/images.log")
        return process.returncode == 0

    def start_controllers(self) -> None:
        """The operator's manifest first, its Deployment at 0: it runs here, under the service account of its pod."""
        self.kubectl("apply", "--server-side", "-f", str(self.programs["mpi-operator.yaml"]))
        # 0.8.2 clears the launcher Job's start time when a job resumes, and its own manifest does not permit that.
        role = ("mpi-operator-jobs-status", "--verb=get,update,patch", "--resource=jobs.batch/status")
        self.kubectl("create", "clusterrole", *role)
        account = "--serviceaccount=mpi-operator:mpi-operator"
        self.kubectl("create", "clusterrolebinding", role[0], f"--clusterrole={role[0]}", account)
        self.kubectl("-n", "mpi-operator", "scale", "deployment", "mpi-operator", "--replicas=0")
        token = self.kubectl("-n", "mpi-operator", "create", "token", "mpi-operator", "--duration=720h")
        write_kubeconfig(self.state, self.state.folder / "kubeconfigs" / "mpi-operator", API_PORT, token)
        lease = self.site.lease_seconds
        for name, command in (
            ("kube-controller-manager", control_plane.controller_manager(self.programs, self.state, lease)),
            ("kube-scheduler", control_plane.scheduler(self.programs, self.state)),
            ("kwok", simulated.kwok(self.programs, self.state, lease)),
        ):
            self.start(name, command)
        self.wait_for("MPIJobs to be served", self.mpijobs_served)  # the operator ends if they are not
        self.start_operator()
        self.create([*node.coredns_rights(), *simulated.objects(self.site)])

    def start_operator(self) -> None:
        """Start the MPI Operator."""
        self.start(OPERATOR, control_plane.operator(self.programs, self.state, self.site.operator))

    def create(self, objects: list[simulated.Object]) -> None:
        """Create objects that do not exist yet."""
        parts = [simulated.as_list(objects[first : first + AT_ONCE]) for first in range(0, len(objects), AT_ONCE)]
        with ThreadPoolExecutor(4) as pool:  # kubectl creates one after the other
            list(pool.map(lambda text: self.kubectl("create", "-f", "-", text=text), parts))

    def mpijobs_served(self) -> bool:
        """Whether the API server knows the operator's type: it serves a type only some time after its definition."""
        return bool(self.kubectl("get", "mpijobs.kubeflow.org", "-A", "-o", "json"))

    def nodes_ready(self) -> bool:
        """Whether the real node and all simulated ones are Ready."""
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json") or '{"items": []}')["items"]
        ready = [
            item["metadata"]["name"]
            for item in nodes
            if any(one["type"] == "Ready" and one["status"] == "True" for one in item["status"].get("conditions", ()))
        ]
        return REAL_NODE in ready and len(ready) == len(nodes)

    def service_account_exists(self) -> bool:
        """Whether pods may start in namespace `default`."""
        return bool(self.kubectl("-n", "default", "get", "serviceaccount", "default", "-o", "name"))

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """The output of kubectl as administrator; empty if a get failed, an error if anything else did."""
        kubeconfig = ("--kubeconfig", str(self.state.folder / "kubeconfigs" / "admin"))
        result = subprocess.run(
            [str(self.programs["kubectl"]), *kubeconfig, *words],
            input=text,
            text=True,
            capture_output=True,
            timeout=KUBECTL_SECONDS,
        )
        if result.returncode == 0:
            return result.stdout.strip()
        if words[0] == "get" or "get" in words:
            return ""
        raise ClusterError(f"kubectl {' '.join(words)}: {result.stderr.strip()}", "report it, with the folder log/")

    def wait_for(self, what: str, done: Callable[[], bool]) -> None:
        """Ask until it is so; a daemon that ends meanwhile, or too long a time, is an error."""
        limit = STEP_SECONDS + self.site.num_gaudi_nodes // NODES_PER_SECOND
        deadline = time.monotonic() + limit
        while not done():
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    raise ClusterError(f"{name} ended ({daemon.returncode})", self.look_at(name))
            if time.monotonic() > deadline:
                raise ClusterError(f"waited {limit} s for {what}", f"read {self.state.folder}/log/")
            time.sleep(0.1)
        with self.state.progress.open("a") as file:
            file.write(f"{time.monotonic() - self.began:5.1f} s  {what}\n")

    def look_at(self, name: str) -> str:
        """Advice with the last line of a log."""
        log = self.state.folder / "log" / f"{name}.log"
        last = (log.read_text(errors="replace").strip().splitlines() or ["empty"])[-1]
        return f"read {log}; its last line: {last[:300]}"

    def look_after(self) -> None:
        """Reap whatever ends, as process 1 must; write down a daemon that should not have ended.

        The operator ends when it cannot renew its lease for 5 s (0.8.2, app/server.go); a kubelet restarts its pod.
        """
        while True:
            pid, status = os.wait()
            for name, daemon in list(self.daemons.items()):
                if daemon.pid == pid and name == OPERATOR:
                    time.sleep(1)
                    self.start_operator()
                elif daemon.pid == pid:
                    with (self.state.folder / "ended").open("a") as file:
                        file.write(f"{name} ended with status {os.waitstatus_to_exitcode(status)}\n")


def cover_folders(state: State) -> None:
    """Put empty folders over those of the machine that daemons write to; seen by this cluster alone."""
    own = os.open(state.folder, os.O_PATH)
    for folder in node.COVERED:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "test-cluster", folder], check=True)
    if not (state.folder / "keys").exists():  # the state folder itself lies below /run
        state.folder.mkdir(parents=True)
        subprocess.run(["mount", "--bind", f"/proc/self/fd/{own}", str(state.folder)], check=True, pass_fds=[own])
    os.close(own)


def name_server_ready() -> bool:
    """Whether CoreDNS says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://{control_plane.ADDRESS}:{node.DNS_READY_PORT}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def main(words: list[str]) -> None:
    """Run as process 1."""
    state = State(Path(words[0]))
    inside = Inside(state, json.loads((state.folder / "plan.json").read_text()), int(words[1]))
    try:
        inside.bring_up()
    except ClusterError as error:
        state.outcome.write_text(f"{error.what}\n{error.fix}")
        sys.exit(1)
    except Exception as error:
        state.outcome.write_text(f"internal error: {error!r}\nreport it, with {state.folder}/log/inside.log")
        traceback.print_exc()
        sys.exit(1)
    state.outcome.write_text("ready")
    os.close(inside.listener)
    inside.look_after()


if __name__ == "__main__":
    main(sys.argv[1:])
