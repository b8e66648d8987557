# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema that editors read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mpikit.config.json_schema import values_schema
from tests.conftest import ROOT, Command

SHIPPED = sorted((ROOT / "values").glob("[!u]*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found = values_schema()
    jsonschema.Draft7Validator.check_schema(found)
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_fits_the_schema(schema: dict[str, Any], path: Path) -> None:
    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(path.read_text()))


def test_what_the_kit_takes_is_not_red_in_an_editor(schema: dict[str, Any]) -> None:
    values = {"resources": {"limits": {"cpu": 95}}, "shmSize": 5, "train": {"learning_rate": 0.1}}
    jsonschema.Draft7Validator(schema).validate(values)


@pytest.mark.parametrize("values", [{"nodez": 1}, {"nodes": "x"}, {"train": {"bogus": 1}}, {"device": "tpu"}])
def test_a_wrong_file_does_not_fit(schema: dict[str, Any], values: dict[str, Any]) -> None:
    assert not jsonschema.Draft7Validator(schema).is_valid(values)


def test_every_key_is_described(schema: dict[str, Any]) -> None:
    models = {"": schema, **schema["definitions"]}
    keys = {f"{name} {key}": field for name, model in models.items() for key, field in model["properties"].items()}
    assert [key for key, field in keys.items() if not field.get("description")] == []


@pytest.mark.parametrize(
    "values",
    [{"nodes": 0}, {"train": {"learning_rate": 0}}, {"train": {"dropout": 1}}, {"runPolicy": {"backoffLimit": -1}}],
)
def test_a_number_out_of_its_bounds_does_not_fit(schema: dict[str, Any], values: dict[str, Any]) -> None:
    assert not jsonschema.Draft7Validator(schema).is_valid(values)


def test_the_schema_beside_the_values_is_in_step(generate: Command) -> None:
    kept = (ROOT / "values" / "values.schema.json").read_text()
    assert kept == generate("schema").stdout, "python generate.py schema > values/values.schema.json"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_first_line_of_a_values_file_leads_an_editor_to_the_schema(path: Path) -> None:
    named = path.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).samefile(ROOT / "values" / "values.schema.json")


@pytest.mark.parametrize("site", ["voyager", "cpu"])
def test_so_does_that_of_the_file_that_init_writes(generate: Command, values_root: Path, site: str) -> None:
    try:
        generate("init", "--site", site, "--user", "grace")
        text = (values_root / "user.yaml").read_text()
        assert text.startswith("# yaml-language-server: $schema=values.schema.json\n# Your own values")
        assert text.count("yaml-language-server") == 1
        assert (values_root / "values.schema.json").exists()
    finally:
        (values_root / "user.yaml").unlink(missing_ok=True)
