# SPDX-License-Identifier: Apache-2.0
"""What doctor finds before a job is submitted: each fault, produced for real, must be told alone and with its fix."""

from __future__ import annotations

import http.server
import json
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from jobs import ROOT, settings, submit
from kube import Kube, Object, wait_for

sys.path.insert(0, str(ROOT))

from mpikit.config.loader import load_job
from mpikit.config.values import load_values
from mpikit.diagnostics import Diagnostic
from mpikit.errors import Unreachable
from mpikit.kube.client import Cluster
from mpikit.preflight.doctor import examine
from mpikit.preflight.operator import clock_check, lease_check, unknown_fields
from mpikit.render.payload import Payload
from mpikit.render.renderer import render
from mpikit.text.strict_yaml import read_all

CARDS = "requests.habana.ai/gaudi"
CHECKS = (
    *("server", "operator", "crd", "restarts", "rights", "namespace", "service account", "manifest", "pod security"),
    *("quota", "nodes", "launcher node", "paths"),
)


def examined(
    kubeconfig: str,
    namespace: str,
    files: tuple[str, ...] = (),
    edit: Callable[[list[Object]], object] = lambda manifests: None,
    probe: bool = False,
    cluster: Cluster | None = None,
    **more: object,
) -> list[Diagnostic]:
    """What doctor says of the job that values files and settings make."""
    words = settings(**{"user": "ada", "namespace": namespace, "serviceAccountName": "default", **more})[1::2]
    flags = [("--set", word) for word in words]
    job, _ = load_job(load_values(ROOT / "values", files, flags, "ada", False))
    text = render(job, Payload({"vit/__init__.py": b""})).manifest
    manifests = [document.data for document in read_all(text, "the rendered manifest")]
    edit(manifests)
    return list(examine(cluster or Cluster(kubeconfig), job, manifests, namespace, probe=probe))


def not_ok(checks: list[Diagnostic]) -> list[tuple[str, str]]:
    """(check, result) of all that is not as it must be; each of them has a fix."""
    assert all(bool(one.fix) is (one.severity != "ok") for one in checks), checks
    return [(one.key, one.severity) for one in checks if one.severity != "ok"]


def only(checks: list[Diagnostic], check: str, result: str = "fault") -> str:
    """Message and fix of the one line that is not ok."""
    assert not_ok(checks) == [(check, result)], "\n".join(map(str, checks))
    (found,) = [one for one in checks if one.severity != "ok"]
    return f"{found.message}\n{found.fix}"


def gaudi_nodes(kube: Kube) -> int:
    return len(kube.all("default", "nodes", "brightcomputing.com/node-category=gaudi"))


def several(nodes: int) -> dict[str, Any]:
    """Settings for this many nodes whose batch divides."""
    return {"nodes": nodes, "globalBatch": 16 * nodes}


# -- Nothing is wrong -------------------------------------------------------------------------------------------------


def test_a_good_job_has_no_fault_and_its_checks_come_in_order(kube: Kube, simulated_namespace: str) -> None:
    checks = examined(kube.kubeconfig, simulated_namespace, nodes=2)
    assert not_ok(checks) == []
    assert [one.key for one in checks] == list(CHECKS)
    (nodes,) = [one.message for one in checks if one.key == "nodes"]
    assert nodes.endswith(f"of {gaudi_nodes(kube)} nodes have 8 free cards of habana.ai/gaudi now, 2 are needed")


def test_nothing_is_left_on_the_cluster(kube: Kube, simulated_namespace: str) -> None:
    examined(kube.kubeconfig, simulated_namespace, nodes=2)
    found = [item["metadata"]["name"] for item in kube.all(simulated_namespace, "mpijobs,pods,configmaps")]
    assert found == ["kube-root-ca.crt"]


def test_checks_come_as_they_are_made(kube: Kube, simulated_namespace: str) -> None:
    cluster = Cluster(kube.kubeconfig)
    job, _ = load_job(load_values(ROOT / "values", (), [("--set", "user=ada")], "ada", False))
    checks = examine(cluster, job, [], simulated_namespace)
    assert next(checks).key == "server"
    assert cluster.num_requests == 1


