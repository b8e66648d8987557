# SPDX-License-Identifier: Apache-2.0
"""The verbs before a job: the command that is printed, the Job, what is done here, and what is refused."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpikit.config.job import Job
from mpikit.config.prepare import data_task, source_of, weights_task
from mpikit.config.pretrained import FILES, VARIANTS
from mpikit.preflight.storage_probe import items
from mpikit.render.context import image_of
from mpikit.render.renderer import render_task
from mpikit.trainer import MEGA_PARAMETERS
from tests.conftest import STUB, Command
from tests.support.webserver import Site, serving
from vit.variants import VARIANTS as MODELS

URL = "https://storage.googleapis.com/vit_models"


def test_the_command_is_printed_for_the_folder_of_the_values(generate: Command) -> None:
    done = generate("weights", "ViT-L_16")
    assert done.returncode == 0, done.stderr
    folder = "/voyager/ceph/users/ada/datasets/vit_pretrained"
    command = f"python -m vit.fetch {URL}/imagenet21k/ViT-L_16.npz {folder}/ViT-L_16.npz --model_type ViT-L_16\n"
    assert done.stdout == command


def test_the_hybrid_is_asked_for_and_kept_under_the_buckets_own_name(generate: Command) -> None:
    words = shlex.split(generate("weights", "R50-ViT-B_16", "--to", "/a b").stdout)
    assert words[3:5] == [f"{URL}/imagenet21k/R50%2BViT-B_16.npz", "/a b/R50+ViT-B_16.npz"]


def test_without_a_model_it_is_that_of_the_values(generate: Command) -> None:
    assert "/ViT-S_16.npz" in generate("weights", "--variant", "augreg", "--set", "train.model_type=ViT-S_16").stdout


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"tiny"}))
def test_each_model_of_the_trainer_has_weights(model: str) -> None:
    assert model in MEGA_PARAMETERS
    assert [variant for variant in VARIANTS if (model, variant) in FILES]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tiny",), "no published weights of tiny"),
        (("ViT-H_14", "--variant", "augreg"), "--variant imagenet21k; augreg has"),
        (("--variant", "sam"), "sam is not a variant"),
        (("--to", '{"pvc": "weights"}'), "a folder is on a claim"),
        (("--set", "pretrained=null"), "--to FOLDER"),
        (("--here", "--job"), "cannot be combined"),
    ],
)
def test_what_cannot_be_is_refused_as_values_are(generate: Command, words: tuple[str, ...], told: str) -> None:
    done = generate("weights", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def manifests(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def test_the_job_has_the_values_image_account_place_and_folder(make_job: Callable[..., Job]) -> None:
    job = make_job('env=[{"name": "https_proxy", "value": "http://proxy:3128"}]')
    kit, manifest = manifests(render_task(job, weights_task(job, "ViT-B_16", "imagenet21k"), STUB))
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (manifest["metadata"]["namespace"], pod["serviceAccountName"]) == ("ada-restricted", "ada")
    assert pod["nodeSelector"] == {"brightcomputing.com/node-category": "compute"}
    assert container["image"] == image_of(job)
    assert container["command"][:3] == ["python3", "-m", "vit.fetch"]
    assert {"name": "https_proxy", "value": "http://proxy:3128"} in container["env"]
    assert {"name": "PYTHONPATH", "value": "/kit/vit.zip"} in container["env"]
    assert "habana.ai/gaudi" not in str(container["resources"])
    folders = {volume["name"]: volume for volume in pod["volumes"]}
    assert folders["pretrained"]["hostPath"]["path"] == job.pretrained
    assert folders["kit"]["configMap"]["name"] == kit["metadata"]["name"]
    assert list(kit["binaryData"]) == ["vit.zip"]


def test_the_job_takes_a_claim_and_the_trainer_from_a_shared_folder(make_job: Callable[..., Job]) -> None:
    job = make_job('pretrained={"pvc": "data", "subPath": "weights"}', "delivery=mydir", "mydir=/shared/kit")
    (manifest,) = manifests(render_task(job, weights_task(job, "ViT-B_16", "imagenet21k"), STUB))
    pod = manifest["spec"]["template"]["spec"]
    assert {"name": "PYTHONPATH", "value": "/mydir"} in pod["containers"][0]["env"]
    assert {"name": "pretrained", "persistentVolumeClaim": {"claimName": "data"}} in pod["volumes"]
    assert {"name": "pretrained", "mountPath": "/pretrained", "subPath": "weights"} in pod["containers"][0][
        "volumeMounts"
    ]


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(b"PK\x05\x06" + bytes(18)) as running:
        yield running


def test_done_here_its_failure_is_exit_1_with_the_trainers_code(
    generate: Command, site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The file is an empty zip: the server's own, but no weights."""
    mirror = site.url.rpartition("/")[0]
    done = generate("weights", "--here", "--to", str(tmp_path / "new"), "--mirror", mirror)
    assert done.returncode == 1
    assert "vit.fetch ended with exit code 8" in done.stderr
    assert re.search(r"vit\.fetch: .*does not begin as a \.npz", capfd.readouterr().err)
    assert not list((tmp_path / "new").iterdir())


