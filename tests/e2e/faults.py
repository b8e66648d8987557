# SPDX-License-Identifier: Apache-2.0
"""Every fault that a job can meet on a cluster, made for real, with the verdict and the advice that `status` owes.

Most jobs here are the kit's own CPU job whose manifest was changed by hand: `check` refuses such values, and a user who
writes a manifest has no `check`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kube import Kube, Object, wait_for

Change = Callable[[Object], None]
"""Changes an MPIJob, in place."""

SLEEP = ["bash", "-c", "trap 'exit 143' TERM; sleep 600 & wait"]
CARD = "habana.ai/gaudi"
UNTIL_WORKER_0_IS_ANOTHER = """
worker() { getent hosts "$(head -1 /etc/mpi/hostfile | cut -d' ' -f1)"; }
until first=$(worker); do sleep 0.2; done
echo "$first"
while [[ $(worker) == "$first" ]]; do sleep 0.2; done
exit 255"""
"""A launcher that tells worker 0's address and ends when the worker went away, or is there again under another one."""


@dataclass(frozen=True)
class Fault:
    """One fault: how it is made, and what `status` must say of it."""

    name: str
    verdict: str
    """A regular expression: Retrying carries numbers."""
    reason: str
    advice: str
    """A regular expression; it names the object to change."""
    change: Change
    place: str = "real"
    """real: on the node that runs pods; simulated: on nodes that exist in the API alone."""
    before: Callable[[str], list[Object]] = field(default=lambda _namespace: [])
    """Objects that are made first."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of a namespace of its own."""
    after: Callable[[Kube, str, str], object] | None = None
    """Done once the job is there: (kube, namespace, name)."""
    message: str = ""
    """A regular expression: the server's own words, or that others hold cards meanwhile."""


def spec(job: Object, role: str) -> Object:
    """The pod spec of Launcher or Worker."""
    found: Object = job["spec"]["mpiReplicaSpecs"][role]["template"]["spec"]
    return found


def setting(path: str, value: Any) -> Change:
    """Set one field of spec, by its dotted path; None takes it out."""

    def change(job: Object) -> None:
        *parents, last = path.split(".")
        target = job["spec"]
        for part in parents:
            target = target.setdefault(part, {})
        if value is None:
            target.pop(last, None)
        else:
            target[last] = value

    return change


def renaming(name: str) -> Change:
    """Give the job another name."""
    return lambda job: job["metadata"].update(name=name)


def pods(roles: Sequence[str], **fields: Any) -> Change:
    """Set fields of the pod spec of some roles."""

    def change(job: Object) -> None:
        for role in roles:
            spec(job, role).update(copy.deepcopy(fields))

    return change


def containers(roles: Sequence[str], **fields: Any) -> Change:
    """Set fields of the containers of some roles."""

    def change(job: Object) -> None:
        for role in roles:
            spec(job, role)["containers"][0].update(copy.deepcopy(fields))

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(job: Object) -> None:
        for one in changes:
            one(job)

    return change


def launcher_runs(command: str, **run_policy: Any) -> Change:
    """The launcher runs one line of bash; the workers sleep."""
    idle = containers(["Worker"], command=SLEEP, readinessProbe=None, lifecycle=None)
    policies = [setting(f"runPolicy.{name}", value) for name, value in run_policy.items()]
    return both(containers(["Launcher"], command=["bash", "-c", command]), idle, *policies)


