# SPDX-License-Identifier: Apache-2.0
"""Nodes that exist only in the API, played by kwok: a Voyager in a box, and some nodes for the other values files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from testcluster.control_plane import SIMULATED_LABEL, Command
from testcluster.state import State

VOYAGER_NODES = 42  # training nodes of Voyager; 96 threads, 512 GB and 6.4 TB each (SDSC's user guide)
OTHER_NODES = 4
MOST_QUICK_NODES = 500  # with leases as short as Kubernetes has them
SELECTOR_ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"  # read by the admission plugin PodNodeSelector
CATEGORY = "brightcomputing.com/node-category"

LOG_PORT = 10260  # in the cluster's own network; 10250 is the real node's kubelet
# A stand-in for the lines of a launcher, which no simulated pod has: the trainer's own keys, invented numbers.
LINES = (
    "run_vit.sh: all 2 workers answer after 3 s",
    *(
        f"step={step}/30 loss={7.0 - step / 100:.3f} images_per_second=4000" + (" left=1m30s" if step < 30 else "")
        for step in (10, 20, 30)
    ),
)

Object = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """What is simulated: how many Gaudi nodes, whose namespaces, and the version of the operator."""

    name: str
    num_gaudi_nodes: int
    users: tuple[str, ...]
    operator: str

    @property
    def lease_seconds(self) -> int:
        """How long a node counts as alive. It renews its lease four times as often, which thousands cannot do here."""
        return 40 if self.num_gaudi_nodes <= MOST_QUICK_NODES else 400


def site_named(name: str | None, num_nodes: int | None, user: str, operator: str) -> Site:
    """The site that the command line asks for."""
    usual = VOYAGER_NODES if name == "voyager" else OTHER_NODES
    users = (user,) if name == "voyager" else ()
    return Site(name or "generic", usual if num_nodes is None else num_nodes, users, operator)


def objects(site: Site) -> list[Object]:
    """Nodes, namespaces and service accounts of a site."""
    gaudi = {
        "cpu": "96",
        "memory": "515Gi",
        "ephemeral-storage": "6Ti",
        "habana.ai/gaudi": "8",
        "hugepages-2Mi": "100Gi",
    }
    plain = {"cpu": "96", "memory": "515Gi", "ephemeral-storage": "6Ti"}
    gpu = plain | {"nvidia.com/gpu": "8"}
    nodes = [node(f"gaudi-{number}", "gaudi", gaudi) for number in range(site.num_gaudi_nodes)]
    nodes += [node(f"compute-{number}", "compute", plain) for number in range(2)]
    nodes += [node(f"gpu-{number}", "gpu", gpu) for number in range(2)] if site.name != "voyager" else []
    spaces = [namespace("simulated"), *(part for user in site.users for part in user_namespace(user))]
    return [*nodes, *spaces]


def node(name: str, category: str, capacity: Mapping[str, str]) -> Object:
    """A node that kwok keeps alive."""
    labels = {SIMULATED_LABEL: "true", CATEGORY: category, "kubernetes.io/hostname": name, "type": "kwok"}
    amounts = {**capacity, "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": labels},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def namespace(name: str) -> Object:
    """A namespace whose pods go to simulated nodes."""
    annotations = {SELECTOR_ANNOTATION: f"{SIMULATED_LABEL}=true"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}}


def user_namespace(user: str) -> list[Object]:
    """A user's namespace and service account as Voyager gives them out."""
    account = {"name": user, "namespace": f"{user}-restricted"}
    return [namespace(f"{user}-restricted"), {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}]


def as_list(members: list[Object]) -> str:
    """Objects as one text for kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": members})


def kwok(programs: Mapping[str, Path], state: State, lease_seconds: int) -> Command:
    """kwok for the simulated nodes alone; with no lease given its nodes are NotReady after 50 s."""
    return [
        str(programs["kwok"]),
        *("--kubeconfig", str(state.folder / "kubeconfigs" / "kwok"), "--config", str(state.folder / "stages.yaml")),
        *("--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",),
        f"--node-lease-duration-seconds={lease_seconds}",
        # As the kubelet of its nodes it serves their pods' logs, to the API server alone.
        *("--node-ip=127.0.0.1", f"--node-port={LOG_PORT}", f"--server-address=127.0.0.1:{LOG_PORT}"),
        f"--tls-cert-file={state.folder}/keys/kwok.crt",
        f"--tls-private-key-file={state.folder}/keys/kwok.key",
    ]


def write_stages(programs: Mapping[str, Path], state: State) -> None:
    """What becomes of simulated pods: ready at once, ended by an annotation; kwok's own would end Job pods at once."""
    ends = [
        _end("pod-succeed", "succeed", "Succeeded", "Completed", "0"),
        _end("pod-fail", "fail", "Failed", "Error", "1"),
    ]
    own = [programs["pod-ready.yaml"].read_text(), programs["pod-delete.yaml"].read_text()]
    log = state.folder / "simulated.log"
    write_log(log, LINES)
    logs = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterLogs",
        "metadata": {"name": "all"},
        "spec": {"logs": [{"logsFile": str(log), "follow": True}]},
    }
    (state.folder / "stages.yaml").write_text("\n---\n".join([*own, *ends, json.dumps(logs)]))


def write_log(path: Path, lines: Sequence[str]) -> None:
    """What every simulated container has said, as a container runtime keeps it."""
    now = time.time()
    stamps = [datetime.fromtimestamp(now + number / 1000, timezone.utc) for number in range(len(lines))]
    text = [f"{stamp:%Y-%m-%dT%H:%M:%S.%f}000Z stdout F {line}\n" for stamp, line in zip(stamps, lines, strict=True)]
    path.write_text("".join(text))


def _end(name: str, word: str, phase: str, reason: str, exit_code: str) -> str:
    return f"""apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: {name}
spec:
  resourceRef:
    apiGroup: v1
    kind: Pod
  selector:
    matchExpressions:
    - key: '.metadata.deletionTimestamp'
      operator: 'DoesNotExist'
    - key: '.status.phase'
      operator: 'In'
      values: ['Running']
    - key: '.metadata.annotations["mpikit.test/result"]'
      operator: 'In'
      values: ['{word}']
  next:
    statusTemplate: |
      {{{{ $now := Now }}}}
      {{{{ $root := . }}}}
      conditions:
      - lastTransitionTime: {{{{ $now | Quote }}}}
        status: "False"
        type: Ready
        reason: Pod{phase}
      containerStatuses:
      {{{{ range .spec.containers }}}}
      - image: {{{{ .image | Quote }}}}
        name: {{{{ .name | Quote }}}}
        ready: false
        restartCount: 0
        state:
          terminated:
            exitCode: {{{{ or ( index $root.metadata.annotations "mpikit.test/exit-code" ) "{exit_code}" }}}}
            reason: {reason}
            finishedAt: {{{{ $now | Quote }}}}
            startedAt: {{{{ $root.status.startTime | Quote }}}}
      {{{{ end }}}}
      phase: {phase}
"""
