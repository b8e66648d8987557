# SPDX-License-Identifier: Apache-2.0
"""Secrets of the values, of addresses and of plug-ins reach no terminal, and files that may hold some are private."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mpikit.config.job import Job
from mpikit.errors import KitError
from mpikit.render.output import write_out
from mpikit.render.renderer import Rendered, render
from mpikit.text.redaction import HIDDEN, looks_secret, masked, redact
from tests.conftest import STUB, Command

VALUE = "correct horse battery"
VARIABLES = {"KEYBOARD": "qwertz", "HF_TOKEN": VALUE, "SHORT_KEY": "a9c"}
ENV = f"env={json.dumps([{'name': name, 'value': value} for name, value in VARIABLES.items()])}"


@pytest.mark.parametrize(
    "name",
    [
        *("TOKEN", "HF_TOKEN", "WANDB_API_KEY", "db-password", "myApiKey", "APIKey", "PGPASSWORD", "MYSQL_PASSWD"),
        *(
            "AWS_SECRET_ACCESS_KEY",
            "client.secret",
            "GIT_CREDENTIALS",
            "authtoken",
            "KEY2",
            "SSH_PASSPHRASE",
            "secretKey",
        ),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("KEYBOARD", "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "MONKEY", "KEYS_PER_NODE", "PWD", "SECRETARY", "", "_"),
        *("TOKEN_FILE", "SSH_KEY_PATH", "CREDENTIALS_DIR", "HOTKEY", "NCCL_DEBUG", "PASSWORDLESS", "TOKENIZER"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize("verb", [("render",), ("check", "-v"), ("check", "-v", "-o", "json"), ("--out", "OUT")])
def test_a_literal_secret_is_masked_on_every_way_to_a_person(
    verb: tuple[str, ...], generate: Command, tmp_path: Path
) -> None:
    words = [str(tmp_path / "out") if word == "OUT" else word for word in verb]
    done = generate(*words, "--no-user-file", "-f", "cpu.yaml", "--set", ENV, "--debug")
    assert done.returncode == 0, done.stderr
    told = done.stderr if verb == ("render",) else done.stdout + done.stderr
    assert VALUE not in told
    assert "a9c" not in told
    assert "HF_TOKEN looks like a secret" in told
    assert "{name: HF_TOKEN, valueFrom: {secretKeyRef: {name: NAME, key: KEY}}}" in told
    assert "KEYBOARD looks" not in told
    assert "qwertz" in told or verb != ("check", "-v")
    assert VALUE in done.stdout or verb != ("render",)  # the manifest is data


def test_the_advice_makes_the_warning_go(generate: Command) -> None:
    advice = 'env=[{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}]'
    done = generate("check", "--no-user-file", "-f", "cpu.yaml", "--set", advice)
    assert (done.returncode, "HF_TOKEN" in done.stdout) == (0, False)


def test_a_fault_elsewhere_tells_no_secret(generate: Command) -> None:
    done = generate("check", "--no-user-file", "-f", "cpu.yaml", "--set", ENV, "--set", "nodes=none", "--debug")
    assert done.returncode == 2
    assert VALUE not in done.stdout + done.stderr


def test_a_diff_masks_both_sides_of_a_changed_secret() -> None:
    text = '   - name: "HF_TOKEN"\n-    value: "old one"\n+    value: "new one"\n   - name: "A"\n     value: "b"\n'
    shown = redact(text)
    assert "one" not in shown
    assert f"-    value: {HIDDEN}\n+    value: {HIDDEN}" in shown
    assert '     value: "b"' in shown
    assert redact('{"name":"HF_TOKEN","value":"a\\"b"},{"name":"A","value":"b"}').count(HIDDEN) == 1


@pytest.mark.parametrize(
    "text",
    [
        "http://ada:hunter2@proxy:3128",
        "socks5h://ada:hun@ter2@proxy/x",
        "https://hunter2@github.com/x",
        "GET /x?X-Amz-Signature=hunter2&a=b",
        "https://h/x?a=b&sig=hunter2#c",
        "https://h/x?access_token=hunter2",
        "https://h/x?api_key=hunter2",
        "exec: login --password hunter2 failed",
        "token=hunter2 was refused",
        '{"access_token": "hunter2", "expires": 1}',
        "Authorization: Basic YWRhOmh1bnRlcjI=",
    ],
)
def test_secrets_in_texts_of_others_are_masked(text: str) -> None:
    shown = redact(text)
    assert not any(secret in shown for secret in ("hunter2", "ter2@", "YWRhOmh1bnRlcjI")), shown
    assert HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/a?page=2&keyboard=de",
        "mail ada@example.org, node a@b",
        'Secret "x" not found',
        "env[0].value: HF_TOKEN looks like a secret",
        "secretKeyRef: {name: NAME, key: KEY}",
        "max_tokens=512",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_values_are_masked_wherever_they_stand() -> None:
    found = masked(
        {"podSpec": {"initContainers": [{"env": [{"name": "A_TOKEN", "value": 7}, {"name": "B", "value": 7}]}]}}
    )
    assert json.dumps(found).count(HIDDEN) == 1


# --out


@pytest.fixture
def rendered(make_job: Callable[..., Job]) -> tuple[Job, Rendered]:
    job = make_job(ENV, "mydir=/m", files=("cpu.yaml",))
    return job, render(job, STUB)


def test_a_manifest_with_variables_is_private_from_its_first_byte(
    rendered: tuple[Job, Rendered], tmp_path: Path
) -> None:
    umask = os.umask(0)
    try:
        write_out(tmp_path / "out", *rendered)
    finally:
        os.umask(umask)
    assert (tmp_path / "out" / "job.yaml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out" / "run_vit.sh").stat().st_mode & 0o777 == 0o755


def test_a_manifest_without_variables_may_be_read(make_job: Callable[..., Job], tmp_path: Path) -> None:
    job = make_job(files=("cpu.yaml",))
    write_out(tmp_path, job, render(job, STUB))
    assert (tmp_path / "job.yaml").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["job.yaml", "setup.sh"])
def test_out_follows_no_link(name: str, rendered: tuple[Job, Rendered], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(victim)
    with pytest.raises(KitError, match="symbolic link"):
        write_out(tmp_path / "out", *rendered)
    assert victim.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user takes root")
def test_out_refuses_the_folder_of_another_user(rendered: tuple[Job, Rendered], tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    os.chown(place, 12345, 12345)
    with pytest.raises(KitError, match="another user"):
        write_out(place, *rendered)
    assert not list(place.iterdir())


def test_out_refuses_the_root(generate: Command) -> None:
    done = generate("--no-user-file", "-f", "cpu.yaml", "--out", "/")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2].startswith("--out: ")


# The token of the service account


def test_pods_carry_no_token_unless_a_podspec_says_so(render_job: Callable[..., Rendered]) -> None:
    assert render_job(files=("voyager.yaml",)).manifest.count("automountServiceAccountToken: false") == 2
    changed = render_job('worker.podSpec={"automountServiceAccountToken": true}', files=("voyager.yaml",)).manifest
    assert changed.count("automountServiceAccountToken: true") == 1
