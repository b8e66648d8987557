# SPDX-License-Identifier: Apache-2.0
"""values/voyager-mydir.yaml against the files that it replaces: equal, but for the table in docs/voyager.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpikit.render.renderer import Rendered

ROOT = Path(__file__).resolve().parents[2]

# javierhndev/Voyager-Reference-Models, PyTorch/computer_vision/classification/ViT, with yourusername as the user.
UPSTREAM: dict[str, str] = {
    "namespace": "yourusername-restricted",
    "serviceAccountName": "yourusername",
    "slotsPerWorker": "8",
    "cleanPodPolicy": "Running",
    "backoffLimit": "unset",
    "hostIPC": "launcher worker",
    "image": "vault.habana.ai/gaudi-docker/1.15.1/ubuntu22.04/habanalabs/pytorch-installer-2.2.0",
    "image tag": "latest",
    "launcher nodeSelector": "brightcomputing.com/node-category=compute",
    "launcher limits": "cpu=4 memory=8Gi",
    "launcher requests": "cpu=2 memory=4Gi",
    "worker limits": "cpu=95 habana.ai/gaudi=8 hugepages-2Mi=95000Mi memory=409Gi",
    "worker requests": "cpu=95 habana.ai/gaudi=8 hugepages-2Mi=95000Mi memory=409Gi",
    "launcher mounts": "mydir scratch dataset pretrained output",
    "worker mounts": "mydir=/mydir scratch=/scratch dataset=/dataset pretrained=/pretrained output=/output",
    "mydir": "/home/yourusername/models/voyager/vit_pt/1.15.1",
    "scratch": "emptyDir",
    "dataset": "/voyager/ceph/users/yourusername/datasets/imagenet/ILSVRC2012",
    "pretrained": "/voyager/ceph/users/yourusername/datasets/vit_pretrained",
    "output": "/voyager/ceph/users/yourusername/results/vit",
    "mydir hostPath type": "Directory",
    "dataset hostPath type": "Directory",
    "pretrained hostPath type": "Directory",
    "output hostPath type": "Directory",
    "worker command": "unset",
    "readinessProbe": "unset",
    "preStop": "unset",
    "mpirun --bind-to": "core",
    "mpirun --map-by": "ppr:4:socket:PE=6",
    "mpirun --rank-by": "core",
    "mpirun --report-bindings": "set",
    "mpirun --tag-output": "set",
    "mpirun --merge-stderr-to-stdout": "set",
    "mpirun --prefix": "$MPI_ROOT",
    "mpirun --hostfile": "unset",
    "mpirun -x": "MASTER_ADDR MASTER_PORT PYTHONPATH",
    "MASTER_PORT": "15566",
    "command of a rank": "python train.py",
    "--name": "imagenet1k_TF",
    "--dataset": "imagenet1K",
    "--data_path": "/dataset",
    "--model_type": "ViT-B_16",
    "--pretrained_dir": "/pretrained/ViT-B_16.npz",
    "--output_dir": "/output",
    "--num_steps": "20000",
    "--eval_every": "1000",
    "--train_batch_size": "64",
    "--gradient_accumulation_steps": "2",
    "--img_size": "384",
    "--learning_rate": "0.06",
    "--autocast": "set",
    "--device": "unset",
}
AT_8 = {"name": "yourusername-vit-8cards", "replicas": "1", "mpirun -np": "8"}
AT_16 = {"name": "yourusername-vit-16cards", "replicas": "2", "mpirun -np": "16"}


def ours(rendered: Rendered) -> dict[str, str]:
    """The same facts, read out of what is rendered."""
    job = yaml.safe_load(rendered.manifest)
    spec = job["spec"]
    launcher, worker = (spec["mpiReplicaSpecs"][role]["template"]["spec"] for role in ("Launcher", "Worker"))
    first: dict[str, Any] = worker["containers"][0]
    image, _, tag = first["image"].rpartition(":")
    facts = {
        "name": job["metadata"]["name"],
        "namespace": job["metadata"]["namespace"],
        "serviceAccountName": worker["serviceAccountName"],
        "slotsPerWorker": str(spec["slotsPerWorker"]),
        "replicas": str(spec["mpiReplicaSpecs"]["Worker"]["replicas"]),
        "cleanPodPolicy": spec["runPolicy"]["cleanPodPolicy"],
        "backoffLimit": str(spec["runPolicy"].get("backoffLimit", "unset")),
        "hostIPC": " ".join(n for n, pod in (("launcher", launcher), ("worker", worker)) if pod.get("hostIPC")),
        "image": image,
        "image tag": tag,
        "launcher nodeSelector": pairs(launcher["nodeSelector"]),
        "launcher limits": pairs(launcher["containers"][0]["resources"]["limits"]),
        "launcher requests": pairs(launcher["containers"][0]["resources"]["requests"]),
        "worker limits": pairs(first["resources"]["limits"]),
        "worker requests": pairs(first["resources"]["requests"]),
        "launcher mounts": " ".join(mount["name"] for mount in launcher["containers"][0]["volumeMounts"]),
        "worker mounts": " ".join(f"{mount['name']}={mount['mountPath']}" for mount in first["volumeMounts"]),
        "worker command": " ".join(first["command"]),
        "readinessProbe": f"port {first['readinessProbe']['tcpSocket']['port']}",
        "preStop": " ".join(first["lifecycle"]["preStop"]["exec"]["command"]),
    }
    for volume in worker["volumes"]:
        path = volume.get("hostPath", {})
        facts[volume["name"]] = path.get("path", "emptyDir")
        facts |= {f"{volume['name']} hostPath type": path["type"]} if path else {}
    return facts | script_facts(rendered.scripts["run_vit.sh"])


def pairs(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(values.items()))


def script_facts(script: str) -> dict[str, str]:
    """mpirun's command line of Open MPI 4, with the pods' paths in the place of the script's variables."""
    command = re.search(r"^mpirun .*?&$", script, re.MULTILINE | re.DOTALL)
    placement = re.search(r"\(\(BASH_REMATCH\[1\] < 5\)\); then\n +placement=\((.*)\)", script)
    assert command
    assert placement
    line = command[0].replace("\\\n", " ").removesuffix("&").replace('"${placement[@]}"', placement[1])
    for name, default in re.findall(r'^(\w+)="\$\{MPIKIT_\w+:-(.*?)\}"$', script, re.MULTILINE):
        line = line.replace(f"${name}", default)
    words = shlex.split(line)[1:]
    at = words.index("bash")
    facts = {"command of a rank": " ".join(words[at : at + 2])} | flags(words[at + 2 :], "")
    mpirun = flags(words[:at], "mpirun ")
    mpirun["mpirun -x"] = " ".join(words[i + 1] for i, word in enumerate(words[:at]) if word == "-x")
    port = re.search(r"MPIKIT_MASTER_PORT:-(\d+)", script)
    prefix = re.search(r'--prefix "(\$MPI_ROOT)"', script)
    assert port
    assert prefix
    return facts | mpirun | {"MASTER_PORT": port[1], "mpirun --prefix": prefix[1]}


