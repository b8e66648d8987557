# SPDX-License-Identifier: Apache-2.0
"""Every fault of the strict reader as it is printed: place, key, message and fix; and the place of every value."""

# ruff: noqa: E501  # sentences for people, one a line, so that they can be searched for
from __future__ import annotations

import pytest

from mpikit.diagnostics import Diagnostic
from mpikit.text.input import MAX_BYTES
from mpikit.text.nested import dotted
from mpikit.text.strict_yaml import MAX_DEPTH, MAX_VALUES, MOST_CHARACTERS, Origin, read_all, read_yaml

SYNTAX = "check the quotes, the colon and the indent of this line and of the one above"
FLAT = "write less: a values file is a page of text"
SHARED = "write values out; anchors and aliases are not read, here and below"
TAG = "take the tag out; quote the value to make it text"
PLAIN = "write a decimal number without leading zeros, or "
QUOTED = '"{}" in quotes if you mean text'

Line = tuple[str, str, str, str]

CASES: dict[str, list[Line]] = {
    "a: &x 1": [("v:1:4", "a", "an anchor (&x)", SHARED)],
    "a:\n  b: !!str 1": [("v:2:6", "a.b", "a tag (!!str)", TAG)],
    "a: !x 1": [("v:1:4", "a", "a tag (!x)", TAG)],
    "a: &x !!int 1": [("v:1:4", "a", "an anchor (&x)", SHARED), ("v:1:4", "a", "a tag (!!int)", TAG)],
    "a: &x 1\nb: [*x, 2]\n&y c: *x": [("v:1:4", "a", "an anchor (&x)", SHARED)],
    "a: [*x]": [("v:1:5", "a[0]", "an alias (*x)", SHARED)],
    "&x a: 1": [("v:1:1", "", "an anchor (&x)", SHARED)],
    "b: {<<: {c: 1}, d: 2}": [("v:1:5", "b", "a merge key (<<)", "write the values out; merge keys are not read")],
    'b: {"<<": 1}': [],
    "a: 1\nb: 2\na: {c: [1]}\nd: 3": [("v:3:1", "a", "given twice (first on line 1)", "keep one of the two lines")],
    "x: {a: 1, a: 2}": [("v:1:11", "x.a", "given twice (first on line 1)", "keep one of the two lines")],
    "? [a, {b: c}]\n: 1\nd: 2": [("v:1:3", "", "a key that is not text", "write NAME: VALUE")],
    "a: {? {b: c} : 1}": [("v:1:7", "a", "a key that is not text", "write NAME: VALUE")],
    "a: {on: 1}": [("v:1:5", "a.on", "YAML 1.1 reads this key as a boolean", "put it in quotes")],
    "1: 2": [("v:1:1", "1", "YAML 1.1 reads this key as a number", "put it in quotes")],
    "1e3: 2": [("v:1:1", "1e3", "YAML 1.1 reads this key as a number", "put it in quotes")],
    "y: 2": [("v:1:1", "y", "YAML 1.1 reads this key as text, where other readers do not", "put it in quotes")],
    "a: no": [("v:1:4", "a", "YAML 1.1 reads no as the boolean false", f"write true or false, or {QUOTED.format('no')}")],
    "a: On": [("v:1:4", "a", "YAML 1.1 reads On as the boolean true", f"write true or false, or {QUOTED.format('On')}")],
    "a: y": [("v:1:4", "a", "YAML 1.1 reads y as text and other readers as true", f"write true or false, or {QUOTED.format('y')}")],
    "a: N": [("v:1:4", "a", "YAML 1.1 reads N as text and other readers as false", f"write true or false, or {QUOTED.format('N')}")],
    "a: 0o17": [("v:1:4", "a", "YAML 1.1 reads 0o17 as text and other readers as a number", PLAIN + QUOTED.format("0o17"))],
    "a: 0600": [("v:1:4", "a", "YAML 1.1 reads 0600 as the number 384", PLAIN + QUOTED.format("0600"))],
    "a: 0x1F": [("v:1:4", "a", "YAML 1.1 reads 0x1F as the number 31", PLAIN + QUOTED.format("0x1F"))],
    "a: 0x_": [("v:1:4", "a", "YAML 1.1 reads 0x_ as the number it cannot name", PLAIN + QUOTED.format("0x_"))],
    "a: 1:30": [("v:1:4", "a", "YAML 1.1 reads 1:30 as the number 90", PLAIN + QUOTED.format("1:30"))],
    "a: 1_0.5": [("v:1:4", "a", "YAML 1.1 reads 1_0.5 as the number 10.5", "write a plain decimal number such as 0.5, or " + QUOTED.format("1_0.5"))],
    "a: -.INF": [("v:1:4", "a", "YAML 1.1 reads -.INF as the number -inf", "write a finite number")],
    "a: .nan": [("v:1:4", "a", "YAML 1.1 reads .nan as the number nan", "write a finite number")],
    "a: 2024-01-01": [("v:1:4", "a", "YAML 1.1 reads 2024-01-01 as a date", 'write "2024-01-01" in quotes')],
    "a: =": [("v:1:4", "a", "YAML 1.1 reads = as a default value", 'write "=" in quotes')],
    "a: 9223372036854775808": [("v:1:4", "a", "9223372036854775808 is beyond 64 bits", "write a smaller number, or put it in quotes if you mean text")],
    "a: -9223372036854775808": [("v:1:4", "a", "-9223372036854775808 is beyond 64 bits", "write a smaller number, or put it in quotes if you mean text")],
    "a: " + "9" * 50: [("v:1:4", "a", f"{'9' * 40}... is beyond 64 bits", "write a smaller number, or put it in quotes if you mean text")],
    "a: " + "9" * 40: [("v:1:4", "a", f"{'9' * 40} is beyond 64 bits", "write a smaller number, or put it in quotes if you mean text")],
    "a: 1e999": [("v:1:4", "a", "1e999 is not a finite number", "write a finite number, or put it in quotes if you mean text")],
    "a: [b, no, 0x1, c]": [
        ("v:1:8", "a[1]", "YAML 1.1 reads no as the boolean false", f"write true or false, or {QUOTED.format('no')}"),
        ("v:1:12", "a[1]", "YAML 1.1 reads 0x1 as the number 1", PLAIN + QUOTED.format("0x1")),
    ],
    "a: 1\n---\nb: 2": [("v:3:1", "", "a second document", "keep one document a file: take out the line ---")],
    "a: 1\n---\n&x b": [("v:3:1", "", "a second document", "keep one document a file: take out the line ---")],
    "a: [1": [("v:2:1", "", "not YAML: a bracket [ is not closed, or a comma is missing", SYNTAX)],
    "a: 1\nb: c: d": [("v:2:5", "", "not YAML: a second colon, or a key where a value stands", SYNTAX)],
    "a:\n\t- 1": [("v:2:1", "", "not YAML: a character that cannot start a value, such as a tab, @ or %", "indent with spaces: YAML does not allow tabs")],
    "a: b\tc: d": [("v:1:7", "", "not YAML: a second colon, or a key where a value stands", SYNTAX)],
    'a: "\\q"': [("v:1:5", "", "not YAML: an unknown escape after \\", "in double quotes \\ starts an escape: double it, use single quotes, or write the character itself")],
    "a: \x01": [("v:1:4", "", "a control character (U+0001)", 'remove it, or write "\\x01"')],
    "a: 1\nb: \x9f": [("v:2:4", "", "a control character (U+009F)", 'remove it, or write "\\x9f"')],
    "a: 1\nb: 2\nc: \x01\nd: 3\n": [("v:3:4", "", "a control character (U+0001)", 'remove it, or write "\\x01"')],
    "\n\x01": [("v:2:1", "", "a control character (U+0001)", 'remove it, or write "\\x01"')],
    "a: \ufffe": [("v:1:4", "", "a noncharacter (U+FFFE)", 'remove it, or write "\\ufffe"')],
    "a: 1\n---\n*x": [("v", "", "a second document", "keep one document a file: take out the line ---")],
    "a: \x00": [("v:1:4", "", "a NUL character (U+0000)", "remove it")],
    "a: \x85": [("v:1:4", "", "a line break of Unicode (U+0085)", 'remove it, or write "\\x85"')],
    "a: \u2029": [("v:1:4", "", "a line break of Unicode (U+2029)", 'remove it, or write "\\u2029"')],
    "a: \ufeff": [("v:1:4", "", "a byte order mark within the text (U+FEFF)", "remove it")],
    "a: \ud800": [("v:1:4", "", "a lone surrogate (U+D800)", "remove it")],
    "bc: \udfff": [("v:1:5", "", "a lone surrogate (U+DFFF)", "remove it")],
    "a: \uffff": [("v:1:4", "", "a noncharacter (U+FFFF)", 'remove it, or write "\\uffff"')],
    "\ufeffa: 1": [],
    "a: 1\r\nb: 2\r\n": [],
    "": [],
    "# nothing": [],
}  # fmt: skip


