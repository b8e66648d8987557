# SPDX-License-Identifier: Apache-2.0
"""Check a job's folders with a small pod on a node that can run its workers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpikit.config.job import Job, Mount
from mpikit.diagnostics import Diagnostic, Found, fault, passed, warning
from mpikit.errors import ClusterError
from mpikit.kube.affinity import REQUIRED, with_hosts
from mpikit.kube.answers import Object
from mpikit.kube.api import EVENT, POD, find_all, read
from mpikit.kube.client import Cluster
from mpikit.kube.kubelet import end_of
from mpikit.kube.pods import OVER, Pod
from mpikit.kube.resources import Event
from mpikit.kube.small_pods import END_SECONDS, NO_CONTAINER, NO_IMAGE, UNSCHEDULED_SECONDS, printed, running, small_pod
from mpikit.preflight.nodes import fitting_nodes
from mpikit.text.nested import at

LATE_SECONDS = 3  # the kubelet reports the volumes of a pod one by one
PAUSE_SECONDS = 1.0
NODES_NAMED = 20  # of those that can take a worker; one of them is enough
# The check must not create a missing path. A path without a type is skipped: its runtime creates it.
_TYPES = {"Directory": "Directory", "DirectoryOrCreate": "Directory", "File": "File", "FileOrCreate": "File"}
_LINE = re.compile(r"mpikit\|(\w+)\|([^|]*)\|(\d*)\|(.+)")
_FAILED_MOUNT = re.compile(r'MountVolume\.SetUp failed for volume "([^"]+)" : (.+)')

# Prints a line for each WORD:PATH: the word, "ok" or what is wrong, the free KiB (of output) and the path.
SCRIPT = r"""
for item; do
  word="${item%%:*}" path="${item#*:}" said=ok free=0
  case "$word" in
    folder)
      if [ ! -d "$path" ]; then said='does not exist'
      elif [ ! -r "$path" ] || [ ! -x "$path" ]; then said='is not readable'
      elif [ -z "$(ls -A "$path")" ]; then said='is empty'
      fi ;;
    file)
      if [ ! -f "$path" ]; then said='does not exist'
      elif [ ! -r "$path" ]; then said='is not readable'
      fi ;;
    write)
      if [ ! -d "$path" ]; then said='does not exist'
      elif file="$(mktemp "$path/.mpikit-probe-XXXXXX" 2>/dev/null)"; then rm -f "$file"
      else said='is not writable'
      fi
      free="$(df -Pk "$path" 2>/dev/null | tail -n 1 | { read -r _ _ _ free _; echo "$free"; })" ;;
  esac
  printf 'mpikit|%s|%s|%s|%s\n' "$word" "$said" "$free" "$path"
done
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one probe."""

    node: str = ""
    lines: tuple[str, ...] = ()
    """Its log."""
    unmounted: Mapping[str, str] = field(default_factory=dict)
    """Volumes that the node could not mount, and why."""
    trouble: Diagnostic | None = None
    """Why there is no result."""


def check_paths(cluster: Cluster, job: Job, worker: Object, namespace: str, *, probe: bool, allowed: bool) -> Found:
    """Check the job's folders with a small pod, which is deleted however this ends."""
    if not any(mount.source for mount in job.folders):
        return
    if not probe:
        yield passed("paths", "not checked: --probe starts a small pod that checks them")
    elif not allowed:
        yield warning("paths", "skipped: pods cannot be created here", "fix the errors above first")
    else:
        try:
            yield from _look(cluster, job, worker, namespace)
        except ClusterError as error:
            fix = error.hint or "try again without --probe"
            yield warning("paths", f"the probe failed: {error.message}", fix)


def _look(cluster: Cluster, job: Job, worker: Object, namespace: str) -> Found:
    """Probe with all folders, and once more without those that cannot be mounted."""
    deadline = cluster.clock() + END_SECONDS
    nodes = fitting_nodes(cluster, worker)
    unmounted: dict[str, str] = {}
    while True:
        pod = probe_pod(job, worker, nodes, unmounted)
        outcome = _run(cluster, pod, namespace, deadline)
        unmounted |= outcome.unmounted
        if not outcome.unmounted or len(unmounted) == len(pod["spec"]["volumes"]):
            break
    for name, reason in unmounted.items():
        yield _not_mounted(job, name, reason, outcome.node)
    if outcome.trouble:
        yield outcome.trouble
    elif not outcome.unmounted:
        yield from seen(job, outcome)


# -- The pod ----------------------------------------------------------------------------------------------------------


