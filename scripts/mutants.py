# SPDX-License-Identifier: Apache-2.0
"""Mutation testing: mutmut changes a module in many small ways, and runs the tests of the kit that call what changed.

python scripts/mutants.py quoting values --seconds 400

Texts are left alone: a message may be worded in many ways. So are tables and patterns, which mutmut does not change.
What is known lies in build/mutants/MODULE; a run goes on where the last one stopped, and ends with what survives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
_MANIFEST_TESTS = ("validation/test_manifest_rules", "validation/test_pod")
_LAYER_TESTS = ("config/test_layers", "config/test_layer_order")
_YAML_TESTS = ("text/test_strict_yaml", "text/test_strict_yaml_faults")
# The fast tests in tests/unit that say what a module does.
TESTS: dict[str, tuple[str, ...]] = {
    "text/quoting": ("../fuzz/test_quoting",),
    "text/strict_yaml": _YAML_TESTS,
    "text/yaml_scalars": _YAML_TESTS,
    "text/input": _LAYER_TESTS,
    "config/layers": _LAYER_TESTS,
    "config/profiles": _LAYER_TESTS,
    "config/values": _LAYER_TESTS,
    "validation/manifest": _MANIFEST_TESTS,
    "validation/mpijob": _MANIFEST_TESTS,
    "validation/lint": _MANIFEST_TESTS,
    "validation/pod_security": ("validation/test_pod_security",),
    "validation/resources": _MANIFEST_TESTS,
    "validation/pod": _MANIFEST_TESTS,
    "validation/containers": _MANIFEST_TESTS,
    "validation/volumes": _MANIFEST_TESTS,
    "validation/field_checks": _MANIFEST_TESTS,
    "validation/schema": ("validation/test_schema", *_MANIFEST_TESTS),
}
SETTINGS = """
[tool.mutmut]
source_paths = ["mpikit"]
only_mutate = ["mpikit/{module}.py"]
also_copy = ["generate.py", "mpikit", "scripts", "templates", "values", "vit"]
pytest_add_cli_args = ["-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = {tests}
"""
# mutmut, without its changes to texts.
MUTMUT = """
import libcst
from mutmut.mutation import mutators
mutators.mutation_operators[:] = [one for one in mutators.mutation_operators if one[0] is not libcst.BaseString]
from mutmut.__main__ import cli
cli()
"""
SURVIVED, UNTESTED = (0, 33)  # mutmut's codes: all tests passed, no test came by


def copy_of_the_tree(module: str) -> Path:
    """A copy of the working tree with mutmut's settings for one module; what is known of its mutants stays."""
    folder = WORK / module
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    tests = json.dumps([f"tests/unit/{name}.py" for name in TESTS[module]])
    with (folder / "pyproject.toml").open("a") as file:
        file.write(SETTINGS.format(module=module, tests=tests))
    return folder


def mutmut(folder: Path, *words: str, seconds: float | None = None) -> str:
    """What a command of mutmut prints; it is stopped after so many seconds, and then has kept what it knows."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", MUTMUT, *words]
    with subprocess.Popen(
        command, cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return ""


def known(folder: Path, module: str) -> dict[str, Any]:
    """mutmut's own notes on the mutants of a module."""
    path = folder / "mutants" / "mpikit" / f"{module}.py.meta"
    return dict(json.loads(path.read_text())) if path.exists() else {"exit_code_by_key": {}}


def forget_survivors(folder: Path, module: str) -> None:
    """Let survivors be tried once more, for tests that have changed."""
    notes = known(folder, module)
    codes = notes["exit_code_by_key"]
    notes["exit_code_by_key"] = {name: None if code in (SURVIVED, UNTESTED) else code for name, code in codes.items()}
    (folder / "mutants" / "mpikit" / f"{module}.py.meta").write_text(json.dumps(notes))


def report(folder: Path, module: str) -> str:
    """How many mutants were killed, and each survivor as the lines that it changes."""
    codes = known(folder, module)["exit_code_by_key"]
    left = [name for name, code in codes.items() if code in (SURVIVED, UNTESTED)]
    untried = sum(code is None for code in codes.values())
    tried = len(codes) - untried
    share = 100 * (tried - len(left)) / max(tried, 1)
    lines = [f"{module}: {tried - len(left)} of {tried} killed, {share:.1f} %; {untried} not tried yet"]
    for name in left:
        shown = mutmut(folder, "show", name).splitlines()
        changes = [line for line in shown if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))]
        lines += [f"  {name.rpartition('.')[2]}", *(f"    {line}" for line in changes)]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Change a module in small ways; some test must notice each.")
    parser.add_argument("modules", nargs="+", choices=TESTS, metavar="MODULE", help=f"one of {', '.join(TESTS)}")
    parser.add_argument(
        "--seconds", type=float, default=None, help="stop each module after so long; run it again later"
    )
    parser.add_argument("--again", action="store_true", help="try survivors again: the tests have changed")
    options = parser.parse_args()
    for module in options.modules:
        folder = copy_of_the_tree(module)
        if options.again:
            forget_survivors(folder, module)
        (folder / "log").write_text(mutmut(folder, "run", "--max-children", "2", seconds=options.seconds))
        print(report(folder, module), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
