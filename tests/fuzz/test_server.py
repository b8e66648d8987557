# SPDX-License-Identifier: Apache-2.0
"""Answers that are valid HTTP and not what an API server says: one line and exit 3, whatever the verb."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mpikit.errors import Timeout, Unreachable
from mpikit.kube.answers import LINE_BYTES, Lines, parse
from mpikit.kube.api import MPIJOB, find
from mpikit.kube.deadlines import PATIENCE
from mpikit.lifecycle.wait import wait_for
from tests.conftest import Command
from tests.support.scripted.operator import ended, pod, with_status
from tests.support.scripted.server import Handler, Request, Scripted
from tests.support.scripted.store import Object
from tests.support.scripted.world import NAMESPACE, World

JOB: Object = {
    "kind": "MPIJob",
    "apiVersion": "kubeflow.org/v2beta1",
    "metadata": {"name": "job", "namespace": NAMESPACE, "uid": "u", "labels": {"mpikit/user": "ada"}},
    "spec": {"mpiReplicaSpecs": {"Worker": {"replicas": 1}}},
}
VERBS = {
    "status": ("status", "job"),
    "status of the newest": ("status",),
    "list": ("list",),
    "logs": ("logs", "job"),
    "wait": ("wait", "job", "--timeout", "1s"),
    "delete": ("delete", "job", "--timeout", "5s"),
    "submit": ("submit",),
    "diff": ("diff",),
    "doctor": ("doctor",),
}
LIST = {"kind": "MPIJobList", "apiVersion": "kubeflow.org/v2beta1", "metadata": {"resourceVersion": "5"}}
NESTED = b'{"kind": "MPIJob", "spec": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"}"
WHOLE: dict[str, bytes] = {
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "nested 100,000 deep": NESTED,
    "NaN": b'{"kind": "MPIJob", "spec": {"x": NaN}}',
    "a number of 5,000 digits": b'{"kind": "MPIJob", "spec": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"kind": "\xff"}',
    "a lone surrogate": json.dumps({**LIST, "items": [{"metadata": {"name": "a\ud800"}}]}).encode(),
    "a lone surrogate in a reason": json.dumps(
        {**JOB, "kind": "MPIJob", "status": {"conditions": [{"type": "Failed", "status": "True", "message": "\ud800"}]}}
    ).encode(),
    "half": b'{"kind": "MPIJob"',
    "no kind": b"{}",
    "kind is a map": b'{"kind": {"a": 1}}',
    "metadata is a list": json.dumps({**LIST, "metadata": []}).encode(),
    "items is a map": json.dumps({**LIST, "items": {"a": 1}}).encode(),
    "items of numbers": json.dumps({**LIST, "items": [1, 2]}).encode(),
    "null items": json.dumps({**LIST, "items": [None]}).encode(),
    "names are numbers": json.dumps({**LIST, "metadata": {"name": 7}, "items": [{"metadata": {"name": 7}}]}).encode(),
    "labels of numbers": json.dumps({**JOB, "metadata": {"name": "job", "labels": {"a": 1}}}).encode(),
    "conditions is text": json.dumps({**JOB, "status": {"conditions": "no"}}).encode(),
    "status is text": json.dumps({**JOB, "status": "no"}).encode(),
    "a condition is a number": json.dumps({**JOB, "status": {"conditions": [3]}}).encode(),
    "replicas is text": json.dumps({**JOB, "spec": {"mpiReplicaSpecs": {"Worker": {"replicas": "x"}}}}).encode(),
    "no time": json.dumps({**JOB, "metadata": {"name": "job", "creationTimestamp": "soon"}}).encode(),
}


EVERY_VERB = (
    "null",
    "a lone surrogate",
    "nested 100,000 deep",
    "items is a map",
    "null items",
    "names are numbers",
    "no time",
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(Scripted(), tmp_path / "world")
    yield made
    made.close()


def answering(body: bytes) -> Callable[[Request, Handler], bool]:
    def answer(request: Request, handler: Handler) -> bool:
        handler.send(200, body)
        return True

    return answer


def place(world: World) -> tuple[str, ...]:
    return ("--kubeconfig", str(world.kubeconfig), "-n", NAMESPACE, "--request-timeout", "0.2", "--set", "user=ada")


CASES = [(verb, answer) for verb in VERBS for answer in WHOLE if verb == "status" or answer in EVERY_VERB]


@pytest.mark.parametrize(("verb", "answer"), CASES)
def test_an_answer_of_another_form_is_one_line_and_exit_3(
    world: World, generate: Command, verb: str, answer: str
) -> None:
    world.server.answer = answering(WHOLE[answer])
    done = generate(*VERBS[verb], *place(world))
    told = f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in told
    assert "internal error" not in told
    if verb != "doctor":  # doctor reports what it cannot read as a check
        assert done.returncode == 3, told
        assert done.stderr.count("fix: ") <= 3
    assert "None" not in done.stderr


@pytest.mark.parametrize("verb", ["status", "list", "delete", "logs"])
def test_a_body_without_end_costs_little_memory_and_ends(world: World, generate: Command, verb: str) -> None:
    def endless(request: Request, handler: Handler) -> bool:
        handler.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        for _ in range(2000):
            handler.chunk(b" " * (1 << 20))
        return True

    world.server.answer = endless
    began = time.monotonic()
    done = generate(*VERBS[verb], *place(world))
    assert done.returncode == 3
    assert time.monotonic() - began < 30


DRIPS = {
    "the head": (b"HTTP/1.1 200 OK\r\n", b"X"),
    "the size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000000\r\n", b" "),
    "the end of a chunked body": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X"),
    "a body of a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
    "a body up to the end": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
}


def raw(head: bytes, drop: bytes, watches_only: bool = False) -> Callable[[Request, Handler], bool]:
    """These bytes of HTTP, then a byte every 20 ms until the client goes."""

    def answer(request: Request, handler: Handler) -> bool:
        if watches_only and request.query.get("watch") != "true":
            return False
        handler.wfile.write(head.replace(b"OK\r\n", b"OK\r\nContent-Type: application/json\r\n"))
        while True:
            handler.wfile.write(drop)
            handler.wfile.flush()
            time.sleep(0.02)

    return answer


@pytest.mark.parametrize("part", DRIPS)
def test_a_request_ends_in_its_time_whatever_drips(world: World, part: str) -> None:
    world.server.answer = raw(*DRIPS[part])
    cluster = world.cluster(request_seconds=0.5, clock=time.monotonic, sleep=time.sleep)
    began = time.monotonic()
    with pytest.raises(Unreachable):
        find(cluster, MPIJOB, NAMESPACE, "job")
    assert time.monotonic() - began < PATIENCE * 0.5 + 3.0  # three limits, and a busy machine


@pytest.mark.parametrize("part", DRIPS)
def test_a_wait_ends_in_its_time_whatever_part_of_a_watch_drips(world: World, part: str) -> None:
    world.server.store.put("ADDED", "mpijobs", with_status(json.loads(json.dumps(JOB)), "Running"))
    world.server.answer = raw(*DRIPS[part], watches_only=True)
    cluster = world.cluster(request_seconds=0.5, clock=time.monotonic, sleep=time.sleep)
    began = time.monotonic()
    with pytest.raises((Timeout, Unreachable)):
        wait_for(cluster, NAMESPACE, "job", "succeeded", 1.0, lambda status: None)
    assert time.monotonic() - began < 1.0 + 0.5 + 4.0  # the wait, one request, and a busy machine


def test_a_body_of_100_mb_is_refused_while_it_comes(world: World, generate: Command) -> None:
    def large(request: Request, handler: Handler) -> bool:
        handler.head(200, {"Content-Type": "application/json", "Content-Length": str(100 << 20)})
        for _ in range(100):
            handler.wfile.write(b" " * (1 << 20))
        return True

    world.server.answer = large
    done = generate("status", "job", "--kubeconfig", str(world.kubeconfig), "-n", NAMESPACE, "--request-timeout", "3")
    assert done.returncode == 3
    assert "the answer is larger than 64 MiB" in done.stderr


def test_many_small_values_are_refused_before_they_are_made() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="too many values"):
        parse(b'{"items": [' + b"{}," * 10_000_000 + b"{}]}")
    assert time.process_time() - began < 5


def test_duplicate_keys_are_harmless(world: World, generate: Command) -> None:
    body = json.dumps({**LIST, "items": [JOB]}).replace('"uid": "u"', '"uid": "u", "uid": "v"').encode()
    world.server.answer = answering(body)
    assert "internal error" not in generate("list", *place(world)).stderr


# -- Watches ----------------------------------------------------------------------------------------------------------


def dripping(piece: bytes) -> Callable[[Request, Handler], bool]:
    """A job that runs, and a watch that sends the same piece again and again and never ends."""

    def answer(request: Request, handler: Handler) -> bool:
        if request.query.get("watch") != "true":
            return False
        handler.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        while True:  # until the client goes
            handler.chunk(piece)
            time.sleep(0.01)

    return answer


BOOKMARK = json.dumps({"type": "BOOKMARK", "object": {"kind": "MPIJob", "metadata": {"resourceVersion": "9"}}})
PIECES = {
    "blanks": b" ",
    "blank lines": b"\n",
    "bookmarks": BOOKMARK.encode() + b"\n",
    "one endless line": b"x" * 50_000,
    "the same change": json.dumps({"type": "MODIFIED", "object": with_status(JOB, "Running")})
    .replace('"uid"', '"resourceVersion": "9", "uid"')
    .encode()
    + b"\n",
}


@pytest.mark.parametrize("name", PIECES)
def test_a_wait_ends_in_its_time_whatever_the_watch_drips(world: World, name: str) -> None:
    world.server.store.put("ADDED", "mpijobs", with_status(json.loads(json.dumps(JOB)), "Running"))
    world.server.store.put("ADDED", "pods", pod(NAMESPACE, "job", "worker", "job-worker-0", "w", "u"))
    world.server.answer = dripping(PIECES[name])
    cluster = world.cluster(request_seconds=2.0, clock=time.monotonic, sleep=time.sleep)
    began = time.monotonic()
    with pytest.raises(Timeout):
        wait_for(cluster, NAMESPACE, "job", "succeeded", 3.0, lambda status: None)
    assert time.monotonic() - began < 3.0 + 2.0 + 3.0  # the wait, one request, and a busy machine


LOG_DRIPS = {
    "lines": b"%x\r\n%s\r\n" % (32, b"2026-11-25T03:00:00Z step 1 loss\n"[:32]),
    "bytes of a line": b"1\r\nx\r\n",
    "the size of a chunk": b"0",
}


@pytest.mark.parametrize("drop", LOG_DRIPS)
@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_logs_without_follow_end_when_the_server_drips(
    world: World, generate: Command, monkeypatch: pytest.MonkeyPatch, drop: str, phase: str
) -> None:
    monkeypatch.setattr("mpikit.lifecycle.log_stream.IDLE_SECONDS", 0.3)
    launcher = pod(NAMESPACE, "job", "launcher", "job-launcher-x", "w", "u")
    world.server.store.put("ADDED", "mpijobs", with_status(json.loads(json.dumps(JOB)), phase))
    launcher = launcher if phase == "Running" else ended(launcher, 0)
    world.server.store.put("ADDED", "pods", launcher)
    head, dripping = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", LOG_DRIPS[drop]

    def answer(request: Request, handler: Handler) -> bool:
        if not request.path.endswith("/log"):
            return False
        handler.wfile.write(head)
        for _ in range(500):
            handler.wfile.write(dripping)
            handler.wfile.flush()
            time.sleep(0.05)
        return True

    world.server.answer = answer
    began = time.monotonic()
    done = generate("logs", "job", *place(world))
    assert done.returncode == 3, done.stderr
    assert "the answer comes too slowly" in done.stderr
    assert time.monotonic() - began < 10


# -- Parts ------------------------------------------------------------------------------------------------------------


def test_lines_are_linear_in_time_and_bounded() -> None:
    lines = Lines()
    assert lines.add(b"a") == []
    assert lines.add(b"b\nc\n\nd") == [b"ab", b"c", b""]
    assert lines.rest == b"d"
    began = time.process_time()
    for _ in range(LINE_BYTES // 100):
        lines.add(b"x" * 99)
    assert time.process_time() - began < 5  # quadratic: minutes
    with pytest.raises(ValueError, match="longer than 16 MiB"):
        lines.add(b"x" * LINE_BYTES)


GOOD: list[Any] = [
    {"kind": "CustomResourceDefinition", "metadata": {"name": "x"}, "spec": {"items": {"type": 1}, "name": []}},
    {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"items": "text", "spec": "text"}},
    {"kind": "Pod", "metadata": {"labels": None, "annotations": {"spec": "x"}}, "spec": {"volumes": None}},
    {"kind": "Pod", "spec": {"volumes": [{"name": "v", "image": {"reference": "a"}}]}},
    {"openapi": "3.0.0", "components": {"schemas": {"x": {"properties": {"kind": {"type": "string"}, "items": 1}}}}},
    {"kind": "Status", "status": "Failure", "details": {"name": "x", "causes": []}},
    {"kind": "Event", "series": {"count": 3, "lastObservedTime": "2026-11-25T03:00:00.000000Z"}},
]


@pytest.mark.parametrize("value", GOOD, ids=lambda value: str(value.get("kind")))
def test_real_objects_pass(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
