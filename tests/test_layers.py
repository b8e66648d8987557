# SPDX-License-Identifier: Apache-2.0
"""Imports point one way, and third parties live at one address."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# From the top down: a module imports only from lines below its own.
LAYERS = (
    ("generate",),
    ("verbs", "chores"),
    ("options",),
    ("doctor",),
    ("probe",),
    ("placement",),
    ("logs", "submission", "waiting", "deletion", "display", "premises"),
    ("loglines",),
    ("status",),
    ("obstacles",),
    ("outcome",),
    ("snapshot",),
    ("ownership",),
    ("api",),
    ("cluster",),
    ("answers",),
    ("manifest", "blame"),
    ("pods", "mpijob", "sense"),
    ("injected",),
    ("podcontainers",),
    ("podresources", "podsecurity", "podrights", "podvolumes"),
    ("podnames",),
    ("kubeschema",),
    ("capacity",),
    ("objects",),
    ("local", "files", "schema", "summary", "refusals"),
    ("folders", "supervision"),
    ("render",),
    ("tasks",),
    ("load", "published"),
    ("wording", "rules"),
    ("payload", "values", "job"),
    ("parts",),
    ("reader", "fields", "profiles"),
    ("terminal",),
    ("quoting", "progress", "redaction", "durations", "nonroot", "quantities", "scalars", "sources"),
    ("errors",),
)
ADDRESSES = {
    "jinja2": {"render"},
    "yaml": {"reader", "scalars"},
    "click": {"chores", "generate", "options", "verbs"},
    "pydantic": {"fields", "parts", "job", "wording", "load", "render", "tasks"},
    "kubernetes": {"cluster"},
    "kubernetes_validate": {"kubeschema"},
    "urllib3": {"cluster"},
    "torch": set(),
    "vit": set(),
}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at its top or within a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module in ("mpikit", "vit") else {node.module}
    return found


def kit_files() -> dict[str, Path]:
    return {path.stem: path for path in [*(ROOT / "mpikit").glob("[a-z]*.py"), ROOT / "generate.py"]}


def test_every_module_of_the_kit_has_a_layer() -> None:
    assert set(kit_files()) == {name for layer in LAYERS for name in layer}


def test_modules_import_only_from_layers_below() -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upward = [
        f"{name} imports {imported}"
        for name, path in kit_files().items()
        for imported in imports_of(path)
        if imported.startswith("mpikit.") and level[imported.split(".")[1]] <= level[name]
    ]
    assert not upward


def test_each_third_party_has_one_address() -> None:
    astray = [
        f"{name} imports {imported}"
        for name, path in kit_files().items()
        for imported in imports_of(path)
        if name not in ADDRESSES.get(imported.split(".")[0], {name})
    ]
    assert not astray


def test_the_trainer_imports_nothing_of_the_kit() -> None:
    astray = [path.name for path in (ROOT / "vit").rglob("*.py") if any("mpikit" in name for name in imports_of(path))]
    assert not astray
