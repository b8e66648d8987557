# SPDX-License-Identifier: Apache-2.0
"""Every rule of `check` about an MPIJob itself, on one small job: what is changed, and all that is said of it.

Where the API server or the operator has the rule, tests/e2e/test_agreement.py holds it against them.
"""

# ruff: noqa: E501  # sentences for people, one a line, so that they can be searched for
from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from mpikit.errors import ValuesError
from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import Target, check_manifest, needs
from tests.support.small_job import JOB, Object, changed, container, env, mounts, place, resources, said, security


def test_the_small_job_has_no_fault() -> None:
    assert said(JOB) == []


GOOD: dict[str, tuple[str, Object]] = {
    "policies": ("policy", {"cleanPodPolicy": "All", "activeDeadlineSeconds": 0}),
    "a big deadline": ("policy", {"activeDeadlineSeconds": 1 << 40, "backoffLimit": 0, "suspend": True}),
    "a manager": ("policy", {"managedBy": "kueue.x-k8s.io/multikueue"}),
    "a gang": ("policy", {"schedulingPolicy": {"minAvailable": 4, "minResources": {"cpu": 1, "memory": "1.5Gi"}}}),
    "no slots": ("spec", {"slotsPerWorker": 0}),
    "an implementation": ("spec", {"mpiImplementation": "MPICH", "launcherCreationPolicy": "WaitForWorkersReady"}),
    "restarts": ("Worker", {"restartPolicy": "OnFailure"}),
    "a restart of the pod that agrees": ("pod", {"restartPolicy": "Never"}),
    "one launcher by default": ("Launcher", {"replicas": None}),
    "a path of the default": ("spec", {"sshAuthMountPath": ""}),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_right_is_not_complained_of(case: str) -> None:
    where, fields = GOOD[case]
    assert said(changed(where, **fields)) == []


SSHD = {"containers": [container("worker", command=["/usr/sbin/sshd", "-De", "-p", "2200"])]}
# Where, the fields that are set there, and all that is said.
BAD: list[tuple[str, Object, list[str]]] = [
    # The MPIJob
    ("job", {"apiVersion": "kubeflow.org/v1"}, ["apiVersion: 'kubeflow.org/v1' is not served"]),
    ("spec", {"slotsPerWorker": -1}, ["spec.slotsPerWorker: -1 is not a whole number of 0 or more"]),
    ("spec", {"slotsPerWorker": 1 << 31}, ["spec.slotsPerWorker: 2147483648 is too large for the field"]),
    ("spec", {"slotsPerWorker": -(1 << 31) - 1}, ["spec.slotsPerWorker: -2147483649 is too large for the field"]),
    ("spec", {"slotsPerWorker": True}, ["spec.slotsPerWorker: is true, not a whole number"]),
    ("spec", {"slotsPerWorker": 1.5}, ["spec.slotsPerWorker: is 1.5, not a whole number"]),
    ("spec", {"sshAuthMountPath": ["a"]}, ["spec.sshAuthMountPath: is a list, not a text in quotes"]),
    ("spec", {"mpiImplementation": "openmpi"}, ["spec.mpiImplementation: 'openmpi' is not known to the operator"]),
    (
        "spec",
        {"launcherCreationPolicy": "a"},
        ["warning spec.launcherCreationPolicy: 'a' is not known to the operator"],
    ),
    ("policy", {"cleanPodPolicy": "none"}, ["policy.cleanPodPolicy: 'none' is not known to the operator"]),
    ("policy", {"managedBy": "me"}, ["policy.managedBy: 'me' is not known to the operator"]),
    ("policy", {"suspend": "yes"}, ["policy.suspend: is 'yes', not true or false"]),
    ("policy", {"schedulingPolicy": []}, ["policy.schedulingPolicy: is a list, not a map"]),
    *(
        ("policy", {name: -1}, [f"policy.{name}: -1 is not a whole number of 0 or more"])
        for name in ("ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit")
    ),
    (
        "policy",
        {"activeDeadlineSeconds": 1 << 63},
        ["policy.activeDeadlineSeconds: 9223372036854775808 is beyond 64 bits"],
    ),
    ("Launcher", {"replicas": 2}, ["Launcher.replicas: 2: there is exactly one launcher"]),
    ("Launcher", {"replicas": 0}, ["Launcher.replicas: 0: there is exactly one launcher"]),
    ("Worker", {"replicas": 0}, ["Worker.replicas: 0: at least one worker is needed"]),
    ("Worker", {"replicas": None}, ["Worker.replicas: 0: at least one worker is needed"]),
    ("Worker", {"restartPolicy": "Always"}, ["Worker.restartPolicy: 'Always' is refused by the operator"]),
    ("Worker", {"template": None}, ["pod.containers: is empty"]),
    ("pod", {"containers": []}, ["pod.containers: is empty"]),
    ("pod", {"restartPolicy": "Always"}, ["warning pod.restartPolicy: 'Always' is overridden by the operator"]),
    (
        "launcherPod",
        {"restartPolicy": "OnFailure"},
        ["warning launcherPod.restartPolicy: 'OnFailure' is overridden by the operator"],
    ),
    # What the operator adds and overrides
    (
        "worker",
        env({"name": "K_MPI_JOB_ROLE", "value": "a"}),
        ["warning worker.env[0]: the operator sets K_MPI_JOB_ROLE itself"],
    ),
    (
        "launcher",
        env({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}),
        ["warning launcher.env[0]: the operator sets NVIDIA_VISIBLE_DEVICES itself"],
    ),
    (
        "launcher",
        env({"name": "OMPI_MCA_plm_rsh_args", "value": "a"}),
        ["warning launcher.env[0]: the operator sets OMPI_MCA_plm_rsh_args itself"],
    ),
    ("launcher", env({"name": "HYDRA_HOST_FILE", "value": "a"}), []),
    ("worker", env({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}), []),
    ("pod", {"hostname": "a"}, ["warning pod.hostname: is overridden by the operator"]),
    ("launcherPod", {"subdomain": "a"}, ["warning launcherPod.subdomain: is overridden by the operator"]),
    (
        "pod",
        {"hostNetwork": True, "dnsPolicy": "Default", **SSHD},
        [
            "warning pod.dnsPolicy: 'Default' is overridden by the operator: ClusterFirstWithHostNet, since hostNetwork is true"
        ],
    ),
    ("pod", {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet", **SSHD}, []),
    (
        "template",
        {"metadata": {"labels": {"training.kubeflow.org/job-name": "a"}}},
        ["warning template.metadata.labels.training.kubeflow.org/job-name: is the operator's own label"],
    ),
    # Sense
    (
        "worker",
        resources({"habana.ai/gaudi": 1}),
        ["warning spec.slotsPerWorker: 2 slots, but 1 of habana.ai/gaudi in a worker"],
    ),
    (
        "launcher",
        resources({"habana.ai/gaudi": 1}),
        ["warning launcher.resources.limits: the launcher requests cards that no rank uses"],
    ),
]


@pytest.mark.parametrize(("where", "fields", "told"), BAD)
def test_what_is_wrong_is_said_and_nothing_else(where: str, fields: Object, told: list[str]) -> None:
    assert said(changed(where, **fields)) == told


@pytest.mark.parametrize(
    ("where", "name", "told"),
    [
        ("pod", "ssh-auth", ["pod.volumes[0].name: 'ssh-auth' is a volume that the operator adds"]),
        (
            "launcherPod",
            "mpi-job-config",
            ["launcherPod.volumes[0].name: 'mpi-job-config' is a volume that the operator adds"],
        ),
        ("pod", "mpi-job-config", []),
        ("pod", "A", ["pod.volumes[0].name: 'A' is not a valid DNS label"]),
    ],
)
def test_the_name_of_a_volume_is_looked_at(where: str, name: str, told: list[str]) -> None:
    job = changed(where, volumes=[{"name": name, "emptyDir": {}}])
    place(job, where)["containers"][0]["volumeMounts"] = mounts((name, "/v"))
    assert said(job) == told


def test_a_launcher_has_the_operators_hostfile_at_its_place() -> None:
    job = changed("launcherPod", volumes=[{"name": "v", "emptyDir": {}}])
    place(job, "launcher")["volumeMounts"] = mounts(("v", "/etc/mpi"), ("v", "/ssh"))
    place(job, "spec")["sshAuthMountPath"] = "/ssh"
    assert said(job) == [
        "launcher.volumeMounts[0].mountPath: the operator mounts its own at /etc/mpi",
        "launcher.volumeMounts[1].mountPath: the operator mounts its own at /ssh",
    ]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"mpiImplementation": "Intel"}, ["I_MPI_PERHOST", "NVIDIA_DRIVER_CAPABILITIES"]),
        ({"mpiImplementation": "MPICH"}, ["HYDRA_HOST_FILE", "NVIDIA_DRIVER_CAPABILITIES"]),
        ({}, ["OMPI_MCA_orte_set_default_slots", "NVIDIA_DRIVER_CAPABILITIES"]),
        ({"runLauncherAsWorker": True}, ["OMPI_MCA_orte_set_default_slots"]),
    ],
)
def test_the_operators_variables_are_those_of_the_mpi_and_hide_cards_where_no_rank_runs(
    fields: Object, named: list[str]
) -> None:
    job = changed("spec", **fields)
    names = ("I_MPI_PERHOST", "HYDRA_HOST_FILE", "OMPI_MCA_orte_set_default_slots", "NVIDIA_DRIVER_CAPABILITIES")
    place(job, "launcher").update(env(*({"name": name, "value": "a"} for name in names)))
    assert [line.split("sets ")[1].removesuffix(" itself") for line in said(job)] == named