def test_a_server_that_is_out_of_reach_is_no_check_but_an_error(kube: Kube, tmp_path: Path) -> None:
    own = tmp_path / "kubeconfig"
    server = json.loads(kube("config", "view", "--raw", "--minify", "-o", "json"))["clusters"][0]["cluster"]["server"]
    text = Path(kube.kubeconfig).read_text()
    own.write_text(text.replace(server, "https://127.0.0.1:9"))
    with pytest.raises(Unreachable):
        examined(str(own), "default", cluster=Cluster(str(own), request_seconds=0.5))


# -- What must hold before any job ------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)


def lease(seconds: float) -> Object:
    when = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"metadata": {"namespace": "mpi-operator", "name": "mpi-operator"}, "spec": {"renewTime": when}}


def test_an_operator_whose_lease_is_stale_does_not_run() -> None:
    """Pure: to stop the operator would disturb every other test."""
    found = lease_check([lease(61)], NOW)
    assert (found.severity, found.message) == (
        "fault",
        "the MPI Operator does not run: Lease mpi-operator/mpi-operator was last renewed 61 s ago",
    )
    assert "rollout restart deployment mpi-operator" in found.fix


def test_an_operator_that_cannot_resume_jobs_is_told(kube: Kube, simulated_namespace: str) -> None:
    """The operator's own manifest lacks the right; the test cluster grants it in an additional ClusterRoleBinding."""
    name = "mpi-operator-jobs-status"
    granted = kube.get("default", "clusterrolebinding", name)
    if not granted:
        pytest.skip("this cluster grants the right in another way")
    kube("delete", "clusterrolebinding", name)
    try:
        told = only(examined(kube.kubeconfig, simulated_namespace, nodes=2), "operator", "warning")
        (command,) = re.findall(r"&& kubectl (create clusterrolebinding .*)", told)
        kube(*command.split())  # the fix
        again = kube.get("default", "clusterrolebinding", name)
    finally:
        if not kube.get("default", "clusterrolebinding", name):
            kube.create({**granted, "metadata": {"name": name}})
    assert "a suspended MPIJob gets no launcher when it resumes" in told
    assert (again["roleRef"], again["subjects"]) == (granted["roleRef"], granted["subjects"])


def test_the_newest_of_two_leases_counts() -> None:
    assert lease_check([lease(9000), lease(59)], NOW).severity == "ok"


def test_a_clock_that_is_a_minute_off_is_told() -> None:
    assert not list(clock_check(NOW, NOW + timedelta(seconds=59)))
    (found,) = clock_check(NOW, NOW + timedelta(seconds=61))
    assert (found.severity, found.message) == ("warning", "the server's clock is 61 s behind this machine's")


def test_a_field_that_the_served_crd_lacks_is_a_fault(kube: Kube, simulated_namespace: str) -> None:
    def edit(manifests: list[Object]) -> None:
        manifests[-1]["spec"]["runPolicy"]["bogus"] = 1

    told = only(examined(kube.kubeconfig, simulated_namespace, edit=edit), "crd")
    assert (
        "MPIJobs of this cluster do not have the field spec.runPolicy.bogus\nremove runPolicy.bogus: from the values"
        in told
    )


def test_a_field_that_an_older_operator_lacks_names_the_release_that_has_it() -> None:
    """Pure: a schema without the fields of 0.5."""
    policy: dict[str, Any] = {"properties": {"suspend": {}}}
    schema = {"properties": {"spec": {"properties": {"runPolicy": policy}}}}
    job = {"kind": "MPIJob", "spec": {"launcherCreationPolicy": "AtStartup", "runPolicy": {"suspend": True}}}
    assert list(unknown_fields(job, schema)) == [("spec", "launcherCreationPolicy")]


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Callable[..., list[Diagnostic]]]:
    """What doctor says of a server that answers only what it is told to; 404 or another status for the rest."""
    answers: dict[str, Object] = {"/version": {"gitVersion": "v1"}}
    others = [404]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            self.send_response(200 if found is not None else others[0])
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({} if found is None else {"kind": "Any", **found}).encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path / "scripted.kubeconfig"
    entry = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "c"}}
    names = {"clusters": [entry], "contexts": [context], "current-context": "c", "users": [{"name": "c", "user": {}}]}
    path.write_text(json.dumps(names))

    def look(status: int, **more: Object) -> list[Diagnostic]:
        others[0] = status
        answers.update({PLACES[name]: value for name, value in more.items()})
        cluster = Cluster(str(path), request_seconds=0.3)
        return [one for one in examined(str(path), "n", cluster=cluster) if one.key == "operator"]

    yield look
    server.shutdown()
    server.server_close()


