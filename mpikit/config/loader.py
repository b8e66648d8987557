# SPDX-License-Identifier: Apache-2.0
"""Values -> Job: every fault of the values at once, each with its place and the way to put it right."""

from __future__ import annotations

import re

from pydantic import ValidationError

from mpikit.config.job import Job
from mpikit.config.layers import LOGIN, Layer, Values, fill_placeholders, merge, take_out
from mpikit.config.rules import MISSING, RULES
from mpikit.config.validation_errors import login_fault, missing_fault, model_fault, written_key
from mpikit.diagnostics import Fault
from mpikit.errors import ValuesError
from mpikit.text.nested import dotted
from mpikit.text.strict_yaml import Document

MOST_FAULTS = 100  # told at once; a file of something else has thousands


def load_job(values: Values) -> tuple[Job, list[Fault]]:
    """The job that the values describe and the warnings about it; ValuesError with every fault otherwise.

    A value that cannot be read is reported, then taken out of `values`, so that the rules across values are still
    checked with what the layers below say.
    """
    faults: dict[str, Fault] = {}  # the first of each key: what follows from a fault is not told as one of its own
    job: Job | None = None
    while job is None:
        job, found = _validate(values)
        fresh = {fault.key: fault for fault in reversed(found) if fault.key not in faults}
        faults |= fresh
        if job is None and not fresh:
            break
    if job is not None:
        faults = {fault.key: fault for fault in check_rules(job, values)} | faults
    told = [*values.faults, *faults.values()]
    if job is None or any(fault.severity == "fault" for fault in told):
        assert told, "no job, and no fault that says why"
        told.sort(key=lambda fault: (fault.severity, _place(fault.where)))
        more = [Fault("", "", "more faults are not told", "mend these first")] if len(told) > MOST_FAULTS else []
        raise ValuesError([*told[:MOST_FAULTS], *more])
    return job, told


def check_rules(job: Job, values: Values) -> list[Fault]:
    """Faults and warnings across values."""
    return [
        missing_fault(values, key)
        if message == MISSING and str(key[0]) in values.reset
        else Fault(dotted(key), values.where(key), message, fix, severity)
        for rule in RULES
        for key, message, fix, severity in rule(job)
    ]


def _place(where: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"(.*):(\d+):(\d+)", where, re.DOTALL)
    return (found[1], int(found[2]), int(found[3])) if found else (where, 0, 0)


def _validate(values: Values) -> tuple[Job | None, list[Fault]]:
    """One try at the model; on failure the values at fault are taken out of `values`."""
    if values.data.get("user") == "root" and values.where(("user",)) == LOGIN:
        _stand_in(values)
        return None, [login_fault("root")]
    fill_placeholders(values)
    try:
        return Job.model_validate(values.data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    wrong_user = [detail for detail in details if detail["loc"] == ("user",)]
    if wrong_user:  # names and paths follow from it: one fault, not five
        faults = [model_fault(values, detail) for detail in wrong_user]
        _stand_in(values)
        return None, faults
    if any(detail["loc"] == ("device",) for detail in details):  # what an unknown device would give is not missing
        details = [detail for detail in details if detail["type"] != "missing" or detail["loc"] == ("device",)]
    faults = [model_fault(values, detail) for detail in details[: MOST_FAULTS + 1]]
    take_out(values, [written_key(values, detail["loc"]) for detail in details])
    return None, faults


def _stand_in(values: Values) -> None:
    """Put some user in the place of one that was reported, so that the other values are still checked."""
    for layer in values.layers:
        if isinstance(layer.document.data, dict):
            layer.document.data.pop("user", None)
    values.layers.insert(1, Layer("stand-in", Document({"user": "someone"}, {})))
    merged = merge(values.layers)
    values.data, values.origins = merged.data, merged.origins