@pytest.mark.parametrize(
    ("name", "workers", "good"),
    [
        ("a" * 54, 10, True),
        ("a" * 54, 11, False),
        ("a" * 55, 10, False),
        ("a-1", 1, True),
        ("1a", 1, False),
        ("a.b", 1, False),
        ("A", 1, False),
        ("", 1, False),
    ],
)
def test_the_name_of_the_last_worker_is_a_host_name(name: str, workers: int, good: bool) -> None:
    job = changed("Worker", replicas=workers)
    job["metadata"]["name"] = name
    label = f"{name}-worker-{workers - 1}"
    long = f"the worker's name {label!r} is not a DNS-1035 label of at most 63 characters"
    message = long if re.fullmatch("[a-z][a-z0-9-]*[a-z0-9]|[a-z]", name) else f"{name!r} is not a DNS-1035 label"
    assert said(job) == ([] if good else [f"metadata.name: {message}"])


def test_without_workers_the_name_has_room_for_the_first_one() -> None:
    for length, told in ((54, 1), (55, 2)):
        job = changed("job", metadata={"name": "a" * length})
        del job["spec"]["mpiReplicaSpecs"]["Worker"]
        assert len(said(job)) == told
        job = changed("Worker", replicas=0)
        job["metadata"]["name"] = "a" * length
        assert len(said(job)) == told
    assert f"'{'a' * 55}-worker-0'" in said(job)[0]


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        ("0.3", ["0.6", "0.5", "0.5", "0.4", "0.4"]),
        ("v0.4.0", ["0.6", "0.5", "0.5"]),
        ("0.5.0", ["0.6"]),
        ("0.6.0", []),
        ("v0.8", []),
        ("0.8.2", []),
    ],
)
def test_a_release_of_the_operator_lacks_the_fields_of_later_ones(operator: str, told: list[str]) -> None:
    job = changed("spec", runLauncherAsWorker=False, launcherCreationPolicy="AtStartup")
    scheduling = {"minAvailable": 1}
    place(job, "policy").update(managedBy="kubeflow.org/mpi-operator", suspend=False, schedulingPolicy=scheduling)
    found = check_manifest(read_manifest(json.dumps(job), "a"), Target(operator=operator))
    assert [fault.message for fault in found] == [f"needs MPI Operator {since}, not {operator}" for since in told]
    assert {fault.fix for fault in found} <= {"remove it, or ask for a newer operator"}


