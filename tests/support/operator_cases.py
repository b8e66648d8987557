# SPDX-License-Identifier: Apache-2.0
"""The rules of the MPI Operator at their bounds, and documents that are not what their reader expects.

Source: kubeflow/mpi-operator v0.8.2, pkg/apis/kubeflow/validation/validation.go and its test, v2beta1/default.go, CRD.
Each case is judged without a cluster by tests/unit/validation, and with one by tests/e2e/test_agreement.py.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
ABSENT: Any = ...
"""In the place of a value: the field is not there."""
LAUNCHER, WORKER = "spec.mpiReplicaSpecs.Launcher", "spec.mpiReplicaSpecs.Worker"
_POD = {"containers": [{"name": "c", "image": "a:1"}]}


def plain_job() -> Object:
    """A job with the fields that the operator needs, and no other."""
    replica = {"replicas": 1, "restartPolicy": "Never", "template": {"spec": _POD}}
    spec = {"mpiReplicaSpecs": {"Launcher": replica, "Worker": replica}, "runPolicy": {"suspend": True}}
    job = {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "metadata": {"name": "foo"}, "spec": spec}
    unshared: Object = json.loads(json.dumps(job))
    return unshared


def put(job: Object, path: str, value: Any) -> None:
    """Set or remove a field by its dotted path; maps on the way are made."""
    *parents, last = path.split(".")
    for part in parents:
        if not isinstance(job.get(part), dict):
            job[part] = {}
        job = job[part]
    if value is ABSENT:
        job.pop(last, None)
    else:
        job[last] = value


@dataclass(frozen=True)
class Case:
    """Fields of a job, and the fields that are refused."""

    fields: dict[str, Any]
    refused: tuple[str, ...] = ()

    @property
    def job(self) -> Object:
        """The plain job with these fields."""
        job = plain_job()
        for path, value in self.fields.items():
            put(job, path, copy.deepcopy(value))
        return job


def _each(path: str, good: tuple[Any, ...], bad: tuple[Any, ...], key: str = "") -> Iterator[Case]:
    yield from (Case({path: value}) for value in good)
    yield from (Case({path: value}, (key or path,)) for value in bad)


def _cases() -> Iterator[Case]:
    counts: tuple[tuple[Any, ...], tuple[Any, ...]] = (
        (0, 1, 2**31 - 1, None, ABSENT),
        (-1, -(2**31), 2**31, "1", 1.5, True, [], {}),
    )
    for name in ("spec.slotsPerWorker", "spec.runPolicy.ttlSecondsAfterFinished", "spec.runPolicy.backoffLimit"):
        yield from _each(name, *counts)
    yield from _each("spec.runPolicy.activeDeadlineSeconds", (0, 2**31, 2**63 - 1, None), (-1, -(2**63), 2**63))
    yield from _each("spec.runPolicy.cleanPodPolicy", ("None", "Running", "All", None), ("", "none", "Always", 1))
    own = ("kubeflow.org/mpi-operator", None)
    yield from _each("spec.runPolicy.managedBy", own, ("", "a", "invalid.com/controller", 1))
    yield from _each("spec.mpiImplementation", ("OpenMPI", "Intel", "MPICH", None), ("", "openmpi", "Unknown", 1))
    yield from _each("spec.sshAuthMountPath", ("/home/mpiuser/.ssh", "", None), (1, ["/a"], True))
    yield from _each("spec.launcherCreationPolicy", ("AtStartup", "WaitForWorkersReady", "", "Later", None), (1, []))
    yield from _each("spec.runLauncherAsWorker", (True, False, None), ("true", 1))
    yield from _each("spec.runPolicy.suspend", (True,), ("true", 1))
    yield from _each(f"{LAUNCHER}.replicas", (1, None, ABSENT), (0, 2, -1, "1"))
    yield from _each(f"{WORKER}.replicas", (1, 2, 1000), (0, -1, None, ABSENT, "2", 2**31))
    for role in (LAUNCHER, WORKER):
        yield from _each(
            f"{role}.restartPolicy", ("Never", "OnFailure", "", None), ("Always", "ExitCode", "Invalid", 1)
        )
        containers = f"{role}.template.spec.containers"
        yield from _each(containers, (), ([], None, ABSENT, {}))
        yield from _each(f"{role}.template", (), (None, ABSENT, {}), containers)
    yield from _each(WORKER, (ABSENT, None), ([], "a"))
    yield from _each(LAUNCHER, (), (ABSENT, None, []))
    yield Case({"spec.mpiReplicaSpecs": {}}, (LAUNCHER,))
    yield from _each("spec.mpiReplicaSpecs", (), (None, ABSENT, [], "a"))
    yield from _each("spec", (), (None, ABSENT, [], "a"))
    yield from _names()


def _names() -> Iterator[Case]:
    """<name>-worker-<replicas - 1> is a DNS-1035 label of at most 63 characters."""
    good = ("a", "foo-1", "a--b", "x" * 54)
    yield from _each(
        "metadata.name", good, ("", "1-foo", "Foo", "-a", "a-", "a.b", "a_b", "é", "x" * 55, None, ABSENT, 5)
    )
    for replicas, most in ((1, 54), (10, 54), (11, 53), (100, 53), (101, 52), (1000, 52)):
        many = {f"{WORKER}.replicas": replicas}
        yield Case({**many, "metadata.name": "x" * most})
        yield Case({**many, "metadata.name": "x" * (most + 1)}, ("metadata.name",))
    yield Case({"metadata.name": "x" * 54, WORKER: ABSENT})
    yield Case({"metadata.name": "x" * 55, WORKER: ABSENT}, ("metadata.name",))


CASES: tuple[Case, ...] = tuple(_cases())
HOSTILE: tuple[Any, ...] = (
    *(None, "", "a", "é\u202e\U0001f469", -1, 0, 2**31, 2**63, 1.5, 1e300, True, [], {}),
    *([None], [[]], ["a"], {"a": None}, {"": ""}, [{"name": None}], "x" * 300, "a\nb"),
)
"""Values to put in each place of a job."""


def rich_job() -> Object:
    """A job with a field of each type at each level."""
    job = plain_job()
    scheduling = {"minAvailable": 2, "queue": "q", "minResources": {"cpu": "1"}, "scheduleTimeoutSeconds": 1}
    job["metadata"] |= {"labels": {"a": "b"}, "annotations": {"a": "b"}}
    job["spec"] |= {"slotsPerWorker": 1, "sshAuthMountPath": "/root/.ssh", "launcherCreationPolicy": "AtStartup"}
    job["spec"]["runPolicy"] |= {"cleanPodPolicy": "Running", "backoffLimit": 0, "schedulingPolicy": scheduling}
    pod = job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]
    pod["containers"][0] |= {
        "command": ["x"],
        "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "ports": [{"containerPort": 22}],
        "resources": {"limits": {"cpu": "1"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "readinessProbe": {"tcpSocket": {"port": 22}},
    }
    pod |= {
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "h", "hostPath": {"path": "/a"}}],
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "a"}],
        "securityContext": {"fsGroup": 1},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
    }
    return job


Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value below a job."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name)
        yield from places(item, (*path, name))


def replaced(path: Path, value: Any) -> Object:
    """Return the rich job with another value in one place."""
    job = rich_job()
    target: Any = job
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = copy.deepcopy(value)
    return job


JOB_TEXT = """\
apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {name: j}
spec:
  mpiReplicaSpecs:
    Launcher: {template: {spec: {containers: [{name: c, image: "a:1"}]}}}
    Worker: {replicas: 1, template: {spec: {containers: [{name: c, image: "a:1"}]}}}
