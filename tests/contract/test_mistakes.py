# SPDX-License-Identifier: Apache-2.0
"""A beginner's mistakes: each gets one clear error, the text to type instead, and the right exit code."""

# ruff: noqa: E501  # sentences for people, one a line, so that they can be searched for

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mistake:
    """What a beginner types, and what the tool answers."""

    words: str
    """The command line, as for a shell; {here} is a folder with the files below."""
    code: int
    said: str
    """A part of the message."""
    fix: str = ""
    """A part of the fix; empty where a warning or a success has none."""
    text: str = ""
    """A values file, given with -f."""


FILES = {  # what the command lines below name
    "values.yaml": "nodes: 2\n",
    "job.yaml": "apiVersion: v1\nkind: Pod\n",
    "twice.yaml": "nodes: 1\nnodes: 2\n",
    "chart.yaml": "kind: MPIJob\nspec:\n  slotsPerWorker: {{ .Values.slots }}\n",
    "envsubst.yaml": 'kind: MPIJob\nmetadata: {name: "$JOB"}\n',
    "inside.yaml": "kind: ConfigMap\ndata:\n  job: |\n    kind: MPIJob\n    spec: {slotPerWorker: 1}\n",
    "list.yaml": "kind: List\nitems: [{kind: MPIJob, spec: {slotPerWorker: 1}}]\n",
}

