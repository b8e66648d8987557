# SPDX-License-Identifier: Apache-2.0
"""Every text comes back from YAML and from a shell as it went in, or is refused by name.

scripts/soak quoting --cases N tries N texts for each property; the seed is printed at the end of every run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mpikit.text.quoting import KEY_MAX, literal_dollars, sh_filter, unquotable, unquotable_key, yaml_filter, yaml_text
from tests.support.hostile.strings import STRINGS

CASES = int(os.environ.get("QUOTING_CASES", "300"))
MANY = 100  # texts that one process of a shell or of kubectl reads
ANY_TEXT = st.one_of(
    st.text(max_size=40),  # hypothesis' own leaves surrogates out
    st.text(st.characters(), max_size=40),
    st.lists(st.sampled_from(STRINGS), min_size=1, max_size=3).map("".join),
)
SHELLS = [shell for shell in ("bash", "sh", "dash", "busybox sh") if shutil.which(shell.split()[0])]
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
NESTED = st.recursive(PLAIN, lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXT, inner)), max_leaves=12)


@given(NESTED)
@settings(max_examples=CASES, deadline=None)
def test_values_come_back_from_yaml_as_they_went_in(value: object) -> None:
    assert yaml.safe_load(yaml_filter(value)) == value


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
@settings(max_examples=CASES, deadline=None)
def test_texts_of_many_lines_come_back_from_yaml_as_they_went_in(text: str) -> None:
    indented = yaml_text(text).replace("\n", "\n  ")
    assert yaml.safe_load(f"key: {indented}")["key"] == text


@pytest.mark.parametrize("value", ["no", "0600", "1e3", "~", "", " x", "x: y", "- x", "#", "\u2028", "é'\"\\", "👩‍🔬"])
def test_a_string_is_always_double_quoted(value: str) -> None:
    assert yaml_filter(value).startswith('"')
    assert yaml.safe_load(yaml_filter(value)) == value


@given(ANY_TEXT)
@settings(max_examples=CASES, deadline=None)
def test_any_text_comes_back_from_yaml_or_is_refused_by_name(text: str) -> None:
    reason = unquotable(text)
    assert bool(reason) == ("\0" in text or bool(re.search("[\ud800-\udfff]", text)))
    if reason:
        for refuse in (yaml_filter, yaml_text, sh_filter):
            with pytest.raises(ValueError, match=re.escape(reason)):
                refuse(text)
        return
    assert yaml.safe_load(yaml_filter([text])) == [text]
    assert yaml.load(f"key: {yaml_text(text)}\n".replace("\n", "\n  "), Loader=yaml.CSafeLoader) == {"key": text}


@given(ANY_TEXT.flatmap(lambda text: st.integers(1, 300).map(lambda number: text * number)))
@settings(max_examples=CASES, deadline=None)
def test_any_text_is_a_key_or_is_refused_by_name(text: str) -> None:
    reason = unquotable_key(text)
    if reason:
        with pytest.raises(ValueError, match=re.escape(reason)):
            yaml_filter({text: 1})
        return
    assert yaml.load(yaml_filter({text: [1]}), Loader=yaml.CSafeLoader) == {text: [1]}
    assert yaml.safe_load(yaml_filter({text: [1]})) == {text: [1]}


def test_the_longest_key_that_readers_take_is_taken() -> None:
    for key in ("k" * KEY_MAX, '"' + "k" * (KEY_MAX - 4), " " + "k" * (KEY_MAX - 3)):
        assert yaml.safe_load(yaml_filter({key: 1})) == {key: 1}
        assert [key] == list(read_by_kubectl({key: 1}))
        with pytest.raises(ValueError, match="more than 1024 characters"):
            yaml_filter({key + "k": 1})


def read_by_kubectl(value: object) -> Any:
    """A value as kubectl's Go reader has it."""
    head = "apiVersion: v1\nkind: Some\nmetadata: {name: a}\nspec:\n  "
    command = ["kubectl", "label", "--local", "--dry-run=client", "-f", "-", "a=a", "-o", "json"]
    text = head + yaml_filter(value).replace("\n", "\n  ") + "\n"
    return json.loads(subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout)["spec"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine; any release from 1.25 on will do")
@given(st.lists(ANY_TEXT, min_size=1, max_size=MANY))
@settings(max_examples=max(10, CASES // MANY), deadline=None)
def test_any_text_comes_back_from_kubectl(texts: list[str]) -> None:
    kept = [text for text in texts if not unquotable(text)]
    named = {text: number for number, text in enumerate(kept) if not unquotable_key(text)}
    assert read_by_kubectl({"texts": kept, "named": named}) == {"texts": kept, "named": named}


def every_character() -> list[str]:
    """All of Unicode but NUL and the surrogates, in texts of 4096 characters."""
    codes = [code for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    return ["".join(map(chr, codes[start : start + 4096])) for start in range(0, len(codes), 4096)]


def test_every_character_comes_back_from_pyyaml_and_kubectl() -> None:
    texts = every_character()
    assert yaml.load(yaml_filter(texts), Loader=yaml.CSafeLoader) == texts
    assert not shutil.which("kubectl") or read_by_kubectl(texts) == texts


def words_from(shell: str, words: list[str], folder: Path) -> list[str]:
    """The words that a shell takes out of a script that names them."""
    script = folder / "words.sh"
    script.write_bytes(f"printf '%s\\0' {sh_filter(words)}\n".encode())
    output = subprocess.run([*shell.split(), str(script)], capture_output=True, check=True, cwd=folder).stdout
    return output.decode("utf-8", "surrogateescape").split("\0")[:-1]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_character_comes_back_from_a_shell(shell: str, tmp_path: Path) -> None:
    assert words_from(shell, every_character(), tmp_path) == every_character()


@pytest.mark.parametrize("shell", SHELLS)
@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=MANY))
@settings(max_examples=max(10, CASES // MANY), deadline=None)
def test_any_text_comes_back_from_a_shell_and_runs_nothing(
    tmp_path_factory: pytest.TempPathFactory, shell: str, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("shell")
    kept = [text for text in texts if not unquotable(text)]
    assert words_from(shell, ["x", *kept], folder) == ["x", *kept]
    assert [path.name for path in folder.iterdir()] == ["words.sh"]


@pytest.mark.parametrize(("text", "name"), [("a\0b", "NUL"), ("a\ud800b", r"U\+D800")])
def test_what_no_shell_and_no_yaml_can_hold_is_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        sh_filter(text)
    with pytest.raises(ValueError, match=name):
        yaml_filter(text)


def expanded(text: str, variables: dict[str, str]) -> str:
    """What Kubernetes makes of a word of a command or of a variable's value.

    A stand-in for the kubelet, which no test without a node can ask, after its documentation: $$ is $, $(NAME) is the
    variable's value if there is one, all else stays.
    """
    return re.sub(r"\$(\$|\(([^)]*)\))", lambda f: "$" if f[1] == "$" else variables.get(f[2], f[0]), text)


@given(ANY_TEXT)
@settings(max_examples=CASES, deadline=None)
def test_kubernetes_expands_no_text_of_ours(text: str) -> None:
    assert expanded(literal_dollars(text), {"HOME": "expanded", "A": "expanded", "": "expanded"}) == text


def test_dollars_are_doubled_because_kubernetes_halves_them() -> None:
    assert literal_dollars("$(HOME) $x $$") == "$$(HOME) $$x $$$$"


def test_maps_and_lists_print_in_block_form() -> None:
    assert yaml_filter({"a": [{"b": 1, "c": []}, "d"], "yes": {}}) == 'a:\n  - b: 1\n    c: []\n  - "d"\n"yes": {}'


def test_a_second_reader_agrees_on_strings() -> None:
    text = 'tab\t newline\n quote" back\\slash é 👩 \x7f'
    assert json.loads(yaml_filter(text).replace("\\x7f", "\\u007f")) == text