def test_a_field_that_is_not_there_needs_no_release() -> None:
    assert check_manifest(read_manifest(json.dumps(JOB), "a"), Target(operator="0.3")) == []


@pytest.mark.parametrize(
    ("operator", "near"),
    [
        ("0.2", "0.3.0"),
        ("0.5.9", "0.5.0"),
        ("v0.6.1", "0.6.0"),
        ("0,7", "0.7.0"),
        ("0.8.1", "0.8.2"),  # was never published
        ("0.10", "0.8.2"),
        ("1", "0.8.2"),
        ("newest", "0.8.2"),
        ("v", "0.8.2"),
        ("0.6.0-rc1", "0.6.0"),
        ("9" * 5000, "0.8.2"),
    ],
)
def test_a_release_of_the_operator_that_is_not_known_gets_the_nearest_one(operator: str, near: str) -> None:
    with pytest.raises(ValuesError) as caught:
        check_manifest(read_manifest(json.dumps(JOB), "a"), Target(operator=operator))
    (fault,) = caught.value.faults
    assert (fault.where, fault.key) == ("", "--operator-version")
    assert fault.message == f"{operator!r} is not a release of the MPI Operator with MPIJob v2beta1"
    assert fault.fix == f"--operator-version {near} (known: 0.3.0, 0.4.0, 0.5.0, 0.6.0, 0.7.0, 0.8.0, 0.8.2)"