PLACES = {
    "group": "/apis/kubeflow.org",
    "leases": "/apis/coordination.k8s.io/v1/leases",
    "deployments": "/apis/apps/v1/deployments",
}
V2 = {"versions": [{"version": "v2beta1"}]}


@pytest.mark.parametrize(
    ("status", "more", "result", "message"),
    [
        (404, {}, "fault", "the MPI Operator is not installed: no kubeflow.org/v2beta1"),
        (
            404,
            {"group": {"versions": [{"version": "v1"}]}},
            "fault",
            "kubeflow.org is served as v1, which is the Training Operator",
        ),
        (404, {"group": V2, "leases": {}, "deployments": {}}, "fault", "installed but does not run"),
        (
            404,
            {"group": V2, "leases": {}, "deployments": {"items": [lease(0) | {"status": {"readyReplicas": 1}}]}},
            "ok",
            "Deployment mpi-operator/mpi-operator is ready",
        ),
        (403, {"group": V2}, "warning", "whether the MPI Operator runs is unknown"),
        (500, {}, "warning", "could not be checked: "),
    ],
)
def test_an_operator_is_looked_for_in_three_places(
    scripted: Callable[..., list[Diagnostic]], status: int, more: dict[str, Object], result: str, message: str
) -> None:
    """A scripted server: the real one always has the operator."""
    (found,) = scripted(status, **more)
    assert (found.severity, message in found.message) == (result, True), found
    assert bool(found.fix) is (result != "ok")


@pytest.fixture
def user(kube: Kube, simulated_namespace: str, tmp_path: Path) -> Callable[..., str]:
    """A user of the namespace with these ClusterRoles and no others; the path of the kubeconfig."""

    def make(*roles: str) -> str:
        kube("-n", simulated_namespace, "create", "serviceaccount", "eve")
        for role in roles:
            words = ("--clusterrole", role, f"--serviceaccount={simulated_namespace}:eve")
            kube("-n", simulated_namespace, "create", "rolebinding", role, *words)
        token = kube("-n", simulated_namespace, "create", "token", "eve").strip()
        config = json.loads(kube("config", "view", "--raw", "--minify", "-o", "json"))
        config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
        path = tmp_path / "eve.kubeconfig"
        path.write_text(json.dumps(config))
        return str(path)

    return make


def test_a_user_with_edit_alone_lacks_mpijobs_and_is_told_the_binding(
    simulated_namespace: str, user: Callable[..., str]
) -> None:
    checks = examined(user("edit"), simulated_namespace)
    (fault,) = [one for one in checks if one.severity == "fault"]
    assert fault.key == "rights"
    assert fault.message == (
        "you are not allowed to get, list, watch, create, patch, delete mpijobs.kubeflow.org "
        f"in namespace {simulated_namespace}"
    )
    assert fault.fix.endswith(
        f"kubectl -n {simulated_namespace} create rolebinding {simulated_namespace}-kubeflow-mpijobs-edit "
        f"--clusterrole=kubeflow-mpijobs-edit --serviceaccount={simulated_namespace}:eve"
    )


def test_the_binding_that_is_told_is_enough(kube: Kube, simulated_namespace: str, user: Callable[..., str]) -> None:
    """What an ordinary user may not see of the cluster is said in warnings, and nothing is a fault."""
    path = user("edit")
    (fault,) = [one for one in examined(path, simulated_namespace) if one.severity == "fault"]
    kube(*fault.fix.partition("kubectl ")[2].split())
    assert not_ok(examined(path, simulated_namespace)) == [("operator", "warning"), ("rights", "warning")]


def test_the_operators_work_tells_that_it_lives_where_its_lease_may_not_be_read(
    kube: Kube, simulated_namespace: str, user: Callable[..., str]
) -> None:
    words = settings(user="ada", name="other", serviceAccountName="default")
    job = submit(kube, simulated_namespace, words)
    job.wait_running()
    checks = examined(user("edit", "kubeflow-mpijobs-edit"), simulated_namespace)
    assert ("operator", "ok", "the MPI Operator worked on MPIJob other 0 minutes ago") in [
        (one.key, one.severity, one.message) for one in checks
    ]


