# SPDX-License-Identifier: Apache-2.0
"""How layers of values are laid over each other: what stays, where each value was written, and each fault as printed."""

# ruff: noqa: E501  # sentences for people, one a line, so that they can be searched for
from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpikit.config.layers import Layer
from mpikit.config.values import Values, fill_placeholders, load_values, merge, without
from mpikit.errors import ValuesError
from mpikit.text.input import MAX_BYTES
from mpikit.text.strict_yaml import MAX_DEPTH, Document, Origin

DEFAULT = """\
device: null
site: null
cards: 8
nodes: 1
mydir: /d
train: {a: 1, b: [1, {c: 2}]}
user: null
"""
PROFILE = "device: gaudi\n"
Line = tuple[str, str, str, str]
Load = Callable[..., Values]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "values"
    folder.mkdir()
    (folder / "default.yaml").write_text(DEFAULT)
    (folder / "voyager.yaml").write_text(PROFILE)
    return folder


@pytest.fixture
def load(root: Path, tmp_path: Path) -> Load:
    """The values of texts, each a file of its own (1.yaml, 2.yaml, ...), and of `key=value` settings."""

    def made(*texts: str, settings: tuple[str, ...] = (), login: str = "ada") -> Values:
        files = []
        for number, text in enumerate(texts, 1):
            (tmp_path / f"{number}.yaml").write_text(text)
            files.append(str(tmp_path / f"{number}.yaml"))
        return load_values(root, files, [("--set", setting) for setting in settings], login)

    return made


def refused(*words: Any, **more: Any) -> list[Line]:
    """The faults of values that cannot be loaded."""
    with pytest.raises(ValuesError) as caught:
        load_values(*words, **more)
    return [(fault.where, fault.key, fault.message, fault.fix) for fault in caught.value.faults]


# -- Merging ----------------------------------------------------------------------------------------------------------


def test_maps_merge_at_every_depth_and_all_else_replaces(load: Load) -> None:
    values = load("train: {b: 5, d: {e: 1, f: null}}", "train: {d: {g: 2}, a: null}\nmydir: {pvc: x}")
    assert values.data["train"] == {"b": 5, "d": {"e": 1, "g": 2}}
    assert values.data["mydir"] == {"pvc": "x"}
    assert values.faults == []


def test_what_stands_behind_a_null_is_read(load: Load) -> None:
    values = load("mydir: null\nnodes: 2\ntrain: {a: null, z: 5}")
    assert (values.data["nodes"], values.data["train"]) == (2, {"b": [1, {"c": 2}], "z": 5})


def test_a_map_gives_way_to_a_text_and_a_text_to_a_map(load: Load) -> None:
    assert load("train: x").data["train"] == "x"
    assert load("nodes: {a: 1}", "nodes: 2").data["nodes"] == 2


def test_a_file_that_says_nothing_changes_nothing(load: Load) -> None:
    values = load("# nothing\n", "nodes: 2")
    assert values.data["nodes"] == 2
    assert [(fault.message, fault.severity) for fault in values.faults] == [("contains no values", "warning")]


def test_a_file_that_is_no_map_is_told_and_the_others_are_read(load: Load, tmp_path: Path) -> None:
    values = load("[1]", "nodes: 2\nx: no", "just text", "cards: 4")
    assert (values.data["nodes"], values.data["cards"]) == (2, 4)
    lines = [(fault.where, fault.key, fault.message, fault.fix) for fault in values.faults]
    no_map = ("", "contains no KEY: VALUE lines", "write KEY: VALUE lines")
    assert [lines[0], lines[2]] == [(f"{tmp_path}/1.yaml", *no_map), (f"{tmp_path}/3.yaml", *no_map)]
    assert lines[1][:2] == (f"{tmp_path}/2.yaml:2:4", "x")


