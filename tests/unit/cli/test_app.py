# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: stdout is data, stderr is talk, exit codes mean what errors.py says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mpikit.errors import NotFound
from tests.conftest import Command
from tests.support.terminal import on_terminal

ROOT = Path(__file__).resolve().parents[3]
Process = Callable[..., "subprocess.CompletedProcess[str]"]


def test_no_verb_prints_yaml_only_and_talks_on_stderr(generate: Command) -> None:
    done = generate("--nodes", "2", "--set", "user=yourusername")
    assert done.returncode == 0
    kinds = [document["kind"] for document in yaml.safe_load_all(done.stdout)]
    assert kinds == ["ConfigMap", "MPIJob"]
    assert "2 nodes x 8 gaudi = 16 ranks; global batch 512 = 16 ranks x 32 images" in done.stderr
    assert "nodes: 2  (--nodes)" in done.stderr
    assert "user: yourusername  (--set)" in done.stderr


def test_nothing_edited_the_login_is_the_user(generate: Command) -> None:
    assert "ada-vit-8cards" in generate().stdout


@pytest.mark.parametrize("login", ["root", "first.last", "李"])
def test_the_headline_works_under_any_login_and_warns(generate: Command, login: str) -> None:
    done = generate("--nodes", "2", login=login)
    assert done.returncode == 0
    job = list(yaml.safe_load_all(done.stdout))[1]
    assert job["metadata"]["name"] in ("user-vit-16cards", "first-last-vit-16cards")
    assert "warning: user: is not set" in done.stderr
    assert "the job will not start\n  fix: --set user=NAME" in done.stderr
    assert generate("check", login=login).returncode == 0


@pytest.mark.parametrize(
    "verb", ["submit", "submit -n x", "doctor", "diff -n x", "status", "run", "--smoke", "check --smoke"]
)
@pytest.mark.parametrize("login", ["root", "first.last"])
def test_what_needs_the_real_user_refuses_a_guess(generate: Command, verb: str, login: str) -> None:
    done = generate(*verb.split(), "--kubeconfig", "/nowhere", login=login)
    assert done.returncode == 2
    assert "user: is not set, and the login name" in done.stdout + done.stderr
    assert "fix: --set user=NAME" in done.stdout + done.stderr


def test_not_found_is_exit_1_and_a_cluster_without_the_api_is_3() -> None:
    missing = NotFound("there is no MPIJob x")
    assert missing.exit_code == 1
    missing.no_api = True
    assert missing.exit_code == 3


def test_a_login_that_init_cannot_use_gets_the_name_to_type(generate: Command) -> None:
    done = generate("init", login="first.last")
    assert done.returncode == 2
    assert "fix: --user NAME (a-z, 0-9, -), such as --user first-last" in done.stderr


def test_a_terminal_shows_no_base64_and_what_it_shows_cannot_be_applied(generate_process: Process) -> None:
    whole = generate_process("--set", "user=ada").stdout
    command = [sys.executable, str(ROOT / "generate.py"), "--set", "user=ada", "--no-user-file"]
    shown = on_terminal(command).data.decode().replace("\r\n", "\n")
    zipped = next(yaml.safe_load_all(whole))["binaryData"]["vit.tar.gz"]
    assert zipped not in shown
    assert "# The trainer is left out on a terminal" in shown
    with pytest.raises(yaml.YAMLError):  # a reader of the whole text comes to no MPIJob either
        list(yaml.safe_load_all(shown[shown.index("apiVersion") :]))
    assert shown[shown.index("\n---\n") :].startswith(whole[whole.index("\n---\n") :])


def test_the_same_command_prints_the_same_bytes_in_another_place(generate_process: Process) -> None:
    here = generate_process("--nodes", "2", PYTHONHASHSEED="1")
    there = generate_process("--nodes", "2", PYTHONHASHSEED="7", TZ="Asia/Tokyo", LC_ALL="C")
    assert here.returncode == 0
    assert here.stdout == there.stdout


def test_a_reader_that_closes_early_is_no_fault_of_ours(generate_process: Process, values_root: Path) -> None:
    command = f"{sys.executable} {ROOT}/generate.py --values-root {values_root} --set user=ada | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "apiVersion: v1\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