COMMAND_LINES = {
    # Files
    "a wrong file name": Mistake("-f nonesuch.yaml", 2, "nonesuch.yaml: no such file", "give a file that exists; shipped"),
    "a misspelt file name": Mistake("-f gaudi4.yaml", 2, "gaudi4.yaml: no such file", "-f values/gaudi3.yaml"),
    "a profile in the place of a file": Mistake("-f gaudi2", 2, "gaudi2: no such file", "-f values/gaudi2.yaml"),
    "a file without .yaml": Mistake("-f {here}/values", 2, "no such file", "/values.yaml"),
    "a folder as file": Mistake("-f {here}", 2, "a folder, not a file", "give a file"),
    "-f without a file": Mistake("-f", 2, "requires an argument", "--values FILE"),
    "-f - twice": Mistake("-f - -f -", 2, "standard input is named twice", "give -f - once"),
    "a file in the place of a command": Mistake("{here}/values.yaml", 2, "No such command", "-f "),
    "a file after a command": Mistake("check values.yaml", 2, "unexpected extra argument", "check -f values.yaml"),
    "--manifest on a values file": Mistake("check --manifest {here}/values.yaml", 1, "contains no MPIJob", "generate.py check -f"),
    "--manifest on another object": Mistake("check --manifest {here}/job.yaml", 1, "contains no MPIJob", "give a manifest of kind MPIJob"),
    "--manifest on a template": Mistake("check --manifest {here}/chart.yaml", 1, "chart.yaml:3:19: this is a template: render it first", "helm template"),
    "--manifest on a template of a shell": Mistake("check --manifest {here}/envsubst.yaml", 1, "envsubst.yaml:2:19: this is a template", "envsubst < "),
    "--manifest on a job in another object": Mistake("check --manifest {here}/inside.yaml", 1, "inside.yaml, data.job:2:8: spec.slotPerWorker: no such field", "apply the MPIJob itself"),
    "--manifest on a list": Mistake("check --manifest {here}/list.yaml", 1, "list.yaml:2:31: spec.slotPerWorker: no such field", "did you mean"),
    "the last of several --manifest": Mistake("check --manifest {here}/list.yaml --manifest {here}/job.yaml --manifest {here}/chart.yaml", 1, "this is a template", "helm"),
    "the first of several --manifest": Mistake("check --manifest {here}/list.yaml --manifest {here}/job.yaml", 1, "spec.slotPerWorker: no such field", "did you mean"),
    "--manifest on nothing": Mistake("check --manifest {here}/none", 2, "no such file", "give a file"),
    "--out on a file": Mistake("--out {here}/values.yaml", 1, "is not a folder", "--out DIR"),
    "--out on the system": Mistake("--out /etc/job", 2, "belongs to the system", "give a separate folder"),
    # Options and settings
    "--node for --nodes": Mistake("--node 2", 2, "No such option: --node", "python generate.py --nodes"),
    "--nodes two": Mistake("--nodes two", 2, 'nodes: "two" is not a number', "write a number"),
    "--nodes 0": Mistake("--nodes 0", 2, 'nodes: "0" is too small', "write 1 or more"),
    "--nodes 2.5": Mistake("--nodes 2.5", 2, "is not a whole number", "write a whole number"),
    "--nodes without a number": Mistake("--nodes", 2, "requires an argument", "--nodes N"),
    "nodes that do not divide": Mistake("--nodes 3", 2, "do not split evenly", "set globalBatch: "),
    "more cards than a node has": Mistake("--cards 16", 2, "are more than a node", "set cards: 8 and more nodes"),
    "an option of another command": Mistake("schema --nodes 2", 2, "No such option: --nodes", "leave it out: schema does not use it"),
    "an unknown option": Mistake("--turbo", 2, "No such option: --turbo", "--help lists the options"),
    "an image with a scheme": Mistake("--set image=docker://reg.example/n:2", 2, "is not a valid image reference: it starts with docker://", "write reg.example/n:2"),
    "an image with a placeholder": Mistake("--set 'image=<registry>/n:2'", 2, "contains the placeholder character <", "REGISTRY/NAME:TAG"),
    "--set without a value": Mistake("--set train.num_steps", 2, "is not KEY=VALUE", "--set key.path=value"),
    "--set with a typo": Mistake("--set train.num_step=5", 2, "train.num_step: no such key", "did you mean train.num_steps?"),
    "--set of another section's key": Mistake("--set num_steps=5", 2, "num_steps: no such key", "write train.num_steps"),
    "--set with blanks": Mistake("--set 'nodes = 2'", 0, "2 nodes x 8"),
    "--set with YAML flow": Mistake("--set 'dataset={{pvc: data}}'", 0, "dataset.pvc: data"),
    "--set that the shell cut": Mistake("--set dataset={{pvc: data}}", 2, "No such command 'data}'", "--set 'dataset={pvc: data}'"),
    "--set without a blank": Mistake("--set 'dataset={{pvc:data}}'", 2, "has no blank after the colon", "write {KEY: VALUE}"),
    "--set of a key with dots": Mistake(
        "--set labels.kueue.x-k8s.io/queue-name=q", 2, "this key contains dots", r"--set 'labels.kueue\.x-k8s\.io/queue-name=q'"
    ),
    "an escaped key": Mistake(r"--set 'labels.kueue\.x-k8s\.io/queue-name=q'", 0, "labels.kueue.x-k8s.io/queue-name: q"),
    "--profile with .yaml": Mistake("--profile values/gaudi2.yaml", 2, "is not a profile", "write gaudi2"),
    "an unknown profile": Mistake("--profile lumi", 2, '"lumi" is not a profile', "write one of cpu, gaudi2"),
    "a wrong namespace": Mistake("-n My_NS", 2, "is not a valid Kubernetes name", "start with a-z"),
    "a wrong time span": Mistake("wait --timeout 5minutes", 2, "is not a valid time span", "write 90s, 10m"),
    "two places of a log": Mistake("logs --rank 0 --worker 1", 2, "cannot be combined", "use one of them"),
    # Commands
    "kubectl's word": Mistake("apply", 2, "No such command 'apply'", "python generate.py submit"),
    "a misspelt command": Mistake("stauts", 2, "No such command 'stauts'", "python generate.py status"),
    "an option without its dashes": Mistake("nodes 2", 2, "No such command 'nodes'", "--nodes"),
    "help of nothing": Mistake("help frobnicate", 2, "No such command", "--help lists the commands"),
    "version": Mistake("version", 2, "No such command", "--version"),
    "a wrong user name": Mistake("init --user First.Last", 2, "is not a valid user name", "such as --user first-last"),
    "a kubeconfig that is not there": Mistake("status --kubeconfig {here}/none", 3, "{here}/none", "--kubeconfig FILE"),
    "weights of a misspelt model": Mistake("weights vit-b16", 2, "no published weights of vit-b16", "write ViT-B_16"),
    "weights on a claim": Mistake(
        "weights --set 'pretrained={{pvc: w}}'", 2, "a folder is on a claim", "--set 'pretrained={pvc: w}' --job | kubectl apply -f -"
    ),
    "data without archives": Mistake("data cifar10", 2, "--from is missing", "data --from PATH"),
    "data of another dataset": Mistake("data cifar10 --from /a", 2, "is the folder of imagenet1K", "--to FOLDER"),
    "an unknown dataset": Mistake("data coco --from /a", 2, '"coco" is not a known dataset', "write one of imagenet1K"),
    "an example image": Mistake("--profile nvidia --set dataset=/d", 0, 'warning: image: "vit-cuda:1" is an example name', "--set image="),
    "example claims": Mistake("--profile gaudi2", 0, "warning: dataset: the claims of dataset, pretrained, output", "{pvc: NAME}"),
}  # fmt: skip

