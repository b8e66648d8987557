# SPDX-License-Identifier: Apache-2.0
"""Values -> Job: every fault of the values at once, each with its place and the way to put it right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mpikit.config.identity import guess_warning
from mpikit.config.job import FOLDERS, Job
from mpikit.config.layers import Layer
from mpikit.config.rules import RULES
from mpikit.config.sections import Claim
from mpikit.config.types import Label
from mpikit.config.validation_errors import missing_fault, model_fault, written_key
from mpikit.config.values import NUM_BASE_LAYERS, Values, fill_placeholders, leaves, on_top, overridden, without
from mpikit.diagnostics import Diagnostic
from mpikit.errors import ValuesError
from mpikit.resources import EXAMPLE_CLAIMS, EXAMPLE_IMAGES
from mpikit.text.nested import dotted
from mpikit.text.strict_yaml import Document

MOST_FAULTS = 100  # reported at once; a file of something else has thousands
STAND_IN = Layer("stand-in", Document({"user": "someone"}))
"""A user in the place of one that was reported, so that the other values are still checked."""
_USER: TypeAdapter[str] = TypeAdapter(Label)


def load_job(values: Values) -> tuple[Job, list[Diagnostic]]:
    """Return the job that the values describe and the warnings about it. Raises ValuesError with every fault.

    Where a value is wrong, the rules across values are checked with what the profile says in its place.
    """
    found = _user_faults(values)
    usable = on_top(values, STAND_IN) if found else values
    job, details = _validate(usable)
    found += [*(model_fault(usable, detail) for detail in details[: MOST_FAULTS + 1]), *_shadowed_faults(usable)]
    if job is None:
        job, _ = _validate(without(usable, [written_key(usable, detail["loc"]) for detail in details]))
    faults = {fault.key: fault for fault in reversed(found)}  # the first of each key
    if job is not None:
        faults = {fault.key: fault for fault in check_rules(job, usable)} | faults
    if values.guess:
        faults["user"] = guess_warning(*values.guess)
    else_reported = {(fault.where, fault.key) for fault in values.faults}
    own = [fault for fault in faults.values() if (fault.where, fault.key) not in else_reported]
    reported = [*values.faults, *own, *(example_warnings(job, values) if job else ())]
    if job is None or any(fault.severity == "fault" for fault in reported):
        assert reported, "no job, and no fault that says why"
        raise ValuesError(_cut(sorted(reported, key=lambda fault: (fault.severity, _place(fault.where)))))
    return job, reported


def check_rules(job: Job, values: Values) -> list[Diagnostic]:
    """Return the errors and warnings of the rules across values."""
    return [
        Diagnostic(dotted(key), values.where(key), message, fix, severity)
        for rule in RULES
        for key, message, fix, severity in rule(job)
    ]


def example_warnings(job: Job, values: Values) -> Iterator[Diagnostic]:
    """Warn of the image and the claims that a shipped profile names only as examples."""
    profile = values.layers[NUM_BASE_LAYERS - 1].source

    def shipped(key: str) -> bool:
        origin = values.origin((key,))
        return origin is not None and origin.source == profile

    if job.image in EXAMPLE_IMAGES and shipped("image"):
        message = f'"{job.image}" is an example name of {profile}: no registry has this image'
        yield Diagnostic("image", values.where(("image",)), message, "--set image=REGISTRY/NAME:TAG", "warning")
    claims = {key: source.pvc for key in FOLDERS if isinstance(source := getattr(job, key, None), Claim)}
    names = {key: name for key, name in claims.items() if name in EXAMPLE_CLAIMS and shipped(key)}
    if names:
        first, examples = next(iter(names)), ", ".join(sorted({*names.values()}))
        message = f"the claims of {', '.join(names)} have example names of {profile}: {examples}"
        fix = f"--set '{first}={{pvc: NAME}}'; kubectl get pvc lists your claims"
        yield Diagnostic(first, values.where((first,)), message, fix, "warning")


def _user_faults(values: Values) -> list[Diagnostic]:
    """Return what is wrong with the user: names and paths follow from it, so it is one fault and not five."""
    user = values.data.get("user")
    if user is None:
        return [missing_fault(values, ("user",))]
    try:
        _USER.validate_python(user)
    except ValidationError as error:
        detail: Any = error.errors(include_url=False)[0]
        return [model_fault(values, {**detail, "loc": ("user",)})]
    return []


def _shadowed_faults(values: Values) -> list[Diagnostic]:
    """Return the errors of values that a later layer replaces: they appear when that layer is removed."""
    found = []
    for layer in values.layers[NUM_BASE_LAYERS:]:
        hidden = overridden(values, layer)
        if hidden is None:
            continue
        uncovered = on_top(values, hidden)
        _, details = _validate(uncovered)
        keys = {key for key, _ in leaves(hidden.document.data)}
        for detail in details:
            key = written_key(uncovered, detail["loc"])
            if any(one[: len(key)] == key or key[: len(one)] == one for one in keys):
                found.append(model_fault(uncovered, detail))
    return found


def _validate(values: Values) -> tuple[Job | None, list[Any]]:
    """Return the job, or pydantic's errors."""
    fill_placeholders(values)
    try:
        return Job.model_validate(values.data, context={"guessed": values.guess and values.from_user}), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False))


def _cut(faults: list[Diagnostic]) -> list[Diagnostic]:
    more = [Diagnostic("", "", "further errors omitted", "fix these first")] if len(faults) > MOST_FAULTS else []
    return [*faults[:MOST_FAULTS], *more]


def _place(where: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"(.*):(\d+):(\d+)", where, re.DOTALL)
    return (found[1], int(found[2]), int(found[3])) if found else (where, 0, 0)
