# SPDX-License-Identifier: Apache-2.0
"""The exact text of each filter: what stands in manifests and scripts, and is compared with goldens."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mpikit.text.quoting import (
    KEY_MAX,
    SHOWN,
    literal_dollars,
    sh_filter,
    shown,
    unquotable_key,
    yaml_filter,
    yaml_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (7, "7"),
        (1.5, "1.5"),
        (2.0, "2.0"),
        (1e16, "1.0e+16"),
        (2.5e-07, "2.5e-07"),
        ({}, "{}"),
        ((), "[]"),
        ("\x7f", '"\\x7f"'),
        ("\x85", '"\\x85"'),
        ("\u2028", '"\\u2028"'),
        ("\ufeff", '"\\ufeff"'),
        ("a\u0100b", '"a\u0100b"'),
        ("👩", '"👩"'),
        ("a\tb\nc", '"a\\tb\\nc"'),
        ('"\\', '"\\"\\\\"'),
        ({"a": {"b": "c"}}, 'a:\n  b: "c"'),
        ({"a": [], "b": ()}, "a: []\nb: []"),
        ([["a"]], '- - "a"'),
        ([{"a": 1, "b": 2}], "- a: 1\n  b: 2"),
        ({"No": 1, "1a": 2, "a b": 3}, '"No": 1\n"1a": 2\n"a b": 3'),
    ],
)
def test_a_value_has_one_form(value: object, text: str) -> None:
    assert yaml_filter(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "'a b'"),
        ("=a", "'=a'"),
        (["a b", "c"], "'a b' c"),
        (("a", 1), "a 1"),
        (3, "3"),
        ("", "''"),
        ("it's", "'it'\"'\"'s'"),
    ],
)
def test_a_word_of_a_shell_has_one_form(value: object, text: str) -> None:
    assert sh_filter(value) == text


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("a\nb\n", True),
        ("a: 'b' # c\n", True),
        ("", False),
        ("a", False),
        ("a\n\n", False),
        (" a\n", False),
        ("\na\n", False),
        ("a\tb\n", False),
        ("a\x85b\n", False),
    ],
)
def test_a_script_stays_readable_where_every_reader_agrees_on_it(text: str, block: bool) -> None:
    assert yaml_text(text).startswith("|\n") is block
    assert yaml.safe_load("key: " + yaml_text(text).replace("\n", "\n  "))["key"] == text


def test_a_terminal_sees_no_control_character_of_a_value() -> None:
    assert shown("a\x1b[31m\nb") == '"a\\x1b[31m\\nb"'


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (float("inf"), ValueError, "inf is not a number that a manifest can contain"),
        (float("nan"), ValueError, "nan is not a number"),
        ({1}, TypeError, "no YAML form for set"),
        ("a\udfffb", ValueError, r"a lone surrogate \(U\+DFFF\) cannot stand in a manifest"),
        ("\0", ValueError, "a NUL character cannot stand in a manifest"),
    ],
)
def test_what_has_no_form_is_refused_with_its_reason(value: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=f"^{said}"):
        yaml_filter(value)


@pytest.mark.parametrize("text", ["\0", "\ud800"])
def test_a_shell_is_not_given_what_it_cannot_hold(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a .* cannot be passed to a shell$"):
        sh_filter(text)


def test_a_key_that_no_manifest_can_hold_is_refused_with_its_reason() -> None:
    assert [unquotable_key(text) for text in ("a", "a" * KEY_MAX)] == [None, None]
    assert unquotable_key("a" * (KEY_MAX + 1)) == f"more than {KEY_MAX} characters"
    assert unquotable_key("\0" + "a" * KEY_MAX) == "a NUL character"
    with pytest.raises(ValueError, match="a key with a NUL character cannot stand in a manifest"):
        yaml_filter({"\0": 1})


def test_a_message_shows_no_more_of_a_value_than_a_line_holds() -> None:
    assert shown("a" * SHOWN) == f'"{"a" * SHOWN}"'
    assert shown("a" * (SHOWN + 1)) == f'"{"a" * SHOWN}..."'


def test_a_dollar_is_doubled_wherever_it_stands() -> None:
    assert literal_dollars("$(A) b$$c") == "$$(A) b$$$$c"