def probe_pod(job: Job, worker: Object, nodes: Sequence[str], without: Mapping[str, str]) -> Object:
    """Return a worker's pod without cards and variables that checks the folders and ends."""
    volumes = [volume for volume in _volumes(job) if volume["name"] not in without]
    names = {volume["name"] for volume in volumes}
    wanted = [f"{word}:{path}" for word, path, name in items(job) if name in names]
    mounts = [mount for mount in _mounts(job) if mount["name"] in names]
    command = ["sh", "-c", SCRIPT, "probe", *wanted]
    pod = small_pod(job.job_name, "probe", worker, command, mounts=mounts, volumes=volumes, labels=job.own_labels)
    pod["spec"]["affinity"] = _on_one_of(nodes, at(worker, "spec", "affinity", "nodeAffinity", REQUIRED))
    return pod


def _on_one_of(nodes: Sequence[str], required: Mapping[str, Any] | None) -> Object:
    """Narrow the worker's node affinity to nodes that can run a worker: the probe, without cards, fits others too."""
    affinity = {"nodeAffinity": {REQUIRED: required}} if required else {}
    return with_hosts(affinity, "In", nodes[:NODES_NAMED]) if nodes else affinity


def _volumes(job: Job) -> list[Object]:
    """Return the job's folders as volumes that do not create missing folders."""
    found: list[Object] = []
    for mount in job.folders:
        if mount.claim:
            found.append({"name": mount.name, "persistentVolumeClaim": {"claimName": mount.claim.pvc}})
        elif mount.host_path:
            found.append({"name": mount.name, "hostPath": {"path": mount.host_path, "type": "Directory"}})
    for volume in job.worker.volumes:
        kind = _TYPES.get(at(volume, "hostPath", "type") or "")
        if kind and any(mount["name"] == volume["name"] for mount in job.worker.volume_mounts):
            found.append({"name": volume["name"], "hostPath": {"path": volume["hostPath"]["path"], "type": kind}})
    return found


def _mounts(job: Job) -> list[Object]:
    """Return the mounts of these volumes; whole claims, since mounting a missing subPath creates it."""
    own: list[Object] = [{"name": one.name, "mountPath": one.path, "readOnly": one.read_only} for one in job.folders]
    more = [{"name": one["name"], "mountPath": one["mountPath"], "readOnly": True} for one in job.worker.volume_mounts]
    return own + more


def items(job: Job) -> list[tuple[str, str, str]]:
    """(word of the script, path in the pod, folder) of everything to look at."""
    found = []
    for mount in job.folders:
        below = mount.claim.sub_path if mount.claim and mount.claim.sub_path else ""
        path = f"{mount.path}/{below}" if below else mount.path
        found += [(word, f"{path}/{name}".rstrip("/"), mount.name) for word, name in _wanted(job, mount)]
    return found


def _wanted(job: Job, mount: Mount) -> list[tuple[str, str]]:
    """(word, path below the folder) of what a folder must contain."""
    if not mount.source or (mount.name == "dataset" and job.train.dataset == "synthetic"):
        return []
    match mount.name:
        case "dataset" if job.train.dataset in ("imagenet1K", "imagefolder"):
            return [("folder", "train"), ("folder", "val")]
        case "pretrained":
            return [("file", job.pretrained_file_name or "")]
        case "mydir" if job.delivery == "mydir":
            return [("file", "run_vit.sh"), ("file", "worker.sh")]
        case "output":
            return [("write", "")]
    return [("folder", "")]


# -- What becomes of it -----------------------------------------------------------------------------------------------


def _run(cluster: Cluster, pod: Object, namespace: str, deadline: float) -> Outcome:
    """Create the pod, wait for its result, and delete it in any case, also when the user stops the wait."""
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    with running(cluster, namespace, pod) as name:
        return _follow(cluster, namespace, name, volumes, deadline)


def _follow(cluster: Cluster, namespace: str, name: str, volumes: set[str], deadline: float) -> Outcome:
    """Wait for the pod's result, or for the reason that there is none."""
    began = cluster.clock()
    while True:
        pod = Pod(read(cluster, POD, namespace, name))
        if pod.phase in OVER:
            return _ended(pod, printed(cluster, namespace, name))
        if trouble := _trouble(pod, cluster.clock() - began):
            return Outcome(pod.node, trouble=trouble)
        if pod.node and not pod.started and (unmounted := _failed_mounts(cluster, namespace, name)):
            cluster.sleep(LATE_SECONDS)
            unmounted |= _failed_mounts(cluster, namespace, name)
            if set(unmounted) <= volumes:
                return Outcome(pod.node, unmounted=unmounted)
            return Outcome(pod.node, trouble=fault("paths", "; ".join(unmounted.values()), _STORAGE))
        if cluster.clock() > deadline:
            what = pod.waiting.reason or pod.phase
            message = f"the probe did not end within {END_SECONDS} s: {what} on {pod.node or 'no node'}"
            return Outcome(pod.node, trouble=warning("paths", message, "try again: the first image pull takes minutes"))
        cluster.sleep(PAUSE_SECONDS)


