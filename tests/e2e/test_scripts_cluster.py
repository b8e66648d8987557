# SPDX-License-Identifier: Apache-2.0
"""scripts/cluster itself: a second cluster beside the one in use, brought up, broken and taken down."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from jobs import ROOT

CLUSTER = str(ROOT / "scripts" / "cluster")
SHARED = ("/var/lib/cni", "/var/lib/kubelet", "/run/containerd", "/run/netns", "/var/log/pods", "/var/log/containers")
START_SECONDS = 300

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a real node needs root")


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment of a cluster in a folder of its own."""
    return {**os.environ, "MPIKIT_CLUSTER": str(tmp_path / "second")}


def call(own: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """scripts/cluster with these words."""
    return subprocess.run([CLUSTER, *words], text=True, capture_output=True, env=own)


def traces(marker: str) -> dict[str, list[str]]:
    """What this machine shows that could be a cluster's: processes, mounts, links, cgroups, rules, files."""
    shown = {
        "mounts": Path("/proc/mounts").read_text().splitlines(),
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "namespaces": subprocess.run(["ip", "netns"], text=True, capture_output=True).stdout.splitlines(),
        "rules": _output("iptables-save"),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("*/*") if "second" in path.name),
        "files": sorted(str(path) for folder in SHARED if Path(folder).exists() for path in Path(folder).iterdir()),
        "folders": [folder for folder in SHARED if Path(folder).exists()],
    }
    return shown | {"processes": processes(marker)}


def _output(program: str) -> list[str]:
    try:
        lines = subprocess.run([program], text=True, capture_output=True).stdout.splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if not line.startswith("#")]


def processes(marker: str) -> list[str]:
    """Command lines of all processes that name this folder or were started for it; zombies left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if words and folder.name != str(os.getpid()) and (marker in words or f"MPIKIT_CLUSTER={marker}" in environment):
            found.append(words)
    return found


def test_down_leaves_nothing(own: dict[str, str]) -> None:
    """Judged by /proc, /sys and iptables-save before and after."""
    folder = own["MPIKIT_CLUSTER"]
    before = traces(folder)
    up = call(own, "up", "--nodes", "1")
    assert up.returncode == 0, up.stderr
    run_a_pod(own)
    assert len(processes(folder)) > 8
    assert call(own, "down").returncode == 0
    assert traces(folder) == before
    assert not Path(folder).exists()


def run_a_pod(own: dict[str, str]) -> None:
    """A pod that runs, so that shims, mounts, cgroups and network interfaces are there to be removed."""
    kubeconfig = call(own, "kubeconfig").stdout.strip()
    words = ["kubectl", "--kubeconfig", kubeconfig]
    subprocess.run([*words, "run", "one", "--image=vit-cpu:1", "--", "sleep", "600"], check=True, capture_output=True)
    wait = [*words, "wait", "pod/one", "--for=condition=Ready", "--timeout=60s"]
    subprocess.run(wait, check=True, capture_output=True)


def test_down_leaves_nothing_after_up_was_killed(own: dict[str, str]) -> None:
    """Judged as above, after SIGKILL to `up` while the API server started."""
    folder = Path(own["MPIKIT_CLUSTER"])
    before = traces(str(folder))
    up = subprocess.Popen(
        [CLUSTER, "up", "--nodes", "1"], env=own, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + START_SECONDS
    while not (folder / "log" / "kube-apiserver.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    up.send_signal(signal.SIGKILL)
    up.wait()
    assert call(own, "status").returncode in (0, 1)
    assert call(own, "down").returncode == 0
    assert traces(str(folder)) == before
    assert not folder.exists()


def test_up_refuses_a_folder_that_is_not_its_own(own: dict[str, str]) -> None:
    """Judged by the exit code and the one line; the folder stays as it was."""
    folder = Path(own["MPIKIT_CLUSTER"])
    folder.mkdir()
    (folder / "precious").touch()
    for verb in ("up", "down"):
        refused = call(own, verb)
        assert refused.returncode == 1
        assert "is no test cluster's folder" in refused.stderr
    assert (folder / "precious").exists()


def test_up_refuses_a_folder_of_another_user(own: dict[str, str]) -> None:
    """Judged by the exit code and the line, which names the user."""
    folder = Path(own["MPIKIT_CLUSTER"])
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    refused = call(own, "up")
    assert refused.returncode == 1
    assert "belongs to user 12345" in refused.stderr


def test_two_calls_on_one_folder_do_not_meet(own: dict[str, str]) -> None:
    """Judged by the exit code and the line, while this process holds the lock that a running `up` holds."""
    with Path(f"{own['MPIKIT_CLUSTER']}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = [call(own, verb) for verb in ("up", "down")]
    assert [one.returncode for one in refused] == [1, 1]
    assert all("another scripts/cluster works on" in one.stderr for one in refused)


def test_up_without_root_names_what_is_missing_and_what_would_do(own: dict[str, str], tmp_path: Path) -> None:
    """Judged by the exit code and the two lines, as user nobody."""
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-m", "testcluster", "up"],
        text=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "tests" / "e2e"), "HOME": "/nonexistent"},
    )
    assert done.returncode == 2
    assert "needs root" in done.stderr
    assert "KUBECONFIG" in done.stderr


def test_up_without_go_names_it(own: dict[str, str], tmp_path: Path) -> None:
    """Judged by the exit code and the two lines, with an empty cache and no Go in PATH."""
    hidden = {
        **own,
        "MPIKIT_CACHE": str(tmp_path / "cache"),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "MPIKIT_GO": "none",
    }
    done = call(hidden, "up")
    assert done.returncode == 2
    assert "there is no Go here" in done.stderr
    assert "KUBECONFIG" in done.stderr
