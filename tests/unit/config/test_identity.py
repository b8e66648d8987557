# SPDX-License-Identifier: Apache-2.0
"""Logins become user names; whatever the login, the job can be rendered."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpikit.config.identity import identity_of
from mpikit.config.loader import load_job
from mpikit.config.types import DNS_LABEL, LABEL_MAX
from mpikit.config.values import load_values


@pytest.mark.parametrize(
    ("login", "name", "path"),
    [
        ("ada", "ada", "ada"),
        ("a" * LABEL_MAX, "a" * LABEL_MAX, "a" * LABEL_MAX),  # valid, so it stays as it is
        ("user", "user", "user"),
        ("first.last@site.edu", "first-last", "first.last@site.edu"),
        ("José_Núñez", "jose-nunez", "José_Núñez"),
        ("Łukasz", "lukasz", "Łukasz"),
        ("12345", "u12345", "12345"),
        ("SITE\\ada", "ada", "ada"),  # a backslash is not for a path
        ("../etc", "etc", "etc"),
        ("..a", "a", "..a"),
        ("-rf", "rf", "rf"),
        ("a b", "a-b", "a-b"),
        ("x" * 70, "x" * 32, "x" * 70),
        ("root", "user", "user"),
        ("root@site.edu", "user", "user"),
        ("", "user", "user"),
        ("李", "user", "user"),
        ("..", "user", "user"),
    ],
)
def test_a_login_becomes_a_user_name_and_stays_in_paths_where_it_is_safe(login: str, name: str, path: str) -> None:
    identity = identity_of(login)
    assert (identity.name, identity.path_name) == (name, path)
    assert identity.exact == (login == name)


@given(st.text(max_size=80))
def test_any_login_becomes_a_label_and_one_component_of_a_path(login: str) -> None:
    identity = identity_of(login)
    assert DNS_LABEL.fullmatch(identity.name)
    assert len(identity.name) <= LABEL_MAX
    assert "/" not in identity.path_name
    assert identity.path_name not in ("", ".", "..")


def test_a_converted_login_names_the_job_and_keeps_the_path(values_root: Path) -> None:
    job, warnings = load_job(load_values(values_root, login="first.last"))
    assert job.job_name == "first-last-vit-8cards"
    assert job.namespace == "first-last-restricted"
    assert job.output == "/voyager/ceph/users/first.last/results/vit"
    assert "the job will not start" in warnings[0].message


@pytest.mark.parametrize("login", ["first.last", "root", ""])
def test_no_folder_is_made_at_a_guessed_path(values_root: Path, login: str) -> None:
    job, _ = load_job(load_values(values_root, login=login))
    assert {mount.host_path_type for mount in job.folders if mount.host_path} == {"Directory"}


def test_folders_that_do_not_follow_from_the_user_are_made_for_any_login(values_root: Path) -> None:
    flags = [("--set", "output=/data"), ("--set", "pretrained=null"), ("--set", "image=mine:1")]
    job, warnings = load_job(load_values(values_root, ["cpu.yaml"], flags, "first.last"))
    assert "DirectoryOrCreate" in {mount.host_path_type for mount in job.folders if mount.host_path}
    assert [warning.message for warning in warnings] == ['is not set; the login name "first.last" becomes "first-last"']


def test_a_user_that_is_set_needs_no_login(values_root: Path) -> None:
    job, warnings = load_job(load_values(values_root, [], [("--set", "user=ada")], "root"))
    assert (job.user, warnings) == ("ada", [])