def test_a_user_with_no_rights_gets_a_line_for_each_resource_and_no_error(
    simulated_namespace: str, user: Callable[..., str]
) -> None:
    checks = examined(user(), simulated_namespace)
    faults = [one for one in checks if one.severity == "fault"]
    assert {one.key for one in faults} == {"rights"}
    named = [one.message.partition(" in namespace")[0].rpartition(" ")[2] for one in faults]
    assert named == ["mpijobs.kubeflow.org", "configmaps", "pods", "pods/log", "jobs.batch", "events"]


def test_a_token_that_is_not_known_is_one_fault(kube: Kube, simulated_namespace: str, user: Callable[..., str]) -> None:
    path = Path(user())
    config = json.loads(path.read_text())
    config["users"][0]["user"]["token"] = "not-a-token"
    path.write_text(json.dumps(config))
    assert "does not accept your credentials" in only(examined(str(path), simulated_namespace), "server")


# -- The namespace ----------------------------------------------------------------------------------------------------


def test_a_missing_namespace_is_the_only_fault(kube: Kube) -> None:
    name = f"nosuch-{uuid.uuid4().hex[:8]}"
    told = only(examined(kube.kubeconfig, name), "namespace")
    assert f"namespace {name} does not exist\nset namespace: (or -n)" in told


def test_a_missing_service_account_is_the_only_fault(kube: Kube, simulated_namespace: str) -> None:
    told = only(examined(kube.kubeconfig, simulated_namespace, serviceAccountName="nosuch"), "service account")
    assert f"kubectl -n {simulated_namespace} create serviceaccount nosuch" in told
    assert "serviceAccountName:" in told


@pytest.mark.parametrize(
    ("level", "words"),
    [("baseline", "hostPath volumes (volume"), ("restricted", "runAsNonRoot != true")],
)
def test_pod_security_is_one_fault_that_names_the_namespace_and_the_keys(
    kube: Kube, simulated_namespace: str, level: str, words: str
) -> None:
    kube("label", "namespace", simulated_namespace, f"pod-security.kubernetes.io/enforce={level}")
    told = only(examined(kube.kubeconfig, simulated_namespace), "pod security")
    assert f'worker pods are rejected: violates PodSecurity "{level}:latest"' in told
    assert words in told
    assert f"Namespace {simulated_namespace} enforces Pod Security {level}: set hostIPC: false" in told


def test_a_limit_range_that_a_worker_passes_is_a_fault(kube: Kube, simulated_namespace: str) -> None:
    kube.create(limit_range(simulated_namespace, cpu="50"))
    told = only(examined(kube.kubeconfig, simulated_namespace), "limits")
    assert "maximum cpu usage per Container is 50, but limit is 95" in told
    assert f"set resources: within it (kubectl -n {simulated_namespace} describe limitranges)" in told


def limit_range(namespace: str, **most: str) -> Object:
    metadata = {"name": "limits", "namespace": namespace}
    limit = {"type": "Container", "max": most}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [limit]}}


def test_a_pod_that_no_server_would_take_is_a_fault(kube: Kube, simulated_namespace: str) -> None:
    def edit(manifests: list[Object]) -> None:
        manifests[-1]["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["volumes"][0]["name"] = "Not_A_Name"

    told = only(examined(kube.kubeconfig, simulated_namespace, edit=edit), "pods")
    assert "spec.volumes[0].name" in told
    assert "delete the job" not in told


def test_a_job_of_the_same_name_is_a_warning_with_the_choices(kube: Kube, simulated_namespace: str) -> None:
    submit(kube, simulated_namespace, settings(user="ada", serviceAccountName="default"))
    told = only(examined(kube.kubeconfig, simulated_namespace), "manifest", "warning")
    assert "MPIJob ada-vit-8cards already exists" in told
    assert f"python generate.py delete ada-vit-8cards -n {simulated_namespace}" in told
    assert "--set name=ada-vit-8cards-2" in told


# -- Quotas -----------------------------------------------------------------------------------------------------------


def quota(kube: Kube, namespace: str, **hard: str) -> None:
    """Make ResourceQuota q and wait until the server has counted."""
    metadata = {"name": "q", "namespace": namespace}
    amounts = {{"cards": CARDS, "cpu": "requests.cpu"}.get(name, name): value for name, value in hard.items()}
    kube.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": amounts}})
    wait_for("the quota", lambda: kube.get(namespace, "resourcequota", "q").get("status", {}).get("used"), 20)


def holder(kube: Kube, namespace: str) -> None:
    """A pod that holds the 8 cards of a node."""
    container = {"name": "a", "image": "a", "resources": {"limits": {"habana.ai/gaudi": "8"}}}
    metadata = {"name": "holder", "namespace": namespace}
    kube.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})
    wait_for("its node", lambda: kube.get(namespace, "pod", "holder")["spec"].get("nodeName"), 20)


