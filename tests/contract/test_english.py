# SPDX-License-Identifier: Apache-2.0
"""Messages are plain English: none of the turns of phrase that the style guide bans stands in a text for people."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BANNED = {
    r"(?<!there )\b(is|are) no\b": "is not a valid X",
    r"\btold\b": "reported, printed or asked",
    r"\bmend\b": "fix",
    r"\b(nobody|somebody)\b": "name the actor",
    r"\bNone\b": "say what is missing",
    r"\bholds (no|an?|the|what|\.\.)\b": "contains",
    r"\b(thrown?|threw) out\b": "evicted or rejected",
    r"\btakes? apart\b": "interprets",
    r"\bwho has one\b": "if you have one",
    r"\bis none\b": "is not a X",
    r"\bof (its|ones|one's|their) own\b": "its own X",
    r"\b(is|are) not for you to\b": "you are not allowed to",
    r"\b(chore|obstacle)s?\b": "task, reason",
    r"\bno way out\b": "no outbound network access",
    r"<class '": "name the type in words",
}
"""Pattern -> what to write instead."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Each string literal with a blank in it, and its line; docstrings are not messages."""
    tree = ast.parse(source)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in docstrings:
            continue
        if isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def findings(source: str) -> list[str]:
    """Each banned phrase, with what to write instead."""
    return [
        f"{line}: {found[0]!r} in {text.strip()[:80]!r}: {better}"
        for line, text in texts(source)
        for pattern, better in BANNED.items()
        if (found := re.search(pattern, text))
    ]


def files() -> list[Path]:
    paths = [ROOT / "generate.py", *(ROOT / "mpikit").rglob("*.py"), *(ROOT / "vit").rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in paths)


def test_messages_use_the_words_of_the_style_guide() -> None:
    found = {path: findings((ROOT / path).read_text()) for path in files()}
    assert [f"{path}:{one}" for path, lines in found.items() for one in lines] == []


def test_the_patterns_find_what_they_are_for() -> None:
    text = 'raise E(f"{x} is no number", "the folder holds no files")\nx = "is no"\n"""told"""\n# nobody told\n'
    assert [line.partition(":")[0] for line in sorted(findings(text))] == ["1", "1", "2"]
