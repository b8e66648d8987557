# SPDX-License-Identifier: Apache-2.0
"""A stream of manifests is parsed once in a command, and each value keeps its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpikit.cli.app import main
from mpikit.text import kubectl_yaml, manifest, strict_yaml
from mpikit.text.manifest import read_manifest


def test_objects_are_the_maps_of_the_stream_and_faults_keep_their_places() -> None:
    found = read_manifest("kind: MPIJob\n---\ntext\n---\nkind: Pod\nspec:\n  a: .inf\n", "m.yaml")
    assert [one["kind"] for one in found.objects] == ["MPIJob", "Pod"]
    assert [fault.where for fault in found.faults] == ["m.yaml:7:6"]
    (pod,) = found.of_kind("Pod")
    assert found.where(pod, "spec.containers[0].image") == "m.yaml:6:1"
    assert found.where(pod, "metadata") == "m.yaml:5:1"


@pytest.mark.parametrize(
    "words", [["check"], ["check", "-v", "--pod-security", "baseline"], ["check", "--manifest", "m.yaml", "-v"]]
)
def test_check_parses_a_manifest_once(
    words: list[str], values_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parsed = []

    def counted(text: str, source: str) -> list[strict_yaml.Document]:
        parsed.append(source)
        return kubectl_yaml.read_as_kubectl(text, source)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text("kind: MPIJob\n")
    monkeypatch.setattr(manifest, "read_as_kubectl", counted)
    monkeypatch.setattr("sys.argv", ["generate.py", *words, "--values-root", str(values_root), "--set", "user=ada"])
    main()
    assert len(parsed) == 1
