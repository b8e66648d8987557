# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of a values file, for editors: values/values.schema.json is what it gives."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from mpikit.config import job as job_module
from mpikit.config import sections as parts_module
from mpikit.config.job import Job

DIALECT = "http://json-schema.org/draft-07/schema#"  # what the YAML language server reads
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def values_schema() -> dict[str, Any]:
    """Return the Draft-07 schema of one values file: files are layers, so no key is required, and null is allowed."""
    schema = Job.model_json_schema(ref_template="#/definitions/{model}")
    models = {"Job": schema, **schema.pop("$defs", {})}
    descriptions = _descriptions()
    for name, model in models.items():
        _describe(model, descriptions.get(name, {}))
        model.pop("required", None)
    definitions = {name: model for name, model in sorted(models.items()) if name != "Job"}
    found: dict[str, Any] = _bounded(schema | {"title": "Values of an MPIJob", "definitions": definitions})
    return {"$schema": DIALECT, **found}


def _bounded(part: Any) -> Any:
    """Return the same with bounds under JSON Schema's names; pydantic leaves its own behind a validator of ours."""
    match part:
        case dict():
            return {_BOUNDS.get(name, name): _bounded(item) for name, item in part.items()}
        case list():
            return [_bounded(item) for item in part]
    return part


def _describe(model: dict[str, Any], descriptions: dict[str, str]) -> None:
    for name, field in model.get("properties", {}).items():
        text = descriptions.get(name) or descriptions.get(_snake(name))
        wrapped = {"anyOf": [field, {"type": "null"}]} if "$ref" in field or "type" in field else field
        model["properties"][name] = wrapped | ({"description": text} if text else {})


def _snake(name: str) -> str:
    known = {field.alias: key for key, field in Job.model_fields.items()}
    return known.get(name) or "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


def _descriptions() -> dict[str, dict[str, str]]:
    """Return the docstring below each field of each model; reading them with pydantic would slow every rendering."""
    found: dict[str, dict[str, str]] = {}
    for module in (parts_module, job_module):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                inherited = [found.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
                found[node.name] = {
                    name: text for texts in (*inherited, _docstrings(node)) for name, text in texts.items()
                }
    return found


def _docstrings(model: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in zip(model.body, model.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
