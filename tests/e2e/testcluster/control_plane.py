# SPDX-License-Identifier: Apache-2.0
"""The commands of etcd, the API server, the controller manager, the scheduler and the MPI Operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from testcluster.keys import API_PORT
from testcluster.state import State

SIMULATED_LABEL = "mpikit.test/simulated"
ADDRESS = "10.244.0.1"  # of the bridge between pods; the real node's own address and its name server's
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"  # of the Service "kubernetes", the first one

Command = list[str]


def etcd(programs: Mapping[str, Path], state: State) -> Command:
    """etcd, which need not outlive a power cut."""
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        str(programs["etcd"]),
        *("--data-dir", str(state.folder / "etcd"), "--unsafe-no-fsync"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    ]


def apiserver(programs: Mapping[str, Path], state: State) -> Command:
    """The API server, with the admission of a usual cluster and PodNodeSelector."""
    keys = state.folder / "keys"
    return [
        str(programs["kube-apiserver"]),
        *("--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", f"--secure-port={API_PORT}"),
        f"--advertise-address={ADDRESS}",  # unused, but it refuses loopback and finds no default route here
        *(f"--tls-cert-file={keys}/apiserver.crt", f"--tls-private-key-file={keys}/apiserver.key"),
        f"--service-account-key-file={keys}/service-accounts.key",
        f"--service-account-signing-key-file={keys}/service-accounts.key",
        *("--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={keys}/tokens.csv"),
        *("--authorization-mode=Node,RBAC", f"--service-cluster-ip-range={SERVICES}", "--allow-privileged=true"),
        *("--endpoint-reconciler-type=none", "--kubelet-preferred-address-types=InternalIP"),
        f"--kubelet-client-certificate={keys}/kubelet-client.crt",
        f"--kubelet-client-key={keys}/kubelet-client.key",
        "--enable-admission-plugins=NodeRestriction,PodNodeSelector",
        f"--admission-control-config-file={state.folder}/admission.json",
    ]


def write_admission(state: State) -> None:
    """Pods run on the real node, unless their namespace is annotated as one for simulated nodes.

    This keeps pods without any node selector, such as launchers, off the simulated nodes, whatever the manifest.
    """
    selector = {"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": f"{SIMULATED_LABEL}=false"}}
    content = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "PodNodeSelector", "configuration": selector}],
    }
    (state.folder / "admission.json").write_text(json.dumps(content))


def controller_manager(programs: Mapping[str, Path], state: State, lease_seconds: int) -> Command:
    """The controllers of Kubernetes itself: Jobs, service accounts, node lifecycle."""
    return [
        str(programs["kube-controller-manager"]),
        *(
            f"--kubeconfig={state.folder}/kubeconfigs/kube-controller-manager",
            "--secure-port=0",
            "--leader-elect=false",
        ),
        f"--service-account-private-key-file={state.folder}/keys/service-accounts.key",
        *(f"--root-ca-file={state.folder}/keys/ca.crt", "--use-service-account-credentials=true"),
        *("--kube-api-qps=200", "--kube-api-burst=400", f"--node-monitor-grace-period={lease_seconds + 10}s"),
    ]


def scheduler(programs: Mapping[str, Path], state: State) -> Command:
    """The scheduler as it is shipped."""
    kubeconfig = f"--kubeconfig={state.folder}/kubeconfigs/kube-scheduler"
    return [str(programs["kube-scheduler"]), kubeconfig, "--secure-port=0", "--leader-elect=false"]


def operator(programs: Mapping[str, Path], state: State, version: str) -> Command:
    """The MPI Operator under its own service account, with more requests a second than it ships with."""
    queue = ["-controller-queue-rate-limit", "200", "-controller-queue-burst", "400"]
    return [
        str(programs["mpi-operator"]),
        *("-kubeConfig", str(state.folder / "kubeconfigs" / "mpi-operator"), "-lock-namespace", "mpi-operator"),
        *("-kube-api-qps", "200", "-kube-api-burst", "400"),
        *([] if version.startswith("0.6.") else queue),  # 0.6 has no such flags
    ]
