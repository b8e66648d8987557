# SPDX-License-Identifier: Apache-2.0
"""What a node says of a pod becomes one sentence of advice: messages of public reports, by their kind."""

from __future__ import annotations

import pytest

from mpikit.kube.kubelet import end_of, understand_eviction, understand_stuck
from mpikit.kube.pods import Pod
from tests.support.states import condition, container, ended, pod

POD = Pod(pod("worker", "Pending"))
STUCK = {
    # a part of the advice, and messages as kubelets, CNI and CSI drivers wrote them
    "ReadWriteMany": (
        'Multi-Attach error for volume "pvc-0f" Volume is already exclusively attached to one node and can\'t be attached to another',
        'Multi-Attach error for volume "pvc-1a" Volume is already used by pod(s) other-worker-0',
    ),
    "secret tls does not exist in namespace lab": (
        'MountVolume.SetUp failed for volume "tls" : secret "tls" not found',
    ),
    "has no key ca.pem": ('MountVolume.SetUp failed for volume "ca" : references non-existent secret key: ca.pem',),
    "it must exist on every node": (
        'MountVolume.SetUp failed for volume "d" : hostPath type check failed: /data is not a directory',
    ),
    "the disk of node n1 is full": (
        'MountVolume.SetUp failed for volume "kube-api-access-x" : write /var/lib/kubelet/pods/1/token: no space left on device',
        "Failed to create pod sandbox: open /run/containerd/io.containerd.runtime.v2.task/k8s.io/1/config.json: No space left on device",
        'Failed to create pod sandbox: rpc error: code = Unknown desc = failed to create containerd task: mkdir: disk quota exceeded',
    ),
    "no free pod address": (
        'plugin type="bridge" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.0.1-10.244.0.254',
        'failed to setup network for sandbox "1": plugin type="aws-cni" failed (add): add cmd: failed to assign an IP address to container',
        "Failed to create pod sandbox: InsufficientFreeAddressesInSubnet",
    ),
    "the network of node n1 does not work": (
        'Failed to create pod sandbox: failed to setup network for sandbox "3": plugin type="calico" failed (add): error getting ClusterInformation: Unauthorized',
        "network is not ready: container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized",
        'failed to set up sandbox container "ab" network for pod "x": networkPlugin cni failed to set up pod "x_y" network: open /run/flannel/subnet.env: no such file or directory',
    ),
    "cannot pull its pause image": (
        'Failed to create pod sandbox: failed to get sandbox image "registry.k8s.io/pause:3.10": failed to pull image',
    ),
    "no container runtime named nvidia": (
        'Failed to create pod sandbox: no runtime for "nvidia" is configured',
        'Failed to create pod sandbox: RuntimeHandler "nvidia" not supported',
    ),
    "storage driver lustre.csi.example does not run on node n1": (
        'MountVolume.MountDevice failed for volume "v" : kubernetes.io/csi: attacher.MountDevice failed: driver name lustre.csi.example not found in the list of registered CSI drivers',
    ),
    "does not let node n1 mount it": ("mount.nfs: access denied by server while mounting fs:/export",),
    "does not exist on the server": (
        "mount.nfs: mounting fs:/no failed, reason given by server: No such file or directory",
    ),
    "the storage does not answer node n1": (
        'Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[]: timed out waiting for the condition',
        'MountVolume.MountDevice failed for volume "v" : rpc error: code = DeadlineExceeded desc = context deadline exceeded',
    ),
    "describe pod vit-worker-0 shows all tries": ("something that no report has",),
}  # fmt: skip


@pytest.mark.parametrize(("part", "message"), [(part, text) for part, texts in STUCK.items() for text in texts])
def test_why_a_pod_does_not_start(part: str, message: str) -> None:
    assert part in understand_stuck(message, POD, "lab").text


def whole(reason: str, message: str = "why", target: str = "", phase: str = "Failed") -> Pod:
    """A pod that failed as a whole; its container was killed."""
    more = {"conditions": [condition("DisruptionTarget", reason=target, message=message)]} if target else {}
    return Pod(pod("worker", phase, container("worker", terminated=ended(137)), reason=reason, message=message, **more))


