# SPDX-License-Identifier: Apache-2.0
"""Small pods that look at a job's storage and end: they run as the job's own pods do, and are always deleted."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mpikit.errors import NotFound
from mpikit.kube.answers import Object
from mpikit.kube.api import POD, create
from mpikit.kube.client import Call, Cluster

END_SECONDS = 120  # for everything, an image's pull included
UNSCHEDULED_SECONDS = 20  # a pod this small that has no node by then will not get one
RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}}
NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")

# Fields of a pod that decide where it runs, as whom and with which image.
_PLACE = (
    *("serviceAccountName", "imagePullSecrets", "nodeSelector", "affinity", "tolerations", "securityContext"),
    *("runtimeClassName", "priorityClassName", "schedulerName", "hostUsers"),
)
_PROGRAM = ("image", "imagePullPolicy", "securityContext")


def small_pod(
    job: str,
    kind: str,
    template: Mapping[str, Any],
    command: Sequence[str],
    *,
    mounts: Sequence[Object],
    volumes: Sequence[Object],
    labels: Mapping[str, str],
) -> Object:
    """Return a pod like those of the template, without their cards, variables, token and other folders.

    `kind` is a word of its name and its label mpikit/KIND.
    """
    spec = template.get("spec") or {}
    main = (spec.get("containers") or [{}])[0]
    container = {
        **{key: main[key] for key in _PROGRAM if key in main},
        "name": kind,
        "command": list(command),
        "resources": RESOURCES,
        "volumeMounts": list(mounts),
    }
    own = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "activeDeadlineSeconds": END_SECONDS,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": list(volumes),
    }
    name = f"{job[:40].rstrip('-.')}-{kind}-{uuid.uuid4().hex[:6]}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {**labels, f"mpikit/{kind}": "true"}},
        "spec": {**{key: spec[key] for key in _PLACE if key in spec}, **own},
    }


@contextlib.contextmanager
def running(cluster: Cluster, namespace: str, pod: Object) -> Iterator[str]:
    """Create the pod, give its name, and delete it in any case, also when the user stops the wait."""
    name = pod["metadata"]["name"]
    try:
        create(cluster, POD, namespace, pod)
        yield name
    finally:
        with contextlib.suppress(NotFound):
            cluster.request(Call("DELETE", POD.path(namespace, name)))


def printed(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Return the lines of the pod's log."""
    answer = cluster.request(Call("GET", POD.path(namespace, name, "log"), accept="*/*"))
    return answer.data.decode(errors="replace").splitlines()
