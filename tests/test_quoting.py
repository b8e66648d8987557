"""Every text comes back from YAML and from a shell as it went in, or is refused by name."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mpikit.quoting import literal_dollars, sh_filter, yaml_filter, yaml_text

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
NESTED = st.recursive(PLAIN, lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXT, inner)), max_leaves=12)


@given(NESTED)
@settings(max_examples=300, deadline=None)
def test_values_come_back_from_yaml_as_they_went_in(value: object) -> None:
    assert yaml.safe_load(yaml_filter(value)) == value


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
@settings(max_examples=300, deadline=None)
def test_texts_of_many_lines_come_back_from_yaml_as_they_went_in(text: str) -> None:
    indented = yaml_text(text).replace("\n", "\n  ")
    assert yaml.safe_load(f"key: {indented}")["key"] == text


@pytest.mark.parametrize("value", ["no", "0600", "1e3", "~", "", " x", "x: y", "- x", "#", "\u2028", "é'\"\\", "👩‍🔬"])
def test_a_string_is_always_double_quoted(value: str) -> None:
    assert yaml_filter(value).startswith('"')
    assert yaml.safe_load(yaml_filter(value)) == value


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_words_come_back_from_a_shell_as_they_went_in(shell: str) -> None:
    words = ["a b", "$(touch x)", "`id`", "'", '"', "\\", "*", "~", "!", "-n", "", "é\n\t👩", "a'b\"c$d"]
    script = f"printf '%s\\0' {' '.join(sh_filter(word) for word in words)}"
    output = subprocess.run([shell, "-c", script], capture_output=True, check=True).stdout
    assert output.decode().split("\0")[:-1] == words


@pytest.mark.parametrize(("text", "name"), [("a\0b", "NUL"), ("a\ud800b", r"U\+D800")])
def test_what_no_shell_and_no_yaml_can_hold_is_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        sh_filter(text)
    with pytest.raises(ValueError, match=name):
        yaml_filter(text)


def test_dollars_are_doubled_because_kubernetes_halves_them() -> None:
    assert literal_dollars("$(HOME) $x $$") == "$$(HOME) $$x $$$$"


def test_maps_and_lists_print_in_block_form() -> None:
    assert yaml_filter({"a": [{"b": 1, "c": []}, "d"], "yes": {}}) == 'a:\n  - b: 1\n    c: []\n  - "d"\n"yes": {}'


def test_a_second_reader_agrees_on_strings() -> None:
    text = 'tab\t newline\n quote" back\\slash é 👩 \x7f'
    assert json.loads(yaml_filter(text).replace("\\x7f", "\\u007f")) == text