"""


def _with(old: str, new: str) -> str:
    return JOB_TEXT.replace(old, new)


def _item(kind: str, first: str = "", version: str = "apiVersion: v1\n") -> str:
    return f"{version}kind: {kind}\nitems:\n{first}- " + JOB_TEXT.replace("\n", "\n  ").rstrip() + "\n"


# Texts of manifests: whether kubectl's dry run on the server takes them.
TEXTS: dict[str, tuple[str, bool]] = {
    "as it is": (JOB_TEXT, True),
    "nothing": ("", False),
    "a mark": ("---\n", False),
    "a comment": ("# nothing\n", False),
    "null": ("null\n", False),
    "a number": ("3\n", False),
    "a text": ("abc\n", False),
    "a list": ("- a\n", False),
    "a map": ("a: b\n", False),
    "a kind alone": ("kind: MPIJob\n", False),
    "a kind that is a list": ("kind: [MPIJob]\n", False),
    "a kind in small letters": (_with("MPIJob", "mpijob"), False),
    "a version that is a number": (_with("kubeflow.org/v2beta1", "1"), False),
    "an open bracket": ("[" * 3000, False),
    "deep maps": ("{a: " * 3000, False),
    "an open quote": ("kind: 'MPIJob\n", False),
    "a tab": ("kind: MPIJob\n\tspec: 1\n", False),
    "a NUL": (_with("{name: j}", '{name: "a\\0b"}'), False),
    "an alias of itself": (f"{JOB_TEXT}x: &a [*a]\n", False),
    "CRLF": (JOB_TEXT.replace("\n", "\r\n"), True),
    "a byte order mark": (f"\ufeff{JOB_TEXT}", True),
    "an empty object beside": (f"{JOB_TEXT}---\n", True),
    "null beside": (f"{JOB_TEXT}---\nnull\n", True),
    "a number beside": (f"{JOB_TEXT}---\n3\n", False),
    "a list beside": (f"{JOB_TEXT}---\n- a\n", False),
    "no kind beside": (f"{JOB_TEXT}---\na: b\n", False),
    "no version beside": (f"{JOB_TEXT}---\nkind: ConfigMap\nmetadata: {{name: a}}\n", False),
    "a kind of text beside": (f"{JOB_TEXT}---\nkind: 3\napiVersion: v1\n", False),
    "an unknown kind beside": (f"{JOB_TEXT}---\napiVersion: v1\nkind: Foo\nmetadata: {{name: a}}\n", False),
    "no name beside": (f"{JOB_TEXT}---\napiVersion: v1\nkind: ConfigMap\n", False),
    "a List": (_item("List"), True),
    "a List of null": (_item("List", "- null\n"), False),
    "a List of a number": (_item("List", "- 3\n"), False),
    "a List without a version": (_item("List", version=""), False),
    "a null key": (_with("{name: j}", "{name: j, labels: {null: a}}"), False),
    "a number as a key": (_with("{name: j}", "{name: j, labels: {1: a}}"), True),
    "a boolean as a key": (_with("{name: j}", "{name: j, labels: {true: a}}"), True),
    "a list as a key": (_with("{name: j}", "{name: j, [a]: b}"), False),
    "a number as a name": (_with("{name: j}", "{name: 5}"), False),
    "a number as a label": (_with("{name: j}", "{name: j, labels: {a: 5}}"), False),
    "capitals in a namespace": (_with("{name: j}", "{name: j, namespace: A}"), False),
    "1.0 replicas": (_with("replicas: 1", "replicas: 1.0"), True),
    "1e0 replicas": (_with("replicas: 1", "replicas: 1e0"), True),
    "01 replicas": (_with("replicas: 1", "replicas: 01"), True),
    "0x1 replicas": (_with("replicas: 1", "replicas: 0x1"), True),
    "'1' replicas": (_with("replicas: 1", "replicas: '1'"), False),
    "yes replicas": (_with("replicas: 1", "replicas: yes"), False),
    "1.5 replicas": (_with("replicas: 1", "replicas: 1.5"), False),
    "1e400 replicas": (_with("replicas: 1", "replicas: 1e400"), False),
    "nan replicas": (_with("replicas: 1", "replicas: .nan"), False),
    "5,000 digits of replicas": (_with("replicas: 1", f"replicas: {'9' * 5000}"), False),
}
