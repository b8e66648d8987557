# SPDX-License-Identifier: Apache-2.0
"""What the pages promise: keys explained, links that lead somewhere, commands that exist, results of values files."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mpikit.cli.app import cli
from mpikit.cli.context import CommandContext
from mpikit.config.job import Job

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path for path in (ROOT / "values").glob("*.yaml") if path.stem != "user")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / ".github").glob("**/*.md")])
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
INFO = ("sh", "sh cluster", "sh machine", "text", "yaml", "python", "json", "mermaid")
"""`sh` runs in tests/integration/local/test_readme.py; the others of sh need a cluster, or change the machine."""
README_LINES = 130


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


def test_the_tree_in_the_architecture_names_every_folder_in_at_most_25_lines() -> None:
    lines = (ROOT / "docs/architecture.md").read_text().split("## The tree")[1].split("\n## ")[0].splitlines()
    lines = [line for line in lines if line.startswith("    ")]
    assert len(lines) <= 25
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {Path(name).parts[0] for name in listed if "/" in name and name[0].isalpha()}
    rooms = {Path(name).parts[1] for name in listed if name.startswith(("mpikit/", "vit/")) and name.count("/") > 1}
    words = {word for line in lines for word in line.split()}
    assert {f"{name}/" for name in folders | rooms} - words == set()


def test_the_generated_pages_equal_their_sources() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_places_state_the_newest_version_of_the_changelog() -> None:
    newest = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert f'\nversion = "{newest}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {newest}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


BLOCKS = re.findall(r"^python generate\.py (init .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", BLOCKS)
def test_the_values_that_the_readme_makes_for_a_cluster_are_valid(command: str, tmp_path: Path) -> None:
    root = tmp_path / "values"
    shutil.copytree(ROOT / "values", root, ignore=shutil.ignore_patterns("user.yaml"))
    for words in (command.split(), ["check", "--nodes", "2"]):  # `check` raises SystemExit for an error
        cli.main([*words, "--values-root", str(root)], obj=CommandContext(), standalone_mode=False)


def test_each_block_of_the_readme_for_a_cluster_has_five_lines() -> None:
    section = (ROOT / "README.md").read_text().split("## On your cluster")[1]
    blocks = [block for info, block in FENCE.findall(section) if info == "sh cluster"]
    assert [len(block.splitlines()) for block in blocks] == [5] * len(BLOCKS) == [5] * 4


def links(page: Path) -> list[str]:
    """The relative targets of a page's links and pictures, outside of its blocks."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    return re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_each_page_is_at_most_two_links_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    for _ in range(2):
        found = {(page.parent / link.split("#")[0]).resolve() for page in reached for link in links(page)}
        reached |= {page for page in found if page.suffix == ".md"}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {page.name for page in reached} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_are_in_marked_blocks_and_exist(page: Path) -> None:
    text = page.read_text()
    for info, block in FENCE.findall(text):
        assert info in INFO, f"{info}: mark the block as one of {', '.join(INFO)}"
        for line in block.splitlines() if info.startswith("sh") else ():
            assert_exists(line)
    assert not re.findall(r"^ *(?:python3? generate\.py|scripts/\w+) .*", FENCE.sub("", text), re.MULTILINE)


def assert_exists(line: str) -> None:
    """Parse a line for generate.py as the program does, and look for a script of scripts/."""
    words = shlex.split(re.split(r" [|>] ", line)[0], comments=True)
    script = next((word for word in words if word.startswith("scripts/")), None)
    assert script is None or (ROOT / script).exists(), line
    if "generate.py" not in words or "$(" in line:
        return
    words = words[words.index("generate.py") + 1 :]
    at = next((number for number, word in enumerate(words) if word in cli.commands), len(words))
    try:
        group = cli.make_context("generate.py", words[:at], obj=CommandContext())
        if words[at:]:
            verb = cli.commands[words[at]]
            assert not verb.make_context(words[at], words[at + 1 :], parent=group).args, line
    except click.exceptions.Exit:  # --version and --help
        return
    except click.ClickException as error:
        pytest.fail(f"{line}: {error.format_message()}")


def test_the_picture_of_the_report_shows_the_page_as_it_is_now() -> None:
    found = runpy.run_path(str(ROOT / "scripts" / "picture.py"))
    said = "the page of report has changed: run scripts/demo, then .venv/bin/python scripts/picture.py"
    assert found["MARK"].read_text().strip() == found["page_mark"](), said
