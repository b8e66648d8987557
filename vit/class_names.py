# SPDX-License-Identifier: Apache-2.0
"""Class names of two data sets: which are the same, and what to say of the others."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MOST_NAMES = 3  # shown in a sentence


@dataclass(frozen=True, slots=True)
class Match:
    """Each class of the data set with the checkpoint's number of it."""

    numbers: dict[str, int]
    renamed: dict[str, str]
    """Names that the checkpoint writes in another form, such as 3 for 003."""
    unknown: list[str]
    """Names that the checkpoint does not have."""


def match_names(found: Sequence[str], known: Sequence[str]) -> Match:
    """Match by name, then by form: Unicode's composed letters, and numbers by their value."""
    numbers = {name: number for number, name in enumerate(known)}
    spare = [name for name in known if name not in set(found)]
    counted = Counter(_form(name) for name in spare)
    forms = {_form(name): name for name in spare if counted[_form(name)] == 1}
    asked = Counter(_form(name) for name in found if name not in numbers)
    renamed = {
        name: forms[_form(name)]
        for name in found
        if name not in numbers and _form(name) in forms and asked[_form(name)] == 1
    }
    exact = {name: numbers[name] for name in found if name in numbers}
    unknown = [name for name in found if name not in numbers and name not in renamed]
    return Match({**exact, **{name: numbers[other] for name, other in renamed.items()}}, renamed, unknown)


def _form(name: str) -> str:
    """Return the name in composed letters; of a number, its value."""
    plain = unicodedata.normalize("NFC", name)
    return str(int(plain)) if plain.isascii() and plain.isdecimal() and len(plain) < 20 else plain


def by_position(names: Sequence[str], path: str) -> str:
    """Return the note for weights that do not name their classes."""
    text = (
        f"classes: {path} does not name its classes; class i of the data, sorted by name, is output i ({len(names):,})"
    )
    misplaced = [number for number, name in enumerate(names) if _form(name).isdecimal() and _form(name) != str(number)]
    if misplaced and all(_form(name).isdecimal() for name in names):
        number = misplaced[0]
        text += f'; the names are numbers sorted as text: output {number} is "{names[number]}"'
    return text


def difference(found: Sequence[str], known: Sequence[str]) -> str:
    """Return how the data's class names differ from a checkpoint's, as the end of a sentence."""
    new, gone = [name for name in found if name not in set(known)], [name for name in known if name not in set(found)]
    parts = [f"{len(new):,} new: {quoted(new)}"] if new else []
    parts += [f"{len(gone):,} absent: {quoted(gone)}"] if gone else []
    return "; ".join(parts) or "the same names in another order"


def quoted(names: Sequence[str]) -> str:
    """Return the first few names and the count of the others."""
    shown = ", ".join(f'"{name}"' for name in names[:MOST_NAMES])
    left = len(names) - MOST_NAMES
    return f"{shown} and {left:,} more" if left > 0 else shown
