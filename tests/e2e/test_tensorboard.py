# SPDX-License-Identifier: Apache-2.0
"""TensorBoard in a real pod: kubectl port-forward reaches the scalars of a run, and delete ends it."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs import generate, settings
from kube import Kube, wait_for

PORT = 6006
SECONDS = 120.0


@contextmanager
def forwarded(kube: Kube, namespace: str, service: str) -> Iterator[str]:
    """The address at which kubectl forwards to the port of a Service."""
    command = [kube.kubectl, "--kubeconfig", kube.kubeconfig, "-n", namespace, "port-forward", service, f":{PORT}"]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 6006
        assert line.startswith("Forwarding from "), line
        yield f"http://{line.split()[2]}"
    finally:
        process.terminate()
        process.wait()


def answer(address: str) -> Any:
    """JSON of TensorBoard; None until it has something to say."""
    try:
        with urllib.request.urlopen(address, timeout=10) as found:
            return json.load(found) or None
    except OSError:
        return None


def test_port_forward_reaches_the_scalars_and_delete_ends_the_job(
    kube: Kube, namespace: str, real_node_values: list[str], tmp_path: Path
) -> None:
    """Judged by TensorBoard's own API, and by the API server."""
    run = tmp_path / "output" / "flowers"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 10, "loss": 0.5}\n{"step": 20, "loss": 0.25}\n')
    memory = settings(launcher__resources__limits__memory="2Gi")
    place = ["-n", namespace, *settings(user="ada", output=tmp_path / "output")]
    words = ["-f", "values/cpu.yaml", *real_node_values, *place, *memory]
    manifest = generate("tensorboard", "flowers", "--job", *words)
    kube("apply", "-f", "-", text=manifest)
    labels = "app.kubernetes.io/component=tensorboard"
    (service,) = kube.all(namespace, "services", labels)
    name = service["metadata"]["labels"]["app.kubernetes.io/instance"]
    board = service["metadata"]["name"]
    kube("-n", namespace, "wait", "--for=jsonpath={.status.ready}=1", f"job/{board}", "--timeout=110s")

    with forwarded(kube, namespace, f"service/{board}") as address:
        wait_for("TensorBoard to read the run", lambda: answer(f"{address}/data/runs") == ["flowers"], SECONDS)
        scalars = answer(f"{address}/data/plugin/scalars/scalars?run=flowers&tag=loss")
    assert [(step, value) for _, step, value in scalars] == [(10, 0.5), (20, 0.25)]

    said = generate("delete", name, "-n", namespace, "--kubeconfig", kube.kubeconfig, *settings(user="ada"))
    assert f'service "{board}" deleted' in said
    left = [kind for kind in ("jobs", "services", "configmaps") if kube.all(namespace, kind, labels)]
    assert left == []
    wait_for("the pod to go", lambda: not kube.all(namespace, "pods", labels), SECONDS)
