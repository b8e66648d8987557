# SPDX-License-Identifier: Apache-2.0
"""Read small files of a run's folder on the cluster, with a small pod that mounts the job's output read-only.

The pod prints the files as a compressed archive, so that reading its log is all that the user must be allowed to do
beside creating and deleting it. It works the same way while the job runs, and after its pods are gone.
"""

from __future__ import annotations

import base64
import io
import re
import tarfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from mpikit.errors import ClusterError, Forbidden, JobError, NotFound, Timeout
from mpikit.kube.answers import Object
from mpikit.kube.api import EVENT, POD, find_all, read
from mpikit.kube.client import Cluster
from mpikit.kube.kubelet import end_of, understand_stuck
from mpikit.kube.pods import OVER, Pod
from mpikit.kube.resources import Event
from mpikit.kube.small_pods import END_SECONDS, NO_CONTAINER, NO_IMAGE, UNSCHEDULED_SECONDS, printed, running, small_pod
from mpikit.text.nested import as_map, at

PAUSE_SECONDS = 0.5
MOST_PACKED = 6 << 20  # as base64 it fits into the 10 MiB after which a kubelet rotates a log
MOST_UNPACKED = 128 << 20
_BEGIN, _END, _MISSING = "mpikit|begin", "mpikit|end", "mpikit|missing"

# SCRIPT FOLDER PATTERN...: regular files only, and no link.
SCRIPT = rf"""
cd "$1" 2>/dev/null || {{ echo '{_MISSING}'; exit 0; }}
shift
echo '{_BEGIN}'
for pattern; do
  for file in $pattern; do
    if [ -f "$file" ] && [ ! -L "$file" ]; then printf '%s\n' "$file"; fi
  done
done | tar -cz -f - -T - 2>/dev/null | head -c {MOST_PACKED} | base64 -w 4096
echo
echo '{_END}'
"""


class File(NamedTuple):
    """A file of the run."""

    content: bytes
    modified: float
    """Seconds since 1970."""


def read_run(cluster: Cluster, namespace: str, mpijob: Object, run: str, patterns: Sequence[str]) -> dict[str, File]:
    """Return the files of a run in the output folder of an MPIJob that match the patterns, by their path.

    Raises NotFound without such a folder, JobError for a job without one, ClusterError, Timeout.
    """
    pod = reader_pod(mpijob, run, patterns)
    try:
        with running(cluster, namespace, pod) as name:
            lines = _follow(cluster, namespace, name)
    except Forbidden as error:
        fix = "ask for the right to create and delete pods, or copy the run with kubectl cp while a pod of the job runs"
        raise Forbidden(f"the run is read with a small pod, which is not allowed: {error.message}", fix) from error
    if _MISSING in lines:
        where = at(mpijob, "metadata", "annotations", "mpikit/output") or "the output of the job"
        raise NotFound(f"{where} does not contain the run {run}", "name a run that is there; the default is train.name")
    return unpacked(lines, patterns)


def reader_pod(mpijob: Object, run: str, patterns: Sequence[str]) -> Object:
    """Return the pod: the launcher's without its variables and other folders."""
    template = at(mpijob, "spec", "mpiReplicaSpecs", "Launcher", "template") or {}
    spec = template.get("spec") or {}
    main = (spec.get("containers") or [{}])[0]
    mount = next((one for one in main.get("volumeMounts") or () if one.get("name") == "output"), None)
    volume = next((one for one in spec.get("volumes") or () if one.get("name") == "output"), None)
    name = str(at(mpijob, "metadata", "name") or "")
    if mount is None or volume is None:
        raise JobError(f"the launcher of MPIJob {name} has no output folder", "copy the run with kubectl cp")
    folder = "/".join(filter(None, (mount["mountPath"], mount.get("subPath"), run)))
    command = ["sh", "-c", SCRIPT, "reader", folder, *patterns]
    mounts = [{"name": "output", "mountPath": mount["mountPath"], "readOnly": True}]
    labels = as_map(at(template, "metadata", "labels"))
    volumes = [_existing(volume)]
    pod = small_pod(name, "reader", template, command, mounts=mounts, volumes=volumes, labels=labels)
    if annotations := at(template, "metadata", "annotations"):
        pod["metadata"]["annotations"] = annotations
    return pod


