# SPDX-License-Identifier: Apache-2.0
"""Class names: those of a data set matched with those that a checkpoint was trained on. Needs no torch."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vit.config import ClassChoice
from vit.errors import ConfigError
from vit.sources import Picture, Source

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
    """The name in composed letters; of a number, its value."""
    plain = unicodedata.normalize("NFC", name)
    return str(int(plain)) if plain.isascii() and plain.isdecimal() and len(plain) < 20 else plain


class RenumberedSource:
    """A source whose labels are the checkpoint's numbers of the classes."""

    def __init__(self, source: Source, numbers: Sequence[int], class_names: list[str]) -> None:
        self.source, self.numbers, self.class_names = source, numbers, class_names

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> Picture:
        """The source's image."""
        return self.source.image(index)

    def label(self, index: int) -> int:
        """The checkpoint's number of the image's class."""
        return self.numbers[self.source.label(index)]

    def where(self, index: int) -> str:
        """The source's name of the image."""
        return self.source.where(index)

    def fingerprint(self) -> int:
        """The source's."""
        return self.source.fingerprint()


def listed(source: Source) -> Source:
    """The source as it lists its own classes."""
    return source.source if isinstance(source, RenumberedSource) else source


def renumbered(source: Source, known: list[str], choice: ClassChoice, checkpoint: str) -> tuple[Source, list[str]]:
    """The source with the checkpoint's numbers of its classes, and sentences on the match. Raises ConfigError."""
    if source.class_names == known:
        return source, []
    match = match_names(source.class_names, known)
    _check(match, known, choice, checkpoint)
    numbers = [match.numbers[name] for name in source.class_names]
    return RenumberedSource(source, numbers, known), list(_sentences(match, numbers, known))


def _check(match: Match, known: list[str], choice: ClassChoice, checkpoint: str) -> None:
    if match.unknown:
        total = len(match.unknown) + len(match.numbers)
        what = (
            f"{len(match.unknown)} of its {total:,} classes are unknown to {checkpoint}: {quoted(match.unknown)}; "
            f"the checkpoint has {len(known):,}: {quoted(known)}"
        )
        fix = "rename these folders to the checkpoint's class names, or remove them from val/"
        raise ConfigError("--data_path", what, fix)
    absent = [name for number, name in enumerate(known) if number not in set(match.numbers.values())]
    if absent and choice == "all":
        what = (
            f"has {len(match.numbers):,} of the {len(known):,} classes of {checkpoint}; "
            f"{len(absent):,} are absent: {quoted(absent)}"
        )
        raise ConfigError("--data_path", what, "add --classes subset to evaluate the classes that are there")


def _sentences(match: Match, numbers: list[int], known: list[str]) -> Iterator[str]:
    if match.renamed:
        name, other = next(iter(match.renamed.items()))
        example = f'"{name}" for the checkpoint\'s "{other}"'
        yield f"classes: {len(match.renamed):,} names differ in form only, such as {example}"
    if numbers != sorted(numbers):
        yield "classes: the order is not the checkpoint's; labels are matched by name"
    if len(numbers) < len(known):
        yield (
            f"classes: a subset, {len(numbers):,} of the checkpoint's {len(known):,}; "
            f"the model still chooses among all {len(known):,}"
        )


def by_position(names: Sequence[str], path: str) -> str:
    """The sentence on weights that do not name their classes."""
    text = (
        f"classes: {path} does not name its classes; class i of the data, sorted by name, is output i ({len(names):,})"
    )
    misplaced = [number for number, name in enumerate(names) if _form(name).isdecimal() and _form(name) != str(number)]
    if misplaced and all(_form(name).isdecimal() for name in names):
        number = misplaced[0]
        text += f'; the names are numbers sorted as text: output {number} is "{names[number]}"'
    return text


def difference(found: Sequence[str], known: Sequence[str]) -> str:
    """How the data's class names differ from a checkpoint's, as the end of a sentence."""
    new, gone = [name for name in found if name not in set(known)], [name for name in known if name not in set(found)]
    parts = [f"{len(new):,} new: {quoted(new)}"] if new else []
    parts += [f"{len(gone):,} absent: {quoted(gone)}"] if gone else []
    return "; ".join(parts) or "the same names in another order"


def quoted(names: Sequence[str]) -> str:
    """The first few names and the count of the others."""
    shown = ", ".join(f'"{name}"' for name in names[:MOST_NAMES])
    left = len(names) - MOST_NAMES
    return f"{shown} and {left:,} more" if left > 0 else shown
