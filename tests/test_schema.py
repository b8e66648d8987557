"""The JSON Schema that editors read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mpikit.schema import values_schema

SHIPPED = sorted((Path(__file__).resolve().parent.parent / "values").glob("[!u]*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found = values_schema()
    jsonschema.Draft7Validator.check_schema(found)
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_fits_the_schema(schema: dict[str, Any], path: Path) -> None:
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("values", [{"nodez": 1}, {"nodes": "x"}, {"train": {"bogus": 1}}, {"device": "tpu"}])
def test_a_wrong_file_does_not_fit(schema: dict[str, Any], values: dict[str, Any]) -> None:
    assert not jsonschema.Draft7Validator(schema).is_valid(values)


def test_every_top_level_key_is_described(schema: dict[str, Any]) -> None:
    assert [name for name, field in schema["properties"].items() if not field.get("description")] == []
