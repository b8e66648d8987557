# SPDX-License-Identifier: Apache-2.0
"""Imports point one way, between packages and within them, and each third party has one address."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What a package or top-level module may import of its own project. docs/architecture.md explains the tables.
GROUND = {
    "resources",
    "devices",
    "trainer",
    "text",
    "errors",
    "diagnostics",
    "sidecars",
}  # all of the kit may import these
GROUND_ORDER = (
    "resources",
    "diagnostics",
    "errors",
    "text",
    "trainer",
    "devices",
    "sidecars",
)  # each imports only from its left
KIT = {
    "cli": {"*"},
    "preflight": {"config", "kube", "validation"},
    "report": set(),
    "local": {"render", "config", "supervision"},
    "supervision": set(),
    "lifecycle": {"kube", "status"},
    "status": {"kube"},
    "validation": {"config"},
    "render": {"config"},
    "config": set(),
    "kube": set(),
}
VIT_GROUND = {"errors", "variants", "scaling", "class_names", "packages", "pins"}  # no torch
VIT = {
    "train": {"training", "run", "runtime", "config"},
    "evaluate": {"training", "run", "runtime", "config"},
    "predict": {"training", "findings", "run", "data", "runtime", "model", "config", "evaluate", "files"},
    "export": {"training", "run", "images", "weights", "model", "runtime", "config", "files"},
    "node": {"runtime"},
    "supervise": {"run", "config", "files"},
    "tensorboard": {"run", "runtime", "files"},
    "training": {"findings", "run", "data", "images", "runtime", "weights", "model", "config", "files"},
    "findings": {"run", "data", "runtime", "config", "files"},
    "run": {"data", "config", "files"},
    "data": {"images", "runtime", "config", "files"},
    "images": {"runtime", "config"},
    "prepare": {"data", "images", "runtime", "files"},
    "fetch": {"runtime", "files", "model", "weights"},
    "runtime": {"config"},
    "weights": {"model"},
    "model": set(),
    "config": set(),
    "files": set(),
    **{room: set() for room in VIT_GROUND},
}
MAX_MODULES = 14  # in one folder, __init__ not counted
MAX_LEVELS = 9  # of imports, from a module that imports nothing to an entry point
ADDRESSES = {
    "jinja2": {"render"},
    "yaml": {"text"},
    "click": {"cli"},
    "pydantic": {"config", "render"},
    "kubernetes": {"kube"},
    "urllib3": {"kube"},
    "kubernetes_validate": {"validation"},
    "torch": set(),
    "vit": set(),
}


def module_name(path: Path, root: Path) -> str:
    words = path.relative_to(root).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def modules(root: Path) -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    return {module_name(path, root): path for package in ("mpikit", "vit") for path in (root / package).rglob("*.py")}


def imports_of(path: Path, known: Mapping[str, Path], *, lazy: bool = True) -> set[str]:
    """Every module that a file imports; with `lazy`, also within functions and for type checking."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found


def graph(root: Path, *, lazy: bool = True) -> dict[str, set[str]]:
    """Module -> the modules of its own project that it imports."""
    known = modules(root)
    return {name: imports_of(path, known, lazy=lazy) & known.keys() - {name} for name, path in known.items()}


def allowed(module: str, imported: str) -> bool:
    package, room = module.split(".")[0], module.split(".")[1]
    other, target = imported.split(".")[0], imported.split(".")[1]
    if package != other:
        return False
    if room == target:
        return True
    if package == "vit":
        return target in VIT_GROUND | VIT[room]
    if room in GROUND:
        return target in GROUND and GROUND_ORDER.index(target) < GROUND_ORDER.index(room)
    return target in GROUND or "*" in KIT[room] or target in KIT[room]


def faults(root: Path) -> list[str]:
    """Each import that breaks the tables."""
    return [
        f"{module} imports {imported}"
        for module, targets in graph(root).items()
        for imported in sorted(targets)
        if "." in module and "." in imported and not allowed(module, imported)
    ]


