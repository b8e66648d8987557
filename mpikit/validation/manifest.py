# SPDX-License-Identifier: Apache-2.0
"""Manifests read back: each object against its schema, the operator's and the API server's rules, and sense."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from mpikit.devices import version_key
from mpikit.diagnostics import Diagnostic, Found, fault, warning
from mpikit.sidecars import injection, opt_out
from mpikit.text.manifest import Manifest, inner_jobs
from mpikit.text.nested import at, dotted
from mpikit.text.strict_yaml import Document
from mpikit.validation.launch import Scripts
from mpikit.validation.lint import example_names, presumed, sense_faults
from mpikit.validation.misplaced import field_faults, version_faults_of
from mpikit.validation.mpijob import (
    MPIJOB,
    ROLES,
    VOLUMES,
    collision_faults,
    name_collisions,
    operator_faults,
    version_faults,
)
from mpikit.validation.pod import metadata_faults, template_faults
from mpikit.validation.pod_security import Level, violations
from mpikit.validation.schema import USED_TWICE, has_kind, reference, schema_faults, versions, well_typed

_PART = re.compile(r"(\.[^.\[\]]+|\[\d+\])$")  # the last part of a key
_MOUNT_NAME = re.compile(r"(.*)\.(?:initContainers|containers)\[\d+\]\.volumeMounts\[\d+\]\.name")

MOST_ALIKE = 3  # findings of a file with the same cause
_NAMES = re.compile(r"'[^']*'|\"[^\"]*\"|\$?\{?[A-Z][A-Z0-9_]+\}?|/\S+|\d+")


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster that a manifest is meant for."""

    kubernetes: str = ""
    """Such as 1.34; empty is the newest that is known."""
    operator: str = ""
    """Release of the MPI Operator, such as 0.6; empty asks nothing."""
    pod_security: Level = "privileged"
    examples: bool = False
    """Whether to report example names of shipped profiles; values report them where they are written."""

    def without_pod_security(self) -> Target:
        """The same cluster, at a level that forbids nothing."""
        return replace(self, pod_security="privileged")

    @property
    def schema_version(self) -> str:
        """The Kubernetes version whose schemas are used."""
        return ".".join(self.kubernetes.removeprefix("v").split(".")[:2]) or versions()[-1]

    @property
    def version(self) -> tuple[int, ...]:
        """The Kubernetes version as numbers, such as (1, 34)."""
        return version_key(self.schema_version)


def check_manifest(manifest: Manifest, target: Target | None = None) -> list[Diagnostic]:
    """Every fault of the objects in a stream of manifests, and whether there is an MPIJob at all."""
    target = target or Target()
    jobs = manifest.of_kind("MPIJob")
    wrapped = [
        one for document in manifest.documents if document not in jobs for one in _wrapped(manifest, document, target)
    ]
    faults = [*manifest.faults, *(one for found in wrapped for one in found)]
    if not jobs and not faults:
        fix = "give a manifest of kind MPIJob"
        if not any(at(document.data, "kind") for document in manifest.documents):
            fix = f"check values with -f: python generate.py check -f {manifest.source}"
        return [Diagnostic("", manifest.source, "contains no MPIJob", fix)]
    scripts = {at(one.data, "metadata", "name"): _texts(one) for one in manifest.of_kind("ConfigMap")}
    for document in manifest.documents:
        if document in jobs:
            own = _job_faults(document.data, scripts, target)
            found: Found = chain(own, _sidecar_faults(document, manifest, target))
        else:
            found = _one_a_key(_object_faults(document, jobs, target), set())
        found = _unrelated(found, [one.key for one in document.faults if one.key])
        faults += [replace(one, where=manifest.where(document, one.key)) for one in found]
    return _together(faults)


def _wrapped(manifest: Manifest, document: Document, target: Target) -> Iterator[list[Diagnostic]]:
    """Yield a note for each MPIJob within another object, with what is wrong with that MPIJob."""
    for key, inner in inner_jobs(manifest, document):
        kind = at(document.data, "kind") or "object around it"
        message = f"contains an MPIJob: kubectl apply creates the {kind}, not the job"
        note = warning(key, message, f"apply the MPIJob itself, unless a controller of the {kind} does")
        if inner.is_template:
            message = "contains a template of an MPIJob, which is not checked"
            note = warning(key, message, "render it, then python generate.py check --manifest FILE")
        found = [] if inner.is_template else check_manifest(inner, target)
        yield [replace(note, where=manifest.where(document, key)), *found]


def _together(found: list[Diagnostic]) -> list[Diagnostic]:
    """Return one finding instead of many in a file with the same cause."""
    groups: dict[tuple[str, ...], list[Diagnostic]] = {}
    for one in found:
        groups.setdefault(_cause(one), []).append(one)
    return [
        replace(one, message=f"{one.message} (and {len(group) - 1} more places)") if len(group) > MOST_ALIKE else one
        for one in found
        for group in (groups[_cause(one)],)
        if len(group) <= MOST_ALIKE or one is group[0]
    ]


def _cause(one: Diagnostic) -> tuple[str, ...]:
    """Return what findings of one cause share: an error its key and words, a warning its words without names."""
    file = re.sub(r":\d+:\d+$", "", one.where)
    if one.severity == "fault":
        return file, one.key, one.message, one.fix
    return file, _NAMES.sub("", one.message), _NAMES.sub("", one.fix)


def _one_a_key(found: Found, reported: set[str]) -> Found:
    """Only the first fault of each key not in `reported`: a value of the wrong type breaks every rule about it."""
    for one in found:
        if one.key not in reported or one.severity != "fault":
            yield one
        reported.add(one.key)


