# SPDX-License-Identifier: Apache-2.0
"""The rendered scripts under bash, on this machine.

mpirun and ssh are stand-ins here: a stand-in can be made to fail at will and to show its argument list. The same
scripts run with real mpirun in tests/integration/local.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpikit.config.job import Job
from mpikit.local import AGENT
from mpikit.render.context import ScriptContext
from mpikit.render.payload import Payload
from mpikit.render.renderer import SCRIPTS, render
from tests.support.stage import LEAVE_RECORD, Stage

HOSTILE = "a b'$(touch canary)\"é`touch canary`;\\ #*|&~!{}[]<>?"
TOGETHER = """#!/bin/bash
together() { touch "$1.$host"; while files=("$1".*); ((${#files[@]} < $2)); do sleep 0.1; done; }
host=$1
case "$2" in
true) [[ $1 == w-0* ]] || together asked 7 ;;
*setup.sh) together checked 8 ;;
*) exec sh -c "$2" ;;
esac
"""
SHOW = "#!/usr/bin/env bash\nprintf '%s\\0' \"$@\"\n"


@pytest.fixture
def stage(tmp_path: Path, make_job: Callable[..., Job]) -> Callable[..., Stage]:
    def make(*settings: str, **more: tuple[str, ...]) -> Stage:
        job = make_job(*settings, **more)
        return Stage(tmp_path, job, render(job, Payload({"vit/__init__.py": b"", "vit/train.py": b""})))

    return make


def test_the_trainers_arguments_arrive_as_the_model_says(stage: Callable[..., Stage]) -> None:
    made = stage("nodes=2", f"train.name={HOSTILE}")
    made.program("printf '%s\\0' \"$@\"")
    words = made.run().stdout.decode().split("\0")[:-1]
    flags = [word for flag in ScriptContext(made.job).trainer_flags for word in flag]
    start = words.index("bash") + 2
    assert words[start : start + len(flags)] == flags
    assert HOSTILE in words
    assert not list(made.folder.rglob("canary"))


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("4.1.6", "ppr:4:socket:PE=6 --rank-by core"), ("5.0.8", "ppr:4:package:PE=6 --rank-by slot")],
)
def test_ranks_are_bound_as_this_open_mpi_says_it(stage: Callable[..., Stage], version: str, wanted: str) -> None:
    made = stage("nodes=2")
    del made.environment["MPIKIT_RSH"]
    made.write("bin/ssh", '#!/bin/sh\nwhile [ "$1" = -o ]; do shift 2; done\nshift\nexec sh -c "$*"\n')
    made.program('echo "$@"', f"mpirun (Open MPI) {version}")
    assert wanted in made.run().stdout.decode()


@pytest.mark.parametrize("code", [1, 2, 5, 137])
def test_the_real_exit_code_comes_out(stage: Callable[..., Stage], code: int) -> None:
    made = stage()
    made.program(f"exit {code}")
    done = made.run()
    assert done.returncode == code
    assert f"exit code {code}" in done.stderr.decode()


def test_a_fault_on_a_node_stops_the_job_before_a_rank_starts(stage: Callable[..., Stage]) -> None:
    made = stage("nodes=2")
    made.write("kit/setup.sh", "#!/bin/sh\necho 'FAULT  no cards'\nexit 9\n")
    made.program("echo started")
    done = made.run()
    assert (done.returncode, done.stdout) == (9, b"")
    assert b"[w-1] FAULT  no cards" in done.stderr


SHOWN = "a\\x1b[2J\\x07 \\x7f\\x0d\\xc2\\x9b &\t\u20ac\u00e9"
RAW = "a\\033[2J\\007 \\177\\r\\302\\233 &\\t\u20ac\u00e9"


def test_no_control_byte_of_a_node_or_an_ssh_reaches_the_terminal_or_the_log(stage: Callable[..., Stage]) -> None:
    made = stage("launcher.waitSeconds=2")
    made.write("kit/setup.sh", f"#!/bin/bash\nprintf 'node {RAW}'\nexit 9\n")
    assert f"[w-0] node {SHOWN}\n" in made.run().stderr.decode()
    made.write("bin/agent", f"#!/bin/bash\nprintf 'ssh {RAW}' >&2\nexit 255\n")
    said = made.run().stderr.decode()
    (log,) = made.folder.glob("output/logs/*")
    for text in (said, log.read_text()):
        assert f"ssh {SHOWN}" in text
        assert "\x1b" not in text


def test_no_control_byte_of_a_probed_program_is_printed_by_setup_sh(stage: Callable[..., Stage]) -> None:
    made = stage()
    python = made.write("python\x1b[2J", f"#!/bin/bash\nprintf 'found {RAW}'\nexit 1\n")
    made.write("bin/hostname", f"#!/bin/bash\nprintf 'host {RAW}'\n")
    made.environment["MPIKIT_PYTHON"] = str(python)
    made.write("kit/setup.sh", render(made.job, Payload({"vit/a.py": b""})).scripts["setup.sh"])
    text = made.run("setup.sh").stdout.decode()
    assert f"python\\x1b[2J does not run (found {SHOWN})" in text
    assert f"failed on host {SHOWN}\n" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("nodes", "silent", "said"),
    [
        (2, "w-1*", b"waiting for worker 2 of 2 (w-1): Connection refused ("),
        (4, "w-[13]*", b"waiting for worker 2 of 4 (w-1): Connection refused; waiting for 1 more ("),
    ],
)
def test_a_worker_that_never_answers_is_named_and_the_wait_is_bounded(
    stage: Callable[..., Stage], nodes: int, silent: str, said: bytes
) -> None:
    made = stage(f"nodes={nodes}", "launcher.waitSeconds=2")
    made.write(
        "bin/agent", f"#!/bin/sh\ncase $1 in {silent}) echo 'Connection refused' >&2; exit 255 ;; esac\nexit 0\n"
    )
    done = made.run()
    assert done.returncode == 1
    assert said in done.stderr
    assert b"gave up after" in done.stderr


def test_all_workers_but_the_first_are_asked_and_checked_at_the_same_time(stage: Callable[..., Stage]) -> None:
    """Each waits for the others: one after the other, none would ever answer."""
    made = stage("nodes=8")
    made.write("bin/agent", TOGETHER)
    assert made.run().returncode == 0
    assert len(list(made.folder.glob("asked.*"))) == 7
    assert len(list(made.folder.glob("checked.*"))) == 8


def test_an_ssh_that_hangs_does_not_outlast_the_wait(stage: Callable[..., Stage]) -> None:
    made = stage("launcher.waitSeconds=1")
    text = (made.folder / "kit" / "run_vit.sh").read_text().replace("answer_seconds=15", "answer_seconds=2")
    made.write("kit/run_vit.sh", text)
    made.write("bin/agent", "#!/bin/sh\nexec sleep 30\n")
    start = time.monotonic()
    assert made.run().returncode == 1
    assert time.monotonic() - start < 10


def test_a_worker_that_answers_late_is_waited_for(stage: Callable[..., Stage]) -> None:
    made = stage("nodes=2")
    made.write("bin/agent", AGENT.replace("exec sh", "test -e up || { touch up; exit 255; }\nexec sh"))
    assert made.run().returncode == 0


@pytest.mark.parametrize("line", ["w-0.w.ns.svc", "w-0.w.ns.svc slots=8", "w-0.w.ns.svc:8"])
def test_every_form_of_the_operators_hostfile_is_read(stage: Callable[..., Stage], line: str) -> None:
    made = stage()
    made.write("hostfile", f"{line}\n")
    made.program('echo "$MASTER_ADDR"')
    assert made.run().stdout.decode().strip() == "w-0.w.ns.svc"


@pytest.mark.parametrize("moment", ["while it runs", "while it starts"])
def test_a_stop_reaches_mpirun_as_usr1_and_its_exit_code_comes_out(stage: Callable[..., Stage], moment: str) -> None:
    made = stage()
    if moment == "while it starts":  # between the start of mpirun and the moment in which its pid is known
        text = (made.folder / "kit" / "run_vit.sh").read_text()
        assert "\nmpirun_pid=$!" in text
        made.write("kit/run_vit.sh", text.replace("\nmpirun_pid=$!", "\nsleep 1\nmpirun_pid=$!"))
    made.program("trap 'sleep 1; echo saved; exit 143' USR1\necho started\nwhile :; do sleep 0.1; done")
    command = ["bash", str(made.folder / "kit" / "run_vit.sh")]
    with subprocess.Popen(command, env=made.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"saved\n"
    assert process.returncode == 143


def test_a_stop_while_waiting_ends_at_once(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.write("bin/agent", "#!/bin/sh\nexit 255\n")
    command = ["bash", str(made.folder / "kit" / "run_vit.sh")]
    with subprocess.Popen(command, env=made.environment, stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert b"waiting for worker" in process.stderr.readline()
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert time.monotonic() - start < 10


def test_a_stop_while_nodes_are_checked_ends_the_checks(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.write("kit/setup.sh", "#!/bin/sh\necho checking\nsleep 30\ntouch finished\n")
    command = ["bash", str(made.folder / "kit" / "run_vit.sh")]
    start = time.monotonic()
    with subprocess.Popen(command, env=made.environment, cwd=made.folder, stderr=subprocess.PIPE) as process:
        assert process.stderr
        while b"checking" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert time.monotonic() - start < 15


def test_a_stop_before_the_ranks_can_save_is_a_stop_all_the_same(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.program("echo started\nexec sleep 30")
    command = ["bash", str(made.folder / "kit" / "run_vit.sh")]
    with subprocess.Popen(command, env=made.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143


def test_the_cards_are_counted_though_a_driver_talks(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.write(
        "bin/python3",
        '#!/bin/bash\necho noise\ncase "$*" in *vit.node*) echo packages 1 2 3; echo cards 8; '
        'echo "[W] bye" >&2 ;; '
        "*) echo 1 2 3 ;; esac\n",
    )
    made.write("kit/setup.sh", render(made.job, Payload({"vit/a.py": b""})).scripts["setup.sh"])
    assert "ok     cards: 8 of hpu, 8 needed" in made.run("setup.sh").stdout.decode()


def test_a_copy_in_mydir_that_differs_is_refused(stage: Callable[..., Stage]) -> None:
    made = stage(files=("voyager-mydir.yaml",))
    made.environment["MPIKIT_SCRIPTS_SHA256"] = "0" * 64
    done = made.run()
    assert done.returncode == 2
    assert b"not those of this manifest" in done.stderr


def test_a_rank_gets_the_pods_environment_and_runs_the_jobs_own_trainer(stage: Callable[..., Stage]) -> None:
    made = stage(f"python={HOSTILE}/python".replace("a b", "/a b"))
    python = made.write("real python", '#!/bin/bash\nprintf "%s|%s|%s|%s\\n" "$TOKEN" "$PYTHONPATH" "$PWD" "$*"\n')
    made.environment["MPIKIT_PYTHON"] = str(python)
    made.write("state/environment", 'declare -x TOKEN="a \\"b\\" c"\n')
    kit = made.folder / "kit"
    made.environment.pop("PYTHONPATH", None)
    out = made.run("rank.sh", "--name", "x y").stdout.decode().strip()
    assert out == f'a "b" c|{made.folder}/state/trainer|{kit}|-m vit.train --name x y'


def test_an_interpreter_with_a_hostile_name_is_the_one_that_runs(tmp_path: Path, stage: Callable[..., Stage]) -> None:
    folder = HOSTILE.replace("/", "")
    made = stage(f"python={tmp_path}/{folder}/python")
    made.write(f"{folder}/python", SHOW)
    words = made.run("rank.sh", HOSTILE).stdout.decode().split("\0")[:-1]
    assert words == ["-m", "vit.train", HOSTILE]
    assert not list(tmp_path.rglob("canary"))


def test_stopping_a_worker_signals_its_ranks_and_waits_for_them(stage: Callable[..., Stage]) -> None:
    made = stage()
    rank = made.write(
        "vit.train", "#!/bin/bash\ntrap 'sleep 1; echo saved; exit' USR1\necho up\nwhile :; do sleep 0.1; done\n"
    )
    with subprocess.Popen([str(rank)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        made.write(f"state/ranks/{process.pid}", "")
        made.write("state/ranks/999999", "")
        assert made.run("worker.sh", "stop").returncode == 0
        assert process.stdout.read() == b"saved\n"


@pytest.mark.parametrize("name", ["orted", "prted"])
def test_stopping_a_worker_waits_until_open_mpis_daemon_has_told_of_the_ranks(
    stage: Callable[..., Stage], name: str
) -> None:
    """A stand-in for the daemon, which takes 2 s to report the end of its rank. When preStop returns, sshd ends."""
    made = stage()
    rank = made.write("vit.train", "#!/bin/bash\ntrap 'exit 143' USR1\necho up\nwhile :; do sleep 0.1; done\n")
    daemon = made.write(name, f"#!/bin/bash\n'{rank}' &\necho $!\nwait\nsleep 2\necho reported\n")
    with subprocess.Popen([str(daemon)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid, up = sorted(process.stdout.readline() for _ in range(2))
        assert up == "up\n"
        made.write(f"state/ranks/{pid.strip()}", "")
        assert made.run("worker.sh", "stop").returncode == 0
        assert process.poll() is not None
        assert process.stdout.read() == "reported\n"


def test_stopping_a_worker_without_ranks_takes_no_time(stage: Callable[..., Stage]) -> None:
    made = stage()
    start = time.monotonic()
    assert made.run("worker.sh", "stop").returncode == 0
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("values", ["default", "voyager", "gaudi2", "nvidia", "cpu"])
def test_shellcheck_finds_nothing(make_job: Callable[..., Job], tmp_path: Path, values: str) -> None:
    rendered = render(make_job(files=(f"{values}.yaml",)), Payload({"vit/__init__.py": b""}))
    for name in SCRIPTS:
        (tmp_path / name).write_text(rendered.scripts[name])
    done = subprocess.run(
        ["shellcheck", *SCRIPTS], cwd=tmp_path, capture_output=True, text=True, check=False, env=_with_venv()
    )
    assert done.returncode == 0, done.stdout


def _with_venv() -> dict[str, str]:
    import sys

    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_an_mpirun_that_is_not_open_mpis_is_refused(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.program("echo started", "HYDRA build details: Version: 4.1.2")
    done = made.run()
    assert (done.returncode, done.stdout) == (127, b"")
    assert b"is not Open MPI" in done.stderr


@pytest.mark.parametrize("kind", ["link", "writable", "foreign"])
def test_a_worker_refuses_a_state_folder_that_is_not_its_own(kind: str, stage: Callable[..., Stage]) -> None:
    made = stage()
    made.write("bin/sshd", "#!/bin/sh\nexit 0\n")
    state, other = made.folder / "state", made.folder / "other"
    other.mkdir(mode=0o700)
    if kind == "link":
        state.symlink_to(other)
    else:
        state.mkdir(mode=0o700)
        state.chmod(0o777 if kind == "writable" else 0o700)
    if kind == "foreign":
        if os.geteuid():
            pytest.skip("giving a folder to another user takes root")
        os.chown(state, 12345, 12345)
    done = made.run("worker.sh")
    assert done.returncode == 2, done.stderr
    assert b"another user owns it or may write to it" in done.stderr
    assert not list(other.iterdir())


def test_a_worker_follows_no_link_when_it_keeps_its_environment(stage: Callable[..., Stage]) -> None:
    made = stage()
    made.write("bin/sshd", "#!/bin/sh\nexit 0\n")
    made.write("bin/ssh-keygen", "#!/bin/sh\nexit 0\n")
    victim = made.write("victim", "mine")
    (made.folder / "state").mkdir(mode=0o700)
    (made.folder / "state" / "environment").symlink_to(victim)
    made.run("worker.sh")
    assert victim.read_text() == "mine"
    assert (made.folder / "state" / "environment").stat().st_mode & 0o777 == 0o600


COUNT = 'grep -c . "$2"; printf \'%s \' "${@: -6}"'  # hosts of mpirun's hostfile, and the last flags


@pytest.mark.parametrize(("silent", "faulty", "left"), [("w-[12]*", "w-9", 2), ("w-9", "w-0*", 2), ("w-0*", "w-3*", 2)])
def test_a_restart_leaves_out_nodes_that_are_lost_or_faulty(
    stage: Callable[..., Stage], silent: str, faulty: str, left: int
) -> None:
    made = stage("nodes=4", "cards=1", "restarts.minNodes=2")
    made.environment |= {"MPIKIT_RESTART": "1", "MPIKIT_WAIT_SECONDS": "2", "MPIKIT_RESUME": "auto"}
    case = f"case $1 in {silent}) echo refused >&2; exit 255 ;; {faulty}) case $2 in *setup.sh*) exit 9 ;; esac ;; esac"
    made.write("bin/agent", f'#!/bin/sh\n{case}\nshift\nexec sh -c "$*"\n')
    made.program(f"{COUNT}; {LEAVE_RECORD}")
    done = made.run()
    assert done.returncode == 0, done.stderr.decode()
    hosts, flags = done.stdout.decode().split("\n", 1)
    assert int(hosts) == left
    assert f"--train_batch_size 256 --gradient_accumulation_steps 4 --output_dir {made.folder}/output" in flags
    assert f"goes on with {left} of 4 nodes (ranks: {left}, the same global batch)" in done.stderr.decode()


@pytest.mark.parametrize(("settings", "code"), [((), 1), (("restarts.minNodes=2",), 1)])
def test_a_restart_with_too_few_nodes_gives_up(
    stage: Callable[..., Stage], settings: tuple[str, ...], code: int
) -> None:
    made = stage("nodes=4", "cards=1", *settings)
    made.environment |= {"MPIKIT_RESTART": "1", "MPIKIT_WAIT_SECONDS": "2"}
    made.write("bin/agent", "#!/bin/sh\ncase $1 in w-[123]*) echo refused >&2; exit 255 ;; esac\nexit 0\n")
    done = made.run()
    assert done.returncode == code
    assert b"gave up after" in done.stderr


def test_the_first_start_waits_for_all_nodes(stage: Callable[..., Stage]) -> None:
    made = stage("nodes=4", "cards=1", "restarts.minNodes=2", "launcher.waitSeconds=2")
    made.write("bin/agent", "#!/bin/sh\ncase $1 in w-3*) echo refused >&2; exit 255 ;; esac\nexit 0\n")
    assert b"gave up after" in made.run().stderr
