# SPDX-License-Identifier: Apache-2.0
"""Read YAML of other tools as kubectl does: anchors and second documents are accepted, and dates stay text."""

from __future__ import annotations

from typing import Any

import yaml

from mpikit.text.strict_yaml import in_words


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