def test_the_login_stands_in_for_a_user_that_nobody_wrote(load: Load) -> None:
    values = load()
    assert values.data["user"] == "ada"
    assert values.origins[("user",)] == Origin("login name", raw="ada")
    assert load("user: bob").data["user"] == "bob"


# -- Origins ----------------------------------------------------------------------------------------------------------


def test_a_value_has_the_place_of_the_layer_that_won(load: Load, tmp_path: Path) -> None:
    values = load("train:\n  a: 2\n  m: {x: [3]}\nmydir: {pvc: p}", settings=("cards=4",))
    assert values.where(("train", "a")) == f"{tmp_path}/1.yaml:2:3"
    assert values.where(("train", "m", "x", 0)) == f"{tmp_path}/1.yaml:3:11"
    assert values.where(("train", "b", 1, "c")) == "values/default.yaml:6:23"
    assert values.where(("mydir", "pvc")) == f"{tmp_path}/1.yaml:4:9"
    assert values.where(("cards",)) == "--set"
    assert values.origins[("cards",)] == Origin("--set", raw="4")


def test_what_nobody_wrote_has_the_place_of_the_map_above_it(load: Load) -> None:
    values = load()
    assert values.where(("train", "zzz")) == "values/default.yaml:6:1"
    assert values.where(("train", "b", 7, "x")) == "values/default.yaml:6:15"
    assert values.where(("nothing",)) == ""
    assert values.origin(("nothing",)) is None


def test_a_value_that_was_taken_out_has_the_place_of_the_null(load: Load, tmp_path: Path) -> None:
    values = load("mydir: null", "train: null")
    assert values.where(("mydir",)) == f"{tmp_path}/1.yaml:1:1"
    assert values.where(("train", "a")) == f"{tmp_path}/2.yaml:1:1"
    assert "mydir" not in values.data
    assert "train" not in values.data


def test_the_places_within_a_list_go_with_the_list(load: Load, tmp_path: Path) -> None:
    values = load("train: {b: [7]}")
    assert values.where(("train", "b", 1, "c")) == f"{tmp_path}/1.yaml:1:9"
    assert ("train", "b", 1) not in values.origins


def test_a_layer_without_places_lends_that_of_the_map_above(load: Load) -> None:
    layers = [Layer("a", Document({"m": {"x": 1}}, {("m",): Origin("a", 1, 1)})), Layer("b", Document({"m": {"y": 2}}))]
    assert merge(layers).origins[("m", "y")] == Origin("a", 1, 1)
    assert merge([Layer("b", Document({"y": 2}))]).origins[("y",)] == Origin("")


# -- Nulls --------------------------------------------------------------------------------------------------------------


def test_a_null_is_listed_with_what_it_removes(load: Load, tmp_path: Path) -> None:
    values = load("mydir: null\ntrain: {b: null, z: null}")
    assert [(one.key, str(one.where), one.source) for one in values.removed] == [
        (("mydir",), f"{tmp_path}/1.yaml:1:1", "values/default.yaml:5:1"),
        (("train", "b"), f"{tmp_path}/1.yaml:2:9", "values/default.yaml:6:15"),
    ]
    assert values.faults == []


@pytest.mark.parametrize(
    ("text", "place", "key", "message"),
    [
        ("train:\n", "1:1", "train", "has no value, which would remove train.a, train.b"),
        ("train:\n  # a: 2\nnodes: 2\n", "1:1", "train", "has no value, which would remove train.a, train.b"),
        ("nodes: 2\nmydir:\n", "2:1", "mydir", "has no value, which would remove mydir"),
        ("train:\n  a:\n", "2:3", "train.a", "has no value, which would remove train.a"),
        ("name:\n", "1:1", "name", "has no value"),
    ],
)
def test_a_key_with_nothing_behind_it_is_an_error_that_says_what_it_removes(
    load: Load, tmp_path: Path, text: str, place: str, key: str, message: str
) -> None:
    (fault,) = load(text).faults
    assert (fault.where, fault.key, fault.message) == (f"{tmp_path}/1.yaml:{place}", key, message)
    assert fault.fix == "write a value, take the line out, or write null to remove it"


