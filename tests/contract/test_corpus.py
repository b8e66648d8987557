# SPDX-License-Identifier: Apache-2.0
"""Manifests in the shapes of public ones: `check --manifest` gives each its verdict, in the order of the findings.

The first comments of a file say what is expected: `# expect: ok`, or a line `# expect: SEVERITY KEY` for each finding.
Files without comments have theirs below.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Command

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.iterdir())
JSON = {
    "job.json": ["fault spec.mpiReplicaSpecs.Launcher.template.spec.containers[0].command"],
    "list.json": ["warning metadata.uid"],
}
MOST_LINES = 3  # with one cause


def expected(path: Path) -> list[str]:
    """The findings that a file announces, as `SEVERITY KEY`; none for `ok`."""
    if path.name in JSON:
        return JSON[path.name]
    lines = [line.removeprefix("# expect: ") for line in path.read_text().splitlines() if line.startswith("# expect: ")]
    assert lines, f"{path.name} announces nothing"
    return [] if lines == ["ok"] else lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_manifest_gets_its_verdict(generate: Command, path: Path) -> None:
    done = generate("check", "--manifest", str(path), "-o", "json")
    found = json.loads(done.stdout)
    assert sorted(f"{one['severity']} {one['key']}".strip() for one in found) == sorted(expected(path)), found
    assert done.returncode == (1 if any(one["severity"] == "fault" for one in found) else 0)


def test_no_cause_takes_many_lines(generate: Command) -> None:
    words = [word for path in FILES for word in ("--manifest", str(path))]
    by_file: dict[tuple[str, str], int] = {}
    for one in json.loads(generate("check", *words, "-o", "json").stdout):
        cause = (one["where"].split(":")[0], one["fix"])
        by_file[cause] = by_file.get(cause, 0) + 1
    assert {cause: count for cause, count in by_file.items() if count > MOST_LINES} == {}


def test_the_corpus_is_large() -> None:
    assert len(FILES) >= 60