def _unrelated(found: Found, known: list[str]) -> Found:
    """Leave out what follows from a value that is reported already, since it cannot be used."""
    for one in found:
        if not any(_follows(one.key, key) for key in known):
            yield one


def _follows(key: str, known: str) -> bool:
    """Whether a fault is at or below a known one, says that its map is empty, or that a mount lacks its volume."""
    mount = _MOUNT_NAME.fullmatch(key)
    below = key == known or key.startswith((f"{known}.", f"{known}["))
    return below or key == _PART.sub("", known) or bool(mount and known.startswith(f"{mount[1]}.volumes"))


def _texts(document: Document) -> list[str]:
    data = document.data.get("data")
    return [text for text in data.values() if isinstance(text, str)] if isinstance(data, dict) else []


def needs(manifest: Manifest) -> list[str]:
    """The objects that the jobs of a stream name and do not bring, such as `ServiceAccount ada`."""
    brought = {f"{one.get('kind')} {at(one, 'metadata', 'name')}" for one in manifest.objects}
    named = [name for job in manifest.of_kind("MPIJob") for name in presumed(job.data)]
    return [name for name in dict.fromkeys(named) if name not in brought]


def _object_faults(document: Document, jobs: list[Document], target: Target) -> Found:
    """An object beside the jobs: its schema, if it is one of core/v1, its metadata, and its name."""
    yield from _identity_faults(document.data, target) if jobs else ()
    kind = at(document.data, "kind")
    for job in jobs if isinstance(kind, str) else ():
        yield from name_collisions(job.data, document.data)
    if isinstance(kind, str) and document.data.get("apiVersion") == "v1" and has_kind(kind, target.schema_version):
        yield from schema_faults(document.data, reference(kind), target.schema_version)
        written = well_typed(document.data, reference(kind), target.schema_version)
        yield from metadata_faults(written.get("metadata"), "metadata")


def _identity_faults(data: Any, target: Target) -> Found:
    """Yield what kubectl needs of every object in a stream: its kind, version and name."""
    if data is None:  # an empty document, which kubectl skips
        return
    for name, example in (("apiVersion", "v1"), ("kind", "ConfigMap")):
        if not at(data, name) or not isinstance(data[name], str):
            yield fault(name, "is missing or not text", f"write {name}: {example}, or what it is, or remove the object")
            return
    if data["apiVersion"] == "v1" and data["kind"] != "List" and not has_kind(data["kind"], target.schema_version):
        yield fault("kind", f"{data['kind']!r} is not a kind of v1", "correct kind or apiVersion")
    elif not (at(data, "metadata", "name") or at(data, "metadata", "generateName")):
        yield fault("metadata.name", "is missing", "give a name in quotes")


def _job_faults(written: Mapping[str, Any], scripts: Scripts, target: Target) -> Found:
    job = well_typed(written, MPIJOB, target.schema_version)
    reported: set[str] = set()
    yield from _one_a_key(_field_faults(written, job, target), reported)
    if target.pod_security != "privileged":
        violated = list(_security_faults(job, target))  # a field can violate several rules
        reported |= {one.key for one in violated}
        yield from violated
    yield from _one_a_key(sense_faults(job, scripts), reported)
    if target.examples:
        yield from _one_a_key(example_names(job), reported)


def _sidecar_faults(document: Document, manifest: Manifest, target: Target) -> Found:
    """A mesh that adds a sidecar to the launcher, if the pods or a Namespace of the same stream ask for it."""
    name = at(document.data, "metadata", "namespace")
    spaces = [one.data for one in manifest.of_kind("Namespace") if name and at(one.data, "metadata", "name") == name]
    job = well_typed(document.data, MPIJOB, target.schema_version)
    template = at(job, "spec", "mpiReplicaSpecs", "Launcher", "template") or {}
    if found := injection(spaces[0] if spaces else {}, template):
        mesh, cause = found
        message = f"{mesh.name} adds a sidecar ({cause}), which keeps the job open after the launcher has ended"
        yield warning(_template("Launcher"), message, opt_out(mesh, ours=False))


def _field_faults(written: Mapping[str, Any], job: Mapping[str, Any], target: Target) -> Found:
    """What the schema, the operator and the API server refuse."""
    found = list(field_faults(written, target.schema_version))
    yield from found
    yield from _unrelated(_rule_faults(job, target), [one.key for one in found if USED_TWICE not in one.message])


def _rule_faults(job: Mapping[str, Any], target: Target) -> Found:
    yield from version_faults_of(job)
    yield from metadata_faults(job.get("metadata"), "metadata")
    yield from operator_faults(job)
    yield from collision_faults(job)
    if target.operator:
        yield from version_faults(job, target.operator, target.schema_version)
    for role in ROLES:
        template = at(job, "spec", "mpiReplicaSpecs", role, "template")
        yield from template_faults(template, _template(role), VOLUMES[role])


def _template(role: str) -> str:
    return f"spec.mpiReplicaSpecs.{role}.template"


def _security_faults(job: Mapping[str, Any], target: Target) -> Found:
    """Each violation at the first field that causes it, in the words of admission."""
    for role in ROLES:
        template = at(job, "spec", "mpiReplicaSpecs", role, "template") or {}
        for violation in violations(template, target.pod_security, target.version):
            first, *more = (dotted(("spec", "mpiReplicaSpecs", role, "template", *key)) for key in violation.fields)
            others = f"; the same applies to {', '.join(more)}" if more else ""
            message = f'violates PodSecurity "{target.pod_security}": {violation.sentence}'
            yield fault(first, message, f"change it, or use a namespace at a wider level{others}")
