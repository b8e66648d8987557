# SPDX-License-Identifier: Apache-2.0
"""Layers: who wins, what is taken away, and where each value came from."""

# a case a line
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mpikit.config.values import Values, load_values
from mpikit.errors import ValuesError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "values"
    folder.mkdir()
    (folder / "default.yaml").write_text("nodes: 1\nmydir: /d\ntrain: {a: 1, b: [1, 2]}\n")
    (folder / "voyager.yaml").write_text("device: gaudi\nsite: voyager\ncards: 8\n")
    (folder / "big.yaml").write_text("device: gaudi2\ncards: 16\nnodes: 2\noutput: /big\n")
    (folder / "small.yaml").write_text("device: cpu\ncards: 1\n")
    (folder / "addon.yaml").write_text("profile: small\nhostIPC: false\n")
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


def test_the_layers_win_in_the_order_default_profile_user_files_flags(root: Path, tmp_path: Path) -> None:
    one = write(tmp_path, "one.yaml", "nodes: 2\ncards: 2\nmydir: /1\n")
    two = write(tmp_path, "two.yaml", "nodes: 3\ncards: 3\n")
    write(root, "user.yaml", "nodes: 4\nname: mine\n")
    values = load(root, one, two)
    assert [values.data[key] for key in ("nodes", "cards", "mydir", "name")] == [3, 3, "/1", "mine"]
    assert load(root, one, two, nodes="5").data["nodes"] == "5"


def test_every_value_remembers_where_it_was_written(root: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "one.yaml", "# first\ncards: 4\n")
    values = load(root, file, nodes="2")
    assert values.where(("cards",)) == f"{file}:2:1"
    assert values.where(("nodes",)) == "--set"
    assert values.where(("train", "a")) == "values/default.yaml:3:9"
    assert values.where(("user",)) == "login name"