def test_a_quota_that_never_has_enough_is_a_fault_with_the_nodes_that_fit(kube: Kube, simulated_namespace: str) -> None:
    quota(kube, simulated_namespace, cards="12")
    told = only(examined(kube.kubeconfig, simulated_namespace, nodes=2), "quota")
    assert f"ResourceQuota q never has enough: the job needs 16 of {CARDS}, 12 allowed\nset nodes: 1" in told


def test_a_quota_of_pods_counts_the_launcher(kube: Kube, simulated_namespace: str) -> None:
    quota(kube, simulated_namespace, pods="2")
    told = only(examined(kube.kubeconfig, simulated_namespace, nodes=2), "quota")
    assert "the job needs 3 of pods, 2 allowed\nset nodes: 1" in told


def test_a_quota_that_is_used_up_is_a_warning_with_the_numbers(kube: Kube, simulated_namespace: str) -> None:
    quota(kube, simulated_namespace, cards="16")
    holder(kube, simulated_namespace)
    told = only(examined(kube.kubeconfig, simulated_namespace, nodes=2), "quota", "warning")
    assert f"the job needs 16 of {CARDS}, 8 of 16 are in use\nwait, set nodes: 1, or delete jobs" in told


def test_a_quota_that_is_large_enough_is_ok(kube: Kube, simulated_namespace: str) -> None:
    quota(kube, simulated_namespace, cards="16", pods="3", cpu="192")
    checks = examined(kube.kubeconfig, simulated_namespace, nodes=2)
    assert not_ok(checks) == []
    assert "ResourceQuota q: enough for the whole job" in [one.message for one in checks]


def test_a_quota_of_cpu_wants_requests_of_every_container(kube: Kube, simulated_namespace: str) -> None:
    quota(kube, simulated_namespace, cpu="200")
    told = only(examined(kube.kubeconfig, simulated_namespace, launcher__resources="null"), "quota")
    assert "failed quota: q: must specify requests.cpu for: launcher" in told
    assert "set resources: and launcher.resources:" in told


# -- Nodes ------------------------------------------------------------------------------------------------------------


def test_more_workers_than_nodes_is_a_fault(kube: Kube, simulated_namespace: str) -> None:
    there = gaudi_nodes(kube)
    told = only(examined(kube.kubeconfig, simulated_namespace, **several(there + 1)), "nodes")
    assert f"{there} nodes can ever have 8 free cards of habana.ai/gaudi, {there + 1} are needed" in told
    assert f"set nodes: {there} or fewer" in told


def test_a_node_that_somebody_holds_is_a_warning_that_names_them(kube: Kube, simulated_namespace: str) -> None:
    holder(kube, simulated_namespace)
    there = gaudi_nodes(kube)
    told = only(examined(kube.kubeconfig, simulated_namespace, **several(there)), "nodes", "warning")
    assert f"{there - 1} of {there} nodes have 8 free cards" in told
    assert f"({simulated_namespace}/holder: 8 cards)" in told
    assert f"set nodes: {there - 1}, or delete jobs" in told


def test_a_cordoned_node_is_left_out_by_name(kube: Kube, simulated_namespace: str) -> None:
    there = gaudi_nodes(kube)
    kube("cordon", "gaudi-0")
    try:
        told = only(examined(kube.kubeconfig, simulated_namespace, **several(there)), "nodes")
    finally:
        kube("uncordon", "gaudi-0")
    assert f"{there - 1} nodes can ever have" in told
    assert "left out: gaudi-0 (cordoned)" in told


def test_nodes_with_fewer_threads_than_asked_for_are_told_with_what_they_have(
    kube: Kube, simulated_namespace: str
) -> None:
    limits = '{"cpu": "200"}'
    told = only(examined(kube.kubeconfig, simulated_namespace, resources__limits=limits), "nodes")
    assert "have 96 of cpu\nset resources: so that cpu is at most 96" in told