def told(faults: list[Diagnostic]) -> list[Line]:
    return [(fault.where, fault.key, fault.message, fault.fix) for fault in faults]


@pytest.mark.parametrize("text", CASES)
def test_a_fault_has_its_place_its_key_its_words_and_its_fix(text: str) -> None:
    assert told(read_yaml(text, "v").faults) == CASES[text]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: &x 1\nb: [1, *x, 2]\nc: 3", {"b": [1, 2], "c": 3}),
        ("a: {<<: {c: 1}, d: 2}", {"a": {"d": 2}}),
        ("a: 1\na: {b: [c, {d: e}]}\nf: 2", {"a": 1, "f": 2}),
        ("? [a, [b]]\n: {c: [d]}\ne: 1", {"e": 1}),
        ("{on: [1, {a: 2}], b: 3}", {"b": 3}),
        ("[a, no, b, 0x1, c]", ["a", "b", "c"]),
        ("&x a", None),
        ("!!map {a: 1}", None),
        ("a: TRUE\nb: False\nc: ~\nd: null\ne:\nf: ''", {"a": True, "b": False, "c": None, "d": None, "e": None, "f": ""}),
        ("a: -0\nb: +7\nc: 1.\nd: 1.5e-3\ne: 1e3\nf: -9223372036854775807", {"a": 0, "b": 7, "c": 1.0, "d": 0.0015, "e": 1000.0, "f": -9223372036854775807}),
        ("a: 'no'\nb: \"0600\"\nc: |\n  no\n", {"a": "no", "b": "0600", "c": "no\n"}),
    ],
)  # fmt: skip
def test_all_that_is_right_is_read_and_what_is_wrong_is_left_out(text: str, data: object) -> None:
    assert read_yaml(text, "v").data == data