@pytest.mark.parametrize(
    ("field", "value", "operator", "told"),
    [
        ("mpiImplementation", "MPICH", "0.4", ["spec.mpiImplementation: MPICH needs MPI Operator 0.5, not 0.4"]),
        ("mpiImplementation", "MPICH", "0.5", []),
        ("mpiImplementation", "Intel", "0.3", []),
        ("slotsPerWorker", 0, "0.3", ["spec.slotsPerWorker: 0 needs MPI Operator 0.4, not 0.3"]),
        ("slotsPerWorker", 0, "0.4", []),
        ("slotsPerWorker", 1, "0.3", []),
    ],
)
def test_a_release_of_the_operator_lacks_values_of_later_ones(
    field: str, value: object, operator: str, told: list[str]
) -> None:
    job = changed("spec", **{field: value})
    found = check_manifest(read_manifest(json.dumps(job), "a"), Target(operator=operator))
    assert [f"{one.key}: {one.message}" for one in found] == told


RULES = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]


@pytest.mark.parametrize(
    ("operator", "kubernetes", "field", "value", "since"),
    [
        ("0.6", "1.35", "containers[0].restartPolicyRules", RULES, "0.7.0"),  # KEP-5307, Kubernetes 1.34
        ("0.7", "1.35", "containers[0].restartPolicyRules", RULES, None),
        ("0.3", "1.35", "containers[0].restartPolicyRules", RULES, None),  # its CRD keeps every field
        ("0.4", "1.35", "resourceClaims", [], "0.5.0"),  # Kubernetes 1.26
        ("0.5", "1.35", "resourceClaims", [], None),
        ("0.6", "1.31", "hostUsers", True, None),
    ],
)
def test_a_pod_field_that_the_crd_of_a_release_drops_is_an_error(
    operator: str, kubernetes: str, field: str, value: object, since: str | None
) -> None:
    job = changed("Worker")
    pod = job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]
    place, _, name = field.rpartition(".")
    (pod["containers"][0] if place else pod).update({name: value, "restartPolicy": "Never"})
    found = check_manifest(read_manifest(json.dumps(job), "a"), Target(kubernetes, operator))
    told = [one for one in found if one.severity == "fault"]
    assert [one.key for one in told] == ([f"spec.mpiReplicaSpecs.Worker.template.spec.{field}"] if since else [])
    assert [one.fix for one in told] == ([f"remove it, or ask for MPI Operator {since}"] if since else [])


@pytest.mark.parametrize("version", ["1.24", "1.99", "new", "1"])
def test_a_kubernetes_version_that_is_not_known_is_told(version: str) -> None:
    with pytest.raises(ValuesError) as caught:
        check_manifest(read_manifest(json.dumps(JOB), "a"), Target(kubernetes=version))
    (fault,) = caught.value.faults
    assert (fault.key, fault.message) == ("--kubernetes-version", f"{version!r} is not known")
    assert fault.fix.startswith("known: 1.25 to 1.")


def test_a_job_without_a_name_or_with_none_of_its_parts_says_so() -> None:
    assert said(changed("job", metadata={})) == ["metadata.name: is missing or not text"]
    assert said(changed("job", spec={"mpiReplicaSpecs": {}})) == [
        "Launcher: is missing",
        "warning Worker: is missing",
    ]
    assert said(changed("job", spec=None))[0] == "spec: is missing"