def quota(hard: Mapping[str, str]) -> Callable[[str], list[Object]]:
    """A ResourceQuota named q."""

    def objects(namespace: str) -> list[Object]:
        metadata = {"name": "q", "namespace": namespace}
        return [{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": dict(hard)}}]

    return objects


def mount(name: str, source: Object) -> Change:
    """Give the workers one more volume."""

    def change(job: Object) -> None:
        spec(job, "Worker")["volumes"].append({"name": name, **source})
        spec(job, "Worker")["containers"][0]["volumeMounts"].append({"name": name, "mountPath": f"/{name}"})

    return change


def worker_script(command: str) -> Change:
    """Worker 0 runs one line of bash, the launcher waits."""
    return both(
        containers(["Worker"], command=["bash", "-c", command], readinessProbe=None, lifecycle=None),
        containers(["Launcher"], command=SLEEP),
    )


def suspend(kube: Kube, namespace: str, name: str) -> None:
    """Take the job's pods away."""
    patch = json.dumps({"spec": {"runPolicy": {"suspend": True}}})
    kube("-n", namespace, "patch", "mpijob", name, "--type=merge", "-p", patch)


def await_worker(kube: Kube, namespace: str, name: str) -> None:
    """Wait until worker 0 is ready. `kubectl wait` fails at once while the operator has not made the pod yet."""

    def ready() -> bool:
        conditions = kube.get(namespace, "pod", f"{name}-worker-0").get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    wait_for(f"{name}-worker-0 of {namespace} to be ready", ready, 120)


def evict(kube: Kube, namespace: str, name: str) -> None:
    """Stand-in for a kubelet whose node is short of memory, which cannot be made for a test: its very words."""
    await_worker(kube, namespace, name)
    status = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    words = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    kube("-n", namespace, "patch", "pod", f"{name}-worker-0", *words)


def patched(status: Object) -> Callable[[Kube, str, str], None]:
    """Give worker 0 the status that a kubelet or a controller would write: its very words (Kubernetes 1.35)."""

    def patch(kube: Kube, namespace: str, name: str) -> None:
        await_worker(kube, namespace, name)
        words = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        kube("-n", namespace, "patch", "pod", f"{name}-worker-0", *words)

    return patch


def disruption(reason: str, message: str) -> Object:
    """The condition DisruptionTarget."""
    now = {"lastTransitionTime": "2026-11-27T00:00:00Z"}
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, **now}


def replace_evicted(kube: Kube, namespace: str, name: str) -> None:
    """Evict worker 0 and delete its pod: the operator makes another one, and its condition Failed stays."""
    evict(kube, namespace, name)

    def failed() -> bool:
        conditions = kube.get(namespace, "mpijob", name).get("status", {}).get("conditions", [])
        return any(one["type"] == "Failed" and one["status"] == "True" for one in conditions)

    wait_for("the condition Failed", failed, 30)
    kube("-n", namespace, "delete", "pod", f"{name}-worker-0", "--wait=false")


def delete_now(kube: Kube, namespace: str, name: str) -> None:
    """Delete the MPIJob, and do not wait."""
    kube("-n", namespace, "delete", "mpijob", name, "--wait=false")


def with_finalizer(job: Object) -> None:
    """A finalizer whose controller does not exist."""
    job["metadata"]["finalizers"] = ["mpikit.test/keep"]


def more_containers(role: str, field_name: str, **container: Any) -> Change:
    """One more container, or init container, of the same image."""

    def change(job: Object) -> None:
        pod = spec(job, role)
        own = {"image": pod["containers"][0]["image"], "imagePullPolicy": "IfNotPresent", **container}
        pod.setdefault(field_name, []).append(own)

    return change


def fill_volume(job: Object) -> None:
    """A worker that writes 32 MiB to an emptyDir of 4 MiB: the kubelet evicts it."""
    mount("small", {"emptyDir": {"sizeLimit": "4Mi"}})(job)
    script = "dd if=/dev/zero of=/small/x bs=1M count=32; sleep 600 & wait"
    containers(["Worker"], command=["bash", "-c", script], readinessProbe=None, lifecycle=None)(job)


def delete_worker(kube: Kube, namespace: str, name: str) -> None:
    """Delete worker 0 once the launcher has told its address."""
    launcher = f"training.kubeflow.org/job-name={name},training.kubeflow.org/job-role=launcher"
    wait_for("the launcher to find worker 0", lambda: kube.run("-n", namespace, "logs", "-l", launcher).out, 120)
    kube("-n", namespace, "delete", "pod", f"{name}-worker-0", "--grace-period=1")


def delete_later(kube: Kube, namespace: str, name: str) -> None:
    """Delete the MPIJob alone, as kubectl delete does, and leave its pods to end in their own time."""
    await_worker(kube, namespace, name)
    kube("-n", namespace, "delete", "mpijob", name, "--wait=false")


VALIDATION: dict[str, Change] = {
    "no-worker": setting("mpiReplicaSpecs.Worker.replicas", 0),
    "bad-clean-pod-policy": setting("runPolicy.cleanPodPolicy", "Bogus"),
    "two-launchers": setting("mpiReplicaSpecs.Launcher.replicas", 2),
    "restart-always": setting("mpiReplicaSpecs.Worker.restartPolicy", "Always"),
    "negative-slots": setting("slotsPerWorker", -1),
    "negative-backoff": setting("runPolicy.backoffLimit", -1),
    "no-launcher": setting("mpiReplicaSpecs.Launcher", None),
    "name-of-55": renaming("n" + "x" * 54),
    "name-with-digit": renaming("9bad"),
    "name-with-dot": renaming("a.b"),
}
INVALID: dict[str, Change] = {
    "request-over-limit": containers(["Worker"], resources={"requests": {"cpu": "4"}, "limits": {"cpu": "1"}}),
    "bad-volume-name": pods(["Worker"], volumes=[{"name": "Bad_Name", "emptyDir": {}}]),
    "empty-image": containers(["Worker"], image=""),
}
CARDS = {"limits": {CARD: 8}, "requests": {CARD: 8}}
HOLDS = r"meanwhile its other pods use 16 cards"
WITH_CARDS = both(containers(["Worker"], resources=CARDS), setting("mpiReplicaSpecs.Worker.replicas", 2))

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(
            name,
            "Rejected",
            "ValidationError",
            r"rejects MPIJob \S+ and will not try again: correct the fields",
            change,
            message="Found validation errors",
        )
        for name, change in VALIDATION.items()
    ),
    Fault(
        "managed-by-another",
        "Rejected",
        "ManagedBy",
        r"remove managedBy from MPIJob",
        setting("runPolicy.managedBy", "foo"),
    ),
    *(
        Fault(name, "Rejected", "InvalidPod", r"pod template of MPIJob \S+ is not valid", change, message="is invalid")
        for name, change in INVALID.items()
    ),
    Fault(
        "no-service-account",
        "Rejected",
        "ServiceAccountNotFound",
        r"create ServiceAccount nosuch .*or set serviceAccountName:",
        pods(["Launcher", "Worker"], serviceAccountName="nosuch"),
    ),
    Fault(
        "no-service-account-for-the-launcher",
        "Rejected",
        "ServiceAccountNotFound",
        r"create ServiceAccount nosuch",
        both(pods(["Launcher"], serviceAccountName="nosuch"), WITH_CARDS),
        place="simulated",
        message=HOLDS,
    ),
    Fault(
        "quota-of-cards",
        "Pending",
        "QuotaExceeded",
        r"ResourceQuota q allows .*habana.ai/gaudi=8 .*fewer nodes:",
        WITH_CARDS,
        place="simulated",
        labels={"own": "true"},
        before=quota({f"requests.{CARD}": "8"}),
        message=r"exceeded quota: q",
    ),
    Fault(
        "quota-of-pods",
        "Pending",
        "QuotaExceeded",
        r"ResourceQuota q allows pods=2",
        WITH_CARDS,
        place="simulated",
        labels={"own": "true"},
        before=quota({"pods": "2"}),
        message=HOLDS,
    ),
    Fault(
        "quota-wants-requests",
        "Rejected",
        "QuotaNeedsRequests",
        r"ResourceQuota q requires each container to set .*set resources:",
        containers(["Launcher", "Worker"], resources={}),
        labels={"own": "true"},
        before=quota({"requests.cpu": "64"}),
    ),
    *(
        Fault(
            f"pod-security-{level}",
            "Rejected",
            "PodSecurityViolated",
            rf"Namespace \S+ enforces Pod Security {level}: set hostIPC",
            pods(["Worker"], hostIPC=True),
            labels={"pod-security.kubernetes.io/enforce": level},
            message="violates PodSecurity",
        )
        for level in ("baseline", "restricted")
    ),
    Fault(
        "too-few-cards",
        "Unschedulable",
        "Unschedulable",
        r"MPIJob \S+ with less: nodes or cards \(habana.ai/gaudi\)",
        containers(["Worker"], resources={"limits": {CARD: 16}, "requests": {CARD: 16}}),
        place="simulated",
        message=r"Insufficient habana\.ai/gaudi",
    ),
    Fault(
        "too-few-hugepages",
        "Unschedulable",
        "Unschedulable",
        r"with less: resources \(hugepages-2Mi\)",
        containers(["Worker"], resources={"limits": {CARD: 1, "hugepages-2Mi": "900Gi", "memory": "1Gi", "cpu": "1"}}),
        place="simulated",
        message="Insufficient hugepages-2Mi",
    ),
    Fault(
        "no-node-has-the-label",
        "Unschedulable",
        "Unschedulable",
        r"correct launcher.nodeSelector of MPIJob",
        pods(["Launcher"], nodeSelector={"no": "such"}),
        message="affinity/selector",
    ),
    Fault(
        "no-claim",
        "Unschedulable",
        "Unschedulable",
        r"create the PersistentVolumeClaim that Pod \S+-worker-0 names",
        mount("missing", {"persistentVolumeClaim": {"claimName": "nosuch"}}),
        message='persistentvolumeclaim "nosuch" not found',
    ),
    Fault(
        "image-that-no-registry-has",
        "ImagePullFailed",
        "ErrImagePull|ImagePullBackOff",
        r"correct the image of MPIJob \S+ .*nosuch.invalid/vit:1",
        containers(["Worker"], image="nosuch.invalid/vit:1", imagePullPolicy="IfNotPresent"),
    ),
    Fault(
        "image-that-is-never-pulled",
        "ImagePullFailed",
        "ErrImageNeverPull",
        r"correct the image of MPIJob \S+ .*imagePullPolicy:",
        containers(["Worker"], image="nosuch:1", imagePullPolicy="Never"),
    ),
    Fault(
        "host-path-that-is-missing",
        "Stalled",
        "FailedMount",
        r"correct missing: in the values \(/no/such/folder on node",
        mount("missing", {"hostPath": {"path": "/no/such/folder", "type": "Directory"}}),
        message="hostPath type check failed",
    ),
    Fault(
        "configmap-that-is-missing",
        "Stalled",
        "FailedMount",
        r"configmap nosuch does not exist in namespace",
        mount("missing", {"configMap": {"name": "nosuch"}}),
    ),
    Fault(
        "secret-that-is-missing",
        "Stalled",
        "CreateContainerConfigError",
        r"secret nosuch does not exist in namespace \S+: create it .*or correct env:",
        containers(["Worker"], env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "nosuch", "key": "a"}}}]),
    ),
    Fault(
        "worker-that-ends",
        "Stalled",
        "WorkerFailed",
        r"logs \S+-worker-0 shows why Pod \S+ ended",
        worker_script("exit 3"),
        message="exit code 3",
    ),
    Fault(
        "launcher-exit-1",
        "Failed",
        "BackoffLimitExceeded",
        r"FAULT line of setup.sh .*correct the value",
        launcher_runs("echo 'FAULT  dataset: /dataset is not a valid folder' >&2; exit 1", backoffLimit=0),
        message=r"exit code 1; FAULT +dataset: /dataset is not a valid folder",
    ),
    Fault(
        "launcher-exit-137",
        "Failed",
        "BackoffLimitExceeded",
        r"raise resources.limits.memory of MPIJob",
        launcher_runs("exit 137", backoffLimit=0),
        message="signal 9",
    ),
    Fault(
        "launcher-retried",
        r"Retrying \d/6",
        "BackOff",
        r"runPolicy.backoffLimit",
        launcher_runs("echo trying; exit 5", backoffLimit=6),
        message="exit code 5",
    ),
    Fault(
        "launcher-restarted-in-place",
        r"Retrying \d/8",
        "BackOff",
        r"logs \S+ -n \S+ --previous",
        both(setting("mpiReplicaSpecs.Launcher.restartPolicy", "OnFailure"), launcher_runs("exit 5", backoffLimit=8)),
        message="exit code 5",
    ),
    Fault(
        "log-lost-with-the-last-retry",
        "Failed",
        "BackoffLimitExceeded",
        r"Pod \S+-launcher and its log were deleted",
        both(setting("mpiReplicaSpecs.Launcher.restartPolicy", "OnFailure"), launcher_runs("exit 1", backoffLimit=0)),
    ),
    Fault(
        "deadline",
        "Failed",
        "DeadlineExceeded",
        r"raise runPolicy.activeDeadlineSeconds of MPIJob",
        launcher_runs("trap 'exit 143' TERM; sleep 600 & wait", activeDeadlineSeconds=3),
    ),
    Fault("suspended-from-the-start", "Suspended", "Suspended", r"patch mpijob", setting("runPolicy.suspend", True)),
    Fault(
        "suspended-while-it-runs",
        "Suspended",
        "Suspended",
        r"patch mpijob",
        launcher_runs("trap 'exit 143' TERM; sleep 600 & wait"),
        after=suspend,
    ),
    Fault(
        "worker-deleted",
        "Failed",
        "BackoffLimitExceeded",
        r"read the last lines .*a worker was lost",
        launcher_runs(UNTIL_WORKER_0_IS_ANOTHER, backoffLimit=0),
        after=delete_worker,
    ),
    Fault(
        "node-short-of-memory",
        "Evicted",
        "Evicted",
        r"Pod \S+-worker-0 was evicted",
        containers(["Launcher"], command=SLEEP),
        place="simulated",
        after=evict,
        message="low on resource: memory",
    ),
    Fault(
        "finished-and-log-gone-by-ttl",
        "Succeeded",
        "MPIJobSucceeded",
        r"output: was not set",
        launcher_runs("exit 0", ttlSecondsAfterFinished=1),
    ),
    Fault(
        "deleted-while-it-ran",
        "Deleted",
        "NotFound|Deleting",
        r"delete \S+ -n|submit it again|wait: the pods",
        launcher_runs("sleep 600"),
        after=delete_later,
    ),
    # -- Beyond the API server
    Fault(
        "sidecar-after-success",
        "Succeeded",
        "SidecarRunning",
        r"delete \S+ -n \S+ ends it; for the next run, .*sidecar.istio.io/inject: \"false\"",
        both(launcher_runs("exit 0"), more_containers("Launcher", "containers", name="istio-proxy", command=SLEEP)),
        message=r"container launcher of \S+ ended with exit code 0; sidecar istio-proxy still runs",
    ),
    Fault(
        "sidecar-after-failure",
        "Failed",
        "SidecarRunning",
        r"logs \S+ -n \S+ shows why; .*make agent a native sidecar",
        both(launcher_runs("exit 8"), more_containers("Launcher", "containers", name="agent", command=SLEEP)),
        message=r"exit code 8 \(the images are missing",
    ),
    Fault(
        "native-sidecar",
        "Succeeded",
        "MPIJobSucceeded",
        r"output: was not set",
        both(
            launcher_runs("exit 0"),
            more_containers("Launcher", "initContainers", name="istio-proxy", command=SLEEP, restartPolicy="Always"),
        ),
    ),
    Fault(
        "init-container-that-fails-for-good",
        "Stalled",
        "InitContainerFailed",
        r"logs \S+-worker-0 -c fetch shows why",
        both(
            launcher_runs("sleep 600"),
            more_containers("Worker", "initContainers", name="fetch", command=["bash", "-c", "exit 4"]),
        ),
        message=r"did not start: its init container fetch ended with exit code 4",
    ),
    Fault(
        "init-container-that-crash-loops",
        "Stalled",
        "CrashLoopBackOff",
        r"logs \S+-worker-0 -c fetch --previous shows why container fetch ends",
        both(
            setting("mpiReplicaSpecs.Worker.restartPolicy", "OnFailure"),
            launcher_runs("sleep 600"),
            more_containers("Worker", "initContainers", name="fetch", command=["bash", "-c", "exit 4"]),
        ),
        message=r"-worker-0: container fetch ended with exit code 4 and was restarted",
    ),
    Fault(
        "launcher-init-that-crash-loops",
        "Stalled",
        "CrashLoopBackOff",
        r"logs \S+-launcher-\S+ -c fetch --previous shows why container fetch ends",
        both(
            setting("mpiReplicaSpecs.Launcher.restartPolicy", "OnFailure"),
            launcher_runs("sleep 600", backoffLimit=9),
            more_containers("Launcher", "initContainers", name="fetch", command=["bash", "-c", "sleep 1; exit 6"]),
        ),
        message=r"container fetch ended with exit code 6 and was restarted.*1 worker still runs",
    ),
    Fault(
        "native-sidecar-that-crash-loops",
        "Stalled",
        "CrashLoopBackOff",
        r"logs \S+-worker-0 -c proxy --previous",
        both(
            launcher_runs("sleep 600"),
            more_containers(
                "Worker", "initContainers", name="proxy", command=["bash", "-c", "exit 2"], restartPolicy="Always"
            ),
        ),
        message=r"container proxy ended with exit code 2 and was restarted",
    ),
    Fault(
        "worker-that-crash-loops",
        "Stalled",
        "CrashLoopBackOff",
        r"logs \S+-worker-0 -c \S+ --previous",
        both(setting("mpiReplicaSpecs.Worker.restartPolicy", "OnFailure"), worker_script("exit 3")),
        message=r"ended with exit code 3 and was restarted",
    ),
    Fault(
        "pods-that-wait-for-different-things",
        "Stalled",
        "FailedMount",
        r"configmap nosuch does not exist.*correct missing: in the values \(/no/such/folder on node",
        both(
            mount("missing", {"hostPath": {"path": "/no/such/folder", "type": "Directory"}}),
            pods(["Launcher"], volumes=[{"name": "other", "configMap": {"name": "nosuch"}}]),
            containers(["Launcher"], volumeMounts=[{"name": "other", "mountPath": "/other"}]),
        ),
        message=r"-launcher-\S+: MountVolume.*nosuch.*; \S+-worker-0: MountVolume.*hostPath type check failed",
    ),
    Fault(
        "volume-over-its-limit",
        "Evicted",
        "Evicted",
        r"raise the sizeLimit of volume small",
        both(containers(["Launcher"], command=SLEEP), fill_volume),
        message=r"exceeds the limit .*; \S+-launcher-\S+ still runs",
    ),
    Fault(
        "finalizer-of-a-controller-that-is-gone",
        "Deleted",
        "Deleting",
        r"patch mpijob \S+ --type merge -p '\{\"metadata\":\{\"finalizers\":null",
        both(launcher_runs("sleep 600"), with_finalizer),
        after=delete_now,
        message="it waits for the finalizer mpikit.test/keep",
    ),
    Fault(
        "scheduling-gate",
        "Pending",
        "SchedulingGated",
        r"the controller that owns gate mpikit.test/wait removes it",
        pods(["Worker"], schedulingGates=[{"name": "mpikit.test/wait"}]),
        message=r"-worker-0: the scheduler waits for the scheduling gate mpikit.test/wait",
    ),
    Fault(
        "runtime-that-no-node-has",
        "Rejected",
        "Forbidden",
        r"cluster's administrator",
        pods(["Worker"], runtimeClassName="nosuch"),
        message="it is tried again",
    ),
    Fault(
        "devices-that-the-node-could-not-give",
        "Stalled",
        "UnexpectedAdmissionError",
        r"device plugin.*delete \S+ -n",
        containers(["Launcher"], command=SLEEP),
        place="simulated",
        after=patched(
            {
                "phase": "Failed",
                "reason": "UnexpectedAdmissionError",
                "message": "Pod was rejected: Allocate failed due to no healthy devices present",
            }
        ),
        message=r"failed: UnexpectedAdmissionError: Pod was rejected.*still runs",
    ),
    Fault(
        "node-shut-down",
        "Stalled",
        "Terminated",
        r"there is nothing to correct in the job",
        containers(["Launcher"], command=SLEEP),
        place="simulated",
        after=patched(
            {
                "phase": "Failed",
                "reason": "Terminated",
                "message": "Pod was terminated in response to imminent node shutdown.",
                "conditions": [
                    disruption("TerminationByKubelet", "Pod was terminated in response to imminent node shutdown.")
                ],
            }
        ),
        message=r"imminent node shutdown.*\(TerminationByKubelet\)",
    ),
    Fault(
        "evicted-and-replaced",
        "Running",
        "MPIJobRunning",
        r"logs -f",
        containers(["Launcher"], command=SLEEP),
        place="simulated",
        after=replace_evicted,
        message=r"Condition Failed \(MPIJobEvicted.* is of a pod that has been replaced; the job goes on",
    ),
)
