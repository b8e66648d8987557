# SPDX-License-Identifier: Apache-2.0
"""Class names: those of a data set matched with those that a checkpoint was trained on. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vit.class_names import Match, match_names, quoted
from vit.config import ClassChoice
from vit.data.sources import Source
from vit.errors import ConfigError
from vit.images.pixels import Picture


class RenumberedSource:
    """A source whose labels are the checkpoint's numbers of the classes."""

    def __init__(self, source: Source, numbers: Sequence[int], class_names: list[str]) -> None:
        self.source, self.numbers, self.class_names = source, numbers, class_names

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> Picture:
        """Return the source's image."""
        return self.source.image(index)

    def label(self, index: int) -> int:
        """Return the checkpoint's number of the image's class."""
        return self.numbers[self.source.label(index)]

    def where(self, index: int) -> str:
        """Return the source's name of the image."""
        return self.source.where(index)

    def fingerprint(self) -> int:
        """Return the source's fingerprint."""
        return self.source.fingerprint()


def listed(source: Source) -> Source:
    """Return the source as it lists its own classes."""
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