def test_a_template_is_not_changed_by_being_looked_at() -> None:
    before = copy.deepcopy(JOB)
    said(JOB)
    assert before == JOB


def test_a_restart_policy_of_the_operator_is_the_launchers_on_failure_and_the_workers_never() -> None:
    for role, default, other in (("Launcher", "OnFailure", "Never"), ("Worker", "Never", "OnFailure")):
        job = changed(role, restartPolicy=None)
        pod = "pod" if role == "Worker" else "launcherPod"
        place(job, pod)["restartPolicy"] = default
        assert said(job) == []
        place(job, pod)["restartPolicy"] = other
        assert said(job) == [f"warning {pod}.restartPolicy: {other!r} is overridden by the operator"]


# -- Sense ------------------------------------------------------------------------------------------------------------


def job_with_data(kind: Object, read_only: bool = True, **launcher: Any) -> Object:
    """A job whose workers read a folder that the launcher mounts too."""
    job = copy.deepcopy(JOB)
    for where in ("pod", "launcherPod"):
        place(job, where)["volumes"] = [{"name": "d", **kind}]
    place(job, "worker")["volumeMounts"] = mounts(("d", "/data"), readOnly=read_only)
    place(job, "launcher").update({"volumeMounts": mounts(("d", "/data")), **launcher})
    return job


CLAIM: Object = {"persistentVolumeClaim": {"claimName": "a"}}
NEEDLESS = ["warning launcher.volumeMounts[0]: the launcher mounts /data, which only ranks read"]


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (job_with_data(CLAIM), NEEDLESS),
        (job_with_data({"hostPath": {"path": "/a", "type": "Directory"}}), NEEDLESS),
        (job_with_data({"nfs": {"server": "a", "path": "/b"}}), NEEDLESS),
        (job_with_data({"configMap": {"name": "a"}}), []),
        (job_with_data(CLAIM, read_only=False), []),
        (job_with_data(CLAIM, command=["bash", "/data/run.sh"]), []),
        (job_with_data(CLAIM, **env({"name": "A", "value": "/data"})), []),
    ],
)
def test_a_launcher_that_mounts_what_only_ranks_read_is_told(job: Object, told: list[str]) -> None:
    job = copy.deepcopy(job)
    assert said(job) == told
    place(job, "spec")["runLauncherAsWorker"] = True
    assert said(job) == []


def test_a_volume_that_is_used_as_a_device_or_by_an_init_container_is_used() -> None:
    job = changed("pod", volumes=[{"name": "d", **CLAIM}, {"name": "i", "emptyDir": {}}])
    place(job, "worker")["volumeDevices"] = [{"name": "d", "devicePath": "/dev/a"}]
    place(job, "pod")["initContainers"] = [container("init", volumeMounts=mounts(("i", "/i")))]
    assert said(job) == []


@pytest.mark.parametrize(("as_worker", "ranks"), [(False, 6), (True, 8)])
def test_mpirun_must_start_as_many_ranks_as_there_are_places(as_worker: bool, ranks: int) -> None:
    job = changed("spec", runLauncherAsWorker=as_worker)
    job["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "mpikit"}
    for number in (ranks - 1, ranks, ranks + 1):
        script = {"a": f"  exec mpirun -x A -np {number} b\n  mpirun -x A -np {number} b\n", "b": 1}
        message = f"Worker.replicas: mpirun -np {number} in the ConfigMap, but {ranks // 2} workers x 2 slots"
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": script}
        lines = [line for line in said(job, config) if "mpirun" in line]
        assert lines == ([] if number == ranks else [message])


# -- Other objects of the stream --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "taken"),
    [
        ("ConfigMap", "j-config", True),
        ("Secret", "j-ssh", True),
        ("Service", "j", True),
        ("ConfigMap", "j", False),
        ("Secret", "j-config", False),
    ],
)
def test_an_object_with_a_name_that_the_operator_needs_is_told(kind: str, name: str, taken: bool) -> None:
    other = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    message = (
        f"metadata.name: {name!r} is the name of the {kind} that the operator makes for MPIJob j; the job would not"
    )
    assert said(JOB, other) == ([f"{message} start"] if taken else [])
    elsewhere = {**other, "metadata": {"name": name, "namespace": "n"}}
    assert said(JOB, elsewhere) == []
    there = changed("job", metadata={"name": "j", "namespace": "n"})
    assert said(there, elsewhere) == ([f"{message} start"] if taken else [])
    assert said(there, other) == []


