# SPDX-License-Identifier: Apache-2.0
"""Read YAML of other tools as kubectl does: anchors and second documents are accepted, and dates stay text."""

from __future__ import annotations

from typing import Any

import yaml

# What libyaml and PyYAML say -> in plain words.
_PROBLEMS = {
    "nesting depth": "nested too deep",
    "keys are not allowed": "a key where a value stands",
    "mapping values are not allowed": "a second colon, or a key where a value stands",
    "',' or '}'": "a brace { is not closed, or a comma is missing",
    "',' or ']'": "a bracket [ is not closed, or a comma is missing",
    "cannot start any token": "a character that cannot start a value, such as a tab, @ or %",
    "hexdecimal": "an unknown escape after \\",
    "escape": "an unknown escape after \\",
    "unexpected end of stream": "a quote is not closed",
    "unexpected document indicator": "a quote is not closed before ---",
    "node content": "a value is missing",
    "expected key": "a wrong indent, or text after a closing quote",
    "block end": "a wrong indent, or text after a closing quote",
    "'-' indicator": "a line without - among the items of a list",
    "sequence entries": "an item after - where a value stands",
    "block mapping": "a key where a value stands",
    "expected ':'": "a key without a colon",
    "found a tab": "a tab in the indent",
    "alphabetic or numeric": "an & or * without a name",
    "undefined alias": "a * whose & does not stand above it",
    "tag": "a ! that does not start a tag",
    "document start": "text after the end of the document",
    "indentation": "a block after | or > with a wrong indent",
    "comment or": "more text on the line of | or >, or of a directive",
    "incompatible": "a line with %YAML of another version",
    "directive": "a line with % that is not a directive of YAML",
}
_LIMITS = ("more than", "nested deeper")  # of our own readers
_OTHER_PROBLEM = "the text cannot be read from here"


class _Loader(yaml.SafeLoader):
    """Timestamps stay text, as in Go."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def first_document(text: str) -> Any:
    """Return the first document, None if there is none. Raises ValueError with the line and the problem."""
    try:
        return next(yaml.load_all(text, Loader=_Loader), None)
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{place}{in_words(error.problem or '')}") from error
    except yaml.YAMLError as error:
        raise ValueError("it contains characters that YAML does not allow") from error


def in_words(problem: str) -> str:
    """Return the problem of a YAML parser in plain words."""
    if problem.startswith(_LIMITS):
        return problem
    return next((words for part, words in _PROBLEMS.items() if part in problem), _OTHER_PROBLEM)
