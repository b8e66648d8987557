# SPDX-License-Identifier: Apache-2.0
"""What is done beside a job: weights, data and TensorBoard, each as a command here or a Job there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mpikit.config.job import Job, Mount
from mpikit.config.layers import setting_value
from mpikit.config.pretrained import published_file
from mpikit.config.sections import Claim, Source
from mpikit.config.types import LABEL_MAX
from mpikit.errors import one_fault
from mpikit.text.quoting import shown
from mpikit.trainer import PUBLISHED_NAMES

ARCHIVES = "/archives"
TENSORBOARD, TENSORBOARD_PORT = "-tensorboard", 6006


@dataclass(frozen=True, slots=True)
class Task:
    """One of the trainer's commands beside training, with its folders."""

    name: str
    """Of the Job, and of its objects' label."""
    module: str
    here: tuple[str, ...]
    """Arguments on a machine that has the folders under their own paths; empty if a folder is on a claim."""
    inside: tuple[str, ...]
    """Arguments in the pod."""
    folders: tuple[Mount, ...]
    port: int | None = None
    """Where it listens: the Job then gets a Service, and `delete` of the training job deletes both."""

    @property
    def role(self) -> str:
        """Name of the container: fetch, prepare or tensorboard."""
        return self.module.rpartition(".")[2]

    @property
    def command_line(self) -> str:
        """The command for a shell, to be run in the project's folder."""
        return shlex.join(["python", "-m", self.module, *self.here])

    def after_it(self, namespace: str | None) -> str:
        """Return how to follow the Job, and how to delete it."""
        kubectl = f"kubectl -n {namespace}" if namespace else "kubectl"
        if self.port:
            ready = f"{kubectl} wait --for=jsonpath='{{.status.ready}}'=1 job/{self.name} --timeout=10m"
            forward = f"{kubectl} port-forward service/{self.name} {self.port}"
            return f"next: {ready} && {forward}, then open http://localhost:{self.port}"
        label = f"app.kubernetes.io/instance={self.name}"
        return f"next: {kubectl} logs -f job/{self.name}; afterwards {kubectl} delete job,configmap -l {label}"


def weights_task(job: Job, model: str, variant: str, mirror: str | None = None) -> Task:
    """Return the download of a model's weights into `pretrained`, under the name that training reads."""
    url = published_file(model, variant).url(mirror)
    if job.pretrained is None:
        raise one_fault("pretrained", "is null, so there is no folder for the file", "--to FOLDER")
    name = f"{PUBLISHED_NAMES.get(model, model)}.npz"
    flags = ("--model_type", model)
    mount = Mount("pretrained", "/pretrained", job.pretrained, host_path_type=job.made_folder_type)
    here = () if isinstance(job.pretrained, Claim) else (url, str(Path(job.pretrained) / name), *flags)
    inside = (url, f"/pretrained/{name}", *flags)
    return Task(_name(job, "weights", model), "vit.fetch", here, inside, (mount,))


def data_task(job: Job, dataset: str, archives: str | Claim, flags: Sequence[str] = ()) -> Task:
    """Prepare a dataset from its published archives in `dataset`; check an imagefolder in place."""
    target = archives if dataset == "imagefolder" else job.dataset
    if target is None:
        raise one_fault("dataset", "is null, so there is no folder to prepare", "--to FOLDER")
    kind = dataset.replace("-", "_")
    there = Mount("dataset", "/dataset", target, host_path_type=job.made_folder_type)
    if dataset == "imagefolder":
        folders: tuple[Mount, ...] = (Mount("dataset", "/dataset", target),)
        inside: tuple[str, ...] = (kind, "--from", "/dataset", *flags)
    else:
        folders = (Mount("archives", ARCHIVES, archives, read_only=True), there)
        inside = (kind, "--from", ARCHIVES, "--to", "/dataset", *flags)
    here: tuple[str, ...] = ()
    if isinstance(archives, str) and isinstance(target, str):
        to = () if dataset == "imagefolder" else ("--to", target)
        here = (kind, "--from", archives, *to, *flags)
    return Task(_name(job, "data", dataset), "vit.prepare", here, inside, folders)


def tensorboard_task(job: Job, run: str) -> Task:
    """Show the metrics of a run in `output` in TensorBoard."""
    if "/" in run or run in (".", "..") or run.startswith("-"):
        raise one_fault("", f"{shown(run)} is not the name of a run in `output`", "write its name without /", "RUN")
    folder = Mount("output", "/output", job.output, read_only=True)
    inside = (f"/output/{run}", "--wait", "--bind_all", "--port", str(TENSORBOARD_PORT))
    name = f"{job.job_name[: LABEL_MAX - len(TENSORBOARD)].rstrip('-')}{TENSORBOARD}"
    return Task(name, "vit.tensorboard", (), inside, (folder,), TENSORBOARD_PORT)


def source_of(text: str, flag: str) -> str | Claim:
    """Return a path, or {pvc: NAME, subPath: FOLDER} as --set takes it. Raises ValuesError."""
    value = setting_value(flag, "", text)
    try:
        found: str | Claim = TypeAdapter(Source).validate_python(value)
    except ValidationError:
        fix = f"{flag} /absolute/path, or {flag} '{{pvc: NAME, subPath: FOLDER}}'"
        raise one_fault("", f"{shown(text)} is not a valid folder", fix, flag) from None
    return found


def _name(job: Job, kind: str, what: str) -> str:
    """Return a DNS label: <user>-weights-vit-b-16."""
    return f"{job.user}-{kind}-{what.lower().replace('_', '-')}"[:LABEL_MAX].rstrip("-")