LOST = {
    "> /dev/full": "cannot write to standard output: No space left on device\n  fix: free some space there",
    ">&-": "standard output is closed\n  fix: leave out >&-",
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("where", LOST)
@pytest.mark.parametrize("verb", ["", "schema", "check -o json", "check --help", "--version", "help"])
def test_a_result_that_is_lost_is_an_error(verb: str, where: str, values_root: Path) -> None:
    options = f"--values-root {values_root} --set user=ada" if verb in ("", "check -o json") else ""
    command = f"{sys.executable} {ROOT}/generate.py {verb} {options} {where}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert LOST[where] in done.stderr
    assert not {"Traceback", "Exception", "internal"} & set(done.stderr.split())


def test_talk_that_is_lost_is_no_error(values_root: Path, tmp_path: Path) -> None:
    for where in ("2> /dev/full", "2>&-"):
        command = f"{sys.executable} {ROOT}/generate.py --values-root {values_root} --set user=ada {where}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("apiVersion: v1\n")
    files = f"{sys.executable} {ROOT}/generate.py --values-root {values_root} --set user=ada --out {tmp_path}/o >&-"
    subprocess.run(["bash", "-c", files], capture_output=True, check=True)
    assert (tmp_path / "o" / "job.yaml").read_text().startswith("apiVersion: v1\n")


def test_render_is_the_verb_of_no_verb(generate: Command) -> None:
    assert (
        generate("render", "--nodes", "2").stdout
        == generate("--nodes", "2").stdout
        == generate("--nodes", "2", "render").stdout
    )


def test_options_work_before_the_verb_too(generate: Command, tmp_path: Path) -> None:
    assert generate("--out", str(tmp_path / "kit"), "render").stdout == ""
    assert (tmp_path / "kit" / "job.yaml").exists()


def test_the_manifest_is_utf8_whatever_the_locale(generate_process: Process) -> None:
    command = ("--set", "train.name=é", "--set", "user=ada")
    assert "--name 'é' " in generate_process(*command, PYTHONIOENCODING="utf-8").stdout
    assert generate_process(*command, PYTHONIOENCODING="latin-1").returncode == 0


def test_a_users_file_called_default_is_no_default(generate: Command, tmp_path: Path) -> None:
    (tmp_path / "my-default.yaml").write_text("nodes: 2\n")
    assert f"nodes: 2  ({tmp_path}/my-default.yaml:1:1)" in generate("-f", str(tmp_path / "my-default.yaml")).stderr


def test_at_most_eight_lines_name_the_values(generate: Command) -> None:
    values = [
        line for line in generate("-f", "demo.yaml", "--set", "dataset=/d").stderr.splitlines() if line[:2] == "  "
    ]
    assert len([line for line in values if "fix:" not in line]) == 8
    assert any("check -v shows all" in line for line in values)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("misspelt", "nodez: 2\n", ":1:1: nodez: no such key\n  fix: did you mean nodes?"),
        ("twice", "nodes: 1\nnodes: 2\n", ":2:1: nodes: given twice (first on line 1)\n  fix: keep one"),
        ("a word", 'cards: "eight"\n', ':1:1: cards: "eight" is not a number\n  fix: write a number, such as 8'),
        (
            "relative",
            "dataset: data/imagenet\n",
            ':1:1: dataset: "data/imagenet" is not an absolute path\n  fix: start it with /',
        ),
        ("version", 'synapse: "1.22.0"\n', ':1:1: synapse: "1.22.0" has no first-generation Gaudi (last: 1.21.5)'),
    ],
)
def test_a_wrong_file_gets_file_line_and_fix(
    generate: Command, tmp_path: Path, name: str, text: str, said: str
) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(text)
    done = generate("-f", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}{said}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--bogus"], 2, "No such option"),
        (["frobnicate"], 2, "No such command"),
        (["--nodes", "many"], 2, '--nodes: nodes: "many" is not a number'),
        (["-f", "none.yaml"], 2, "no such file"),
        (["--set", "user"], 2, "KEY=VALUE"),
        (["check", "--manifest", "none.yaml"], 2, "no such file"),
        (["init", "--site", "mars"], 2, '"mars" is not a profile'),
        (["init", "--user", "a b"], 2, "is not a valid user name"),
        (["init", "--user", "root"], 2, "is not a valid user name"),
        (["-f", "-", "-f", "-"], 2, "standard input is named twice"),
        (["--values-root", "/nowhere"], 2, "no such folder"),
    ],
)
def test_a_wrong_command_line_gets_one_clear_line(
    generate: Command, arguments: list[str], code: int, said: str
) -> None:
    done = generate(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "fix: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_traceback_is_shown_with_debug_only(generate: Command) -> None:
    assert "Traceback" in generate("--debug", "--nodes", "0").stderr


def test_values_come_from_standard_input_too(generate: Command) -> None:
    assert "ada-vit-16cards" in generate("-f", "-", stdin="nodes: 2\n").stdout


def test_a_pipe_in_the_place_of_a_file_is_refused_with_the_hint(generate: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = generate("-f", str(tmp_path / "pipe"))
    assert done.returncode == 2
    assert "-f - for standard input" in done.stderr


def test_out_writes_the_job_and_the_scripts(generate: Command, tmp_path: Path) -> None:
    done = generate("--out", str(tmp_path / "kit"))
    assert (done.returncode, done.stdout) == (0, "")
    assert {path.name for path in (tmp_path / "kit").iterdir()} == {
        "job.yaml",
        "rank.sh",
        "run_vit.sh",
        "setup.sh",
        "worker.sh",
    }
    assert (tmp_path / "kit" / "job.yaml").read_text() == generate().stdout


def test_out_for_mydir_adds_the_trainer_and_checksums_that_hold(generate: Command, tmp_path: Path) -> None:
    done = generate("-f", "voyager-mydir.yaml", "--out", str(tmp_path / "kit"))
    assert "copy all of" in done.stderr
    assert (tmp_path / "kit" / "vit" / "train.py").exists()
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=tmp_path / "kit", check=True)


def test_init_writes_values_that_work_and_never_overwrites(generate: Command, values_root: Path) -> None:
    try:
        done = generate("init", "--profile", "gaudi2", "--user", "grace")
        assert done.returncode == 0
        assert done.stdout.strip() == str(values_root / "user.yaml")
        assert "grace-vit-8cards" in generate().stdout
        again = generate("init", "--user", "other")
        assert again.returncode == 1
        assert "exists already" in again.stderr
        assert 'user: "grace"' in (values_root / "user.yaml").read_text()
        assert "grace-vit-2cards" in generate("-f", "cpu.yaml", "--nodes", "2").stdout, (
            "another profile with -f is the base"
        )
    finally:
        (values_root / "user.yaml").unlink(missing_ok=True)


def test_check_reports_as_json_what_it_reports_as_text(generate: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text('nodez: 2\ncards: "eight"\n')
    done = generate("check", "-f", str(tmp_path / "bad.yaml"), "-o", "json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert [fault["key"] for fault in found] == ["nodez", "cards"]
    assert all(set(fault) >= {"severity", "key", "where", "message", "fix"} for fault in found)


def test_check_exits_0_on_warnings_and_2_with_strict(generate: Command) -> None:
    assert generate("check", "-f", "cpu.yaml").returncode == 0
    assert generate("check", "-f", "cpu.yaml", "--strict").returncode == 2


def test_check_v_names_every_value_with_its_place(generate: Command) -> None:
    lines = generate("check", "-v", "--nodes", "2").stdout
    assert "nodes: 2  (--nodes)" in lines
    assert "cards: 8  (values/voyager.yaml:" in lines


def test_check_of_a_manifest_finds_what_the_operator_refuses(generate: Command, tmp_path: Path) -> None:
    manifest = tmp_path / "job.yaml"
    manifest.write_text(generate().stdout.replace('cleanPodPolicy: "Running"', 'cleanPodPolicy: "Always"'))
    done = generate("check", "--manifest", str(manifest))
    assert done.returncode == 1
    assert "spec.runPolicy.cleanPodPolicy: 'Always' is not known to the operator" in done.stdout


def test_check_of_our_own_manifest_finds_nothing(generate: Command) -> None:
    done = generate("check", "--manifest", "-", stdin=generate("--nodes", "2").stdout)
    assert (done.returncode, done.stdout) == (0, "no error found\n")


def test_smoke_is_a_short_job_with_names_of_its_own(generate: Command) -> None:
    text = generate("--smoke", "--nodes", "4").stdout
    assert "ada-vit-smoke" in text
    assert "--num_steps 20 " in text
    assert "--train_batch_size 16 " in text
    assert "--name imagenet1k_TF-smoke " in text


def test_a_missing_dependency_is_one_line_that_says_what_to_run(tmp_path: Path) -> None:
    shutil.copy(ROOT / "generate.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / "generate.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_rendering_imports_neither_torch_nor_kubernetes_and_opens_no_socket(values_root: Path) -> None:
    program = (
        "import sys, generate\n"
        "sys.addaudithook(lambda name, _: name.startswith('socket.') and sys.exit('touched the network: ' + name))\n"
        f"sys.argv = ['generate.py', '--values-root', {str(values_root)!r}, '--set', 'user=ada']\n"
        "code = generate.main()\n"
        "heavy = {'torch', 'kubernetes', 'numpy', 'vit'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", [[], ["render"], ["init"], ["check"], ["schema"], ["run"]])
def test_every_verb_and_option_has_help(generate: Command, verb: list[str]) -> None:
    text = generate(*verb, "--help").stdout
    options = [line for line in text.splitlines() if line.startswith("  -")]
    assert options
    for number, line in enumerate(text.splitlines()):
        if line.startswith("  -"):
            assert len(line.split("  ")) > 2 or text.splitlines()[number + 1].startswith("      "), line


def test_an_interrupt_during_imports_is_exit_130_without_a_word(tmp_path: Path) -> None:
    slow = "import sys, time\nsys.stdout.write('importing\\n'); sys.stdout.flush()\ntime.sleep(60)\n"
    (tmp_path / "click.py").write_text(slow)
    with subprocess.Popen(
        [sys.executable, str(ROOT / "generate.py"), "check"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's "&" has it ignored
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "importing\n"
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (130, "")


def test_doctor_tells_faults_of_values_in_its_own_json(generate: Command) -> None:
    done = generate("doctor", "-o", "json", "--set", "nodes=0")
    told = {"check": "values", "result": "fault", "message": '--set: nodes: "0" is too small', "fix": "write 1 or more"}
    assert (done.returncode, json.loads(done.stdout)) == (1, [told])
