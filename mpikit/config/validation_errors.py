# SPDX-License-Identifier: Apache-2.0
"""What pydantic found wrong with a value, in our words: where, what, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from mpikit.config.job import Job
from mpikit.config.sections import CLAIM, PATH
from mpikit.config.types import FieldError
from mpikit.config.values import Values
from mpikit.diagnostics import Diagnostic, shortened
from mpikit.text.nested import Key, dotted
from mpikit.text.quoting import shown
from mpikit.text.redaction import looks_secret

# What the old 139-line YAML and other trainers call things that have another name here.
OTHER_WORDS = {
    "replicas": "nodes",
    "num_nodes": "nodes",
    "slotsperworker": "cards",
    "batch_size": "globalBatch",
    "num_epochs": "train.num_steps",
    "epochs": "train.num_steps",
    "serviceaccount": "serviceAccountName",
    "data_path": "dataset",
    "output_dir": "output",
    "pretrained_dir": "pretrained",
    "hostnetwork": "worker: {podSpec: {hostNetwork: true}}",
    "hostpid": "worker: {podSpec: {hostPID: true}}",
}
FREE_KEYS = {"labels", "annotations", "nodeSelector", "limits", "requests"}
"""Maps whose keys are the user's, often with dots: kueue.x-k8s.io/queue-name."""
OWN_PROGRAM = {"command", "args", "script", "entrypoint", "module"}
_KINDS = {
    "model_type": ("a map", "KEY: VALUE lines below it"),
    "dict_type": ("a map", "KEY: VALUE lines below it"),
    "list_type": ("a list", "a list, one item a line after -"),
    "string_type": ("text", "text in quotes"),
}


def written_key(values: Values, loc: Key) -> Key:
    """Return the part of an error's place that the user wrote, without the names of pydantic's union members."""
    plain = without_members(loc)
    end = max((end for end in range(1, len(plain) + 1) if plain[:end] in values.origins), default=1)
    return plain[:end]


def without_members(loc: Key) -> Key:
    """Return an error's place without the names of the members of a union."""
    return tuple(part for number, part in enumerate(loc) if number == 0 or part not in (CLAIM, PATH))


def model_fault(values: Values, detail: Any) -> Diagnostic:
    """Return one of pydantic's errors as a fault."""
    loc, key = without_members(detail["loc"]), written_key(values, detail["loc"])
    origin, where = values.origin(key), values.where(key)
    if where == "--set" and isinstance(detail["input"], dict) and FREE_KEYS & {*loc[:-1]}:
        return _split_key(loc, where, detail["input"])
    match detail["type"]:
        case "extra_forbidden" if loc[-1] in OWN_PROGRAM and len(loc) <= 2:
            message = "no such key: the pods run the trainer of this project, and no other program is supported"
            fix = "set its flags below train:, or run another program from the MPIJob that --out DIR writes"
            return Diagnostic(dotted(loc), values.where(loc), message, fix)
        case "extra_forbidden":
            return Diagnostic(dotted(loc), values.where(loc), "no such key", _nearest(loc))
        case "missing":
            return missing_fault(values, loc)
    if PATH in detail["loc"] and detail["type"] == "string_type":
        fix = "write a path that starts with /, or {pvc: NAME, subPath: FOLDER}"
        return Diagnostic(dotted(key), where, f"{_kind(detail['input'])} is not a valid folder", fix)
    if origin and origin.plain and detail["type"] == "string_type" and not isinstance(detail["input"], (dict, list)):
        kind = "boolean" if isinstance(detail["input"], bool) else "number"
        message = f"YAML reads {origin.raw} as a {kind}, but text is needed"
        return Diagnostic(dotted(key), where, message, f'write "{origin.raw}"')
    return Diagnostic(dotted(loc if len(loc) > len(key) else key), where, _said(detail), _fix_for(detail))


def _split_key(loc: Key, where: str, inner: Any) -> Diagnostic:
    """Return a key of --set that dots have cut: labels.kueue.x-k8s.io/queue-name."""
    start = next(number for number, part in enumerate(loc) if part in FREE_KEYS) + 1
    words = [str(part) for part in loc[start:]]
    while isinstance(inner, dict) and len(inner) == 1:
        word, inner = next(iter(inner.items()))
        words.append(str(word))
    cut = ".".join(words).replace(".", "\\.")
    value = inner if isinstance(inner, str) else "VALUE"
    fix = f"write --set '{dotted(loc[:start])}.{cut}={value}'"
    return Diagnostic(dotted(loc), where, "each dot of --set starts a new level, and this key contains dots", fix)


def missing_fault(values: Values, loc: Key) -> Diagnostic:
    """Report a value that is not set."""
    return Diagnostic(dotted(loc), values.where(loc), "is missing", f"set {dotted(loc)}")