def test_an_object_beside_the_job_is_held_against_its_schema() -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "b c"}}, "dat": {}}
    assert said(JOB, other) == ["dat: no such field", "metadata.labels.a: 'b c' is not a valid label value"]
    assert said(JOB, {**other, "apiVersion": "v2"}) == []
    assert said(JOB, {**other, "kind": "Unheard"}) == ["kind: 'Unheard' is not a kind of v1"]
    assert said(JOB, {**other, "kind": ["a"]}) == ["kind: is missing or not text"]


# -- What the cluster must have ---------------------------------------------------------------------------------------


def needing_job() -> Object:
    job = changed("pod", serviceAccountName="sa", priorityClassName="high", imagePullSecrets=[{"name": "pull"}])
    place(job, "pod")["volumes"] = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "claim"}},
        {"name": "b", "configMap": {"name": "map"}},
        {"name": "c", "secret": {"secretName": "secret"}},
        {"name": "d", "secret": {"secretName": "perhaps", "optional": True}},
        {"name": "e", "emptyDir": {}},
    ]
    place(job, "worker").update(
        env=[
            {"name": "A", "value": "b"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "one", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "two", "key": "k"}}},
            {"name": "D", "valueFrom": {"secretKeyRef": {"name": "perhaps", "key": "k", "optional": True}}},
        ],
        envFrom=[{"configMapRef": {"name": "three"}}, {"secretRef": {"name": "perhaps", "optional": True}}],
    )
    place(job, "launcherPod")["serviceAccountName"] = "sa"
    return job


def test_the_objects_that_a_job_names_are_listed_once() -> None:
    assert needs(read_manifest(json.dumps(needing_job()))) == [
        "ServiceAccount sa",
        "PriorityClass high",
        "Secret pull",
        "PersistentVolumeClaim claim",
        "ConfigMap map",
        "Secret secret",
        "Secret one",
        "ConfigMap two",
        "ConfigMap three",
    ]


def test_what_is_named_by_nobody_is_not_listed() -> None:
    job = changed("pod", volumes=[{"name": "a", "configMap": {}}, {"name": "b", "secret": {"optional": False}}])
    place(job, "worker")["env"] = [{"name": "A", "valueFrom": {"secretKeyRef": {"key": "k"}}}]
    assert needs(read_manifest(json.dumps(job))) == []


def test_what_the_stream_brings_itself_need_not_be_on_the_cluster() -> None:
    others = [
        {"kind": kind, "metadata": {"name": name}, "spec": {"template": {"spec": {"serviceAccountName": "x"}}}}
        for kind, name in (("ConfigMap", "map"), ("Secret", "one"), ("Secret", "two"))
    ]
    text = "\n---\n".join(map(json.dumps, [*others, needing_job(), ["no object"]]))
    assert needs(read_manifest(text))[3:] == [
        "PersistentVolumeClaim claim",
        "Secret secret",
        "ConfigMap two",
        "ConfigMap three",
    ]
    assert needs(read_manifest("")) == []


# -- Pod Security -----------------------------------------------------------------------------------------------------


def test_pod_security_is_told_at_the_first_field_with_the_others_named() -> None:
    job = changed(
        "pod", containers=[container("a", **security(privileged=True)), container("b", **security(privileged=True))]
    )
    (fault,) = check_manifest(read_manifest(json.dumps(job), "a"), Target(pod_security="baseline"))
    here = "spec.mpiReplicaSpecs.Worker.template.spec.containers[{}].securityContext.privileged"
    assert fault.key == here.format(0)
    assert fault.message == (
        'violates PodSecurity "baseline": privileged (containers "a", "b" must not set securityContext.privileged=true)'
    )
    assert fault.fix == f"change it, or use a namespace at a wider level; the same applies to {here.format(1)}"


