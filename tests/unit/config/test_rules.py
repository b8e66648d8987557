# SPDX-License-Identifier: Apache-2.0
"""Rules across values: each fault names its key, its place and a fix that works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mpikit.config.job import Job
from mpikit.config.loader import load_job
from mpikit.config.values import load_values
from mpikit.diagnostics import Diagnostic
from mpikit.errors import ValuesError

MakeJob = Callable[..., Job]


def faults_of(make_job: MakeJob, *settings: str) -> list[Diagnostic]:
    with pytest.raises(ValuesError) as caught:
        make_job(*settings)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("settings", "key", "said", "fix"),
    [
        (["synapse=1.22.0"], "synapse", "no first-generation Gaudi (last: 1.21.5)", 'synapse: "1.21.5"'),
        (["synapse=1.22"], "synapse", "no first-generation Gaudi", "device: gaudi2"),
        (["synapse=1.14.0"], "synapse", "older than 1.15.0", "1.15.1"),
        (["synapse=1.21.2"], "synapse", "no build number", '"1.21.5"'),
        (["synapse=1.99"], "synapse", "not a known release", "1.21.5"),
        (["os=ubuntu20.04"], "os", "no image of SynapseAI 1.21.5", "ubuntu22.04"),
        (["synapse=null"], "synapse", "is missing", "set synapse"),
        (["cards=9"], "cards", "more than a node", "cards: 8"),
        (["user=" + "a" * 50], "user", "63 are allowed", "set name"),
        (["name=" + "a" * 56], "name", "63 are allowed", "at most 54"),
        (["user=Ana.B"], "user", "is not a valid", "start with a-z"),
        (["user=a b'$(touch x)\"é"], "user", "is not a valid", "start with a-z"),
        (["nodes=3"], "globalBatch", "24 ranks", "globalBatch: 504 with"),
        (["nodes=3"], "globalBatch", "24 ranks", "or globalBatch: 528"),
        (["nodes=42"], "globalBatch", "336 ranks", "globalBatch: 672"),
        (["nodes=64"], "train.gradient_accumulation_steps", "1 images a rank", "steps: 1"),
        (["dataset=data/x"], "dataset", "not an absolute path", "start it with /"),
        (["dataset=/a/../b"], "dataset", "contains ..", "without .."),
        (["dataset=null"], "dataset", "is missing", "train/ and val/"),
        (["delivery=mydir"], "mydir", "is missing", "set mydir"),
        (["cards=true"], "cards", "is not a number", "write a number"),
        (['cards=["x"]'], "cards", "is not a whole number", "whole number"),
        (["nodes=0"], "nodes", "too small", "1 or more"),
        (["trian.num_steps=3"], "trian", "no such key", "did you mean train?"),
        (["num_steps=3"], "num_steps", "no such key", "write train.num_steps"),
        (["train.model_type=ViT-B16"], "train.model_type", "not one of the choices", "ViT-B_16"),
        (["resources.limits.hugepages-2Mi=3Mi"], "resources.limits.hugepages-2Mi", "not a multiple", "round"),
        (["launcher.resources.limits.memory=64"], "launcher.resources.limits.memory", "64 is 64 bytes", "write 64Mi"),
        (["resources.requests.memory=512m"], "resources.requests.memory", "m is milli", "write 512Mi"),
        (["shmSize=16"], "shmSize", "16 is 16 bytes, since it has no unit", "write 16Mi"),
        (["nodes=4", "restarts.minNodes=3"], "restarts.minNodes", "3 x 8 = 24 ranks", "set one of 4, 2, 1"),
        (
            ["nodes=6", "globalBatch=240", "train.gradient_accumulation_steps=1", "restarts.minNodes=4"],
            "restarts.minNodes",
            "32 ranks",
            "6, 5, 3, 2, 1",
        ),
        (["nodes=2", "restarts.minNodes=3"], "restarts.minNodes", "more than nodes: 2", "at most 2"),
        (["nodes=2", "restarts.minNodes=1", "restarts.max=0"], "restarts.minNodes", "no effect", "leave minNodes out"),
        (["exclude.auto=true"], "exclude", "no such key", "write restarts.exclude"),
        (["inPlace=true"], "inPlace", "no such key", "write restarts.inPlace"),
        (["backoffLimit=1"], "backoffLimit", "no such key", "write runPolicy.backoffLimit"),
        (["burnIn=soon"], "burnIn", "not a valid time span", "30s"),
        (["burnIn=1.5s"], "burnIn", "not a valid time span", "30s"),
        (["burnIn=2d"], "burnIn", "too large", "86400"),
        (["resources.limits.cpu=many"], "resources.limits.cpu", "not a valid quantity", "500m"),
        (["resources.requests.cpu=96"], "resources.requests.cpu", "more than the limit", "lower"),
        (['env=[{"name": "MASTER_ADDR", "value": "x"}]'], "env[0].name", "set by the kit", "remove it"),
        (['env=[{"name": "A-B", "value": "x"}]'], "env[0].name", "not a valid shell variable name", "letters"),
        (['worker.podSpec={"volumes": []}'], "worker.podSpec.volumes", "the kit sets this field", "worker.volumes"),
        (["device=null"], "device", "is missing", "set device"),
        (["runAsUser=1000"], "runAsUser", "1000 cannot read", "sshAuthMountPath: /home/mpi/.ssh"),
        (["runAsUser=0"], "runAsUser", "too small", "1 or more"),
        (["runAsUser=1", "delivery=mydir", "mydir=/m", "sshAuthMountPath=/k"], "runAsUser", "/etc/passwd", "configmap"),
        (['worker.podSpec={"securityContext": 1}'], "worker.podSpec.securityContext", "is not a map", "below it"),
        (["user=null"], "user", "is missing", "set user"),
        (["resources.limits.hugepages-x=3Mi"], "resources.limits.hugepages-x", "not a valid page size", "2Mi"),
        (["resources.limits.hugepages-0Mi=3Mi"], "resources.limits.hugepages-0Mi", "not a valid page size", "2Mi"),
        (
            ["resources.limits.habana\\.ai/gaudi=4"],
            "resources.limits.habana.ai/gaudi",
            "follows from cards",
            "set cards",
        ),
        (["outputFreeGiB=1e300"], "outputFreeGiB", "too large", "or less"),
        (["globalBatch=8000000056"], "globalBatch", "too large", "1048576"),
        (["nodes=1_0"], "nodes", "is not a number", "write a number"),
        (["train.learning_rate=nan"], "train.learning_rate", "is not a number", "write a number"),
        (["train.learning_rate=0"], "train.learning_rate", "too small", "more than 0"),
        (["train.dropout=1"], "train.dropout", "too large", "less than 1"),
        (["train.name=../x"], "train.name", "not a valid folder name", "without /"),
        (["train.img_size=7"], "train.img_size", "below one patch", "at least 16"),
        (['worker.podSpec={"a": 99999999999999999999}'], "worker.podSpec", "beyond 64 bits", "in quotes"),
        (['worker.podSpec={"a": NaN}'], "worker.podSpec", "not a finite number", "finite"),
        (['worker.podSpec={"a": "\\u0000"}'], "worker.podSpec", "a NUL character", "remove it"),
        (["worker.podSpec=" + "[" * 100_000], "worker.podSpec", "nested deeper than 30", "make it flatter"),
        (
            ['env=[{"name": "A", "value": "x", "valueFrom": {}}]'],
            "env[0].name",
            "both value and valueFrom",
            "valueFrom:",
        ),
        (['env=[{"name": "UID", "value": "1"}]'], "env[0].name", "the shell", "remove it"),
        (['labels={"a": "b c"}'], "labels.a", "not a valid label value", "annotation"),
        (['worker.labels={"mpikit/user": "eve"}'], "worker.labels.mpikit/user", "the kit sets", "remove it"),
        (['worker.volumes=[{"name": "output"}]'], "worker.volumes[0]", "the kit adds", "another name"),
        (
            ['worker.volumeMounts=[{"name": "x"}]'],
            "worker.volumeMounts[0]",
            "not a volume of this pod",
            "worker.volumes",
        ),
        (['dataset={"pcv": "x"}'], "dataset.pcv", "no such key", "did you mean dataset.pvc?"),
        (["dataset=[1]"], "dataset", "is not a valid folder", "{pvc: NAME"),
        (["replicas=3"], "replicas", "no such key", "write nodes"),
        (['runPolicy={"backofLimit": 1}'], "runPolicy.backofLimit", "no such key", "runPolicy.backoffLimit"),
        (["cards=7"], "globalBatch", "7 ranks", "globalBatch: 504 "),
        (["restarts.exclude={auto: true, max: 0}"], "restarts.exclude.max", "nothing to exclude", "at least 1"),
        (["restarts={max: 0, exclude: {auto: true}}"], "restarts.exclude.auto", "has no effect", "restarts.max"),
    ],
)
def test_a_fault_names_its_key_and_a_fix(make_job: MakeJob, settings: list[str], key: str, said: str, fix: str) -> None:
    found = [fault for fault in faults_of(make_job, *settings) if fault.key == key]
    assert len(found) == 1, faults_of(make_job, *settings)
    assert said in found[0].message
    assert fix in found[0].fix
    assert found[0].where == "--set" or key in (
        "dataset",
        "mydir",
        "globalBatch",
        "train.gradient_accumulation_steps",
        "os",
    )


def test_the_neighbours_that_a_fault_names_make_a_job(make_job: MakeJob) -> None:
    for nodes in (3, 5, 6, 7, 9, 42, 100):
        fix = next(fault.fix for fault in faults_of(make_job, f"nodes={nodes}") if fault.key == "globalBatch")
        for choice in fix.removeprefix("set ").split(" or "):
            settings = [f"{key}={number}" for key, number in re.findall(r"([\w.]+): (\d+)", choice)]
            assert make_job(f"nodes={nodes}", *settings).nodes == nodes


def test_all_faults_of_a_file_are_reported_at_once(values_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text('nodez: 2\nnodes: 1\nnodes: 2\ncards: "eight"\ndataset: data/x\nsynapse: "1.22"\n')
    with pytest.raises(ValuesError) as caught:
        load_job(load_values(values_root, [str(file)], [("--set", "user=ada")]))
    places = [(fault.where, fault.key, bool(fault.fix)) for fault in caught.value.faults]
    lines = {1: "nodez", 3: "nodes", 4: "cards", 5: "dataset", 6: "synapse"}
    assert places == [(f"{file}:{line}:1", key, True) for line, key in lines.items()]


@pytest.mark.parametrize("login", ["root", "Ana.B", "", "1st"])
def test_a_login_that_is_no_user_name_is_a_warning_beside_the_errors(values_root: Path, login: str) -> None:
    with pytest.raises(ValuesError) as caught:
        load_job(load_values(values_root, [], [("--set", "synapse=1.22")], login))
    assert {fault.key: fault.severity for fault in caught.value.faults} == {"user": "warning", "synapse": "fault"}
    assert "--set user=" in str(caught.value)


def test_unquoted_versions_are_answered_with_what_was_written(values_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("synapse: 1.20\n")
    with pytest.raises(ValuesError, match=r'YAML reads 1.20 as a number, but text is needed\n  fix: write "1.20"'):
        load_job(load_values(values_root, [str(file)], [("--set", "user=ada")]))


def test_a_bare_minor_release_means_its_newest_pinned_build(make_job: MakeJob) -> None:
    assert make_job("synapse=1.20").release == "1.20.0"


def test_with_an_image_of_ones_own_the_release_rules_are_warnings(values_root: Path) -> None:
    flags = [("--set", "user=ada"), ("--set", "image=mine:1"), ("--set", "synapse=1.22")]
    job, warnings = load_job(load_values(values_root, [], flags))
    assert job.image == "mine:1"
    assert [(fault.key, fault.severity) for fault in warnings] == [("synapse", "warning")]


def test_users_and_paths_follow_from_the_user(make_job: MakeJob) -> None:
    job = make_job()
    assert (job.namespace, job.service_account_name) == ("ada-restricted", "ada")
    assert job.output == "/voyager/ceph/users/ada/results/vit"


def test_away_from_voyager_no_namespace_is_set(make_job: MakeJob) -> None:
    assert make_job(files=("gaudi2.yaml",)).namespace is None


def test_an_item_of_the_wrong_kind_hides_no_other_fault(values_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text('synapse: "1.22.0"\ncards: 9\nimagePullSecrets: [x]\nworker: {tolerations: [hello]}\nenv: [D=4]\n')
    with pytest.raises(ValuesError) as caught:
        load_job(load_values(values_root, [str(file)], [("--set", "user=ada")]))
    assert [fault.where for fault in caught.value.faults] == [
        f"{file}:{place}" for place in ("1:1", "2:1", "3:20", "4:24", "5:7")
    ]


def test_a_key_with_dots_is_found_on_its_own_line(values_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "dots.yaml"
    file.write_text("nodes: 2\nresources:\n  limits:\n    habana.ai/gaudi: 4\n")
    with pytest.raises(ValuesError, match=rf"{file}:4:5: resources.limits.habana.ai/gaudi: follows from cards"):
        load_job(load_values(values_root, [str(file)], [("--set", "user=ada")]))
