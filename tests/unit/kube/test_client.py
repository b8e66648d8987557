# SPDX-License-Identifier: Apache-2.0
"""The connection to a cluster: kubectl's kubeconfig rules, repeats only where they are safe, and no secrets told."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpikit.errors import ClusterError, Conflict, Forbidden, JobError, Timeout, Unknown, Unreachable
from mpikit.kube.api import MPIJOB, POD, create, delete, find, find_all
from mpikit.kube.client import Cluster
from mpikit.kube.pods import DEFAULT_CONTAINER, Pod
from mpikit.lifecycle.log_stream import ContainerLog
from mpikit.lifecycle.logs import JobLog, Wanted
from mpikit.lifecycle.submit import submit
from mpikit.lifecycle.wait import wait_for
from mpikit.status.snapshot import read_snapshot
from mpikit.text.redaction import HIDDEN
from tests.conftest import Command
from tests.support.scripted import certificates
from tests.support.scripted.faults import Plan
from tests.support.scripted.operator import ended, pod, with_status
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World, kubeconfig

TOKEN = "first-token-of-this-server"
CONFIG_MAP: Object = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "job-kit"}, "data": {"a": "b"}}
JOB: Object = {"kind": "MPIJob", "apiVersion": "kubeflow.org/v2beta1", "metadata": {"name": "job"}, "spec": {}}
Write = Callable[..., Path]


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A server, its kubeconfig, and a home without one."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a kubeconfig; text as it is."""

    def to(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to


def named(world: World, namespace: str, **user: Any) -> dict[str, Any]:
    """A kubeconfig whose one context has this namespace."""
    made = kubeconfig(world.server, user or {"token": TOKEN})
    made["contexts"][0]["context"]["namespace"] = namespace
    return made


def answering(*answers: Callable[[Handler], None]) -> Callable[[Request, Handler], bool]:
    """Answer so to the first requests, as usual to the others."""
    left = list(answers)

    def answer(_request: Request, handler: Handler) -> bool:
        if left:
            left.pop(0)(handler)
            return True
        return False

    return answer


def refusal(code: int, message: str = "no", **headers: str) -> Callable[[Handler], None]:
    named_ = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.status(code, "Reason", message, named_)


# Which kubeconfig


def test_kubeconfig_goes_by_flag_then_variable_then_home(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("home/.kube/config", named(world, "of-home"))
    assert Cluster().namespace == "of-home"
    monkeypatch.setenv("KUBECONFIG", str(write("variable", named(world, "of-variable"))))
    assert Cluster().namespace == "of-variable"
    assert Cluster(str(write("flag", named(world, "of-flag")))).namespace == "of-flag"


def test_files_of_the_variable_are_merged_and_missing_ones_passed_over(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = named(world, "merged")
    contexts = write("contexts", {**whole, "clusters": [], "users": []})
    others = write("others", {**whole, "contexts": [], "current-context": ""})
    monkeypatch.setenv("KUBECONFIG", f"{contexts}:{tmp_path / 'missing'}:{others}")
    cluster = Cluster()
    assert cluster.namespace == "merged"
    assert find(cluster, MPIJOB, "merged", "job") is None


def test_the_first_file_that_names_a_context_decides_as_with_kubectl(
    world: World, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = named(world, "of-first"), named(world, "of-second")
    second["contexts"][0]["name"] = second["current-context"] = "other"
    monkeypatch.setenv("KUBECONFIG", f"{write('first', first)}:{write('second', second)}")
    assert Cluster().namespace == "of-first"


def test_the_context_that_is_named_brings_its_namespace(world: World, write: Write) -> None:
    config = named(world, "present")
    config["contexts"].append({"name": "other", "context": {"cluster": "lab", "user": "ada", "namespace": "elsewhere"}})
    config["contexts"].append({"name": "bare", "context": {"cluster": "lab", "user": "ada"}})
    path = str(write("config", config))
    assert [Cluster(path, name).namespace for name in (None, "other", "bare")] == ["present", "elsewhere", "default"]


def test_in_a_pod_its_own_account_is_used(
    trusted: certificates.Certificates, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Scripted(certificates=trusted)
    for name, value in (("HOST", "127.0.0.1"), ("PORT", str(server.port))):
        monkeypatch.setenv(f"KUBERNETES_SERVICE_{name}", value)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = "kubernetes.config.incluster_config.SERVICE_"
    monkeypatch.setattr(f"{place}TOKEN_FILENAME", str(write("token", TOKEN)))
    monkeypatch.setattr(f"{place}CERT_FILENAME", str(trusted.authority))
    monkeypatch.setattr("mpikit.kube.client.NAMESPACE_FILE", write("namespace", "of-pod\n"))
    cluster = Cluster()
    assert cluster.namespace == "of-pod"
    assert find(cluster, MPIJOB, "of-pod", "job") is None
    server.close()


SECRET = "s3cret-of-the-plugin"
BROKEN = {
    "missing": (None, "does not exist"),
    "broken YAML": ("clusters: [\n", ""),
    "not a mapping": ("just words", ""),
    "empty": ("", ""),
    "missing context": ({"current-context": "nowhere"}, "nowhere"),
    "failing plugin": ({"exec": {"command": "sh", "args": ["-c", f"echo Bearer {SECRET} >&2; exit 3"]}}, "3"),
    "plugin that talks": (
        {"exec": {"command": "sh", "args": ["-c", f'echo \'{{"token": "{SECRET}"\'']}},
        "other than credentials",
    ),
    "missing plugin": ({"exec": {"command": "no-such-plugin", "args": []}}, "no-such-plugin"),
    "missing authority": ({"certificate-authority": "no-such-file.pem"}, "no-such-file.pem"),
}


@pytest.mark.parametrize(("content", "word"), BROKEN.values(), ids=BROKEN)
def test_a_kubeconfig_that_does_not_work_is_one_clear_line(
    content: Any, word: str, world: World, write: Write, generate: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    if isinstance(content, dict):
        config = named(world, "lab")
        if plugin := content.pop("exec", None):
            more = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}
            content = {"users": [{"name": "ada", "user": {"exec": {**plugin, **more}}}]}
        if authority := content.pop("certificate-authority", None):
            config["clusters"][0]["cluster"] |= {"certificate-authority": authority, "server": "https://127.0.0.1:1"}
        content = {**config, **content}
    path = write("config", content) if content is not None else "no-such-kubeconfig"
    done = generate("status", "job", "-n", NAMESPACE, "--kubeconfig", str(path))
    said = done.stdout + done.stderr + "".join(capfd.readouterr())
    assert done.returncode == 3, said
    assert word in done.stderr
    assert [line[:7] for line in done.stderr.splitlines()][1:] == ["  fix: "], said
    assert SECRET not in said
    assert "Traceback" not in said


# What is sent


def test_requests_name_the_kit_and_the_credentials(world: World) -> None:
    find(world.cluster(), MPIJOB, NAMESPACE, "job")
    headers = world.server.requests[-1].headers
    assert headers["User-Agent"].startswith("mpikit")
    assert headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_proxy_of_the_environment_is_not_asked_for_a_server_that_is_exempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert find(world.cluster(), MPIJOB, NAMESPACE, "job") is None


def test_a_server_on_this_machine_needs_no_exemption_from_the_proxy_as_with_kubectl(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert find(world.cluster(), MPIJOB, NAMESPACE, "job") is None


def test_a_proxy_that_kubeconfig_names_is_used(world: World, write: Write) -> None:
    config = named(world, "lab")
    config["clusters"][0]["cluster"] |= {"server": "http://cluster.invalid", "proxy-url": world.server.url}
    cluster = Cluster(str(write("config", config)), sleep=world.clock.sleep, clock=world.clock)
    assert find(cluster, MPIJOB, NAMESPACE, "job") is None


# What is repeated


def test_a_certificate_that_is_not_trusted_is_said_once_with_a_fix(
    trusted: certificates.Certificates, tmp_path: Path
) -> None:
    world = World(Scripted(Plan(0, ["bad-certificate"], rate=4.0), certificates=trusted), tmp_path)
    with pytest.raises(Unreachable, match=r"(?is)certificate.*fix: .*certificate-authority"):
        find(world.cluster(), MPIJOB, NAMESPACE, "job")
    assert world.server.num_connections == 1
    assert not world.clock.pauses
    world.close()


def test_retry_after_is_obeyed(world: World) -> None:
    world.server.answer = answering(refusal(429, Retry_After="3"), refusal(503, Retry_After="5"))
    assert find(world.cluster(), MPIJOB, NAMESPACE, "job") is None
    assert [pause >= asked for pause, asked in zip(world.clock.pauses, (3, 5), strict=True)] == [True, True]


def test_a_pause_longer_than_the_limit_of_a_call_is_not_begun(world: World) -> None:
    world.server.answer = answering(refusal(429, Retry_After="600"))
    with pytest.raises(Unreachable, match="too busy"):
        find(world.cluster(), MPIJOB, NAMESPACE, "job")
    assert not world.clock.pauses


def test_pauses_grow_and_end_with_the_limit_of_the_call(world: World) -> None:
    world.server.answer = answering(*[refusal(500)] * 100)
    began = world.clock()
    with pytest.raises(Unreachable, match="HTTP 500"):
        find(world.cluster(), MPIJOB, NAMESPACE, "job")
    assert world.clock.pauses == sorted(world.clock.pauses)
    assert world.clock() - began <= 15.0
    assert 4 <= len(world.server.requests) <= 10


AMBIGUOUS = {"reset": Handler.reset, "500": refusal(500), "504": refusal(504), "half": lambda handler: handler.answered(
    "half-length", 201, b'{"kind": "Pod"}', "application/json"), "page": lambda handler: handler.send(
    200, b"<html>", {"Content-Type": "text/html"}), "other JSON": lambda handler: handler.send(200, b"{}")}  # fmt: skip


@pytest.mark.parametrize("answer", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_creation_is_not_repeated_when_it_may_have_been_made(answer: Callable[[Handler], None], world: World) -> None:
    world.server.answer = answering(answer)
    with pytest.raises(Unknown, match=r"may or may not have done it"):
        create(world.cluster(), POD, NAMESPACE, {"kind": "Pod", "metadata": {"name": "probe"}})
    assert len(world.server.requests) == 1


def test_a_creation_is_repeated_when_the_server_did_not_take_it_up(world: World) -> None:
    world.server.answer = answering(refusal(429), refusal(401))
    create(world.cluster(), POD, NAMESPACE, {"kind": "Pod", "metadata": {"name": "probe"}})
    assert len(world.server.store.of("pods")) == 1


def test_a_deletion_whose_answer_is_lost_is_asked_for_again_and_hits_no_other_object(world: World) -> None:
    cluster, store = world.cluster(), world.server.store
    first = create(cluster, POD, NAMESPACE, {"kind": "Pod", "metadata": {"name": "probe"}})["metadata"]["uid"]
    assert delete(cluster, POD, NAMESPACE, "probe", first)
    create(cluster, POD, NAMESPACE, {"kind": "Pod", "metadata": {"name": "probe"}})
    assert not delete(cluster, POD, NAMESPACE, "probe", first)
    assert len(store.of("pods")) == 1


def test_new_credentials_are_read_once_and_refused_ones_are_told(world: World) -> None:
    world.server.tokens.append("a-token-that-nobody-wrote-down")
    with pytest.raises(Forbidden, match="does not accept your credentials"):
        find(world.cluster(), MPIJOB, NAMESPACE, "job")
    assert len(world.server.requests) == 2
    cluster = world.cluster()
    world.write("a-token-that-nobody-wrote-down")
    assert find(cluster, MPIJOB, NAMESPACE, "job") is None


def test_a_list_that_the_server_forgets_half_way_is_read_again_without_repeats(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpikit.kube.api.PAGE", 2)
    for number in range(5):
        metadata = {"name": f"pod-{number}", "namespace": NAMESPACE, "uid": str(number)}
        world.server.store.put("ADDED", "pods", {"kind": "Pod", "metadata": metadata})
    found = find_all(world.cluster(), POD, NAMESPACE)
    names = [next(found)["metadata"]["name"] for _ in range(2)]
    world.server.store.forgotten = world.server.store.version
    world.server.answer = answering(refusal(410))
    world.server.store.forgotten = 0
    assert [*names, *(item["metadata"]["name"] for item in found)] == [f"pod-{number}" for number in range(5)]


# Two submissions, and one that is cut off


def test_who_loses_a_race_leaves_the_files_of_the_winner(world: World) -> None:
    cluster, store = world.cluster(), world.server.store

    def another_wins(request: Request, _handler: Handler) -> bool:
        if request.method == "PATCH" and request.path.endswith("/mpijobs/job") and "dryRun" not in request.query:
            world.server.answer = lambda *_: False
            submit(world.cluster(), [CONFIG_MAP, JOB], NAMESPACE)
        return False

    world.server.answer = another_wins
    with pytest.raises(JobError, match="created by someone else"):
        submit(cluster, [CONFIG_MAP, JOB], NAMESPACE)
    assert [item["metadata"]["name"] for item in store.of("configmaps")] == ["job-kit"]


def test_a_refusal_of_the_job_takes_its_files_back(world: World) -> None:
    def refuse(request: Request, handler: Handler) -> bool:
        refused = request.path.endswith("/mpijobs/job") and request.method == "PATCH" and "dryRun" not in request.query
        if refused:
            handler.status(403, "Forbidden", "quota")
        return refused

    world.server.answer = refuse
    with pytest.raises(Forbidden, match="quota"):
        submit(world.cluster(), [CONFIG_MAP, JOB], NAMESPACE)
    assert not world.server.store.of("configmaps")


def test_a_job_that_may_still_be_made_keeps_its_files_and_is_told_as_not_known(world: World) -> None:
    tries: list[Request] = []

    def lose_then_refuse(request: Request, handler: Handler) -> bool:
        if not (request.path.endswith("/mpijobs/job") and request.method == "PATCH" and "dryRun" not in request.query):
            return False
        tries.append(request)
        if len(tries) == 1:
            handler.reset()
        handler.status(403, "Forbidden", "quota")
        return True

    world.server.answer = lose_then_refuse
    with pytest.raises(Unknown, match="MPIJob job may or may not have been created"):
        submit(world.cluster(), [CONFIG_MAP, JOB], NAMESPACE)
    assert len(tries) == 2
    assert world.server.store.of("configmaps")


def test_files_that_cannot_be_taken_back_are_named_with_the_command_that_removes_them(world: World) -> None:
    def refuse(request: Request, handler: Handler) -> bool:
        refused = request.method == "DELETE" or (
            request.path.endswith("/mpijobs/job") and request.method == "PATCH" and "dryRun" not in request.query
        )
        if refused:
            handler.status(403, "Forbidden", "no")
        return refused

    world.server.answer = refuse
    with pytest.raises(Forbidden, match=r"left behind: ConfigMap job-kit; .*delete job -n lab"):
        submit(world.cluster(), [CONFIG_MAP, JOB], NAMESPACE)


# Waiting


def with_a_job(world: World, phase: str = "Running") -> Object:
    job = {**JOB, "metadata": {"name": "job", "namespace": NAMESPACE, "uid": "uid", "creationTimestamp": None}}
    world.server.store.on_change = lambda what, item: None
    return world.server.store.put("ADDED", "mpijobs", with_status(job, phase))


def test_a_long_wait_for_a_busy_job_asks_at_most_once_a_second(world: World) -> None:
    job = with_a_job(world)

    def busy(request: Request, _handler: Handler) -> bool:
        if request.query.get("watch"):
            world.server.store.put("MODIFIED", "mpijobs", job)
        return False

    world.server.answer = busy
    began = world.clock()
    with pytest.raises(Timeout, match=r"Running|Starting|Pending"):
        wait_for(world.cluster(), NAMESPACE, "job", "succeeded", 1800, str)
    assert world.clock() - began >= 1800
    assert len(world.server.requests) <= 1800


def test_watches_that_end_at_once_are_asked_for_at_most_once_a_second(world: World) -> None:
    with_a_job(world)

    def end(request: Request, handler: Handler) -> bool:
        if request.query.get("watch"):
            handler.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
            handler.chunk(b"")
        if len(world.server.requests) > 2000:
            world.clock.skip(300)
        return "watch" in request.query

    world.server.answer = end
    with pytest.raises(Timeout):
        wait_for(world.cluster(), NAMESPACE, "job", "succeeded", 300, str)
    watches = [request for request in world.server.requests if "watch" in request.query]
    assert len(watches) <= 301
    assert len(world.server.requests) <= 301 + 6 * 300 / 20


def test_a_wait_goes_on_from_the_last_version_and_lists_again_only_when_that_is_forgotten(world: World) -> None:
    job = with_a_job(world)
    asked: list[tuple[str, str]] = []

    def follow(request: Request, _handler: Handler) -> bool:
        if request.path.endswith("/mpijobs"):
            asked.append(("watch" if request.query.get("watch") else "list", request.query.get("resourceVersion", "")))
            world.server.store.put("MODIFIED", "mpijobs", job)
            if len(asked) == 4:
                world.server.store.forgotten = world.server.store.version
        return False

    world.server.answer = follow
    with pytest.raises(Timeout):
        wait_for(world.cluster(), NAMESPACE, "job", "succeeded", 120, str)
    kinds = [kind for kind, _ in asked]
    assert kinds[:5] == ["list", "watch", "watch", "watch", "list"]
    assert "list" not in kinds[5:]
    versions = [int(version) for kind, version in asked if kind == "watch"]
    assert versions == sorted(set(versions))


def test_a_wait_outlasts_a_server_that_is_away_for_minutes(world: World) -> None:
    job = with_a_job(world)

    def ends(request: Request, handler: Handler) -> bool:
        if len(world.server.requests) == 3:
            world.server.shut(seconds=300)
            world.server.store.put("MODIFIED", "mpijobs", with_status(job, "Succeeded"))
            handler.reset()
        return False

    world.server.answer = ends
    assert wait_for(world.cluster(), NAMESPACE, "job", "succeeded", 7200, str).verdict == "Succeeded"


def test_a_wait_for_a_server_that_never_answered_ends_within_a_minute(world: World) -> None:
    world.server.shut(seconds=3600)
    began = world.clock()
    with pytest.raises(Unreachable):
        wait_for(world.cluster(), NAMESPACE, "job", "succeeded", 7200, lambda status: None)
    assert world.clock() - began < 60


def test_a_wait_gives_up_on_a_server_that_stays_away(world: World) -> None:
    with_a_job(world)
    world.server.answer = lambda request, handler: len(world.server.requests) >= 3 and world.server.shut() is None
    with pytest.raises(Unreachable):
        wait_for(world.cluster(), NAMESPACE, "job", "succeeded", 7200, str)
    assert 600 < sum(world.clock.pauses) < 7200


# Secrets


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 422, 429, 500])
def test_a_server_that_repeats_the_credentials_tells_them_to_nobody(code: int, world: World) -> None:
    world.server.answer = answering(*[refusal(code, f"you sent Bearer {TOKEN} and {TOKEN}")] * 100)
    with pytest.raises(ClusterError) as caught:
        create(world.cluster(), POD, NAMESPACE, {"kind": "Pod", "metadata": {"name": "probe"}})
    said = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in said
    assert HIDDEN in said or code == 401


def test_debug_shows_requests_and_no_credentials(world: World, generate: Command) -> None:
    def speak(_request: Request, handler: Handler) -> bool:
        handler.wfile.write(f"SSH-2.0 Bearer {TOKEN}\r\n\r\n".encode())
        handler.close_connection = True
        return True

    world.server.answer = speak
    where = ("-n", NAMESPACE, "--kubeconfig", str(world.kubeconfig), "--request-timeout", "0.3")
    done = generate("status", "job", *where, "--debug")
    assert done.returncode == 3
    assert "debug: GET /apis/kubeflow.org/v2beta1/namespaces/lab/mpijobs/job" in done.stderr
    assert "Traceback" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize("content", ["text/html", "application/json"])
def test_a_page_of_something_in_between_is_no_log(content: str, world: World) -> None:
    page = f'{{"error": "{TOKEN}"}}\n'.encode()
    world.server.answer = answering(*[lambda handler: handler.send(200, page, {"Content-Type": content})] * 2)
    log = ContainerLog(world.cluster(), NAMESPACE, "job-launcher-x")
    with pytest.raises(Unreachable, match="not a Kubernetes API server"):
        list(log.read(follow=True))


def with_a_proxy(item: Object, code: int | None = None) -> Object:
    """A pod in which a service mesh runs its proxy too: its status comes first, for the kubelet sorts by name."""
    item["spec"]["containers"].append({"name": "istio-proxy"})
    proxy = {"name": "istio-proxy", "restartCount": 3, "state": {"running": {"startedAt": None}}}
    item = item if code is None else ended(item, code, "Running")
    item["status"]["containerStatuses"].insert(0, proxy)
    return item


def test_a_container_beside_the_main_one_is_not_taken_for_it() -> None:
    item = with_a_proxy(pod(NAMESPACE, "job", "launcher", "job-launcher-x", "uid"), 5)
    found = Pod(item)
    assert (found.exit_code, found.restarts, found.main) == (5, 0, "launcher")
    item["metadata"]["annotations"] = {DEFAULT_CONTAINER: "istio-proxy"}
    assert (Pod(item).exit_code, Pod(item).restarts) == (None, 3)


def test_the_log_of_a_pod_with_several_containers_names_the_one_that_is_wanted(world: World) -> None:
    with_a_job(world)
    world.server.store.put("ADDED", "pods", with_a_proxy(pod(NAMESPACE, "job", "launcher", "job-launcher-x", "uid"), 0))

    def as_the_server_does(request: Request, handler: Handler) -> bool:
        if not request.path.endswith("/log"):
            return False
        if request.query.get("container") != "launcher":
            handler.status(400, "BadRequest", "a container name must be specified for pod job-launcher-x")
            return True
        handler.send(200, b"2026-11-25T03:00:00Z one\n", {"Content-Type": "text/plain"})
        return True

    world.server.answer = as_the_server_does
    log = JobLog(world.cluster(), NAMESPACE, "job", Wanted(), str)
    assert list(log.lines(follow=False)) == [b"one"]
    assert read_snapshot(world.cluster(), NAMESPACE, "job").lines == ["one"]


def test_a_conflict_is_told_as_one(world: World) -> None:
    world.server.answer = answering(refusal(409, "exists"))
    with pytest.raises(Conflict, match="exists"):
        create(world.cluster(), POD, NAMESPACE, {"kind": "Pod", "metadata": {"name": "probe"}})


def test_a_server_that_drips_or_hangs_costs_three_limits_at_most(world: World) -> None:
    world.server.plan = Plan(0, ["hang", "drip", "drip-head"], rate=1.0, in_a_row=1000)
    for _ in range(4):  # World's cluster fails the test when a call takes longer
        with pytest.raises(Unreachable):
            find(world.cluster(request_seconds=0.3), MPIJOB, NAMESPACE, "job")