def test_the_data_command_goes_from_the_archives_to_the_dataset_of_the_values(generate: Command) -> None:
    done = generate("data", "imagenet1K", "--from", "/a b", "--allow-subset")
    folder = "/voyager/ceph/users/ada/datasets/imagenet/ILSVRC2012"
    assert done.stdout == f"python -m vit.prepare imagenet1K --from '/a b' --to {folder} --allow_subset\n"


def test_another_dataset_never_goes_into_the_folder_of_the_values(generate: Command) -> None:
    done = generate("data", "cifar10", "--from", "/a")
    assert (done.returncode, done.stdout) == (2, "")
    assert "fix: --to FOLDER, an empty folder for cifar10" in done.stderr
    assert generate("data", "cifar10", "--from", "/a", "--set", "dataset=/mine").stdout.endswith("--to /mine\n")
    same = ("--set", "train.dataset=fashion_mnist", "-f", "-")
    assert generate("data", "fashion-mnist", "--from", "/a", *same, stdin="dataset: /f\n").returncode == 0


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion_mnist", "Fashion-MNIST"])
def test_a_dataset_has_its_name_in_either_spelling(generate: Command, name: str) -> None:
    done = generate("data", name, "--from", "/a", "--to", "/b")
    assert done.stdout == "python -m vit.prepare fashion_mnist --from /a --to /b\n"


def test_an_image_folder_is_looked_through_where_it_lies(generate: Command) -> None:
    assert (
        generate("data", "imagefolder", "--from", "/tree").stdout == "python -m vit.prepare imagefolder --from /tree\n"
    )
    assert generate("data", "imagefolder", "--from", "/tree", "--to", "/x").returncode == 2


def test_the_data_job_reads_the_archives_and_writes_the_dataset(make_job: Callable[..., Job]) -> None:
    job = make_job()
    task = data_task(job, "imagenet1K", source_of('{"pvc": "archives"}', "--from"))
    _, manifest = manifests(render_task(job, task, STUB))
    pod = manifest["spec"]["template"]["spec"]
    command = ["python3", "-m", "vit.prepare", "imagenet1K", "--from", "/archives", "--to", "/dataset"]
    assert pod["containers"][0]["command"] == command
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["archives"]["readOnly"]
    assert "readOnly" not in mounts["dataset"]
    assert {"name": "archives", "persistentVolumeClaim": {"claimName": "archives"}} in pod["volumes"]
    assert task.here == ()


@pytest.mark.parametrize("text", ["relative/path", '{"pvc": 1}', "{", '{"claim": "x"}'])
def test_a_source_that_is_no_folder_is_refused(generate: Command, text: str) -> None:
    done = generate("data", "cifar10", "--from", text, "--to", "/b", "--job")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--from: " in done.stderr
    assert "{pvc: NAME" in done.stderr


def test_a_failed_preparation_here_is_exit_1(generate: Command, tmp_path: Path) -> None:
    done = generate("data", "imagenet1K", "--from", str(tmp_path), "--to", str(tmp_path / "to"), "--here")
    assert done.returncode == 1
    assert "vit.prepare ended with exit code 8" in done.stderr


@pytest.mark.parametrize(
    ("dataset", "looked_at"),
    [("imagenet1K", ["/dataset/train", "/dataset/val"]), ("fashion_mnist", ["/dataset"]), ("synthetic", [])],
)
def test_the_doctors_probe_looks_for_what_the_preparation_makes(
    make_job: Callable[..., Job], dataset: str, looked_at: list[str]
) -> None:
    paths = [path for _, path, folder in items(make_job(f"train.dataset={dataset}")) if folder == "dataset"]
    assert paths == looked_at


def test_strange_values_reach_the_pod_as_they_are(make_job: Callable[..., Job]) -> None:
    """Kubernetes takes $(NAME) in a command for a variable; two dollars are one that is meant."""
    strange = "/opt/a b'$(HOME)\"#: é`id`"
    job = make_job(f"python={strange}/python")
    _, manifest = manifests(render_task(job, data_task(job, "cifar10", f"{strange}/archives"), STUB))
    pod = manifest["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][0] == f"{strange}/python".replace("$(", "$$(")
    assert f"{strange}/archives" in [volume.get("hostPath", {}).get("path") for volume in pod["volumes"]]


def test_what_comes_next_is_told_with_the_jobs_own_namespace(generate: Command) -> None:
    said = generate("weights", "--job").stderr
    assert "kubectl -n ada-restricted logs -f job/ada-weights-vit-b-16" in said
    assert "delete job,configmap -l app.kubernetes.io/instance=ada-weights-vit-b-16" in said