# -- Without the user's say -----------------------------------------------------------------------------------------


def test_without_a_key_the_base_speaks(load: Load) -> None:
    values = load("nodes: 2\ntrain: {a: 9}", "nodes: 3")
    bare = without(values, [("nodes",), ("train", "a")])
    assert (bare.data["nodes"], bare.data["train"]["a"]) == (1, 1)
    assert bare.where(("train", "a")) == "values/default.yaml:6:9"
    assert (values.data["nodes"], values.data["train"]["a"]) == (3, 9), "the values themselves stay"


def test_without_a_list_it_goes_as_a_whole(load: Load) -> None:
    bare = without(load("train: {b: [7, 8]}"), [("train", "b", 0), ("train", "b", 1, "c")])
    assert bare.data["train"]["b"] == [1, {"c": 2}]


def test_without_what_is_not_there_nothing_changes(load: Load) -> None:
    values = load("nodes: 2")
    assert without(values, [("nodes", "x"), ("nothing",), ("a", "b", "c")]).data["nodes"] == 2


# -- Placeholders -----------------------------------------------------------------------------------------------------


def test_user_and_synapse_are_put_where_they_are_named(load: Load) -> None:
    values = load(
        'synapse: "1.20"\nmydir: /home/{user}/{synapse}/{other}\noutput: {pvc: "{user}", m: 3}\nimage: "{user}"'
    )
    fill_placeholders(values)
    assert values.data["mydir"] == "/home/ada/1.20/{other}"
    assert values.data["output"] == {"pvc": "ada", "m": 3}
    assert values.data["image"] == "{user}", "a field of no path"


def test_a_placeholder_for_what_nobody_gave_is_empty(load: Load) -> None:
    values = load("mydir: /a{synapse}b")
    fill_placeholders(values)
    assert values.data["mydir"] == "/ab"


# -- Files ------------------------------------------------------------------------------------------------------------


def test_a_values_root_that_is_no_folder_is_told(tmp_path: Path) -> None:
    expected = (f"--values-root {tmp_path}/x", "", "no such folder", "give the folder that contains default.yaml")
    assert refused(tmp_path / "x") == [expected]


def test_standard_input_is_a_file_that_is_named_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("nodes: 7\n\nx: no\n"))
    values = load_values(root, ["-"])
    assert (values.data["nodes"], values.where(("nodes",))) == (7, "standard input:1:1")
    assert [fault.where for fault in values.faults] == ["standard input:3:4"]
    assert refused(root, ["-", "-"]) == [("-f", "", "standard input is named twice", "give -f - once")]


def test_a_file_here_wins_over_a_shipped_one_of_its_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "site.yaml").write_text("nodes: 5")
    monkeypatch.chdir(tmp_path)
    assert load_values(root, ["site.yaml"]).where(("nodes",)) == "values/site.yaml:1:1"
    (tmp_path / "site.yaml").write_text("nodes: 6")
    assert load_values(root, ["site.yaml"]).where(("nodes",)) == "site.yaml:1:1"
    assert load_values(root, ["values/site.yaml"]).where(("nodes",)) == "values/site.yaml:1:1"


