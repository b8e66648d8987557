# SPDX-License-Identifier: Apache-2.0
"""The strict reader: what is one thing to every YAML reader is read, anything else is named with its line."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mpikit.text.strict_yaml import MAX_DEPTH, read_all, read_yaml
from tests.support.hostile.readers import alike
from tests.support.hostile.strings import STRINGS, YAML_VALUES


def faults(text: str) -> list[str]:
    return [str(fault).replace("\n", " ") for fault in read_yaml(text, "v.yaml").faults]


def test_plain_data_is_read_with_the_line_of_each_key() -> None:
    document = read_yaml('a: 1\nb:\n  c: [x, "2", 1.5, true, null]\n', "v.yaml")
    assert document.data == {"a": 1, "b": {"c": ["x", "2", 1.5, True, None]}}
    assert str(document.origins[("b", "c")]) == "v.yaml:3:3"
    assert not document.faults


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: no", "reads no as the boolean false"),
        ("a: 0600", "reads 0600 as the number 384"),
        ("a: 08", "reads 08 as text and other readers as a number"),
        ("a: 0o17", "reads 0o17 as text and other readers as a number"),
        ("a: y", "reads y as text and other readers as true"),
        ("a: N", "reads N as text and other readers as false"),
        ("y: 1", "reads this key as text, where other readers do not"),
        ("1e3: 1", "reads this key as a number"),
        ("a: .5", "write a plain decimal number such as 0.5"),
        ("a: " + "9" * 5000, "is beyond 64 bits"),
        ("a: 9223372036854775808", "is beyond 64 bits"),
        ("a: 1e999", "is not a finite number"),
        ("a: 0b" + "1" * 20000, "as the number it cannot name"),
        ("&k a: 1", "an anchor (&k)"),
        ("!!str a: 1", "a tag (!!str)"),
        ('a: "\\ud83d\\ude00"', "in double quotes \\ starts an escape"),
        ("a: x\u2028y", 'v.yaml:1:5: a line break of Unicode (U+2028)   fix: remove it, or write "\\u2028"'),
        ("a: 1\nb: \ufeffx", "v.yaml:2:4: a byte order mark within the text (U+FEFF)"),
        ("a: \x7f", "a control character (U+007F)"),
        ("a: \0", "a NUL character"),
        ("[" + "1, " * 10_000 + "1]", "more than 10000 values"),
        ("a: 1:30", "reads 1:30 as the number 90"),
        ("a: 0x1F", "reads 0x1F as the number 31"),
        ("a: 1_000", "reads 1_000 as the number 1000"),
        ("a: .nan", "write a finite number"),
        ("a: .inf", "write a finite number"),
        ("a: 2024-01-01", "reads 2024-01-01 as a date"),
        ("a: &x 1", "an anchor (&x)"),
        ("a: !!str 1", "a tag"),
        ("a: *x", "an alias (*x)"),
        ("b: {<<: {c: 1}}", "a merge key"),
        ("a: 1\na: 2", "v.yaml:2:1: a: given twice (first on line 1)"),
        ("on: 1", "reads this key as a boolean"),
        ("? [a]\n: 1", "a key that is not text"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: [1", "not YAML"),
        ("a:\n\t- 1", "does not allow tabs"),
        ("a: \x01", "v.yaml:1:4: a control character (U+0001)"),
        ("[" * (MAX_DEPTH + 2), "nested deeper"),
        ("a: " + "x" * (1 << 20), "longer than 1 MiB"),
    ],
)
def test_what_readers_could_take_differently_is_refused_by_name(text: str, said: str) -> None:
    assert any(said in fault for fault in faults(text)), faults(text)


@given(
    st.one_of(
        st.text(st.characters(), max_size=60),
        st.text(st.sampled_from("ab:-?&*!|>'\"%@`#{}[], \n\t\\01.eE~y<="), max_size=60),
        st.lists(st.sampled_from(YAML_VALUES + STRINGS), max_size=4).map("\nk: ".join),
    )
)
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_as_pyyaml_reads_it_or_has_a_fault_with_its_place(text: str) -> None:
    document = read_yaml(text, "v.yaml")
    if document.faults:
        assert all(re.fullmatch(r"v\.yaml:[1-9]\d*:[1-9]\d*", fault.where) for fault in document.faults)
    else:
        assert alike(document.data, yaml.load(text, Loader=yaml.CSafeLoader))


def test_all_faults_of_a_text_are_reported_at_once() -> None:
    assert len(faults("a: no\nb: 0600\na: 1\nc: &x 1\n")) == 4


def test_a_number_with_an_exponent_is_one_to_every_reader_but_yaml_1_1() -> None:
    document = read_yaml("[1e3, 1.5e3, -2E-2, 6e+2]", "v")
    assert (document.data, document.faults) == ([1000.0, 1500.0, -0.02, 600.0], [])


def test_a_stream_of_manifests_may_hold_more_values_than_a_values_file() -> None:
    assert not read_all("[" + "1, " * 10_000 + "1]", "m")[0].faults


def test_a_thousand_aliases_are_one_fault() -> None:
    assert len(faults("a: &x [1]\nb: [" + "*x, " * 1000 + "]")) == 1


def test_windows_line_ends_and_a_mark_at_the_start_change_nothing() -> None:
    document = read_yaml("\ufeffa: 1\r\nb:\r\n  - x\r\n", "v")
    assert (document.data, document.faults) == ({"a": 1, "b": ["x"]}, [])


def test_what_follows_a_fault_is_still_read() -> None:
    assert read_yaml("a: &x {b: [1, {c: 2}]}\nd: 3\n", "v").data == {"d": 3}


def test_a_stream_of_manifests_is_read_as_several_documents() -> None:
    assert [document.data for document in read_all("a: 1\n---\nb: 2\n", "m")] == [{"a": 1}, {"b": 2}]
