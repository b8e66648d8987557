# SPDX-License-Identifier: Apache-2.0
"""What befalls running pods, done to one job on this machine's node: signals, deletions, networks, kubelet, API server.

The node's processes are this machine's, so a fault finds its victim in /proc by the cgroup, whose name has the
pod's uid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs import RunningJob
from kube import Object, wait_for
from testcluster.state import state_folder

NETWORK_SECONDS, KUBELET_SECONDS, SERVER_SECONDS = 20, 20, 30
EVICTION_SECONDS = 60  # the kubelet looks at volumes each few seconds, and then ends the pod within its grace period
FILL_MIB = 32  # more than the sizeLimit of the volume that it goes to
SMALL_VOLUME = "/small"


@dataclass(frozen=True)
class Found:
    """A process of a pod."""

    pid: int
    parent: int
    name: str
    words: tuple[str, ...]


def in_pod(pod: Object) -> list[Found]:
    """The processes of a pod, as the node sees them."""
    uid = pod["metadata"]["uid"]
    return [one for folder in Path("/proc").glob("[0-9]*") if (one := _process(folder, uid))]


def _process(folder: Path, uid: str) -> Found | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        if uid in (folder / "cgroup").read_text().replace("_", "-"):
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            words = tuple((folder / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            return Found(int(folder.name), int(rest.split()[1]), name, words)
    return None


def victim(job: RunningJob, kind: str) -> int | None:
    """A process of the job; None if it is not there at this moment."""
    if kind in ("mpirun", "launcher"):
        found = in_pod(job.launcher)
        wanted = (
            (one for one in found if one.name in ("mpirun", "prterun", "prte") and "--hostfile" in one.words)
            if kind == "mpirun"
            else (one for one in found if "vit.supervise" in one.words)
        )
        return next((one.pid for one in wanted), None)
    pods = job.pods("worker")
    found = in_pod(pods[-1]) if pods else []
    ranks = [one for one in found if "vit.train" in one.words]
    numbers = {one.pid for one in ranks}
    match kind:
        case "rank":
            return next((one.pid for one in ranks if one.parent not in numbers), None)
        case "loader":
            return next((one.pid for one in ranks if one.parent in numbers), None)
        case "daemon":
            return next((one.pid for one in found if one.name in ("orted", "prted")), None)
    inside = {one.pid for one in found}  # sshd is the first process of its container
    return next((one.pid for one in found if one.name == "sshd" and one.parent not in inside), None)


def _kill(kind: str) -> Callable[[RunningJob], bool]:
    def kill(job: RunningJob) -> bool:
        with contextlib.suppress(OSError):
            if pid := victim(job, kind):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    return kill


def delete_worker(job: RunningJob) -> bool:
    """kubectl delete pod."""
    return job.kube.run("-n", job.namespace, "delete", "pod", f"{job.name}-worker-1", "--wait=false").code == 0


def drain_worker(job: RunningJob) -> bool:
    """kubectl drain, of one worker's node; it may be used again at once."""
    found = [pod for pod in job.pods("worker") if pod["metadata"]["name"].endswith("-1")]
    node = found[0]["spec"].get("nodeName") if found else None
    if not node:
        return False
    chosen = f"--pod-selector=training.kubeflow.org/job-name={job.name},training.kubeflow.org/replica-index=1"
    try:
        job.kube.run("drain", node, chosen, "--force", "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=90s")
    finally:
        job.kube("uncordon", node)
    return True


def evict_worker(job: RunningJob) -> bool:
    """The kubelet evicts the worker, because a volume of it is over its limit; the pod stays, Failed."""
    found = [pod for pod in job.pods("worker") if pod["metadata"]["name"].endswith("-1")]
    fill = f"head -c {FILL_MIB << 20} /dev/zero >{SMALL_VOLUME}/fill"
    command = ("-n", job.namespace, "exec", f"{job.name}-worker-1", "--", "sh", "-c", fill)
    if not found or job.kube.run(*command).code:
        return False
    wait_for("the kubelet to evict the worker", lambda: _is_evicted(job, found[0]["metadata"]["uid"]), EVICTION_SECONDS)
    return True


def _is_evicted(job: RunningJob, uid: str) -> bool:
    """Whether the pod of this uid has ended; the launcher may have deleted it already."""
    return all(
        pod.get("status", {}).get("phase") == "Failed" for pod in job.pods("worker") if pod["metadata"]["uid"] == uid
    )


def cut_network(job: RunningJob) -> bool:
    """All packets of one worker are dropped for a while."""
    pid = victim(job, "rank")
    if pid is None:
        return False
    enter = ["nsenter", "--target", str(pid), "--net", "iptables"]
    rules = [(chain, "-j", "DROP") for chain in ("INPUT", "OUTPUT")]
    for rule in rules:
        subprocess.run([*enter, "-I", *rule], check=True)
    holder = subprocess.Popen(["nsenter", "--target", str(pid), "--net", "sleep", "600"])  # keeps the network's name
    try:
        time.sleep(NETWORK_SECONDS)
        for rule in rules:
            subprocess.run(["nsenter", "--target", str(holder.pid), "--net", "iptables", "-D", *rule], check=False)
    finally:
        holder.kill()
        holder.wait()
    return True


def _of_the_cluster(name: str) -> Iterator[int]:
    folder = str(state_folder()).encode()
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (one / "cmdline").read_bytes()
            if Path(words.split(b"\0")[0].decode()).name == name and folder in words:
                yield int(one.name)


def _stopped(name: str, seconds: float) -> Callable[[RunningJob], bool]:
    def stop(_job: RunningJob) -> bool:
        (pid,) = _of_the_cluster(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return True

    return stop


FAULTS: dict[str, Callable[[RunningJob], bool]] = {
    "kubelet stopped": _stopped("kubelet", KUBELET_SECONDS),
    "worker evicted": evict_worker,
    "API server gone": _stopped("kube-apiserver", SERVER_SECONDS),
    "mpirun killed": _kill("mpirun"),
    "worker drained": drain_worker,
    "daemon killed": _kill("daemon"),
    "network down": cut_network,
    "loader killed": _kill("loader"),
    "launcher killed": _kill("launcher"),
    "sshd killed": _kill("sshd"),
    "worker deleted": delete_worker,
    "rank killed": _kill("rank"),
}
"""What is done, and whether there was something to do it to."""
