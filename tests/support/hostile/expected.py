# SPDX-License-Identifier: Apache-2.0
"""The MPIJob that a job should come out as, built from the model without the templates: a second opinion on them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mpikit.config.job import Job, Mount
from mpikit.config.sections import Pod
from mpikit.render.context import ScriptContext, image_of, job_metadata, pod_fields

Object = dict[str, Any]


def mpijob(job: Job, kit_name: str) -> Object:
    """The MPIJob of a job with `delivery: configmap`, whose ConfigMap has the given name."""
    metadata: Object = {
        "name": job.job_name,
        "labels": job.own_labels | job.labels,
        "annotations": job_metadata(job).annotations,
    }
    if job.namespace:
        metadata["namespace"] = job.namespace
    spec = {
        "slotsPerWorker": job.cards,
        "sshAuthMountPath": job.ssh_auth_mount_path,
        "launcherCreationPolicy": job.launcher_creation_policy,
        "runPolicy": _kube(job.run_policy),
        "mpiReplicaSpecs": {
            "Launcher": _replica(1, _template(job, job.launcher, _launcher(job), job.launcher_folders, kit_name)),
            "Worker": _replica(job.nodes, _template(job, job.worker, _worker(job), job.folders, kit_name)),
        },
    }
    return {"apiVersion": "kubeflow.org/v2beta1", "kind": "MPIJob", "metadata": metadata, "spec": spec}


def _kube(part: BaseModel) -> Object:
    return part.model_dump(by_alias=True, exclude_none=True)


def _replica(number: int, template: Object) -> Object:
    return {"replicas": number, "restartPolicy": "Never", "template": template}


def _without_empty(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value not in (None, False, "", [], {}, ())}


def _template(job: Job, pod: Pod, container: Object, folders: tuple[Mount, ...], kit_name: str) -> Object:
    memory = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": job.shm_size}}
    own_memory = [memory] if container["name"] == "worker" and not job.host_ipc else []
    kit = {"name": "kit", "configMap": {"name": kit_name, "defaultMode": 0o555}}
    named = _without_empty(
        {
            "serviceAccountName": job.service_account_name,
            "imagePullSecrets": job.image_pull_secrets,
            "hostIPC": job.host_ipc,
            "nodeSelector": pod.node_selector,
            "tolerations": pod.tolerations,
            "affinity": pod.affinity,
        }
    )
    spec = named | {
        "terminationGracePeriodSeconds": ScriptContext(job).grace_seconds,
        **(_spread(job) if pod is job.worker else {}),
        **pod_fields(job, pod),
        "containers": [container],
        "volumes": [kit, *(_volume(folder) for folder in folders), *pod.volumes, *own_memory],
    }
    metadata = {"labels": job.own_labels | pod.labels, **_without_empty({"annotations": pod.annotations})}
    return {"metadata": metadata, "spec": spec}


def _spread(job: Job) -> Object:
    """Workers that could share a node prefer not to."""
    if job.placement != "preferred":
        return {}
    labels = {"training.kubeflow.org/job-name": job.job_name, "training.kubeflow.org/job-role": "worker"}
    rule = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {"topologySpreadConstraints": [rule | {"labelSelector": {"matchLabels": labels}}]}


def _volume(folder: Mount) -> Object:
    if folder.claim:
        return {"name": folder.name, "persistentVolumeClaim": {"claimName": folder.claim.pvc}}
    if folder.host_path:
        return {"name": folder.name, "hostPath": {"path": folder.host_path, "type": folder.host_path_type}}
    return {"name": folder.name, "emptyDir": {}}


def _mount(folder: Mount) -> Object:
    path = folder.claim.sub_path if folder.claim else None
    return {
        "name": folder.name,
        "mountPath": folder.path,
        **_without_empty({"readOnly": folder.read_only, "subPath": path}),
    }


def _container(job: Job, name: str, command: tuple[str, ...], env: list[Object], mounts: list[Object]) -> Object:
    own = _without_empty({"imagePullPolicy": job.image_pull_policy, "env": env})
    if job.run_as_user:
        own["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        mounts = [{"name": "kit", "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True}, *mounts]
    kit = {"name": "kit", "mountPath": "/kit", "readOnly": True}
    return own | {
        "name": name,
        "image": image_of(job),
        "command": list(command),
        "volumeMounts": [kit, *mounts],
    }


def _launcher(job: Job) -> Object:
    mounts = [*(_mount(folder) for folder in job.launcher_folders), *job.launcher.volume_mounts]
    uid = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}}
    own = [{"name": "MPIKIT_JOB_UID", "valueFrom": uid}] if job.restarts.max else []
    container = _container(job, "launcher", ("bash", "/kit/run_vit.sh"), [*own, *_literal(job)], mounts)
    return container | {"resources": _kube(job.launcher.resources)}


def _worker(job: Job) -> Object:
    sourced = [_kube(item) for item in job.env if item.value_from is not None]
    memory = [] if job.host_ipc else [{"name": "shm", "mountPath": "/dev/shm"}]
    mounts = [*(_mount(folder) for folder in job.folders), *job.worker.volume_mounts, *memory]
    cards = {job.hardware.resource: job.cards} if job.hardware.resource else {}
    limits = cards | job.resources.limits
    node = {"name": "MPIKIT_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    own = [node] if job.restarts.max else []
    container = _container(job, "worker", ("bash", "/kit/worker.sh"), [*own, *_literal(job), *sourced], mounts)
    return container | {
        **_without_empty({"envFrom": job.env_from}),
        "readinessProbe": {"tcpSocket": {"port": ScriptContext(job).ssh_port}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"exec": {"command": ["bash", "/kit/worker.sh", "stop"]}}},
        "resources": {"limits": limits, "requests": limits | job.resources.requests},
    }


def _literal(job: Job) -> list[Object]:
    """Kubernetes halves each pair of dollars and puts other variables in the place of $(NAME)."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in job.literal_env.items()]