def _said(detail: Any) -> str:
    given = detail["input"]
    value = _kind(given)
    message = str(detail["msg"])
    match detail["type"]:
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"{value} is not a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return f"{value} is not a number"
        case "bool_parsing" | "bool_type":
            return f"{value} is neither true nor false"
        case "greater_than_equal" | "greater_than":
            return f"{value} is too small"
        case "less_than_equal" | "less_than":
            return f"{value} is too large"
        case "literal_error":
            return f"{value} is not one of the choices"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "model_type" | "dict_type" | "list_type" | "string_type":
            return f"is {_kind(given)}, but {_KINDS[detail['type']][0]} is needed"
        case _:
            return f"{value}: {message[0].lower()}{message[1:]}"


def _kind(value: Any) -> str:
    """Return what a value is to a reader of YAML, shortened if it is long."""
    match value:
        case dict():
            return "a map"
        case list():
            return "a list"
        case str():
            return shown(value)
        case bool():
            return str(value).lower()
        case None:
            return "null"
    return shortened(str(value), 80)


def _fix_for(detail: Any) -> str:
    context = detail.get("ctx", {})
    error = context.get("error")
    if form := _form(without_members(detail["loc"]), detail["input"], detail["type"]):
        return f"write {form}"
    match detail["type"]:
        case "value_error" if isinstance(error, FieldError):
            return error.fix
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return "write a whole number, such as 8"
        case "float_parsing" | "float_type" | "finite_number":
            return "write a number, such as 0.03"
        case "bool_parsing" | "bool_type":
            return "write true or false"
        case "greater_than_equal" | "less_than_equal":
            return f"write {context['ge']} or more" if "ge" in context else f"write {context['le']} or less"
        case "greater_than" | "less_than":
            return f"write more than {context['gt']}" if "gt" in context else f"write less than {context['lt']}"
        case "literal_error":
            return f"one of {context['expected']}"
        case kind:
            return f"write {_KINDS[kind][1] if kind in _KINDS else 'a value as values/default.yaml explains it'}"


def _form(loc: Key, given: Any, kind: str) -> str:
    """Return env and imagePullSecrets in the form of Kubernetes, without secrets; "" for other values."""
    names = [given] if isinstance(given, str) and len(loc) < 3 else []
    match loc[0], kind:
        case "env", "list_type" if isinstance(given, dict):
            items = (f"{{name: {name}, value: {_value_of(name, value)}}}" for name, value in given.items())
            return shortened(f"env: [{', '.join(items)}]", 200)
        case "env", "model_type" if names and "=" in given:
            name, _, value = given.partition("=")
            return shortened(f"{{name: {name}, value: {_value_of(name, value)}}}", 200)
        case "imagePullSecrets", "list_type" if names and given:
            return f"imagePullSecrets: [{{name: {shortened(given, 80)}}}]"
        case "imagePullSecrets", "model_type" | "dict_type" if names and given:
            return f"{{name: {shortened(given, 80)}}}"
    return ""


def _value_of(name: Any, value: Any) -> str:
    """Return the value of a variable in double quotes; only its name if it looks like a secret."""
    if isinstance(value, (dict, list)) or looks_secret(str(name)):
        return "VALUE"
    return shown(str(value).lower() if isinstance(value, bool) else "" if value is None else str(value))


def _nearest(loc: Key) -> str:
    """Return the nearest known key at the place of an unknown one."""
    names = _names_at(loc[:-1])
    word = str(loc[-1])
    if word.lower() in OTHER_WORDS:
        return f"write {OTHER_WORDS[word.lower()]}"
    elsewhere = [dotted((*prefix, word)) for prefix in _sections() if word in _names_at(prefix) and prefix != loc[:-1]]
    if elsewhere:
        return f"write {' or '.join(elsewhere)}"
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    nearest = next((name for name in names if near and name.lower() == near[0]), None)
    if nearest:
        return f"did you mean {dotted((*loc[:-1], nearest))}?"
    return f"known here: {', '.join(sorted(names))}"


def _sections(model: type[BaseModel] = Job, prefix: Key = ()) -> Iterator[Key]:
    """Return the places of keys: the top of a file, and below each key whose value is always a map."""
    yield prefix
    for name, field in model.model_fields.items():
        if _is_model(field.annotation):
            yield from _sections(field.annotation, (*prefix, field.alias or name))  # type: ignore[arg-type]


def _names_at(prefix: Key) -> list[str]:
    """Return the keys that the model knows below `prefix`."""
    model: type[BaseModel] = Job
    for part in prefix:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part in fields:
            inner = fields[str(part)].annotation
            model = next((item for item in (inner, *_members(inner)) if _is_model(item)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _members(annotation: Any) -> Iterator[Any]:
    for item in get_args(annotation):
        yield item
        yield from _members(item)


def _is_model(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)
