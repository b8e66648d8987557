# SPDX-License-Identifier: Apache-2.0
"""Job -> texts: the manifests and the scripts, by the templates. Pure: no clock, no randomness, no network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2 import TemplateError as JinjaError
from jinja2.bccache import Bucket
from pydantic import BaseModel

from mpikit.config.job import Job
from mpikit.config.prepare import Task
from mpikit.errors import TemplateError
from mpikit.render.context import (
    Metadata,
    ScriptContext,
    job_metadata,
    launcher_pod,
    task_labels,
    task_pod,
    user_file,
    worker_pod,
)
from mpikit.render.payload import TASK_ARCHIVE, TRAINING_ARCHIVE, Payload, sha256_of, sha256_sums
from mpikit.resources import TEMPLATES
from mpikit.text.quoting import literal_dollars, sh_filter, yaml_filter, yaml_text
from mpikit.trainer import EXIT_CODES

TASK_BACKOFF_LIMIT = 2  # an evicted pod is followed by another; what is wrong with the files stays wrong
KIT_NAME_MAX = 200  # of the task's name; a ConfigMap's may have 253 characters
CONFIG_MAP_MAX = 262_144  # bytes of all annotations of an object; kubectl apply keeps the whole object in one
CONFIG_MAP_HEAD = 4096  # names, labels and annotations, at their longest
SCRIPTS = ("rank.sh", "run_vit.sh", "setup.sh", "worker.sh")


@dataclass(frozen=True, slots=True)
class Rendered:
    """All that comes out of one job."""

    manifests: Mapping[str, str]
    """Kubernetes objects by file name, in the order in which to apply them."""
    scripts: Mapping[str, str]
    payload: Payload

    @property
    def manifest(self) -> str:
        """The objects as one YAML stream."""
        return "---\n".join(self.manifests.values())

    @property
    def shared_files(self) -> dict[str, bytes]:
        """What `delivery: mydir` keeps in the shared folder: scripts, trainer and their SHA256SUMS."""
        files = _encoded(self.scripts) | dict(self.payload.files)
        return files | {"SHA256SUMS": sha256_sums(files)}


def render(job: Job, payload: Payload) -> Rendered:
    """Return the manifests and scripts of a job."""
    if job.delivery == "configmap":
        payload = payload.training()
    environment = _environment()
    words = {"job": job, "script": ScriptContext(job), "exit_codes": EXIT_CODES}
    scripts = {name: _render(environment, f"{name}.j2", words) for name in SCRIPTS}
    texts = scripts | user_file(job)
    files = _encoded(texts) | dict(payload.files)
    kit = Metadata(f"{job.job_name}-kit-{sha256_of(files)[:10]}", job.namespace, job.own_labels)
    sums = None
    manifests = {}
    if job.delivery == "configmap":
        packed = payload.packed()
        check_size(texts, packed)
        manifests["configmap.yaml"] = _config_map(environment, kit, texts, TRAINING_ARCHIVE, packed)
    else:
        sums = hashlib.sha256(sha256_sums(files)).hexdigest()
    pods = {"launcher": launcher_pod(job, kit.name, sums), "worker": worker_pod(job, kit.name, sums)}
    words = {"job": job, "metadata": job_metadata(job), **pods}
    manifests["mpijob.yaml"] = _render(environment, "mpijob.yaml.j2", words)
    return Rendered(manifests, scripts, payload)


def check_size(texts: Mapping[str, str], archive: bytes) -> None:
    """Raise TemplateError for a ConfigMap that client-side kubectl apply cannot keep in its annotation."""
    size = len(json.dumps(texts)) + 4 * len(archive) // 3 + CONFIG_MAP_HEAD
    if size > CONFIG_MAP_MAX:
        fix = "shorten train: and env:, use delivery: mydir, or kubectl apply --server-side"
        raise TemplateError(
            f"the ConfigMap has {size >> 10} KiB; kubectl apply accepts at most {CONFIG_MAP_MAX >> 10}", fix
        )


def render_rbac(job: Job, namespace: str) -> str:
    """Return the Role of the launcher with its binding, and its service account unless the values name one."""
    role = f"{job.job_name}-launcher"
    words = {
        "account": job.service_account_name or role,
        "own_account": job.service_account_name is None,
        "role": role,
        "namespace": namespace,
        "labels": job.own_labels,
        "workers": [f"{job.job_name}-worker-{number}" for number in range(job.nodes)],
    }
    return _render(_environment(), "rbac.yaml.j2", words)


def render_task(job: Job, task: Task, payload: Payload) -> str:
    """Return the manifests of a Job that does a task with the job's image, names, paths and the launcher's place."""
    environment, payload = _environment(), payload.jobs()
    labels = task_labels(job, task)
    kit_name = f"{task.name[:KIT_NAME_MAX]}-kit-{sha256_of(payload.files)[:10]}"
    words = {
        "metadata": Metadata(task.name, job.namespace, labels | job.labels, job.annotations),
        "backoff_limit": TASK_BACKOFF_LIMIT,
        "pod": task_pod(job, task, kit_name),
    }
    manifests = [_render(environment, "job.yaml.j2", words)]
    if job.delivery == "configmap":
        kit = Metadata(kit_name, job.namespace, labels)
        manifests.insert(0, _config_map(environment, kit, user_file(job), TASK_ARCHIVE, payload.zipped()))
    if task.port:
        words = {"metadata": Metadata(task.name, job.namespace, labels), "selector": labels, "port": task.port}
        manifests.append(_render(environment, "service.yaml.j2", words))
    return "---\n".join(manifests)


def _config_map(
    environment: Environment, metadata: Metadata, texts: Mapping[str, str], name: str, archive: bytes
) -> str:
    """Return the ConfigMap of scripts and trainer."""
    words = {"metadata": metadata, "scripts": texts, "archive_name": name}
    words["archive"] = base64.b64encode(archive).decode()
    return _render(environment, "configmap.yaml.j2", words)


def render_user_values(user: str, profile: str) -> str:
    """Return a first values/user.yaml: the user and the profile."""
    return _render(_environment(), "user.yaml.j2", {"user": user, "profile": profile})


def _encoded(scripts: Mapping[str, str]) -> dict[str, bytes]:
    return {name: text.encode() for name, text in scripts.items()}


class _CompiledTemplates(BytecodeCache):
    """Compiled templates, kept as Python keeps its own .pyc files; a folder that cannot be written costs only time."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with contextlib.suppress(OSError), self._path(bucket).open("rb") as file:
            bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        if sys.dont_write_bytecode:
            return
        path = self._path(bucket)
        unfinished = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            with unfinished.open("wb") as file:
                bucket.write_bytecode(file)
            unfinished.replace(path)

    @staticmethod
    def _path(bucket: Bucket) -> Path:
        return Path(__file__).with_name("__pycache__") / f"{bucket.key}.{sys.implementation.cache_tag}.jinja"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        bytecode_cache=_CompiledTemplates(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # Jinja's own {# is also bash's ${#array[@]}
        comment_end_string="##}",
        autoescape=False,  # these are no web pages; every value goes through yaml or sh
    )
    environment.filters |= {
        "yaml": yaml_filter,
        "sh": sh_filter,
        "kube": _kube,
        "literal_dollars": literal_dollars,
        "yaml_text": yaml_text,
    }
    return environment


def _kube(part: BaseModel) -> dict[str, Any]:
    """Return a part of the model under Kubernetes' names, without what is unset."""
    return part.model_dump(by_alias=True, exclude_none=True)


def _render(environment: Environment, name: str, words: Mapping[str, Any]) -> str:
    try:
        return environment.get_template(name).render(words)
    except (JinjaError, ValueError) as error:
        raise TemplateError(f"templates/{name}: {error}") from error