_STORAGE = "ask the cluster's administrator about the storage behind the claim (kubectl describe pvc names it)"


def _ended(pod: Pod, lines: list[str]) -> Outcome:
    if any(_LINE.fullmatch(line) for line in lines):
        return Outcome(pod.node, tuple(lines))
    end = end_of(pod)
    message = f"the probe {end.words} without a result: {' '.join(lines)[:200]}"
    fix = end.advice or "the image needs sh, ls and df; python generate.py doctor without --probe checks the rest"
    return Outcome(pod.node, trouble=warning("paths", message, fix))


def _trouble(pod: Pod, seconds: float) -> Diagnostic | None:
    """Return what waiting will not change."""
    reason, message, image, _ = pod.waiting
    if reason in NO_IMAGE:
        fix = f"correct image: (or synapse:, os:), or set imagePullSecrets:; the nodes cannot pull {image}"
        return fault("image", f"{reason} on {pod.node}: {message}", fix)
    if reason in NO_CONTAINER:
        return fault(
            "paths", f"{reason} on {pod.node}: {message}", "correct the field named above in worker: of the values"
        )
    if pod.unschedulable and seconds > UNSCHEDULED_SECONDS:
        fix = "correct worker.nodeSelector: or worker.tolerations: (see the line about nodes)"
        return warning("paths", f"no node can run the probe: {pod.unschedulable.message}", fix)
    return None


def _failed_mounts(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """Return the volumes that could not be mounted, and why."""
    events = [Event(item) for item in find_all(cluster, EVENT, namespace, fields=f"involvedObject.name={name}")]
    found = [_FAILED_MOUNT.search(event.message) for event in events if event.reason == "FailedMount"]
    return {match[1]: match[2] for match in found if match}


def _not_mounted(job: Job, name: str, reason: str, node: str) -> Diagnostic:
    mount = next((one for one in job.folders if one.name == name), None)
    if mount is None:
        fix = f"set the path of {name} in worker.volumes: to one that every node has"
        return fault("paths", f"volume {name} on {node}: {reason}", fix)
    if mount.host_path_type == "DirectoryOrCreate":
        return _made_later(mount, node)
    return fault("paths", f"{name} on {node}: {reason}", _fix(job, name))


def _made_later(mount: Mount, node: str) -> Diagnostic:
    """Output may be missing, but a typing error would create a folder on the node's own disk."""
    message = f"{mount.name} on {node}: {_shown(mount, mount.path)} does not exist; the job would create it, empty"
    return warning("paths", message, f"create the folder if it is to be shared, or correct {mount.name}:")


def seen(job: Job, outcome: Outcome) -> Found:
    """Report each folder that is not correct, and all correct ones in one line."""
    folders = {path: name for _, path, name in items(job)}
    mounts = {mount.name: mount for mount in job.folders}
    good = []
    for line in outcome.lines:
        found = _LINE.fullmatch(line)
        if not found or found[4] not in folders:
            continue
        word, said, free, path = found.groups()
        mount = mounts[folders[path]]
        short = word == "write" and free and int(free) < job.output_free_gib * 2**20
        if word == "write" and said == "does not exist":
            yield _made_later(mount, outcome.node)
        elif said != "ok":
            message = f"{mount.name} on {outcome.node}: {_shown(mount, path)} {said}"
            yield fault("paths", message, _fix(job, mount.name))
        elif short:
            message = f"output on {outcome.node}: {int(free) / 2**20:.1f} GiB free, {job.output_free_gib:g} GiB wanted"
            yield fault("paths", message, "free space in output:, or set outputFreeGiB: to what the run needs")
        else:
            good.append(_shown(mount, path))
    if good:
        yield passed("paths", f"correct on {outcome.node}: {', '.join(good)}")


def _shown(mount: Mount, path: str) -> str:
    """Return a path in the pod as the user knows it."""
    rest = path.removeprefix(mount.path)
    return f"claim {mount.claim.pvc}:{rest or '/'}" if mount.claim else f"{mount.host_path}{rest}"


def _fix(job: Job, name: str) -> str:
    return {
        "dataset": "set dataset: to the folder that contains train/ and val/ on every node",
        "pretrained": f"set pretrained: to the folder that contains {job.pretrained_file_name} on every node, or null",
        "output": "set output: to a folder that the pods can write (ls -ld shows its owner)",
        "mydir": "set mydir: to the shared folder, and copy the files of python generate.py --out DIR there",
    }[name]
