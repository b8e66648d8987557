# SPDX-License-Identifier: Apache-2.0
"""One small MPIJob, the short names of its places, and all that `check` says of it when something is changed."""

from __future__ import annotations

import copy
import json
from typing import Any

from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import check_manifest

Object = dict[str, Any]
BYTES_256_KIB = "x" * (256 << 10)


def container(name: str, **fields: Any) -> Object:
    return {"name": name, "image": "i", **fields}


def replica(count: int, **pod: Any) -> Object:
    return {"replicas": count, "restartPolicy": "Never", "template": {"metadata": {}, "spec": pod}}


JOB: Object = {
    "apiVersion": "kubeflow.org/v2beta1",
    "kind": "MPIJob",
    "metadata": {"name": "j"},
    "spec": {
        "slotsPerWorker": 2,
        "runPolicy": {},
        "mpiReplicaSpecs": {
            "Launcher": replica(1, containers=[container("launcher")]),
            "Worker": replica(3, containers=[container("worker")]),
        },
    },
}
# The short names of places, longest first.
PLACES = {
    "worker": "spec.mpiReplicaSpecs.Worker.template.spec.containers[0]",
    "launcher": "spec.mpiReplicaSpecs.Launcher.template.spec.containers[0]",
    "pod": "spec.mpiReplicaSpecs.Worker.template.spec",
    "launcherPod": "spec.mpiReplicaSpecs.Launcher.template.spec",
    "template": "spec.mpiReplicaSpecs.Worker.template",
    "Worker": "spec.mpiReplicaSpecs.Worker",
    "Launcher": "spec.mpiReplicaSpecs.Launcher",
    "policy": "spec.runPolicy",
    "spec": "spec",
    "job": "",
}


def place(job: Object, name: str) -> Object:
    """The map of a short name."""
    found: Any = job
    for part in filter(None, PLACES[name].replace("[", ".").replace("]", "").split(".")):
        found = found[int(part)] if part.isdigit() else found[part]
    return found  # type: ignore[no-any-return]  # parsed YAML


def said(job: Object, *others: Object) -> list[str]:
    """Each fault as `severity key: message`, with the short names of places."""
    text = "\n---\n".join(json.dumps(one) for one in (job, *others))
    lines = []
    for fault in check_manifest(read_manifest(text, "a")):
        assert fault.fix, f"nobody is told what to do about {fault.key}"
        key = fault.key
        for name, long in PLACES.items():
            if long and key.startswith(long):
                key = name + key.removeprefix(long)
                break
        lines.append(f"{'' if fault.severity == 'fault' else 'warning '}{key}: {fault.message}")
    return lines


def changed(where: str, **fields: Any) -> Object:
    job = copy.deepcopy(JOB)
    place(job, where).update(fields)
    return job


def mounts(*pairs: tuple[str, str], **more: Any) -> list[Object]:
    return [{"name": name, "mountPath": path, **more} for name, path in pairs]


def env(*variables: Object) -> Object:
    return {"env": list(variables)}


def source(**reference: Any) -> Object:
    return env({"name": "A", "valueFrom": reference})


def port(number: Any, **more: Any) -> Object:
    return {"ports": [{"containerPort": number, **more}]}


def probe(name: str = "livenessProbe", **fields: Any) -> Object:
    return {name: {"tcpSocket": {"port": 22}, **fields}}


def resources(limits: Object | None = None, requests: Object | None = None) -> Object:
    return {"resources": {name: amounts for name, amounts in (("limits", limits), ("requests", requests)) if amounts}}


def terms(*expressions: Object) -> Object:
    node = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": node}}}


TERM = (
    "pod.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]"
)


def neighbours(weight: Any = 1, **term: Any) -> Object:
    preferred = [{"weight": weight, "podAffinityTerm": {"topologyKey": "zone", **term}}]
    return {"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}


NEIGHBOUR = "pod.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]"


def toleration(**fields: Any) -> Object:
    return {"tolerations": [fields]}


def security(**fields: Any) -> Object:
    return {"securityContext": fields}


def volume(mount: str = "/v", **kind: Any) -> tuple[Object, Object]:
    """The fields of a pod and of its container, for one volume."""
    return {"volumes": [{"name": "v", **kind}]}, {"volumeMounts": mounts(("v", mount))}


def with_volume(**kind: Any) -> Object:
    pod, fields = volume(**kind)
    job = changed("pod", **pod)
    place(job, "worker").update(fields)
    return job
