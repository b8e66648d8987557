# SPDX-License-Identifier: Apache-2.0
"""Every rule of `check` about pods, on one small job: what is changed, and all that is said of it.

The rules are the API server's; tests/e2e/test_agreement.py holds them against it.
"""

# sentences for people, one a line, so that they can be searched for
from __future__ import annotations

import json
from typing import Any

import pytest

from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import check_manifest
from tests.support.small_job import (
    BYTES_256_KIB,
    NEIGHBOUR,
    TERM,
    Object,
    changed,
    container,
    env,
    mounts,
    neighbours,
    place,
    port,
    probe,
    resources,
    said,
    security,
    source,
    terms,
    toleration,
    with_volume,
)

GOOD: dict[str, tuple[str, Object]] = {
    "labels": ("template", {"metadata": {"labels": {"a.b/C_d": "", "e": "F.g-1"}, "annotations": {"A/b": "any text"}}}),
    "annotations": ("template", {"metadata": {"annotations": {"a": BYTES_256_KIB[1:]}}}),
    "names": ("pod", {"serviceAccountName": "a.b", "priorityClassName": "system-node-critical", "nodeName": ""}),
    "choices": ("pod", {"dnsPolicy": "Default", "preemptionPolicy": "Never", "os": {"name": "linux"}}),
    "a short deadline": ("pod", {"activeDeadlineSeconds": 1}),
    "a long deadline": ("pod", {"activeDeadlineSeconds": (1 << 31) - 1}),
    "a host alias": ("pod", {"hostAliases": [{"ip": "::1", "hostnames": ["a.b"]}]}),
    "a selector": ("pod", {"nodeSelector": {"a/b": "c"}}),
    "any taint": ("pod", toleration(operator="Exists")),
    "one taint": ("pod", toleration(key="a/b", value="c", effect="NoSchedule")),
    "a taint with a time": ("pod", toleration(key="a", operator="Exists", effect="NoExecute", tolerationSeconds=0)),
    "an expression": ("pod", terms({"key": "a", "operator": "In", "values": ["b"]})),
    "a number": ("pod", terms({"key": "a", "operator": "Gt", "values": ["1"]})),
    "existence": ("pod", terms({"key": "a", "operator": "DoesNotExist"})),
    "a weight": ("pod", neighbours(100)),
    "users": ("pod", security(runAsUser=0, runAsGroup=(1 << 31) - 1, fsGroup=1)),
    "a profile": ("pod", security(seccompProfile={"type": "Localhost", "localhostProfile": "a"})),
    "rights": ("worker", security(privileged=True, allowPrivilegeEscalation=True)),
    "a bound process": ("worker", security(privileged=False, allowPrivilegeEscalation=False, procMount="Default")),
    "variables": ("worker", env({"name": "A", "value": "b"}, {"name": "a.b-c d", "value": ""})),
    "a field": ("worker", source(fieldRef={"fieldPath": "metadata.labels['a/b']"})),
    "a key": ("worker", source(secretKeyRef={"name": "a.b", "key": "A_.-b"})),
    "a key of a map": ("worker", source(configMapKeyRef={"name": "a", "key": ".a"})),
    "all keys": ("worker", {"envFrom": [{"prefix": "P_", "secretRef": {"name": "a"}}]}),
    "ports": ("worker", port(65535, hostPort=1, protocol="SCTP", name="a-1")),
    "a port of the host that is none": ("worker", port(1, hostPort=0)),
    "a probe": ("worker", probe(initialDelaySeconds=0, successThreshold=1, terminationGracePeriodSeconds=1)),
    "a readiness probe": ("worker", probe("readinessProbe", successThreshold=3)),
    "a port by its name": ("worker", {"startupProbe": {"httpGet": {"path": "/", "port": "http"}}}),
    "a hook": ("worker", {"lifecycle": {"preStop": {"exec": {"command": ["a"]}}, "postStart": None}}),
    "a sleep": ("worker", {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}),
    "a sidecar": ("pod", {"initContainers": [container("s", restartPolicy="Always", **probe())]}),
    "amounts": ("worker", resources({"cpu": "1.5", "memory": "1Gi"}, {"cpu": "1500m", "ephemeral-storage": "1Mi"})),
    "amounts of a pod": ("pod", resources({"cpu": 2, "hugepages-2Mi": "2Mi"}, {"cpu": 2, "memory": 1 << 20})),
    "the longest names": ("worker", {"name": "a" * 63, **port(1, name="a" * 15)}),
    "the longest label": ("template", {"metadata": {"labels": {"a." * 126 + "b/" + "c" * 63: "d" * 63}}}),
    "the longest name of an object": ("pod", {"nodeName": "a" * 253}),
    "small amounts": ("worker", resources({"cpu": "1m", "memory": 0}, {"cpu": "-0"})),
    "huge pages": ("worker", resources({"hugepages-2Mi": "4Mi", "cpu": 1}, {"hugepages-2Mi": "4Mi"})),
    "cards": ("worker", resources({"habana.ai/gaudi": 2}, {"habana.ai/gaudi": "2"})),
    "a resource of Kubernetes": ("worker", resources(None, {"x.kubernetes.io/y": "1.5"})),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_right_is_not_complained_of(case: str) -> None:
    where, fields = GOOD[case]
    assert said(changed(where, **fields)) == []


# Where, the fields that are set there, and all that is said.
BAD: list[tuple[str, Object, list[str]]] = [
    # Metadata
    (
        "job",
        {"metadata": {"name": "a", "labels": {"a b": "c"}}},
        ["metadata.labels.a b: 'a b' is not a valid label key"],
    ),
    (
        "template",
        {"metadata": {"labels": {"a": "b c"}}},
        ["template.metadata.labels.a: 'b c' is not a valid label value"],
    ),
    (
        "template",
        {"metadata": {"labels": {"a": "b" * 64}}},
        [f"template.metadata.labels.a: '{'b' * 64}' is not a valid label value"],
    ),
    ("template", {"metadata": {"labels": {"a": None}}}, ["template.metadata.labels.a: is empty"]),
    ("template", {"metadata": {"labels": {"/a": "b"}}}, ["template.metadata.labels./a: '/a' is not a valid label key"]),
    (
        "template",
        {"metadata": {"labels": {"a" * 64: "b"}}},
        [f"template.metadata.labels.{'a' * 64}: '{'a' * 64}' is not a valid label key"],
    ),
    (
        "template",
        {"metadata": {"labels": {"a." * 127 + "b/c": "d"}}},
        [f"template.metadata.labels.{'a.' * 127}b/c: '{'a.' * 127}b/c' is not a valid label key"],
    ),
    (
        "template",
        {"metadata": {"annotations": {"A B": "c"}}},
        ["template.metadata.annotations.A B: 'a b' is not a valid label key"],
    ),
    (
        "template",
        {"metadata": {"annotations": {"a": BYTES_256_KIB}}},
        ["template.metadata.annotations: are longer than 256 KiB together"],
    ),
    ("template", {"metadata": {"name": 1}}, ["template.metadata.name: is 1, not a text in quotes"]),
    # The pod
    *(
        ("pod", {name: "A"}, [f"pod.{name}: 'A' is not a valid object name"])
        for name in ("serviceAccountName", "priorityClassName", "runtimeClassName", "nodeName")
    ),
    ("pod", {"nodeName": "a" * 254}, [f"pod.nodeName: '{'a' * 254}' is not a valid object name"]),
    ("pod", {"dnsPolicy": "None?"}, ["pod.dnsPolicy: 'None?' is not known"]),
    ("pod", {"os": {"name": "mac"}}, ["pod.os.name: 'mac' is not known"]),
    ("pod", {"activeDeadlineSeconds": 0}, ["pod.activeDeadlineSeconds: 0 is out of range"]),
    ("pod", {"activeDeadlineSeconds": 1 << 31}, ["pod.activeDeadlineSeconds: 2147483648 is out of range"]),
    (
        "pod",
        {"hostAliases": [{"ip": "1.2.3", "hostnames": ["a"]}]},
        ["pod.hostAliases[0].ip: '1.2.3' is not a valid IP address"],
    ),
    (
        "pod",
        {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["A"]}]},
        ["pod.hostAliases[0].hostnames[0]: 'A' is not a valid object name"],
    ),
    ("pod", {"nodeSelector": {"a b": "c"}}, ["pod.nodeSelector.a b: 'a b' is not a valid label key"]),
    ("pod", {"nodeSelector": {"a": "c d"}}, ["pod.nodeSelector.a: 'c d' is not a valid label value"]),
    ("pod", {"nodeselector": {}}, ["pod.nodeselector: no such field"]),
    ("pod", toleration(value="a"), ["pod.tolerations[0].operator: must be Exists where there is no key"]),
    ("pod", toleration(key="a", operator="Like"), ["pod.tolerations[0].operator: 'Like' is not known"]),
    (
        "pod",
        toleration(key="a", operator="Exists", value="b"),
        ["pod.tolerations[0].value: must be empty with operator Exists"],
    ),
    ("pod", toleration(key="a", value="b c"), ["pod.tolerations[0].value: 'b c' is not a valid label value"]),
    ("pod", toleration(key="a b"), ["pod.tolerations[0].key: 'a b' is not a valid label key"]),
    ("pod", toleration(key="a", effect="Never"), ["pod.tolerations[0].effect: 'Never' is not known"]),
    (
        "pod",
        toleration(key="a", tolerationSeconds=1),
        ["pod.tolerations[0].effect: must be NoExecute with tolerationSeconds"],
    ),
    ("pod", terms({"key": "a", "operator": "Is"}), [f"{TERM}.operator: 'Is' is not known"]),
    ("pod", terms({"key": "a", "operator": "In"}), [f"{TERM}.values: is empty, and In needs one"]),
    ("pod", terms({"key": "a", "operator": "NotIn", "values": []}), [f"{TERM}.values: is empty, and NotIn needs one"]),
    ("pod", terms({"key": "a", "operator": "Exists", "values": ["b"]}), [f"{TERM}.values: must be empty with Exists"]),
    (
        "pod",
        terms({"key": "a", "operator": "DoesNotExist", "values": ["b"]}),
        [f"{TERM}.values: must be empty with DoesNotExist"],
    ),
    (
        "pod",
        terms({"key": "a", "operator": "Lt", "values": ["1", "2"]}),
        [f"{TERM}.values: must be one number with Lt"],
    ),
    ("pod", terms({"key": "a b", "operator": "Exists"}), [f"{TERM}.key: 'a b' is not a valid label key"]),
    (
        "pod",
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}},
        ["pod.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: is empty"],
    ),
    ("pod", neighbours(0), [f"{NEIGHBOUR}.weight: 0 is out of range"]),
    ("pod", neighbours(101), [f"{NEIGHBOUR}.weight: 101 is out of range"]),
    ("pod", neighbours(topologyKey=""), [f"{NEIGHBOUR}.podAffinityTerm.topologyKey: is empty"]),
    (
        "pod",
        neighbours(labelSelector={"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}),
        [f"{NEIGHBOUR}.podAffinityTerm.labelSelector.matchExpressions[0].operator: 'Gt' is not known"],
    ),
    ("pod", security(runAsUser=-1), ["pod.securityContext.runAsUser: -1 is not a valid user or group ID"]),
    ("pod", security(fsGroup=1 << 31), ["pod.securityContext.fsGroup: 2147483648 is not a valid user or group ID"]),
    ("worker", security(runAsGroup=-1), ["worker.securityContext.runAsGroup: -1 is not a valid user or group ID"]),
    (
        "worker",
        security(privileged=True, allowPrivilegeEscalation=False),
        ["worker.securityContext.allowPrivilegeEscalation: cannot be false when privileged"],
    ),
    (
        "worker",
        security(seccompProfile={"type": "Localhost"}),
        ["worker.securityContext.seccompProfile: localhostProfile and type Localhost go together"],
    ),
    (
        "pod",
        security(seccompProfile={"type": "Unconfined", "localhostProfile": "a"}),
        ["pod.securityContext.seccompProfile: localhostProfile and type Localhost go together"],
    ),
    ("pod", security(fsGroupChangePolicy="Never"), ["pod.securityContext.fsGroupChangePolicy: 'Never' is not known"]),
    # Containers
    (
        "pod",
        {"containers": [container("a"), container("a")]},
        ["pod.containers[1]: a is used twice, first at [0]", "pod.containers[1].name: 'a' is used twice"],
    ),
    ("pod", {"initContainers": [container("worker")]}, ["worker.name: 'worker' is used twice"]),
    (
        "pod",
        {"initContainers": [container("i", **probe())]},
        ["pod.initContainers[0].livenessProbe: an init container cannot have one"],
    ),
    (
        "pod",
        {"initContainers": [container("i", lifecycle={})]},
        ["pod.initContainers[0].lifecycle: an init container cannot have one"],
    ),
    ("worker", {"name": "a_b"}, ["worker.name: 'a_b' is not a valid DNS label"]),
    ("worker", {"name": "a" * 64}, [f"worker.name: '{'a' * 64}' is not a valid DNS label"]),
    ("worker", {"image": ""}, ["worker.image: is missing"]),
    ("worker", {"image": "a "}, ['worker.image: "a " is not a valid image reference: it contains a space']),
    ("worker", {"imagePullPolicy": "never"}, ["worker.imagePullPolicy: 'never' is not known"]),
    ("worker", {"terminationMessagePolicy": "Log"}, ["worker.terminationMessagePolicy: 'Log' is not known"]),
    ("worker", env({"name": "A=B", "value": "c"}), ["worker.env[0].name: 'A=B' is not a valid variable name"]),
    ("worker", env({"name": "é", "value": "c"}), ["worker.env[0].name: 'é' is not a valid variable name"]),
    (
        "worker",
        env({"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}),
        ["worker.env[0]: has both value and valueFrom"],
    ),
    ("worker", source(), ["worker.env[0].valueFrom: has 0 sources"]),
    (
        "worker",
        source(fieldRef={"fieldPath": "spec.nodeName"}, secretKeyRef={"name": "a", "key": "b"}),
        ["worker.env[0].valueFrom: has 2 sources"],
    ),
    (
        "worker",
        source(fieldRef={"fieldPath": "metadata.nam"}),
        ["worker.env[0].valueFrom.fieldRef.fieldPath: 'metadata.nam' is not a field of a pod"],
    ),
    ("worker", source(secretKeyRef={"key": "a"}), ["worker.env[0].valueFrom.secretKeyRef.name: is empty"]),
    (
        "worker",
        source(configMapKeyRef={"name": "a", "key": ""}),
        ["worker.env[0].valueFrom.configMapKeyRef.key: is empty"],
    ),
    *(
        (
            "worker",
            source(secretKeyRef={"name": "a", "key": key}),
            [f"worker.env[0].valueFrom.secretKeyRef.key: {key!r} is not a valid ConfigMap or Secret key"],
        )
        for key in (".", "..", "..a", "a/b")
    ),
    ("worker", {"envFrom": [{}]}, ["worker.envFrom[0]: must name one ConfigMap or Secret"]),
    (
        "worker",
        {"envFrom": [{"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}]},
        ["worker.envFrom[0]: must name one ConfigMap or Secret"],
    ),
    ("worker", {"envFrom": [{"secretRef": {}}]}, ["worker.envFrom[0].secretRef.name: is empty"]),
    (
        "worker",
        {"envFrom": [{"prefix": "=", "configMapRef": {"name": "A"}}]},
        [
            "worker.envFrom[0].prefix: '=' is not a valid variable name",
            "worker.envFrom[0].configMapRef.name: 'A' is not a valid object name",
        ],
    ),
    *(
        ("worker", port(number), [f"worker.ports[0].containerPort: {number} is not a valid port"])
        for number in (0, -1, 65536)
    ),
    ("worker", port(1, hostPort=65536), ["worker.ports[0].hostPort: 65536 is not a valid port"]),
    ("worker", port(1, hostPort=-1), ["worker.ports[0].hostPort: -1 is not a valid port"]),
    ("worker", port(1, protocol="tcp"), ["worker.ports[0].protocol: 'tcp' is not known"]),
    *(
        ("worker", port(1, name=name), [f"worker.ports[0].name: {name!r} is not a valid port name"])
        for name in ("A", "1", "a--b", "a" * 16)
    ),
    (
        "worker",
        {"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
        ["worker.ports[1].name: 'a' is used twice"],
    ),
    ("worker", {"livenessProbe": {}}, ["worker.livenessProbe: has no handler"]),
    ("worker", probe(exec={"command": ["a"]}), ["worker.livenessProbe: has several handlers"]),
    ("worker", probe(periodSeconds=-1), ["worker.livenessProbe.periodSeconds: -1 is negative"]),
    ("worker", probe(successThreshold=2), ["worker.livenessProbe.successThreshold: must be 1 here"]),
    ("worker", probe("startupProbe", successThreshold=2), ["worker.startupProbe.successThreshold: must be 1 here"]),
    (
        "worker",
        probe(terminationGracePeriodSeconds=0),
        ["worker.livenessProbe.terminationGracePeriodSeconds: is not allowed here"],
    ),
    (
        "worker",
        probe("readinessProbe", terminationGracePeriodSeconds=1),
        ["worker.readinessProbe.terminationGracePeriodSeconds: is not allowed here"],
    ),
    (
        "worker",
        {"livenessProbe": {"tcpSocket": {"port": 0}}},
        ["worker.livenessProbe.tcpSocket.port: 0 is not a valid port"],
    ),
    (
        "worker",
        {"livenessProbe": {"tcpSocket": {"port": "A"}}},
        ["worker.livenessProbe.tcpSocket.port: 'A' is not a valid port name"],
    ),
    ("worker", {"livenessProbe": {"exec": {}}}, ["worker.livenessProbe.exec.command: is empty"]),
    ("worker", {"lifecycle": {"preStop": {}}}, ["worker.lifecycle.preStop: has no handler"]),
    (
        "worker",
        {"lifecycle": {"postStart": {"exec": {"command": []}}}},
        ["worker.lifecycle.postStart.exec.command: is empty"],
    ),
    # Mounts
    ("worker", {"volumeMounts": mounts(("v", "/v"))}, ["worker.volumeMounts[0].name: there is no volume 'v'"]),
    # Resources
    ("worker", resources({"cpu": "x"}), ["worker.resources.limits.cpu: 'x' is not a valid quantity"]),
    (
        "worker",
        resources({"cpu": True}),
        ["worker.resources.limits.cpu: is true, not a text in quotes or a whole number"],
    ),
    ("worker", resources({"cpu": "-1"}), ["worker.resources.limits.cpu: -1 is negative"]),
    ("worker", resources(None, {"memory": -1}), ["worker.resources.requests.memory: -1 is negative"]),
    (
        "worker",
        resources({"cpu": 1}, {"cpu": "1001m"}),
        ["worker.resources.requests.cpu: request 1001m is over its limit 1"],
    ),
    ("worker", resources({"gpu": 1}), ["worker.resources.limits.gpu: is not a resource of a container"]),
    (
        "worker",
        resources(None, {"habana.ai/gaudi": 2}),
        ["worker.resources.requests.habana.ai/gaudi: has no limit, and must have the same one"],
    ),
    (
        "worker",
        resources({"habana.ai/gaudi": 2}, {"habana.ai/gaudi": 1}),
        ["worker.resources.requests.habana.ai/gaudi: request 1 and limit 2 must be equal"],
    ),
    (
        "worker",
        resources({"habana.ai/gaudi": "1.5"}),
        [
            "worker.resources.limits.habana.ai/gaudi: 1.5 must be a whole number",
            "warning spec.slotsPerWorker: 2 slots, but 1.5 of habana.ai/gaudi in a worker",
        ],
    ),
    ("worker", resources({"hugepages-2Mi": "2Mi"}), ["worker.resources: huge pages need cpu or memory beside them"]),
    (
        "worker",
        resources({"hugepages-2Mi": "3Mi", "memory": "1Gi"}),
        ["worker.resources.limits.hugepages-2Mi: 3Mi is not a multiple of the page of 2Mi"],
    ),
    (
        "worker",
        resources({"cpu": 1}, {"cpu": 1, "hugepages-1Gi": "1Gi"}),
        ["worker.resources.requests.hugepages-1Gi: has no limit, and must have the same one"],
    ),
    (
        "worker",
        resources({"cpu": 1.5}),
        ["worker.resources.limits.cpu: is 1.5, not a text in quotes or a whole number"],
    ),
    (
        "pod",
        resources({"habana.ai/gaudi": 1}),
        ["pod.resources.limits.habana.ai/gaudi: is not a resource of a pod"],
    ),
    ("pod", resources({"cpu": 1}, {"cpu": 2}), ["pod.resources.requests.cpu: request 2 is over its limit 1"]),
]


@pytest.mark.parametrize(("where", "fields", "told"), BAD)
def test_what_is_wrong_is_said_and_nothing_else(where: str, fields: Object, told: list[str]) -> None:
    assert said(changed(where, **fields)) == told


@pytest.mark.parametrize(
    ("limit", "request_", "fits"),
    [
        (None, "3", True),
        (None, "2999m", False),
        ("9", None, True),
        ("9", "3", True),
        ("8", "3", False),
        ("2", None, False),
    ],
)
def test_containers_must_fit_into_what_the_pod_as_a_whole_asks_for(limit: Any, request_: Any, fits: bool) -> None:
    containers = [container("a", **resources({"cpu": 9}, {"cpu": 1})), container("b", **resources({"cpu": 2}))]
    limits, requests = ({"cpu": amount} if amount else None for amount in (limit, request_))
    told = said(changed("pod", containers=containers, **resources(limits, requests)))
    assert told == ([] if fits else ["pod.resources: the containers ask for more cpu than the pod as a whole"])


TWO_SOURCES = "pod.resourceClaims[0]: has both sources"
NO_CLAIM = 'worker.resources.claims[0].name: "g" is not a claim of the pod'


@pytest.mark.parametrize(
    ("claims", "used", "told"),
    [
        ([{"name": "g", "resourceClaimTemplateName": "t"}], "g", []),
        ([{"name": "g"}], "g", ["pod.resourceClaims[0]: has no source"]),
        ([{"name": "g", "resourceClaimName": "a", "resourceClaimTemplateName": "b"}], "g", [TWO_SOURCES]),
        ([], "g", [NO_CLAIM]),
        ([{"name": "h", "resourceClaimName": "a"}], "g", [NO_CLAIM]),
    ],
)
def test_a_claim_of_devices_has_one_source_and_is_in_the_pod(claims: list[Object], used: str, told: list[str]) -> None:
    job = changed("pod", resourceClaims=claims)
    place(job, "worker")["resources"] = {"claims": [{"name": used}]}
    assert said(job) == told


def test_a_pod_without_containers_asks_for_what_it_likes() -> None:
    told = said(changed("pod", containers=[], **resources({"cpu": 1}, {"memory": "1Gi"})))
    assert told == ["pod.containers: is empty"]


VOLUMES: list[tuple[Object, list[str]]] = [
    ({"emptyDir": {"sizeLimit": "1Gi"}}, []),
    ({"hostPath": {"path": "/a", "type": "DirectoryOrCreate"}}, []),
    ({"nfs": {"server": "a", "path": "/b"}}, []),
    ({"configMap": {"name": "a", "defaultMode": 0o777, "items": [{"key": "a", "path": "b/c", "mode": 0}]}}, []),
    ({"secret": {"secretName": "a", "optional": True}}, []),
    ({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]}}, []),
    ({"persistentVolumeClaim": {"claimName": "a.b"}}, []),
    ({"emptyDir": {}, "nfs": {"server": "a", "path": "/b"}}, ["pod.volumes[0]: has several sources: emptyDir, nfs"]),
    ({"emptyDir": {"sizeLimit": "-1"}}, ["pod.volumes[0].emptyDir.sizeLimit: -1 is negative"]),
    (
        {"hostPath": {"path": ""}},
        [
            "pod.volumes[0].hostPath.path: is empty",
        ],
    ),
    ({"hostPath": {"path": "/a", "type": "Dir"}}, ["pod.volumes[0].hostPath.type: 'Dir' is not known"]),
    ({"hostPath": {"path": "/a/../b", "type": "File"}}, ["pod.volumes[0].hostPath.path: '/a/../b' contains .."]),
    (
        {"hostPath": {"path": "/a"}},
        ["warning pod.volumes[0].hostPath: has no type: a node without /a would give an empty folder"],
    ),
    ({"nfs": {"server": "a", "path": "b"}}, ["pod.volumes[0].nfs.path: 'b' must begin with /"]),
    ({"nfs": {"server": "", "path": "/b"}}, ["pod.volumes[0].nfs.server: is empty"]),
    ({"configMap": {}}, ["pod.volumes[0].configMap.name: is empty"]),
    ({"configMap": {"name": "a", "defaultMode": 512}}, ["pod.volumes[0].configMap.defaultMode: 512 is out of range"]),
    (
        {"configMap": {"name": "a", "items": [{"key": "", "path": ""}]}},
        ["pod.volumes[0].configMap.items[0].key: is empty", "pod.volumes[0].configMap.items[0].path: is empty"],
    ),
    *(
        (
            {"secret": {"secretName": "a", "items": [{"key": "a", "path": path}]}},
            [f"pod.volumes[0].secret.items[0].path: {path!r} must be a file below the volume's"],
        )
        for path in ("/a", "..a", "a/../b")
    ),
    (
        {"secret": {"secretName": "a", "items": [{"key": "a", "path": "b", "mode": -1}]}},
        ["pod.volumes[0].secret.items[0].mode: -1 is out of range"],
    ),
    ({"secret": {"secretName": ""}}, ["pod.volumes[0].secret.secretName: is empty"]),
    (
        {"persistentVolumeClaim": {"claimName": "A"}},
        ["pod.volumes[0].persistentVolumeClaim.claimName: 'A' is not a valid object name"],
    ),
]


@pytest.mark.parametrize(("kind", "told"), VOLUMES)
def test_a_volume_is_looked_at(kind: Object, told: list[str]) -> None:
    assert said(with_volume(**kind)) == told


MOUNTS: list[tuple[list[Object], list[str]]] = [
    (mounts(("v", "/a"), ("v", "/b"), subPath="c/d"), []),
    (mounts(("v", "/a"), subPathExpr="$(A)", mountPropagation="Bidirectional"), []),
    (mounts(("v", "/a"), ("ssh-auth", "/keys")), []),
    (
        mounts(("v", "/a"), ("mpi-job-config", "/b")),
        ["worker.volumeMounts[1].name: there is no volume 'mpi-job-config'"],
    ),
    (mounts(("v", "")), ["worker.volumeMounts[0].mountPath: is empty"]),
    (
        mounts(("v", "/a"), ("v", "/a")),
        [
            "worker.volumeMounts[1]: /a is used twice, first at [0]",
            "worker.volumeMounts[1].mountPath: /a is mounted twice",
        ],
    ),
    (mounts(("v", "/a"), subPath="/b"), ["worker.volumeMounts[0].subPath: '/b' must be a folder below the volume's"]),
    (
        mounts(("v", "/a"), subPathExpr="b/.."),
        ["worker.volumeMounts[0].subPathExpr: 'b/..' must be a folder below the volume's"],
    ),
    (mounts(("v", "/a"), subPath="b", subPathExpr="c"), ["worker.volumeMounts[0].subPathExpr: stands beside subPath"]),
    (mounts(("v", "/a"), mountPropagation="Both"), ["worker.volumeMounts[0].mountPropagation: 'Both' is not known"]),
    (mounts(("v", "/root/.ssh")), ["worker.volumeMounts[0].mountPath: the operator mounts its own at /root/.ssh"]),
    (mounts(("v", "/etc/mpi")), []),
    ([], ["warning pod.volumes[0]: no container mounts the volume 'v'"]),
]


@pytest.mark.parametrize(("wanted", "told"), MOUNTS)
def test_a_mount_is_looked_at(wanted: list[Object], told: list[str]) -> None:
    job = with_volume(emptyDir={})
    place(job, "worker")["volumeMounts"] = wanted
    assert said(job) == told


def test_a_key_with_two_faults_is_told_once_and_the_next_key_is_told_too() -> None:
    told = said(changed("template", metadata={"labels": {"a b": "c d", "e": "f g"}}))
    assert told == [
        "template.metadata.labels.a b: 'a b' is not a valid label key",
        "template.metadata.labels.e: 'f g' is not a valid label value",
    ]


def test_an_effect_that_is_not_known_is_told_the_known_ones() -> None:
    job = changed("pod", **toleration(key="a", effect="b"), **terms({"operator": "Exists"}))
    assert [(fault.message, fault.fix) for fault in check_manifest(read_manifest(json.dumps(job), "a"))] == [
        ("is missing", "add it"),
        ("'b' is not known", "one of NoSchedule, PreferNoSchedule, NoExecute"),
    ]


def test_a_field_with_few_choices_names_them() -> None:
    job = changed("worker", imagePullPolicy="never", **security(procMount="All"), volumeMounts=mounts(("a", "/b")))
    place(job, "pod")["volumes"] = [{"name": "v", "hostPath": {"path": "/a", "type": "a"}}]
    place(job, "worker")["volumeMounts"] += mounts(("v", "/v"))
    assert [fault.fix for fault in check_manifest(read_manifest(json.dumps(job), "a"))] == [
        "one of Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice, BlockDevice",
        "one of Always, IfNotPresent, Never",
        "one of Default, Unmasked",
        "the pod has 'ssh-auth', 'v'",
    ]


SKEW = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
SPREAD = "pod.topologySpreadConstraints[0]"


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([SKEW], []),
        ([SKEW, {**SKEW, "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2, "nodeTaintsPolicy": "Honor"}], []),
        ([{**SKEW, "maxSkew": 0}], [f"{SPREAD}.maxSkew: 0 is not a positive number"]),
        ([{**SKEW, "minDomains": 2}], [f"{SPREAD}.minDomains: needs whenUnsatisfiable: DoNotSchedule"]),
        ([{**SKEW, "whenUnsatisfiable": "Never"}], [f"{SPREAD}.whenUnsatisfiable: 'Never' is not known"]),
        ([{**SKEW, "nodeAffinityPolicy": "honor"}], [f"{SPREAD}.nodeAffinityPolicy: 'honor' is not known"]),
        ([{**SKEW, "topologyKey": ""}], [f"{SPREAD}.topologyKey: is empty"]),
        ([{**SKEW, "topologyKey": "a b"}], [f"{SPREAD}.topologyKey: 'a b' is not a valid label key"]),
        (
            [{**SKEW, "labelSelector": {"matchLabels": {"a": "b/c"}}}],
            [f"{SPREAD}.labelSelector.matchLabels.a: 'b/c' is not a valid label value"],
        ),
        (
            [{**SKEW, "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}],
            [f"{SPREAD}.labelSelector.matchExpressions[0].operator: 'Gt' is not known"],
        ),
    ],
)
def test_a_spread_over_nodes_is_looked_at(rules: list[dict[str, Any]], told: list[str]) -> None:
    assert said(changed("pod", topologySpreadConstraints=rules)) == told


def test_two_spreads_over_the_same_nodes_are_an_error() -> None:
    assert len(said(changed("pod", topologySpreadConstraints=[SKEW, {**SKEW, "maxSkew": 2}]))) == 1


@pytest.mark.parametrize("kind", ["podAffinity", "podAntiAffinity"])
def test_labels_of_a_selector_are_looked_at(kind: str) -> None:
    term = {"topologyKey": "a", "labelSelector": {"matchLabels": {"b c": "d"}}}
    (line,) = said(changed("pod", affinity={kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}))
    assert "labelSelector.matchLabels.b c: 'b c' is not a valid" in line
