"""The JSON Schema of a values file, for editors."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from mpikit import job as job_module
from mpikit.job import Job

DIALECT = "http://json-schema.org/draft-07/schema#"  # what the YAML language server reads


def values_schema() -> dict[str, Any]:
    """Draft-07 schema of one values file: no key required, because files are laid over each other, and null allowed."""
    schema = Job.model_json_schema(ref_template="#/definitions/{model}")
    models = {"Job": schema, **schema.pop("$defs", {})}
    for name, model in models.items():
        _describe(model, _descriptions().get(name, {}))
        model.pop("required", None)
    definitions = {name: model for name, model in sorted(models.items()) if name != "Job"}
    return {"$schema": DIALECT, **schema, "title": "Values of an MPIJob", "definitions": definitions}


def _describe(model: dict[str, Any], descriptions: dict[str, str]) -> None:
    for name, field in model.get("properties", {}).items():
        text = descriptions.get(name) or descriptions.get(_snake(name))
        wrapped = {"anyOf": [field, {"type": "null"}]} if "$ref" in field or "type" in field else field
        model["properties"][name] = wrapped | ({"description": text} if text else {})


def _snake(name: str) -> str:
    known = {field.alias: key for key, field in Job.model_fields.items()}
    return known.get(name) or "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


def _descriptions() -> dict[str, dict[str, str]]:
    """The docstring below each field of each model. Read here and not by pydantic, which would slow every rendering."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(job_module)).body:
        if isinstance(node, ast.ClassDef):
            pairs = zip(node.body, node.body[1:], strict=False)
            found[node.name] = {
                field.target.id: inspect.cleandoc(text.value.value)
                for field, text in pairs
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return found