def test_what_stood_before_a_syntax_error_is_kept() -> None:
    documents = read_all("a: &x 1\n---\nb: 2\n---\nc: [\n", "v")
    assert [document.data for document in documents] == [{}, {"b": 2}, None]
    assert [len(document.faults) for document in documents] == [1, 0, 1]


def test_every_value_has_its_place_and_its_text() -> None:
    origins = read_yaml("a: 0.50\nb:\n  c: ['x', no1]\n  d:\n    - {e: 1}\n", "v").origins
    assert origins[()] == Origin("v", 1, 1)
    assert origins[("a",)] == Origin("v", 1, 1, "0.50", plain=True)
    assert origins[("b",)] == Origin("v", 2, 1)
    assert origins[("b", "c")] == Origin("v", 3, 3)
    assert origins[("b", "c", 0)] == Origin("v", 3, 7, "x", plain=False)
    assert origins[("b", "c", 1)] == Origin("v", 3, 12, "no1", plain=True)
    assert origins[("b", "d", 0)] == Origin("v", 5, 7)
    assert origins[("b", "d", 0, "e")] == Origin("v", 5, 8, "1", plain=True)


def test_the_place_of_a_flag_is_its_name() -> None:
    assert [str(Origin("--set")), str(Origin("v", 1, 2))] == ["--set", "v:1:2"]


def test_a_key_is_written_as_the_user_writes_it() -> None:
    assert [dotted(key) for key in ((), ("a",), ("a", "b"), ("a", 0, "b", 1, 2), (0, "a"))] == [
        "",
        "a",
        "a.b",
        "a[0].b[1][2]",
        "[0].a",
    ]


def test_depth_is_bounded_at_the_depth_that_is_named() -> None:
    deep = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert read_yaml(deep, "v").faults == []
    assert told(read_yaml(f"[{deep}]", "v").faults) == [
        (f"v:1:{MAX_DEPTH + 2}", "", f"not YAML: nested deeper than {MAX_DEPTH}", FLAT)
    ]


def test_the_number_of_values_is_bounded_at_the_number_that_is_named() -> None:
    assert read_yaml("[1, 2]", "v", most=3).faults == []
    assert told(read_yaml("[1, 2, 3]", "v", most=3).faults) == [("v:1:8", "", "not YAML: more than 3 values", FLAT)]
    assert read_yaml("x\n" * MAX_VALUES, "v").faults == []
    assert told(read_yaml("- x\n" * MAX_VALUES, "v").faults) == [
        (f"v:{MAX_VALUES}:3", "", f"not YAML: more than {MAX_VALUES} values", FLAT)
    ]


@pytest.mark.parametrize("letter", ["x", "é", "👩"])
def test_the_length_is_bounded_in_bytes(letter: str) -> None:
    longest = letter * ((MAX_BYTES - 8) // len(letter.encode()))
    text = "x: " + longest + "y" * (MAX_BYTES - 3 - len(longest.encode()))
    assert len(text.encode()) == MAX_BYTES
    assert read_yaml(text, "v").faults == []
    assert told(read_yaml(f"{text}y", "v").faults) == [("v", "", "longer than 1 MiB", "give a smaller file")]


def test_the_first_forbidden_characters_are_told() -> None:
    found = told(read_yaml("a: 1\n" + "b\x02" * 100, "v").faults)
    assert len(found) == MOST_CHARACTERS
    assert [where for where, *_ in found[:2]] == ["v:2:2", "v:2:4"]
