# SPDX-License-Identifier: Apache-2.0
"""Layers: who wins, what is taken away, and where each value came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mpikit.config.layers import Values, load_values
from mpikit.errors import ValuesError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "values"
    folder.mkdir()
    (folder / "default.yaml").write_text(
        "device: gaudi\nsite: voyager\ncards: 8\nnodes: 1\nmydir: /d\ntrain: {a: 1, b: [1, 2]}\n"
    )
    return folder


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def load(root: Path, *files: str, **settings: str) -> Values:
    return load_values(root, files, [("--set", f"{key}={value}") for key, value in settings.items()], "login")


def test_maps_merge_lists_replace_and_null_removes(root: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "one.yaml", "train: {b: [3], c: 2}\nmydir: null\n")
    values = load(root, file)
    assert values.data["train"] == {"a": 1, "b": [3], "c": 2}
    assert "mydir" not in values.data


def test_the_layers_win_in_the_order_default_files_user_flags(root: Path, tmp_path: Path) -> None:
    one = write(tmp_path, "one.yaml", "nodes: 2\ncards: 2\nmydir: /1\n")
    two = write(tmp_path, "two.yaml", "nodes: 3\ncards: 3\n")
    write(root, "user.yaml", "nodes: 4\n")
    values = load(root, one, two)
    assert (values.data["nodes"], values.data["cards"], values.data["mydir"]) == (4, 3, "/1")
    assert load(root, one, two, nodes="5").data["nodes"] == "5"


def test_every_value_remembers_where_it_was_written(root: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "one.yaml", "# first\ncards: 4\n")
    values = load(root, file, nodes="2")
    assert values.where(("cards",)) == f"{file}:2:1"
    assert values.where(("nodes",)) == "--set"
    assert values.where(("train", "a")) == "values/default.yaml:6:9"
    assert values.where(("user",)) == "login name"


def test_another_device_takes_away_what_the_old_one_gave(root: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "one.yaml", "device: gaudi2\n")
    assert "cards" not in load(root, file).data
    assert load(root, file, cards="4").data["cards"] == "4"
    assert "mydir" in load(root, file).data, "a path belongs to the site"


def test_the_same_device_takes_nothing_away(root: Path, tmp_path: Path) -> None:
    assert load(root, write(tmp_path, "one.yaml", "device: gaudi\n")).data["cards"] == 8


def test_a_value_that_was_set_after_the_old_device_stays(root: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "one.yaml", "cards: 4\n")
    assert load(root, file, device="gaudi2").data["cards"] == 4


def test_another_site_takes_its_paths_away(root: Path, tmp_path: Path) -> None:
    assert "mydir" not in load(root, write(tmp_path, "one.yaml", "site: mine\n")).data


def test_settings_are_raw_text_and_a_brace_starts_json(root: Path) -> None:
    flags = [("--set", "synapse=1.20"), ("--set", 'mydir={"pvc": "x"}'), ("--set", "launcher.nodeSelector.a\\.b/c=d,e")]
    values = load_values(root, [], flags, "login")
    assert values.data["synapse"] == "1.20"
    assert values.data["mydir"] == {"pvc": "x"}
    assert values.data["launcher"] == {"nodeSelector": {"a.b/c": "d,e"}}


@pytest.mark.parametrize(("setting", "said"), [("nodes", "KEY=VALUE"), ("a={b", "not JSON"), ("=1", "KEY=VALUE")])
def test_a_setting_that_cannot_be_read_says_how_to_write_it(root: Path, setting: str, said: str) -> None:
    with pytest.raises(ValuesError, match=said):
        load_values(root, [], [("--set", setting)], "login")


def test_a_missing_file_names_the_shipped_ones(root: Path) -> None:
    with pytest.raises(ValuesError, match=r"no such file\n  fix: shipped: values/default.yaml"):
        load(root, "nothing.yaml")


def test_a_shipped_file_is_found_by_its_bare_name(values_root: Path) -> None:
    assert load_values(values_root, ["cpu.yaml"], [], "login").data["device"] == "cpu"


def test_a_file_that_is_no_utf8_text_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ValuesError, match="not UTF-8"):
        load(root, str(tmp_path / "bad.yaml"))


def test_a_byte_order_mark_does_no_harm(root: Path, tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfnodes: 7\r\n")
    assert load(root, str(tmp_path / "bom.yaml")).data["nodes"] == 7


def test_a_tilde_is_named_because_it_takes_a_value_away(root: Path, tmp_path: Path) -> None:
    faults = load(root, write(tmp_path, "one.yaml", 'mydir: ~\nname: "~"\n')).faults
    assert [(fault.key, fault.message) for fault in faults] == [("mydir", "YAML reads ~ as null")]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ('{"a": 1, "a": 2}', '"a" is given twice'),
        ("[" * 100_000, "nested deeper than 30"),
        ("[" * 40 + "]" * 40, "nested deeper than 30"),
        ("[" + "9" * 5000 + "]", "beyond 64 bits"),
        ("[Infinity]", "no finite number"),
        ("[1e999]", "no finite number"),
    ],
)
def test_json_in_a_setting_is_read_as_strictly_as_yaml(root: Path, raw: str, said: str) -> None:
    with pytest.raises(ValuesError, match=said):
        load_values(root, [], [("--set", f"launcher={raw}")], "login")


def test_the_shipped_files_have_no_fault_of_their_own(values_root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(values_root, tmp_path / "values")
    for path in copy.glob("*.yaml"):
        assert not load_values(copy, [str(path)], [], "login").faults, path.name