@pytest.mark.parametrize("name", ["none.yaml", "sub/site.yaml"])
def test_a_missing_file_is_told_by_the_name_that_was_given(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (root / "site.yaml").write_text("nodes: 5")
    monkeypatch.chdir(tmp_path)
    shipped = "give a file that exists; shipped: values/default.yaml, values/site.yaml, values/voyager.yaml"
    fix = "-f values/site.yaml" if "site" in name else shipped
    assert refused(root, [name]) == [(name, "", "no such file", fix)]


def test_the_users_own_file_can_be_left_out(root: Path) -> None:
    (root / "user.yaml").write_text("nodes: 5")
    assert load_values(root).data["nodes"] == 5
    assert load_values(root, user_file=False).data["nodes"] == 1


def test_a_tilde_is_told(load: Load, tmp_path: Path) -> None:
    (fault,) = load('a: ~\nb: "~"\nc: ~/x').faults
    assert (fault.where, fault.key) == (f"{tmp_path}/1.yaml:1:1", "a")
    assert (fault.message, fault.fix) == ("YAML reads ~ as null", 'write null, or the whole path, or "~" in quotes')


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: 1\nb: \xff", (":2:4", "not UTF-8 text (byte 0xff)", "save the file as UTF-8")),
        ("a: é\nb: é".encode() + b"\xe9", (":2:5", "not UTF-8 text (byte 0xe9)", "save the file as UTF-8")),
        ("a: 1".encode("utf-16"), (":1:1", "UTF-16 text", "save the file as UTF-8")),
        (b"a: " + b"x" * (1 << 20), ("", "longer than 1 MiB", "give a smaller file")),
    ],
)
def test_a_file_that_is_no_text_is_told_with_the_place(root: Path, tmp_path: Path, content: bytes, line: Any) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    where, message, fix = line
    assert refused(root, [str(tmp_path / "x.yaml")]) == [(f"{tmp_path}/x.yaml{where}", "", message, fix)]


def test_a_pipe_a_folder_and_a_device_are_no_files(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    fix = "give a file, or -f - for standard input"
    assert refused(root, [f"{tmp_path}/pipe"]) == [(f"{tmp_path}/pipe", "", "a pipe, which can be read only once", fix)]
    assert refused(root, [str(tmp_path)]) == [(str(tmp_path), "", "a folder, not a file", fix)]
    assert refused(root, ["/dev/null"]) == [("/dev/null", "", "a device or a socket, not a file", fix)]


def test_a_file_that_cannot_be_read_says_why(root: Path, tmp_path: Path) -> None:
    long, fix = "x" * 300, "give a readable file, or - for standard input"
    assert refused(root, [f"{tmp_path}/{long}"]) == [
        (f"{tmp_path}/{long}", "", "cannot be read: File name too long", fix)
    ]
    assert refused(root, ["a\0b"]) == [("a\0b", "", "cannot be read: embedded null byte", fix)]


def test_the_longest_file_is_read_and_of_a_longer_one_no_more_than_needed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: " + b"x" * (MAX_BYTES - 3))
    assert len(load_values(root, [str(tmp_path / "x.yaml")]).data["a"]) == MAX_BYTES - 3


@pytest.mark.parametrize(("more", "told"), [(0, []), (1, ["longer than 1 MiB"]), (1 << 20, ["longer than 1 MiB"])])
def test_standard_input_is_bounded_too(root: Path, monkeypatch: pytest.MonkeyPatch, more: int, told: list[str]) -> None:
    content = io.BytesIO(b"a: " + b"x" * (MAX_BYTES - 3 + more))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content, encoding="ascii"))
    if told:
        assert [(where, message) for where, _, message, _ in refused(root, ["-"])] == [("standard input", told[0])]
        assert content.tell() == MAX_BYTES + 1, "no more is read than is needed to know"
    else:
        assert load_values(root, ["-"]).faults == []


def test_standard_input_is_utf8_whatever_the_locale_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a: é".encode()), encoding="ascii"))
    assert load_values(root, ["-"]).data["a"] == "é"


# -- Settings ---------------------------------------------------------------------------------------------------------

FLOW_FIX = "write it in quotes, such as '{pvc: NAME}'"
DEEP = "[" * MAX_DEPTH