@pytest.mark.parametrize(
    ("reason", "target", "part"),
    [
        ("UnexpectedAdmissionError", "", "device plugin"),
        ("NodeAffinity", "", "the labels of node n1"),
        ("NodeSelectorMismatching", "", "the labels of node n1"),
        ("OutOfcpu", "", "had less to give"),
        ("OutOfhabana.ai/gaudi", "", "had less to give"),
        ("OutOfpods", "", "had less to give"),
        ("TopologyAffinityError", "", "cannot align"),
        ("DeadlineExceeded", "", "activeDeadlineSeconds of the pod"),
        ("Preempting", "TerminationByKubelet", "higher priority"),
        ("", "PreemptionByScheduler", "higher priority"),
        ("", "EvictionByEvictionAPI", "drained"),
        ("", "DeletionByTaintManager", "lost or shut down"),
        ("", "DeletionByPodGC", "lost or shut down"),
        ("NodeLost", "", "lost or shut down"),
        ("NodeShutdown", "", "lost or shut down"),
        ("Shutdown", "TerminationByKubelet", "lost or shut down"),
        ("Terminated", "TerminationByKubelet", "lost or shut down"),
        ("PodOSNotSupported", "", "describe pod"),
    ],
)
def test_the_reason_of_the_pod_comes_before_the_exit_code_and_the_disruption_is_named(
    reason: str, target: str, part: str
) -> None:
    end = end_of(whole(reason, target=target))
    assert end.reason == (reason or target)
    assert f"failed: {end.reason}: why" in end.words
    assert target in end.words
    assert part in end.advice
    assert "137" not in end.words


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ('Usage of EmptyDir volume "scratch" exceeds the limit "2Gi". ', "sizeLimit of volume scratch"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ", "ephemeral-storage"),
        ('Container worker exceeded its local ephemeral storage limit "1Gi". ', "ephemeral-storage"),
        ("The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. ", "ephemeral-storage"),
        ("The node was low on resource: memory. Container worker was using 9Gi, request is 1Gi", "resources.requests.memory"),
        ("The node was low on resource: inodes. ", "disk space"),
        ("The node was low on resource: pids. ", "fewer processes"),
        ("The node had condition: [DiskPressure]. ", "the resource that the message names"),
    ],
)  # fmt: skip
def test_an_eviction_names_what_to_raise(message: str, part: str) -> None:
    assert part in understand_eviction(message, POD)


def test_an_init_container_and_a_sidecar_are_blamed_for_what_they_did() -> None:
    first = end_of(
        Pod(pod("worker", "Failed", container("worker", waiting={}), init=[container("fetch", terminated=ended(4))]))
    )
    assert (first.words, first.container) == ("did not start: its init container fetch ended with exit code 4", "fetch")
    statuses = container("proxy", terminated=ended(2)), container("launcher", terminated=ended(0))
    beside = end_of(Pod(pod("launcher", "Failed", *statuses)))
    assert beside.container == "proxy"
    assert "although launcher ended with exit code 0" in beside.words


def test_a_pod_without_any_reason_has_no_made_up_exit_code() -> None:
    assert end_of(Pod(pod("worker", "Failed"))).words == "failed, and its node reports no reason"


UNREADY = [condition("Ready", "False")]


def test_a_node_that_does_not_answer_is_told_from_a_container_that_is_not_ready() -> None:
    """The node controller sets Ready alone; the kubelet gives a reason."""
    up = container("worker", running={})
    assert Pod(pod("worker", "Running", up, conditions=UNREADY)).unreachable
    by_kubelet = [condition("Ready", "False", "ContainersNotReady", "not ready")]
    assert not Pod(pod("worker", "Running", up, conditions=by_kubelet)).unreachable
    assert not Pod(pod("worker", "Running", container("worker", waiting={}), conditions=UNREADY)).unreachable
    assert not Pod(pod("worker", "Failed", up, conditions=UNREADY)).unreachable
