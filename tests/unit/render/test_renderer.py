# SPDX-License-Identifier: Apache-2.0
"""What comes out: byte for byte against goldens, and read again by PyYAML and by kubectl's Go parser."""

from __future__ import annotations

import ast
import base64
import difflib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpikit.config.job import Job
from mpikit.errors import TemplateError
from mpikit.render.payload import Payload, read_payload, sha256_of
from mpikit.render.renderer import SCRIPTS, TEMPLATES, Rendered, _CompiledTemplates, check_size, render, render_rbac

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "contract" / "golden"
RenderJob = Callable[..., Rendered]

EVERYTHING = """
nodes: 3
globalBatch: 528
name: everything
image: mine:1
imagePullPolicy: Always
imagePullSecrets: [{name: pull}]
python: /opt/venv/bin/python
mydir: {pvc: home, subPath: kit}
dataset: {pvc: data}
pretrained: null
hostIPC: false
launcherCreationPolicy: WaitForWorkersReady
burnIn: 1m30s
labels: {kueue.x-k8s.io/queue-name: q}
annotations: {note: "#1"}
env:
  - {name: A, value: "$(B) $x"}
  - {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}
envFrom: [{secretRef: {name: s}}]
launcher:
  labels: {a: b}
  annotations: {sidecar.istio.io/inject: "false"}
  tolerations: [{key: k, operator: Exists}]
  podSpec: {priorityClassName: high}
worker:
  onePerNode: true
  nodeSelector: {gpu: "yes"}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: rack, operator: Exists}]}]
  volumes: [{name: more, emptyDir: {}}]
  volumeMounts: [{name: more, mountPath: /more}]
  podSpec: {securityContext: {runAsUser: 0}}
runPolicy:
  ttlSecondsAfterFinished: 60
  activeDeadlineSeconds: 3600
  suspend: true
  managedBy: kueue.x-k8s.io/multikueue
  schedulingPolicy: {minAvailable: 4, queue: q, minResources: {cpu: "1"}, priorityClass: p, scheduleTimeoutSeconds: 10}
train: {seed: 3, optimizer: sgd, dropout: 0.1, autocast: false, train_batch_size: 20}
"""
HOSTILE = """
dataset: "/data/a b'$(touch x)\\"é`id`;\\\\ # : - *"
python: "/opt/a b'$(touch x)\\"é/python"
image: "image:1"
env: [{name: A, value: "line 1\\nline 2 $(HOME) $HOME 'q' \\"q\\" \\\\ é 👩"}]
labels: {"on": "no", "null": "x"}
annotations: {a: "1e3", b: "0600", c: " ", d: "x: y", e: "2024-01-01"}
train: {name: "run 'n' $(touch y) \\"é\\" ; # x"}
"""
CASES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("default", "voyager", "voyager-mydir", "gaudi2", "gaudi3", "nvidia", "cpu", "baseline", "restricted"), ()
    ),
    "demo": ("dataset=/data/digits", "output=/results"),
    "fashion-mnist": ("dataset=/data/fashion-mnist", "output=/results"),
    "default-2-nodes": ("nodes=2",),
    "everything-on": (),
    "hostile-strings": (),
}


@pytest.fixture
def case(render_job: RenderJob, tmp_path: Path) -> Callable[[str], str]:
    """The manifest of a golden case."""

    def rendered(name: str) -> str:
        texts = {"everything-on": EVERYTHING, "hostile-strings": HOSTILE}
        file = f"{name.removesuffix('-2-nodes')}.yaml"
        if name in texts:
            (tmp_path / file).write_text(texts[name], encoding="utf-8")
            file = str(tmp_path / file)
        return render_job(*CASES[name], files=(file,)).manifest

    return rendered