def test_cards_that_no_node_has_are_told(kube: Kube, simulated_namespace: str) -> None:
    def edit(manifests: list[Object]) -> None:
        container = manifests[-1]["spec"]["mpiReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
        container["resources"] = {"limits": {"nvidia.com/gpu": 99}}

    told = only(examined(kube.kubeconfig, simulated_namespace, edit=edit), "nodes")
    assert "no node can ever run a worker (nvidia.com/gpu 99)" in told
    assert ("set device: to what the nodes have" in told) or ("set cards: 8 or fewer" in told)


def test_a_wrong_node_selector_of_the_workers_is_told(kube: Kube, simulated_namespace: str) -> None:
    selector = '{"brightcomputing.com/node-category": "gaudy"}'
    told = only(examined(kube.kubeconfig, simulated_namespace, worker__nodeSelector=selector), "nodes")
    assert "no label brightcomputing.com/node-category=gaudy" in told
    assert "correct worker.nodeSelector:" in told


def test_a_wrong_node_selector_of_the_launcher_is_told(kube: Kube, simulated_namespace: str) -> None:
    selector = '{"brightcomputing.com/node-category": "computer"}'
    told = only(examined(kube.kubeconfig, simulated_namespace, launcher__nodeSelector=selector), "launcher node")
    assert "no label brightcomputing.com/node-category=computer" in told
    assert "correct launcher.nodeSelector:" in told


def test_a_launcher_that_finds_no_place_beside_the_workers_is_told(kube: Kube, simulated_namespace: str) -> None:
    """Workers take 95 of 96 threads of every Gaudi node; a launcher of 2 is sent to the same nodes."""
    more = several(gaudi_nodes(kube)) | {
        "launcher__nodeSelector": '{"brightcomputing.com/node-category": "gaudi"}',
    }
    told = only(examined(kube.kubeconfig, simulated_namespace, **more), "launcher node")
    assert "no node has room for the launcher (cpu 2, memory 4Gi) beside the workers" in told


def test_a_selector_that_the_cluster_adds_to_pods_counts(kube: Kube, namespace: str) -> None:
    """In a namespace of the real node, which has no cards; an admission plugin keeps its pods there."""
    checks = examined(kube.kubeconfig, namespace)
    (found,) = [one for one in checks if one.key == "nodes"]
    assert found.severity == "fault"
    assert found.message.startswith("no node can ever run a worker (habana.ai/gaudi 8, cpu 95, hugepages-2Mi ")
    assert found.message.endswith(": no label mpikit.test/simulated=false")
    assert f"namespace {namespace} or the cluster adds this selector" in found.fix


# -- What the pods refer to -------------------------------------------------------------------------------------------


def test_a_missing_pull_secret_is_told(kube: Kube, simulated_namespace: str) -> None:
    told = only(
        examined(kube.kubeconfig, simulated_namespace, imagePullSecrets='[{"name": "registry"}]'), "image pull secrets"
    )
    assert f"Secret registry does not exist in namespace {simulated_namespace}" in told


TOKEN = '[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}}]'


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"env": TOKEN}, "Secret token"),
        ({"envFrom": '[{"secretRef": {"name": "token"}}]'}, "Secret token"),
        ({"envFrom": '[{"configMapRef": {"name": "more"}}]'}, "ConfigMap more"),
        ({"dataset": '{"pvc": "data"}'}, "PersistentVolumeClaim data"),
        ({"worker__volumes": '[{"name": "x", "secret": {"secretName": "token"}}]'}, "Secret token"),
    ],
)
def test_what_the_pods_refer_to_must_be_there(
    kube: Kube, simulated_namespace: str, more: dict[str, Any], named: str
) -> None:
    told = only(examined(kube.kubeconfig, simulated_namespace, **more), "references")
    assert f"{named} does not exist in namespace {simulated_namespace}\ncreate {named}" in told


def test_a_secret_that_is_there_is_found_without_its_content(kube: Kube, simulated_namespace: str) -> None:
    kube("-n", simulated_namespace, "create", "secret", "generic", "token", "--from-literal=key=s3cret-word")
    checks = examined(kube.kubeconfig, simulated_namespace, env=TOKEN)
    assert not_ok(checks) == []
    assert "found Secret token" in [one.message for one in checks]
    assert "s3cret" not in str(checks)