@pytest.mark.parametrize(
    ("setting", "key", "message", "fix"),
    [
        ("nodes", "", '"nodes" is not KEY=VALUE', "write --set key.path=value"),
        (" =1", "", '" =1" is not KEY=VALUE', "write --set key.path=value"),
        ("a.b={c", "a.b", '"{c" is not valid YAML', FLOW_FIX),
        ("a=[1,", "a", '"[1," is not valid YAML', FLOW_FIX),
        ('a={"c": 0, "b": 1, "b": 2}', "a", '"b" is given twice', "keep one of the two"),
        ("a=[1e999]", "a", "1e999 is not a finite number", "write a finite number, or put it in quotes if you mean text"),
        ("a=[NaN]", "a", "NaN is not a finite number", "write a finite number, or put it in quotes if you mean text"),
        ("a=[9223372036854775808]", "a", "9223372036854775808 is beyond 64 bits", "write a smaller number, or put it in quotes if you mean text"),
        ("a={b:1}", "a", '"b:1" has no blank after the colon', "write {KEY: VALUE}"),
        ("a={b: 1, b: 2}", "a.b", "given twice", "keep one of the two"),
        (f"a={DEEP}[[{']' * MAX_DEPTH}]]", "a", f"nested deeper than {MAX_DEPTH}", "make it flatter"),
        (f"a={'[' * 100_000}", "a", f"nested deeper than {MAX_DEPTH}", "make it flatter"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_read_is_told(root: Path, setting: str, key: str, message: str, fix: str) -> None:
    assert refused(root, settings=[("--set", setting)]) == [("--set", key, message, fix)]


def test_a_setting_is_nested_no_deeper_than_a_file(root: Path) -> None:
    deep = ".".join("a" * MAX_DEPTH)
    assert load_values(root, settings=[("--set", f"{deep}=1")]).faults == []
    ((where, key, message, fix),) = refused(root, settings=[("--set", f"{deep}.a=1")])
    assert (where, key, fix) == ("--set", "", "write --set key.path=value")
    assert message.endswith(f"is nested deeper than {MAX_DEPTH}")
    assert load_values(root, settings=[("--set", f"a={DEEP}[{']' * MAX_DEPTH}]")]).faults == []


@pytest.mark.parametrize(
    ("setting", "data"),
    [
        ("x=a=b=c", "a=b=c"),
        ("x=", ""),
        ("x= 1 ", " 1 "),
        ("x=1", "1"),
        ("x=true", "true"),
        ('x=[1, {"a": 2.5}]', [1, {"a": 2.5}]),
        ('x={"a": null, "b": "c"}', {"b": "c"}),
        ("x={}", {}),
    ],
)
def test_a_setting_is_text_as_it_stands_or_json(root: Path, setting: str, data: object) -> None:
    assert load_values(root, settings=[("--set", setting)]).data["x"] == data


def test_a_setting_of_null_takes_a_value_out(load: Load) -> None:
    values = load(settings=("mydir=null", "train.a=null"))
    assert "mydir" not in values.data
    assert values.data["train"] == {"b": [1, {"c": 2}]}


def test_everything_in_a_setting_has_its_flag_as_its_place(root: Path) -> None:
    values = load_values(root, settings=[("--nodes", "nodes=2"), ("--set", 'x.y\\.z={"a": [1, {"b": 2}]}')])
    assert values.where(("nodes",)) == "--nodes"
    places = [("x",), ("x", "y.z"), ("x", "y.z", "a"), ("x", "y.z", "a", 1), ("x", "y.z", "a", 1, "b")]
    raw = '{"a": [1, {"b": 2}]}'
    assert [values.origins[place] for place in places] == [Origin("--set", raw=raw)] * 5
    assert () not in values.origins or values.origins[()].source != "--set"


def test_the_layers_are_kept_by_their_names(load: Load, tmp_path: Path) -> None:
    values = load("nodes: 2", settings=("cards=4",))
    assert [layer.source for layer in values.layers] == [
        "values/default.yaml",
        "login name",
        "values/voyager.yaml",
        f"{tmp_path}/1.yaml",
        "--set",
    ]
