# SPDX-License-Identifier: Apache-2.0
"""The walk of docs/voyager.md on simulated Voyager: each of its commands, as they stand there, in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import ROOT
from kube import Kube, Object, wait_for
from testcluster import simulated

USER = "yourusername"
SPACE = f"{USER}-restricted"
COMMAND_SECONDS = 120
# command of the page: what a user must see of it
SEEN = {
    f"init --user {USER}": "values/user.yaml",
    "check -v": "no error found",
    "doctor --nodes 2": "42 nodes have 8 free cards",
    "submit --smoke --follow": r"step=30/30 ",
    "submit --set train.name=imagenet1k_8": f"mpijob.kubeflow.org/{USER}-vit-8cards created",
    f"wait {USER}-vit-8cards --timeout 24h": f"mpijob.kubeflow.org/{USER}-vit-8cards succeeded",
    f"delete {USER}-vit-8cards": "deleted",
    "submit --nodes 2": f"mpijob.kubeflow.org/{USER}-vit-16cards created",
    "status": f"{USER}-vit-16cards  Running",
    "logs --tail 20": "all 2 workers answer",
    "list": rf"{USER}-vit-16cards +Running +2 +16 +16",
    "wait --timeout 24h": f"mpijob.kubeflow.org/{USER}-vit-16cards succeeded",
    f"delete {USER}-vit-16cards": "deleted",
    f"delete {USER}-vit-smoke": "deleted",
}
ENDS_WITH_THE_JOB = ("submit --smoke --follow", "wait --timeout 24h", f"wait {USER}-vit-8cards --timeout 24h")


def commands(page: str) -> list[str]:
    """The commands of generate.py in a page, up to those for kubectl."""
    text = (ROOT / page).read_text().split("## With kubectl alone")[0]
    return re.findall(r"^python generate\.py ([a-z][^|#\n]*[^|#\s]) *(?:#.*)?$", text, re.MULTILINE)


def test_the_cluster_commands_of_the_readme_are_among_those_of_the_walk() -> None:
    verbs = ("doctor", "submit", "status", "logs", "list", "wait", "delete")
    listed = re.findall(r"^python generate\.py (.*)$", block_of_voyager(), re.MULTILINE)
    used = [command for command in listed if command.startswith(verbs)]
    assert used
    assert set(used) <= set(SEEN)


def block_of_voyager() -> str:
    """The five commands that the README gives for Voyager."""
    return (ROOT / "README.md").read_text().split("**SDSC Voyager**")[1].split("```")[1]


@pytest.fixture
def clone(kube: Kube, simulated_nodes: list[str], tmp_path: Path) -> Iterator[Path]:
    """A copy of the kit without a user.yaml, and the user's namespace as the site gives it out."""
    if len(simulated_nodes) < simulated.VOYAGER_NODES:
        pytest.skip("this cluster is not simulated Voyager: scripts/cluster up --site voyager")
    kube.create(*simulated.user_namespace(USER))
    for name in ("mpikit", "templates", "values", "vit"):
        ignored = shutil.ignore_patterns("user.yaml", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "clone" / name, ignore=ignored)
    shutil.copy(ROOT / "generate.py", tmp_path / "clone")
    yield tmp_path / "clone"
    kube("-n", SPACE, "delete", "mpijobs,jobs", "--all", "--wait=false")
    kube("delete", "namespace", SPACE)


def run(kube: Kube, clone: Path, command: str) -> str:
    """What a command of the page prints, both streams; it must succeed."""
    variables = os.environ | {"KUBECONFIG": kube.kubeconfig}
    words = [sys.executable, "generate.py", *command.split()]
    done = subprocess.run(words, cwd=clone, env=variables, text=True, capture_output=True, timeout=COMMAND_SECONDS)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def end_of_the_job(kube: Kube) -> None:
    """Let kwok end the launcher that runs, as the trainer would after its last step."""
    selector = "training.kubeflow.org/job-role=launcher"
    wait_for("the launcher to be ready", lambda: any(map(is_ready, kube.pods(SPACE, "launcher"))), 60)
    kube("-n", SPACE, "annotate", "pod", "-l", selector, "--overwrite", "mpikit.test/result=succeed")


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready. `kubectl wait` fails at once while there is no pod yet."""
    return ("Ready", "True") in [(one["type"], one["status"]) for one in pod["status"].get("conditions", [])]


def test_every_command_of_the_page_does_what_the_page_says(kube: Kube, clone: Path) -> None:
    """Judged by the operator and the scheduler on 42 nodes; the page must hold each command of SEEN, in this order."""
    assert commands("docs/voyager.md") == list(SEEN)
    for command, seen in SEEN.items():
        if command in ENDS_WITH_THE_JOB:
            timer = threading.Timer(6, end_of_the_job, [kube])
            timer.start()
        told = run(kube, clone, command)
        assert re.search(seen, told), f"{command}: {told}"
    assert not kube.all(SPACE, "pods")
    assert not kube.all(SPACE, "configmaps", "app.kubernetes.io/managed-by=mpikit")


def test_the_jobs_of_the_page_make_weights_and_data_on_nodes_without_cards(kube: Kube, clone: Path) -> None:
    """Judged by the scheduler and the Job controller; kwok ends the pods, as the programs in them would."""
    section = (ROOT / "docs/voyager.md").read_text().split("## 2. ")[1].split("## 3. ")[0]
    applying, waiting = (re.findall(rf"^({start}.*)$", section, re.MULTILINE) for start in ("python", "kubectl"))
    assert (len(applying), len(waiting)) == (2, 3)
    run(kube, clone, f"init --user {USER}")
    for command in applying:
        shell(kube, clone, command)
    wait_for("both pods to be ready", lambda: list(map(is_ready, kube.all(SPACE, "pods"))) == [True, True], 60)
    pods = kube.all(SPACE, "pods")
    labels = {node["metadata"]["name"]: node["metadata"]["labels"] for node in kube.all("default", "nodes")}
    assert [labels[pod["spec"]["nodeName"]]["brightcomputing.com/node-category"] for pod in pods] == ["compute"] * 2
    kube("-n", SPACE, "annotate", "pod", "--all", "mpikit.test/result=succeed")
    for command in waiting:
        shell(kube, clone, command)
    assert not kube.all(SPACE, "jobs")
    assert not kube.all(SPACE, "configmaps", "app.kubernetes.io/managed-by=mpikit")


def shell(kube: Kube, clone: Path, command: str) -> None:
    """A line of the page as bash understands it; it must succeed."""
    programs = (Path(sys.executable).parent, Path(kube.kubectl).parent)
    path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    variables = os.environ | {"KUBECONFIG": kube.kubeconfig, "PATH": path}
    words = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(words, cwd=clone, env=variables, text=True, capture_output=True, timeout=COMMAND_SECONDS)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