def cycle(root: Path) -> list[str]:
    try:
        list(TopologicalSorter(graph(root)).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def levels(root: Path, package: str) -> int:
    """The longest chain of imports within a package, those of functions and of type checking left out."""
    found = graph(root, lazy=False)
    edges = {name: {one for one in targets if one.startswith(package)} for name, targets in found.items()}
    depth: dict[str, int] = {}
    for name in TopologicalSorter(edges).static_order():
        depth[name] = 1 + max((depth[one] for one in edges.get(name, ())), default=0)
    return max(number for name, number in depth.items() if name.startswith(package))


def test_every_module_has_a_room() -> None:
    rooms = {tuple(name.split(".")[:2]) for name in modules(ROOT) if "." in name}
    assert {room for package, room in rooms if package == "mpikit"} <= GROUND | KIT.keys()
    assert {room for package, room in rooms if package == "vit"} <= VIT.keys()


def test_packages_import_only_what_the_tables_allow() -> None:
    assert not faults(ROOT)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not cycle(ROOT)


@pytest.mark.parametrize("package", ["mpikit", "vit"])
def test_imports_are_at_most_nine_levels_deep(package: str) -> None:
    assert levels(ROOT, package) <= MAX_LEVELS


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in modules(ROOT).values()}
    sizes = {str(folder): sum(path.name != "__init__.py" for path in folder.glob("*.py")) for folder in folders}
    assert not {folder: size for folder, size in sizes.items() if size > MAX_MODULES}


def test_nobody_imports_the_programs_for_preparation() -> None:
    users = [
        f"{module} imports {imported}"
        for module, targets in graph(ROOT).items()
        for imported in targets
        for room in ("vit.prepare", "vit.fetch")
        if imported.startswith(room) and not module.startswith(room)
    ]
    assert not users


def test_each_third_party_has_one_address() -> None:
    known = modules(ROOT)
    astray = [
        f"{name} imports {imported}"
        for name, path in known.items()
        if name.startswith("mpikit.")
        for imported in imports_of(path, known)
        if name.split(".")[1] not in ADDRESSES.get(imported.split(".")[0], {name.split(".")[1]})
    ]
    assert not astray


def test_the_ground_of_the_trainer_needs_no_torch() -> None:
    known = modules(ROOT)
    for room in ("config", "errors", "variants", "files", "supervise", "tensorboard", "node"):
        for name, path in known.items():
            if name.startswith(f"vit.{room}"):
                assert "torch" not in {one.split(".")[0] for one in imports_of(path, known)}, name


def test_rendering_imports_nothing_that_needs_a_cluster(values_root: Path) -> None:
    program = (
        "import sys\nfrom mpikit.cli.app import main\n"
        f"sys.argv = ['generate.py', '--values-root', {str(values_root)!r}, '--set', 'user=ada']\n"
        "assert main() == 0\n"
        "rooms = ('mpikit.kube', 'mpikit.lifecycle', 'mpikit.status', 'mpikit.preflight', 'mpikit.validation')\n"
        "rooms += ('kubernetes',)\n"
        "found = sorted(name for name in sys.modules if name.startswith(rooms))\n"
        "sys.exit(f'imported: {found}' if found else 0)\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


BROKEN = {
    "mpikit/config/extra.py": "from mpikit.kube.client import Cluster\n",
    "mpikit/render/deep/extra.py": "def late():\n    import mpikit.lifecycle.submit\n",
    "mpikit/text/extra.py": "from mpikit.devices import DEVICES\n",
    "vit/model/extra.py": "from vit.training import loop\n",
    "vit/data/extra.py": "import mpikit.errors\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_import_too_many_is_found(name: str, tmp_path: Path) -> None:
    """The tests above can fail: in a copy of the two packages with one more file."""
    import shutil

    for package in ("mpikit", "vit"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    extra = tmp_path / name
    extra.parent.mkdir(exist_ok=True)
    extra.write_text(BROKEN[name])
    assert len(faults(tmp_path)) == 1


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "vit" / "data").mkdir(parents=True)
    (tmp_path / "mpikit").mkdir()
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / "vit" / "data" / f"{name}.py").write_text(f"from vit.data import {other}\n")
    assert cycle(tmp_path)