def _existing(volume: Object) -> Object:
    """Return the volume as one whose folder is not created."""
    path = at(volume, "hostPath", "path")
    return {"name": "output", "hostPath": {"path": path, "type": "Directory"}} if path else volume


def _follow(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Return the lines of the pod once it has ended. Raises ClusterError, Timeout."""
    began = cluster.clock()
    while True:
        pod = Pod(read(cluster, POD, namespace, name))
        if pod.phase in OVER:
            return _lines(cluster, namespace, pod)
        seconds = cluster.clock() - began
        _raise_trouble(cluster, namespace, pod, seconds)
        if seconds > END_SECONDS:
            what = pod.waiting.reason or pod.phase
            raise Timeout(f"the pod that reads the run did not end within {END_SECONDS} s: {what}", "try again")
        cluster.sleep(PAUSE_SECONDS)


def _lines(cluster: Cluster, namespace: str, pod: Pod) -> list[str]:
    lines = printed(cluster, namespace, pod.name)
    if _MISSING in lines or _END in lines:
        return lines
    end = end_of(pod)
    fix = (
        end.advice or "the image needs sh, tar, gzip and base64; kubectl cp copies the run while a pod of the job runs"
    )
    raise ClusterError(f"the pod that reads the run {end.words}: {' '.join(lines)[:200]}", fix)


_NO_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')


def _raise_trouble(cluster: Cluster, namespace: str, pod: Pod, seconds: float) -> None:
    """Raise what waiting will not change."""
    what = "the pod that reads the run"
    reason, message, image, _ = pod.waiting
    if reason in (*NO_IMAGE, *NO_CONTAINER):
        raise ClusterError(f"{what} does not start: {reason}: {message}", f"the nodes must be able to run {image}")
    if pod.unschedulable:
        found = _NO_CLAIM.search(pod.unschedulable.message)
        if found:
            fix = f"correct output: in the values; kubectl -n {namespace} get pvc lists the claims"
            raise NotFound(f"claim {found[1]} of the output does not exist in namespace {namespace}", fix)
        if seconds > UNSCHEDULED_SECONDS:
            raise ClusterError(f"no node can run {what}: {pod.unschedulable.message}", "try again later")
    if pod.node and not pod.started:
        for item in find_all(cluster, EVENT, namespace, fields=f"involvedObject.name={pod.name}"):
            event = Event(item)
            if event.reason == "FailedMount":
                advice = understand_stuck(event.message, pod, namespace).text
                raise NotFound(f"{what} cannot mount the output folder: {event.message}", advice)


def unpacked(lines: Sequence[str], patterns: Sequence[str]) -> dict[str, File]:
    """Return the files in what the pod printed. Raises ClusterError."""
    text = "".join(lines[lines.index(_BEGIN) + 1 : lines.index(_END)])
    try:
        packed = base64.b64decode(text, validate=True)
        if len(packed) >= MOST_PACKED:
            large = f"the files of the run have more than {MOST_PACKED >> 20} MiB, compressed"
            raise ClusterError(large, "copy the run with kubectl cp while a pod of the job runs")
        return _files(packed, patterns) if packed else {}
    except (ValueError, tarfile.TarError, OSError, EOFError) as error:
        raise ClusterError("what the pod that reads the run printed is damaged", "try again") from error


def _files(packed: bytes, patterns: Sequence[str]) -> dict[str, File]:
    found: dict[str, File] = {}
    left = MOST_UNPACKED
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive:
            if not member.isreg() or not _wanted(member.name, patterns):
                continue
            left -= member.size
            content: Any = archive.extractfile(member)
            if left < 0 or content is None:
                raise ClusterError(f"the files of the run have more than {MOST_UNPACKED >> 20} MiB", "use kubectl cp")
            found[member.name] = File(content.read(), member.mtime)
    return found


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a path in the archive is one that was asked for; `*` stands for a name of one folder."""
    words = name.split("/")
    asked = (pattern.split("/") for pattern in patterns)
    return ".." not in words and any(len(one) == len(words) and all(map(fnmatchcase, words, one)) for one in asked)