def claim(kube: Kube, namespace: str, storage_class: str, mode: str = "ReadWriteMany", phase: str = "Pending") -> None:
    spec = {
        "accessModes": [mode],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    metadata = {"name": "data", "namespace": namespace}
    kube.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    wait_for("its phase", lambda: kube.get(namespace, "pvc", "data").get("status", {}).get("phase") == phase, 20)


def test_a_claim_that_is_not_bound_is_told(kube: Kube, simulated_namespace: str) -> None:
    claim(kube, simulated_namespace, "nosuch")
    checks = examined(kube.kubeconfig, simulated_namespace, dataset='{"pvc": "data"}')
    told = only(checks, "references")
    assert "PersistentVolumeClaim data is Pending" in told
    assert f"kubectl -n {simulated_namespace} describe pvc data" in told


@pytest.fixture
def late(kube: Kube, simulated_namespace: str) -> Iterator[str]:
    """A storage class whose claims wait for their first pod."""
    name = f"late-{simulated_namespace}"
    kube.create(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "mpikit.test/none",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )
    yield name
    kube("delete", "storageclass", name)


def test_a_claim_that_waits_for_its_first_pod_is_ok(kube: Kube, simulated_namespace: str, late: str) -> None:
    claim(kube, simulated_namespace, late)
    assert not_ok(examined(kube.kubeconfig, simulated_namespace, dataset='{"pvc": "data"}')) == []


@pytest.mark.parametrize(("nodes", "result"), [(2, "fault"), (1, "warning")])
def test_a_claim_for_one_node_is_told_if_several_pods_write_to_it(
    kube: Kube, simulated_namespace: str, late: str, nodes: int, result: str
) -> None:
    claim(kube, simulated_namespace, late, "ReadWriteOnce")
    checks = examined(kube.kubeconfig, simulated_namespace, output='{"pvc": "data"}', **several(nodes))
    told = only(checks, "references", result)
    assert f"PersistentVolumeClaim data is ReadWriteOnce: one node can mount it, and {nodes + 1} pods" in told
    assert "use a claim with ReadWriteMany" in told


@pytest.fixture
def bound(kube: Kube, simulated_namespace: str) -> Iterator[Callable[[Object], None]]:
    """Make a claim that is bound to a volume with this source; nothing mounts it."""
    name = f"volume-{simulated_namespace}"

    def make(source: Object) -> None:
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "claimRef": {"namespace": simulated_namespace, "name": "data"},
            **source,
        }
        kube.create({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
        claim(kube, simulated_namespace, name, "ReadWriteOnce", "Bound")

    yield make
    kube("-n", simulated_namespace, "delete", "pvc", "data")
    kube("delete", "persistentvolume", name)


@pytest.mark.parametrize(
    ("source", "result", "said"),
    [
        ({"nfs": {"server": "files.example", "path": "/data"}}, "warning", "which is not enforced for nfs: 3 pods"),
        ({"hostPath": {"path": "/data"}}, "warning", "is a hostPath volume: each node mounts its own folder"),
        ({"rbd": {"monitors": ["m.example"], "image": "i"}}, "fault", "one node can mount it, and 3 pods"),
        ({"csi": {"driver": "nosuch.example", "volumeHandle": "v"}}, "fault", "one node can mount it, and 3 pods"),
    ],
)
def test_read_write_once_is_judged_by_the_volume_behind_the_claim(
    kube: Kube, simulated_namespace: str, bound: Callable[[Object], None], source: Object, result: str, said: str
) -> None:
    bound(source)
    checks = examined(kube.kubeconfig, simulated_namespace, output='{"pvc": "data"}', **several(2))
    assert said in only(checks, "references", result)


def test_a_missing_priority_class_is_told(kube: Kube, simulated_namespace: str) -> None:
    spec = '{"priorityClassName": "nosuch"}'
    told = only(examined(kube.kubeconfig, simulated_namespace, worker__podSpec=spec), "references")
    assert "no PriorityClass with name nosuch was found" in told


# -- Paths, by a pod on the real node ---------------------------------------------------------------------------------

Probed = Callable[..., list[Diagnostic]]


@pytest.fixture
def probed(kube: Kube, namespace: str, real_node_values: list[str], tmp_path: Path) -> Iterator[Probed]:
    """What doctor --probe says of a job on the real node; its pod must be gone afterwards."""
    folder = tmp_path / "data"
    for name in ("train/cat", "val/cat"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny.npz").write_bytes(b"")
    (tmp_path / "output").mkdir()
    places = {"dataset": folder, "pretrained": tmp_path / "weights", "output": tmp_path / "output"}

    def run(**more: Any) -> list[Diagnostic]:
        values: dict[str, Any] = {
            "train__dataset": "imagefolder",
            "train__model_type": "tiny",
            "outputFreeGiB": 0,
            **places,
        }
        files = ("values/cpu.yaml", *real_node_values[1::2])
        return examined(kube.kubeconfig, namespace, files, probe=True, **(values | more))

    yield run
    wait_for("the probe to be gone", lambda: not kube.all(namespace, "pods", "mpikit/probe"), 10)


def paths_of(checks: list[Diagnostic]) -> list[Diagnostic]:
    assert {one.key for one in checks if one.severity != "ok"} <= {"paths", "image"}, checks
    return [one for one in checks if one.key in ("paths", "image")]


def test_paths_that_are_right_are_named_and_nothing_is_left_in_output(probed: Probed, tmp_path: Path) -> None:
    (found,) = paths_of(probed())
    assert found.severity == "ok"
    seen = [tmp_path / name for name in ("data/train", "data/val", "weights/tiny.npz", "output")]
    assert found.message.endswith(f": {', '.join(map(str, seen))}")
    assert not list((tmp_path / "output").iterdir())


def test_a_host_path_that_is_not_there_is_told_and_the_others_are_still_looked_at(
    probed: Probed, tmp_path: Path
) -> None:
    fault, good = paths_of(probed(dataset=tmp_path / "nosuch"))
    assert fault.severity == "fault"
    assert f"hostPath type check failed: {tmp_path}/nosuch is not a directory" in fault.message
    assert "set dataset:" in fault.fix
    assert (good.severity, str(tmp_path / "weights/tiny.npz") in good.message) == ("ok", True)


def test_output_that_is_not_there_is_a_warning_and_is_not_made(probed: Probed, tmp_path: Path) -> None:
    warning, good = paths_of(probed(output=tmp_path / "later"))
    assert (warning.severity, good.severity) == ("warning", "ok")
    assert f"{tmp_path}/later does not exist; the job would create it, empty" in warning.message
    assert not (tmp_path / "later").exists()


def test_an_empty_dataset_and_missing_weights_are_two_faults(probed: Probed, tmp_path: Path) -> None:
    (tmp_path / "data/val/cat").rmdir()
    (tmp_path / "weights/tiny.npz").unlink()
    faults = [one for one in paths_of(probed()) if one.severity == "fault"]
    assert [one.message.partition(": ")[2] for one in faults] == [
        f"{tmp_path}/data/val is empty",
        f"{tmp_path}/weights/tiny.npz does not exist",
    ]
    assert "set pretrained: to the folder that contains tiny.npz" in faults[1].fix


def test_too_little_room_on_output_is_told(probed: Probed) -> None:
    (fault,) = [one for one in paths_of(probed(outputFreeGiB=10**6)) if one.severity == "fault"]
    assert "GiB free, 1e+06 GiB wanted" in fault.message
    assert "outputFreeGiB:" in fault.fix


def test_an_image_that_cannot_be_pulled_is_told(probed: Probed) -> None:
    (fault,) = paths_of(probed(image="nosuch.invalid/vit:1", imagePullPolicy="IfNotPresent"))
    assert (fault.key, fault.severity) == ("image", "fault")
    assert "nosuch.invalid/vit:1" in fault.message
    assert "correct image:" in fault.fix


def test_the_probe_is_gone_when_the_user_stops_the_wait(kube: Kube, namespace: str, probed: Probed) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    cluster = Cluster(kube.kubeconfig, sleep=stop)
    with pytest.raises(KeyboardInterrupt):
        probed(cluster=cluster, image="nosuch.invalid/vit:1")
    wait_for("the probe to be gone", lambda: not kube.all(namespace, "pods", "mpikit/probe"), 10)


def test_no_probe_is_started_where_pods_are_refused(kube: Kube, namespace: str, probed: Probed) -> None:
    kube("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline")
    checks = probed()
    assert not_ok(checks) == [("pod security", "fault"), ("paths", "warning")]
    assert "pods cannot be created here" in checks[-1].message