def test_each_level_has_its_own_violations_and_privileged_has_none() -> None:
    job = json.dumps(changed("pod", hostIPC=True))
    count = {
        level: len(check_manifest(read_manifest(job, "a"), Target(pod_security=level)))
        for level in ("privileged", "baseline", "restricted")
    }
    assert count == {"privileged": 0, "baseline": 1, "restricted": 9}
    (fault,) = check_manifest(read_manifest(job, "a"), Target(pod_security="baseline"))
    assert fault.fix == "change it, or use a namespace at a wider level"
    assert Target("1.30", "0.6", "restricted").without_pod_security() == Target("1.30", "0.6", "privileged")


@pytest.mark.parametrize(("version", "told"), [("1.31", 1), ("v1.32.4", 0), ("", 0)])
def test_pod_security_is_that_of_the_kubernetes_version(version: str, told: int) -> None:
    job = changed("pod", **security(sysctls=[{"name": "net.ipv4.tcp_rmem", "value": "1"}]))
    found = check_manifest(read_manifest(json.dumps(job), "a"), Target(kubernetes=version, pod_security="baseline"))
    assert len(found) == told


# -- Places -----------------------------------------------------------------------------------------------------------

TEXT = """\
kind: MPIJob
apiVersion: kubeflow.org/v2beta1
metadata: {name: j}
spec:
  slotsPerWorker: -1
  runPolicy:
    cleanPodPolicy: x
  mpiReplicaSpecs:
    Launcher: {replicas: 1, template: {spec: {containers: [{name: l, image: i}]}}}
    Worker:
      replicas: 1
      template:
        spec:
          containers:
            - name: w
              env: [{name: A, valueFrom: {secretKeyRef: {key: k}}}]
"""


def test_a_fault_has_the_place_of_its_key_or_of_the_nearest_above_it() -> None:
    found = {fault.key: fault.where for fault in check_manifest(read_manifest(TEXT, "m.yaml"))}
    worker = "spec.mpiReplicaSpecs.Worker.template.spec.containers[0]"
    assert found == {
        "spec.runPolicy.cleanPodPolicy": "m.yaml:7:5",
        "spec.slotsPerWorker": "m.yaml:5:3",
        f"{worker}.image": "m.yaml:15:15",
        f"{worker}.env[0].valueFrom.secretKeyRef.name": "m.yaml:16:43",
    }


def test_a_stream_without_a_job_says_so_and_one_that_cannot_be_read_says_why() -> None:
    (fault,) = check_manifest(read_manifest("kind: Pod\n---\n[kind]\n---\ntext\n", "m.yaml"))
    assert fault.as_dict() == {
        "key": "",
        "where": "m.yaml",
        "message": "contains no MPIJob",
        "fix": "give a manifest of kind MPIJob",
        "severity": "fault",
    }
    assert [fault.message for fault in check_manifest(read_manifest("a: .inf\n", "m.yaml"))] == [
        ".inf is not a finite number"
    ]


def test_a_job_that_is_read_in_part_is_looked_at_nevertheless() -> None:
    (first, *others) = check_manifest(read_manifest(TEXT.replace("replicas: 1\n", "replicas: .inf\n"), "m.yaml"))
    assert first.message == ".inf is not a finite number"
    assert others
    assert first.key not in [fault.key for fault in others], "what follows from it is not told"


def test_a_key_has_one_fault_but_all_its_warnings_and_violations() -> None:
    job = changed("worker", env=[{"name": "K_MPI_JOB_ROLE", "value": "a"}], resources={"limits": ["a"]})
    place(job, "worker")["env"] *= 2
    keys = [line.split(": ")[0] for line in said(job)]
    assert keys.count("warning worker.env[0]") == 1
    assert keys.count("worker.env[1]") == 1, "twice the same name"
    assert keys.count("warning worker.env[1]") == 1
    assert keys.count("worker.resources.limits") == 1
    bare = json.dumps(changed("pod", containers=[container("a")]))
    found = check_manifest(read_manifest(bare, "a"), Target(pod_security="restricted"))
    keys = [fault.key for fault in found if ".Worker." in fault.key]
    assert len(keys) == 4
