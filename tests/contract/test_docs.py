# SPDX-License-Identifier: Apache-2.0
"""What the documents promise: every key explained, every file of the tree named, every values file with its result."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mpikit.config.job import Job

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path for path in (ROOT / "values").glob("*.yaml") if path.stem != "user")


def test_each_key_of_default_yaml_has_a_comment_that_starts_with_its_name() -> None:
    lines = (ROOT / "values" / "default.yaml").read_text().splitlines()
    explained: set[str] = {"cpu", "memory"}  # quantities, explained by `limits` above them
    for line in lines:
        comment, key = re.match(r" *# (\w+):", line), re.match(r" {0,3}#?([\w-]+):(?: |$)", line)
        if comment:
            explained.add(comment[1])
        elif key:
            assert key[1] in explained, line


def test_default_yaml_names_every_top_level_key() -> None:
    text = (ROOT / "values" / "default.yaml").read_text()
    keys = {field.alias or name for name, field in Job.model_fields.items()}
    assert {key for key in keys if not re.search(rf"^#?{key}:", text, re.MULTILINE)} == set()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_values_file_states_its_result_time_and_hardware(path: Path) -> None:
    head = path.read_text().split("\n\n")[0] + path.read_text()[:1500]
    assert all(word in head for word in ("Expected:", "Time:", "Hardware:"))


def test_the_tree_in_the_readme_names_every_folder_in_at_most_25_lines() -> None:
    lines = (ROOT / "README.md").read_text().split("## The tree")[1].split("\n## ")[0].splitlines()
    lines = [line for line in lines if line.startswith("    ")]
    assert len(lines) <= 25
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {Path(name).parts[0] for name in listed if "/" in name and name[0].isalpha()}
    rooms = {Path(name).parts[1] for name in listed if name.startswith(("mpikit/", "vit/")) and name.count("/") > 1}
    words = {word for line in lines for word in line.split()}
    assert {f"{name}/" for name in folders | rooms} - words == set()


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