@pytest.mark.parametrize("name", CASES)
def test_the_manifest_is_the_golden_one(case: Callable[[str], str], name: str, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN / f"{name}.yaml"
    text = case(name)
    if request.config.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_shipped_values_file_has_a_golden_manifest() -> None:
    shipped = {path.stem for path in (ROOT / "values").glob("*.yaml")} - {"user"}
    assert shipped <= set(CASES)


def test_a_second_node_changes_only_the_lines_that_must(case: Callable[[str], str]) -> None:
    one, two = case("default").splitlines(), case("default-2-nodes").splitlines()
    changed = [line for line in difflib.ndiff(one, two) if line.startswith("+ ")]
    allowed = (
        r'"?(name|app.kubernetes.io/instance)"?: "ada-vit-16cards(-kit-\w+)?"',
        r"job_name=ada-vit-16cards",
        r"num_nodes=2",
        r"num_ranks=16",
        r"mpirun .* -np 16 .*",
        r"--train_batch_size 32 \\",
        r".*ada-vit-16cards.launcher.log.*",
        r"replicas: 2",
    )
    assert [line for line in changed if not any(re.fullmatch(rf"\+ +(- )?{form}", line) for form in allowed)] == []
    assert len(one) == len(two)


def test_the_numbers_agree_wherever_they_stand(render_job: RenderJob) -> None:
    rendered = render_job("nodes=2")
    spec = yaml.safe_load(rendered.manifests["mpijob.yaml"])["spec"]
    worker = spec["mpiReplicaSpecs"]["Worker"]
    assert (worker["replicas"], spec["slotsPerWorker"]) == (2, 8)
    assert worker["template"]["spec"]["containers"][0]["resources"]["limits"]["habana.ai/gaudi"] == 8
    assert "-np 16 " in rendered.scripts["run_vit.sh"]
    assert "--train_batch_size 32 " in rendered.scripts["run_vit.sh"]


def test_the_same_values_give_the_same_bytes(render_job: RenderJob) -> None:
    assert render_job("nodes=2").manifest == render_job("nodes=2").manifest


@pytest.mark.parametrize("name", CASES)
def test_kubectl_reads_what_pyyaml_reads(case: Callable[[str], str], name: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine; any release from 1.25 on will do")
    text = case(name)
    command = [kubectl, "label", "--local", "--dry-run=client", "-f", "-", "x=y", "-o", "json"]
    output = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    assert list(_objects(output)) == [_labelled(document) for document in yaml.safe_load_all(text)]


def _objects(text: str) -> Any:
    """The JSON objects that kubectl prints one after the other."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text.rstrip()):
        found, position = decoder.raw_decode(text, position)
        position += len(text[position:]) - len(text[position:].lstrip())
        yield found


def _labelled(document: Any) -> Any:
    document["metadata"]["labels"]["x"] = "y"
    return document


def test_hostile_values_arrive_byte_for_byte(case: Callable[[str], str]) -> None:
    job = list(yaml.safe_load_all(case("hostile-strings")))[1]
    pod = job["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]
    paths = [volume["hostPath"]["path"] for volume in pod["volumes"] if volume["name"] == "dataset"]
    assert paths == ["/data/a b'$(touch x)\"é`id`;\\ # : - *"]
    env = {item["name"]: item["value"] for item in pod["containers"][0]["env"] if "value" in item}
    assert env["A"] == "line 1\nline 2 $$(HOME) $$HOME 'q' \"q\" \\ é 👩", "kubernetes halves each pair of dollars"
    annotations = {key: text for key, text in job["metadata"]["annotations"].items() if "mpikit" not in key}
    assert annotations == {"a": "1e3", "b": "0600", "c": " ", "d": "x: y", "e": "2024-01-01"}


def test_the_configmap_carries_the_scripts_and_the_trainer(make_job: Callable[..., Any]) -> None:
    rendered = render(make_job(), read_payload(ROOT / "vit"))
    config = yaml.safe_load(rendered.manifests["configmap.yaml"])
    assert config["immutable"] is True
    assert config["data"] == dict(rendered.scripts)
    packed = io.BytesIO(base64.b64decode(config["binaryData"]["vit.tar.gz"]))
    with tarfile.open(fileobj=packed) as archive:
        train = archive.extractfile("vit/train.py")
        assert train is not None
        found = train.read()
    assert found == (ROOT / "vit" / "train.py").read_bytes()
    assert len(rendered.manifests["configmap.yaml"]) < 256 << 10, "client-side kubectl apply takes no more"


def test_the_configmap_has_another_name_when_a_script_or_the_trainer_changes(make_job: Callable[..., Any]) -> None:
    names = {
        yaml.safe_load(render(make_job(setting), Payload({"vit/a.py": text})).manifests["configmap.yaml"])["metadata"][
            "name"
        ]
        for setting, text in (("cards=8", b"1"), ("cards=8", b"2"), ("train.seed=2", b"1"))
    }
    assert len(names) == 3


def test_an_archive_is_the_same_on_another_day(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    shutil.copytree(ROOT / "vit", folder)
    copy, source = read_payload(folder), read_payload(ROOT / "vit")
    assert copy.jobs().zipped() == source.jobs().zipped()
    assert copy.training().packed() == source.training().packed()


def test_a_weights_or_data_job_carries_what_it_imports_and_nothing_for_people() -> None:
    left, needed = {ROOT / "vit" / name / "__main__.py" for name in ("fetch", "prepare", "tensorboard")}, set()
    while left:
        module = left.pop()
        needed.add(module)
        left |= imported(module) - needed
    carried = {ROOT / name for name in read_payload(ROOT / "vit").jobs().files}
    assert needed <= carried
    assert not [path for path in carried if {"export", "predict", "training"} & set(path.parts)]


def test_a_place_where_nothing_can_be_kept_costs_only_time(
    render_job: RenderJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = render_job().manifest
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    monkeypatch.setattr(_CompiledTemplates, "_path", lambda _self, _bucket: Path("/proc/none/x.jinja"))
    assert render_job().manifest == text


def test_a_kept_template_is_not_used_once_its_source_has_changed(
    render_job: RenderJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    monkeypatch.setattr("mpikit.render.renderer.TEMPLATES", tmp_path / "templates")
    monkeypatch.setattr(_CompiledTemplates, "_path", lambda _self, bucket: tmp_path / bucket.key)
    assert "changed" not in render_job().manifest
    with (tmp_path / "templates" / "mpijob.yaml.j2").open("a") as file:
        file.write("# changed\n")
    assert "# changed" in render_job().manifest


def test_with_mydir_there_is_no_configmap_and_the_pods_know_the_scripts_hash(render_job: RenderJob) -> None:
    rendered = render_job("mydir=/shared/kit", "delivery=mydir")
    assert list(rendered.manifests) == ["mpijob.yaml"]
    replicas = yaml.safe_load(rendered.manifest)["spec"]["mpiReplicaSpecs"]
    hashes = {replica["template"]["metadata"]["annotations"]["mpikit/scripts-sha256"] for replica in replicas.values()}
    assert len(hashes) == 1
    assert "SHA256SUMS" in rendered.shared_files


def test_the_hash_covers_names_and_contents() -> None:
    assert len({sha256_of(files) for files in ({"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b""})}) == 4


def test_an_option_that_is_off_leaves_no_blank_line(case: Callable[[str], str]) -> None:
    for name in CASES:
        job = case(name).split("kind: MPIJob")[1]
        assert "\n\n" not in job, name


def test_every_scalar_in_a_template_goes_through_a_filter() -> None:
    for path in TEMPLATES.glob("*.j2"):
        bare = [text for text in re.findall(r"{{(.*?)}}", path.read_text()) if "|" not in text and "(" not in text]
        assert bare in ([], [" site_text "]), path.name


def test_templates_only_print() -> None:
    for path in TEMPLATES.glob("*.j2"):
        tags = re.findall(r"{[{%](.*?)[%}]}", path.read_text())
        assert not [tag for tag in tags if re.search(r"^-? *(set|include)\b|\| *default|[~+*]", tag)], path.name


def test_the_scripts_are_all_rendered(render_job: RenderJob) -> None:
    assert (
        set(render_job().scripts)
        == set(SCRIPTS)
        == {path.name.removesuffix(".j2") for path in TEMPLATES.glob("*.sh.j2")}
    )


def test_a_user_without_root_keeps_the_security_context_of_its_own_pod_spec(render_job: RenderJob) -> None:
    words = ("runAsUser=1001", "sshAuthMountPath=/home/mpi/.ssh", 'worker.podSpec={"securityContext": {"fsGroup": 7}}')
    replicas = yaml.safe_load(render_job(*words).manifests["mpijob.yaml"])["spec"]["mpiReplicaSpecs"]
    security = {role: replica["template"]["spec"]["securityContext"] for role, replica in replicas.items()}
    assert (security["Worker"]["fsGroup"], security["Worker"]["runAsUser"]) == (7, 1001)
    assert security["Launcher"]["fsGroup"] == 1001


def imported(path: Path) -> set[Path]:
    """Modules of vit that one of them imports, at its top or within a function, with the packages they are in."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vit":
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = set()
    for name in names:
        for module in (ROOT / name.replace(".", "/")).with_suffix(".py"), ROOT / name.replace(".", "/") / "__init__.py":
            if module.exists():
                found |= {
                    module,
                    *(folder / "__init__.py" for folder in module.parents if folder.is_relative_to(ROOT / "vit")),
                }
    return found


ENTRY_POINTS = ("train.py", "evaluate.py", "node.py", "runtime/devices.py", "supervise/__main__.py")


def test_an_mpijob_carries_what_training_imports_and_nothing_else() -> None:
    left, needed = {ROOT / "vit" / name for name in ENTRY_POINTS}, set()
    while left:
        module = left.pop()
        needed.add(module)
        left |= imported(module) - needed
    carried = {ROOT / name for name in read_payload(ROOT / "vit").training().files}
    assert carried == needed


def test_the_whole_config_map_fits_client_side_apply_with_room_to_spare(make_job: Callable[..., Job]) -> None:
    manifest = render(make_job(), read_payload(ROOT / "vit")).manifest
    config_map = next(yaml.safe_load_all(manifest))
    assert config_map["kind"] == "ConfigMap"
    assert len(json.dumps(config_map)) < 250 << 10  # of 256


def test_a_config_map_that_kubectl_cannot_apply_is_an_error_with_a_fix() -> None:
    check_size({"run_vit.sh": "x" * 50_000}, b"y" * 142_000)
    with pytest.raises(TemplateError, match=r"kubectl apply accepts at most 256\n  fix: "):
        check_size({"run_vit.sh": '"' * 50_000}, b"y" * 142_000)


def test_only_a_launcher_that_replaces_workers_has_a_token_and_an_account(make_job: Callable[..., Any]) -> None:
    job = make_job("restarts.replaceWorkers=true", "serviceAccountName=null")
    rendered = render(job, Payload({"vit/train.py": b"a"}))
    replicas = yaml.safe_load(rendered.manifests["mpijob.yaml"])["spec"]["mpiReplicaSpecs"]
    pods = {role: replica["template"]["spec"] for role, replica in replicas.items()}
    assert pods["Launcher"]["automountServiceAccountToken"] is True
    assert pods["Launcher"]["serviceAccountName"] == f"{job.job_name}-launcher"
    assert pods["Worker"]["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pods["Worker"]


@pytest.mark.parametrize("asked", [True, False])
def test_only_a_launcher_restarts_in_its_pod_and_only_if_it_was_killed(
    make_job: Callable[..., Any], asked: bool
) -> None:
    rendered = render(make_job(f"restarts.inPlace={str(asked).lower()}"), Payload({"vit/train.py": b"a"}))
    replicas = yaml.safe_load(rendered.manifests["mpijob.yaml"])["spec"]["mpiReplicaSpecs"]
    (launcher,), (worker,) = (replicas[role]["template"]["spec"]["containers"] for role in ("Launcher", "Worker"))
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [134, 137, 139]}}
    assert launcher.get("restartPolicyRules") == ([rule] if asked else None)
    assert launcher.get("restartPolicy") == ("Never" if asked else None)
    assert "restartPolicyRules" not in worker


@pytest.mark.parametrize("account", ["null", "ada"])
def test_the_rights_name_the_workers_of_the_job_and_its_launcher(make_job: Callable[..., Any], account: str) -> None:
    job = make_job("restarts.replaceWorkers=true", f"serviceAccountName={account}", "nodes=2")
    *accounts, role, binding = yaml.safe_load_all(render_rbac(job, "team"))
    (rule,) = role["rules"]
    assert rule["resourceNames"] == [f"{job.job_name}-worker-0", f"{job.job_name}-worker-1"]
    assert (rule["resources"], rule["verbs"]) == (["pods"], ["get", "delete"])
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == (job.launcher_account, "team")
    assert [item["metadata"]["name"] for item in accounts] == ([] if account == "ada" else [job.launcher_account])


def test_a_worker_knows_its_node_if_the_job_has_restarts(make_job: Callable[..., Any]) -> None:
    for words, known in ((), True), (("restarts.max=0",), False):
        rendered = render(make_job(*words), Payload({"vit/train.py": b"a"}))
        replicas = yaml.safe_load(rendered.manifests["mpijob.yaml"])["spec"]["mpiReplicaSpecs"]
        (worker,) = replicas["Worker"]["template"]["spec"]["containers"]
        found = [one["valueFrom"]["fieldRef"] for one in worker["env"] if one["name"] == "MPIKIT_NODE_NAME"]
        assert [one["fieldPath"] for one in found] == (["spec.nodeName"] if known else [])


def test_the_limit_of_excluded_nodes_is_kept_with_the_job(make_job: Callable[..., Any]) -> None:
    def annotations(*words: str) -> dict[str, str]:
        rendered = render(make_job(*words), Payload({"vit/train.py": b"a"}))
        found = yaml.safe_load(rendered.manifests["mpijob.yaml"])["metadata"]["annotations"]
        return {key: value for key, value in found.items() if "exclude" in key}

    assert annotations() == {}
    asked = annotations("restarts.exclude.auto=true", "restarts.exclude.max=3")
    assert asked == {"mpikit/exclude-auto": "true", "mpikit/exclude-max": "3"}