def flags(words: list[str], prefix: str) -> dict[str, str]:
    found = {}
    for number, word in enumerate(words):
        after = words[number + 1] if number + 1 < len(words) else "-"
        if word.startswith("-"):
            found[prefix + word] = "set" if after.startswith("-") else after
    return found


def listed() -> dict[str, tuple[str, str]]:
    """The table of docs/voyager.md: what -> (upstream, here)."""
    table = (ROOT / "docs" / "voyager.md").read_text().split("## Against the upstream files")[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    assert all(len(row) == 4 and row[3] for row in rows), "each difference has its reason"
    return {row[0]: (row[1], row[2]) for row in rows[2:]}


@pytest.mark.parametrize(("nodes", "upstream"), [(1, AT_8), (2, AT_16)])
def test_the_job_is_upstreams_but_for_the_listed_differences(
    render_job: Callable[..., Rendered], nodes: int, upstream: dict[str, str]
) -> None:
    rendered = render_job("user=yourusername", "synapse=1.15.1", f"nodes={nodes}", files=("voyager-mydir.yaml",))
    wanted, got = UPSTREAM | upstream, ours(rendered)
    here = {key: got.get(key, "unset") for key in wanted | got}
    different = {
        key: (wanted.get(key, "unset"), value) for key, value in here.items() if wanted.get(key, "unset") != value
    }
    at_16 = listed().pop("--train_batch_size at 16 cards")
    expected = {key: row for key, row in listed().items() if key != "--train_batch_size at 16 cards"}
    assert different == (expected | {"--train_batch_size": at_16} if nodes == 2 else expected)