VALUES = {
    "a misspelt key": Mistake("", 2, ":2:3: train.num_step: no such key", "did you mean train.num_steps?", "train:\n  num_step: 5\n"),
    "another section's key": Mistake("", 2, "tolerations: no such key", "write launcher.tolerations or worker.tolerations", "tolerations: []\n"),
    "another tool's key": Mistake("", 2, "replicas: no such key", "write nodes", "replicas: 2\n"),
    "a number in words": Mistake("", 2, ':1:1: nodes: "two" is not a number', "write a number", "nodes: two\n"),
    "an unquoted 1.20": Mistake("", 2, "YAML reads 1.20 as a number", 'write "1.20"', "synapse: 1.20\n"),
    "yes for true": Mistake("", 2, "reads yes as the boolean true", "write true or false", "train:\n  autocast: yes\n"),
    "a duplicate key": Mistake("", 2, ":2:1: nodes: given twice (first on line 1)", "keep one", "nodes: 1\nnodes: 2\n"),
    "a tab": Mistake("", 2, ":2:1: ", "indent with spaces", "train:\n\tnum_steps: 5\n"),
    "a wrong indent": Mistake("", 2, ":2:14: ", "check the quotes, the colon and the indent", "nodes: 2\n   eval_every: 1\n"),
    "an open brace": Mistake("", 2, ":2:1: ", "check the quotes", "train: {num_steps: 5\n"),
    "no blank after the colon": Mistake("", 2, "contains no KEY: VALUE lines", "write a blank after the colon: nodes: 2", "nodes:2\n"),
    "a list": Mistake("", 2, "contains no KEY: VALUE lines", "write KEY: VALUE lines", "- nodes\n"),
    "an empty file": Mistake("", 0, "warning: contains no values", "leave the file out", ""),
    "only comments": Mistake("", 0, "warning: contains no values", "leave the file out", "# nodes: 2\n"),
    "a key without a value": Mistake("", 2, "nodes: has no value", "write a value", "nodes:\n"),
    "an own command": Mistake("", 2, "no other program is supported", "set its flags below train:", "command: [python, x.py]\n"),
    "a map for a list": Mistake("", 2, "envFrom: is a map, but a list is needed", "one item a line after -", "envFrom: {A: b}\n"),
    "env as a map": Mistake("", 2, "env: is a map, but a list is needed", 'write env: [{name: A, value: "b"}, {name: N, value: "3"}]', "env: {A: b, 'N': 3}\n"),
    "a secret in env as a map": Mistake("", 2, "env: is a map", "write env: [{name: MY_TOKEN, value: VALUE}]", "env: {MY_TOKEN: abc}\n"),
    "env as docker has it": Mistake("", 2, 'env[0]: is "A=b=c"', 'write {name: A, value: "b=c"}', "env: [A=b=c]\n"),
    "a pull secret by name": Mistake("", 2, 'imagePullSecrets[1]: is "two", but', "write {name: two}", "imagePullSecrets: [{name: one}, two]\n"),
    "a pull secret without a list": Mistake("", 2, 'imagePullSecrets: is "mine"', "write imagePullSecrets: [{name: mine}]", "imagePullSecrets: mine\n"),
    "a reference in env": Mistake("", 0, "warning: env[0].value: A contains $(HOME_DIR), which is not expanded", "write the value itself", 'env: [{name: A, value: "x:$(HOME_DIR)/y"}]\n'),
    "a variable in a path": Mistake("", 2, "contains ${LOGNAME}, and variables are not expanded", "write {user}", "pretrained: /w/${LOGNAME}/v\n"),
    "another variable in a path": Mistake("", 2, "contains $SCRATCH, and variables", "write the folder itself", "mydir: /m/$SCRATCH\n"),
    "an unknown placeholder": Mistake("", 2, "output: {username} is not a known placeholder", "write {user} or {synapse}", "output: /r/{username}\n"),
    "a placeholder of a claim": Mistake("", 2, "dataset.subPath: {name} is not a known placeholder", "write {user}", "dataset: {pvc: d, subPath: 'x/{name}'}\n"),
    "a placeholder in a volume": Mistake("", 2, 'worker.volumes[0].hostPath.path: "/h/{user}/m" contains {user}, which is not replaced here', "write /h/ada/m", "user: ada\nworker: {volumes: [{name: m, hostPath: {path: '/h/{user}/m'}}], volumeMounts: [{name: m, mountPath: /m}]}\n"),
    "a variable in a volume": Mistake("", 2, "launcher.volumes[0].nfs.path:", "write the path itself", "launcher: {volumes: [{name: m, nfs: {server: s, path: '/e/${TEAM}'}}], volumeMounts: [{name: m, mountPath: /m}]}\n"),
    "a variable in a mount": Mistake("", 2, "worker.volumeMounts[0].subPath:", "write subPathExpr: $(POD)", "worker: {volumes: [{name: m, emptyDir: {}}], volumeMounts: [{name: m, mountPath: /m, subPath: $(POD)}]}\n"),
    "a variable in an init container": Mistake("", 2, "worker.podSpec.initContainers[0].volumeMounts[0].mountPath:", "write /u/ada", "user: ada\nworker: {podSpec: {initContainers: [{name: i, image: 'i:1', command: [sh, -c, 'echo $HOME ${X} {y}'], volumeMounts: [{name: scratch, mountPath: /u/$USER}]}]}}\n"),
    "variables that are expanded": Mistake("", 0, "", "", "worker: {volumes: [{name: m, emptyDir: {}}], volumeMounts: [{name: m, mountPath: /m, subPathExpr: $(POD)}]}\n"),
    "a path with other signs": Mistake("", 0, "", "", "output: /r/a{1}$5{}/x$\n"),
    "a home folder": Mistake("", 2, "~ and variables are not expanded", "start it with /", "output: ~/results\n"),
    "a relative path": Mistake("", 2, '"data" is not an absolute path', "start it with /", "dataset: data\n"),
    "capital letters in a name": Mistake("", 2, '"My_Job" is not a valid Kubernetes name', "start with a-z", "name: My_Job\n"),
    "a unit that Kubernetes lacks": Mistake(
        "", 2, '"100GB" is not a valid quantity', "95000Mi", "resources:\n  limits: {memory: 100GB}\n"
    ),
    "a derived value": Mistake("", 2, "follows from cards", "set cards", "resources:\n  limits:\n    habana.ai/gaudi: 4\n"),
    "a device in the place of a profile": Mistake("", 0, "device: nvidia selects profile nvidia", "", "device: nvidia\n"),
    "a release that the card lacks": Mistake("", 2, "has no first-generation Gaudi", 'set synapse: "1.21.5"', 'synapse: "1.22.0"\n'),
    "UTF-16": Mistake("", 2, ":1:1: UTF-16 text", "save the file as UTF-8", "\ufeffnodes: 2\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_a_mistake_on_the_command_line(generate: Command, tmp_path: Path, name: str) -> None:
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    expect(generate, COMMAND_LINES[name], tmp_path)


@pytest.mark.parametrize("name", VALUES)
def test_a_mistake_in_a_values_file(generate: Command, tmp_path: Path, name: str) -> None:
    mistake = VALUES[name]
    encoding = "utf-16" if name == "UTF-16" else "utf-8"
    (tmp_path / "my.yaml").write_text(mistake.text.removeprefix("\ufeff"), encoding=encoding)
    expect(generate, mistake, tmp_path, "-f", str(tmp_path / "my.yaml"))


def expect(generate: Command, mistake: Mistake, here: Path, *more: str) -> None:
    done = generate(*shlex.split(mistake.words.format(here=here)), *more)
    output = done.stdout + done.stderr if "check" in mistake.words else done.stderr
    assert done.returncode == mistake.code, output
    assert mistake.said.replace("{here}", str(here)) in output
    fixes = [line for line in output.splitlines() if line.startswith("  fix: ")]
    assert not mistake.fix or any(mistake.fix in line for line in fixes), output
    assert "Traceback" not in output
    assert "None" not in output
    assert done.returncode == 0 or "kind: MPIJob" not in done.stdout


def test_the_last_of_two_files_wins(generate: Command, tmp_path: Path) -> None:
    for number in (2, 4):
        (tmp_path / f"{number}.yaml").write_text(f"nodes: {number}\n")
    done = generate("-f", str(tmp_path / "2.yaml"), "-f", str(tmp_path / "4.yaml"))
    assert "4 nodes x 8" in done.stderr


def test_no_login_and_no_home(generate: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setattr("pwd.getpwuid", lambda _: unknown())
    monkeypatch.delenv("HOME", raising=False)
    done = generate("--nodes", "2", "--out", str(tmp_path / "kit"))
    assert done.returncode == 0
    assert "the login is unknown" in done.stderr
    assert "fix: --set user=NAME" in done.stderr


def process(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "LOGNAME": "ada", **environment},
    )


def test_an_old_python_is_named_with_a_newer_one_to_type() -> None:
    program = f"import sys; sys.version_info = (3, 8, 0); sys.argv = ['generate.py']; exec(open({str(ROOT / 'generate.py')!r}).read())"
    done = process([sys.executable, "-c", program])
    assert done.returncode == 1
    assert "this Python is 3.8, and at least 3.10 is needed\n  fix: python3.11 generate.py" in done.stderr


def test_missing_packages_are_one_line_that_can_be_typed() -> None:
    done = process([sys.executable, "-I", "-S", "-c", f"exec(open({str(ROOT / 'generate.py')!r}).read())"])
    assert done.returncode == 1
    line = "python3 -m venv .venv && . .venv/bin/activate && pip install ."
    assert f"fix: {line}" in done.stderr
    assert line in (ROOT / "README.md").read_text()


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of the project that its user cannot write; below pytest's own folders only root can read."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_checkout_that_cannot_be_written_works(checkout: Path) -> None:
    for name in ("mpikit", "vit", "templates", "values"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "user.yaml"))
    for name in ("generate.py", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for folder, _, _ in os.walk(checkout):
        Path(folder).chmod(0o555)
    stranger = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 and shutil.which("setpriv") else []
    if process([*stranger, sys.executable, "-c", ""]).returncode:
        pytest.skip("another user cannot run this Python")
    done = process([*stranger, sys.executable, str(checkout / "generate.py")], HOME="/nonexistent")
    assert done.returncode == 0, done.stderr
    init = process(
        [*stranger, sys.executable, str(checkout / "generate.py"), "init", "--user", "ada"], HOME="/nonexistent"
    )
    assert init.returncode == 1
    assert "fix: make the folder writable" in init.stderr


@pytest.mark.parametrize("columns", ["40", "80"])
def test_help_fits_the_terminal(generate: Command, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = generate("--help").stdout
    examples = [line for line in text.splitlines() if "python generate.py" in line]
    assert all(len(line) <= int(columns) for line in text.splitlines() if line not in examples)
    for title in ("Set up:", "Before you submit:", "Run:", "Watch:", "Clean up:"):
        assert title in text
    assert "..." not in text.replace("[ARGS]...", "")