# What each layer says -> the profile, and the values that it gives with the places of those.
CHOICES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "nothing": ({}, "voyager", {"device": "gaudi", "cards": 8, "nodes": 1}),
    "--profile": ({"profile": "big"}, "big", {"device": "gaudi2", "cards": 16, "nodes": 2, "output": "/big"}),
    "--profile wins over -f, which is left out": (
        {"profile": "small", "files": ["big.yaml"], "user": "profile: big\n"},
        "small",
        {"device": "cpu", "cards": 1, "nodes": 1, "output": None},
    ),
    "the last -f that is a profile": (
        {"files": ["big.yaml", "small.yaml"]},
        "small",
        {"device": "cpu", "cards": 1, "nodes": 1, "output": None},
    ),
    "-f wins over user.yaml": (
        {"files": ["big.yaml"], "user": "profile: small\ncards: 3\nname: mine\n"},
        "big",
        {"device": "gaudi2", "cards": 16, "name": "mine"},
    ),
    "profile of user.yaml": ({"user": "profile: big\ncards: 3\n"}, "big", {"cards": 3, "nodes": 2}),
    "profile of a file wins over that of user.yaml": (
        {"user": "profile: big\n", "own": "profile: small\n"},
        "small",
        {"device": "cpu", "nodes": 1},
    ),
    "an add-on names its profile": ({"files": ["addon.yaml"]}, "small", {"device": "cpu", "hostIPC": False}),
    "an add-on lies over another profile": (
        {"files": ["big.yaml", "addon.yaml"]},
        "big",
        {"device": "gaudi2", "cards": 16, "hostIPC": False},
    ),
    "the order of -f does not matter for the base": (
        {"files": ["addon.yaml", "big.yaml"]},
        "big",
        {"device": "gaudi2", "hostIPC": False},
    ),
    "profile as a flag": ({"settings": {"profile": "big"}}, "big", {"device": "gaudi2"}),
    "device selects": ({"user": "device: gaudi2\nsite: generic\n"}, "big", {"cards": 16, "nodes": 2}),
    "device as a flag selects": ({"settings": {"device": "cpu", "nodes": "7"}}, "small", {"cards": 1, "nodes": "7"}),
    "the same device selects nothing": ({"own": "device: gaudi\nsite: voyager\n"}, "voyager", {"cards": 8}),
    "paths of the last layer": (
        {"files": ["big.yaml"], "user": "output: /user\n", "own": "output: /own\n", "settings": {"output": "/flag"}},
        "big",
        {"output": "/flag"},
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_one_profile_is_the_base_and_nothing_of_another_remains(root: Path, tmp_path: Path, name: str) -> None:
    given, profile, expected = CHOICES[name]
    files = list(given.get("files", ()))
    if "own" in given:
        files.append(write(tmp_path, "own.yaml", given["own"]))
    if "user" in given:
        write(root, "user.yaml", given["user"])
    flags = [("--set", f"{key}={value}") for key, value in given.get("settings", {}).items()]
    values = load_values(root, files, flags, "login", profile=given.get("profile"))
    assert values.profile == profile
    assert {key: values.data.get(key) for key in expected} == expected
    assert values.faults == []


@pytest.mark.parametrize(
    ("text", "settings", "key", "message", "fix"),
    [
        (
            "profile: small\ndevice: gaudi2\n",
            {},
            "device",
            '"gaudi2" is not the device of profile small (cpu)',
            "write profile: big",
        ),
        (
            "profile: small\n",
            {"device": "gaudi"},
            "device",
            '"gaudi" is not the device of profile small (cpu)',
            "write profile: voyager",
        ),
        (
            "profile: small\nsite: voyager\n",
            {},
            "site",
            '"voyager" is not the site of profile small (generic)',
            "write profile: voyager",
        ),
        (
            "site: mine\n",
            {},
            "site",
            '"mine" is not the site of profile voyager (voyager)',
            "write profile: NAME, one of big, small, voyager",
        ),
        (
            "device: tpu\n",
            {},
            "device",
            '"tpu" is not the device of profile voyager (gaudi)',
            "write profile: NAME, one of big, small, voyager",
        ),
    ],
)
def test_a_device_or_site_that_is_not_the_profiles_is_an_error_that_names_the_profile(
    root: Path, tmp_path: Path, text: str, settings: dict[str, str], key: str, message: str, fix: str
) -> None:
    (fault,) = load(root, write(tmp_path, "own.yaml", text), **settings).faults
    assert (fault.key, fault.message, fault.fix) == (key, message, fix)


def test_an_unknown_profile_is_an_error_that_names_the_known_ones(root: Path, tmp_path: Path) -> None:
    for words in ({"profile": "addon"}, {"profile": "user"}, {"profile": "../x"}):
        with pytest.raises(ValuesError, match=r"is not a profile\n  fix: write one of big, small, voyager"):
            load_values(root, [], [], "login", profile=words["profile"])
    file = write(tmp_path, "own.yaml", "nodes: 1\nprofile: larg\n")
    with pytest.raises(ValuesError, match=r'own.yaml:2:1: profile: "larg" is not a profile'):
        load(root, file)


def test_each_key_of_user_yaml_that_a_profile_overrides_is_listed(root: Path) -> None:
    write(root, "user.yaml", "user: bob\ncards: 3\nnodes: 5\ntrain: {a: 2}\nprofile: small\n")
    notes = load(root, "big.yaml").notes
    assert notes == [
        "values/big.yaml overrides cards of values/user.yaml:2:1",
        "values/big.yaml overrides nodes of values/user.yaml:3:1",
        "values/big.yaml overrides profile of values/user.yaml:5:1",
    ]
    assert load(root).notes == []


def test_a_profile_that_is_not_the_base_is_named(root: Path) -> None:
    assert load(root, "big.yaml", "small.yaml").notes == ["values/big.yaml is not used: the profile is small"]


def test_settings_are_raw_text_and_a_brace_starts_yaml(root: Path) -> None:
    flags = [("--set", "synapse=1.20"), ("--set", "mydir={pvc: x}"), ("--set", "launcher.nodeSelector.a\\.b/c=d,e")]
    values = load_values(root, [], flags, "login")
    assert values.data["synapse"] == "1.20"
    assert values.data["mydir"] == {"pvc": "x"}
    assert values.data["launcher"] == {"nodeSelector": {"a.b/c": "d,e"}}


@pytest.mark.parametrize(("setting", "said"), [("nodes", "KEY=VALUE"), ("a={b", "not valid YAML"), ("=1", "KEY=VALUE")])
def test_a_setting_that_cannot_be_read_says_how_to_write_it(root: Path, setting: str, said: str) -> None:
    with pytest.raises(ValuesError, match=said):
        load_values(root, [], [("--set", setting)], "login")


def test_a_missing_file_names_the_shipped_ones(root: Path) -> None:
    with pytest.raises(ValuesError, match=r"no such file\n  fix: give a file that exists; shipped: values/addon.yaml"):
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
        ("[Infinity]", "not a finite number"),
        ("[1e999]", "not a finite number"),
    ],
)
def test_json_in_a_setting_is_read_as_strictly_as_yaml(root: Path, raw: str, said: str) -> None:
    with pytest.raises(ValuesError, match=said):
        load_values(root, [], [("--set", f"launcher={raw}")], "login")


def test_the_shipped_files_have_no_fault_of_their_own(values_root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(values_root, tmp_path / "values")
    for path in copy.glob("*.yaml"):
        assert not load_values(copy, [str(path)], [], "login").faults, path.name
