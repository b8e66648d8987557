# SPDX-License-Identifier: Apache-2.0
"""The reader of manifests against kubectl itself: what kubectl accepts is read, and read alike."""

# ruff: noqa: E501  # one case a line
from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mpikit.text.manifest import read_manifest

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
BODIES = {
    "octal": "mode: [0640, 0o17, 00, -017, 0x1F, 0b101, 1_000]\n",
    "numbers": "n: [08, 1e3, 1.50, +7, .5, 6e-2, 12., 0.0]\n",
    "words": "w: [yes, Off, Y, n, TRUE, ~, Null, 'yes', \"012\"]\n",
    "texts": "t: [2031-12-24, 2001-12-14t21:59:43.10-05:00, 7:45, 22:22, 1:30:00, =, 1.2.3, v1, -, _]\n",
    "anchors": "a: &x {b: [1, &y two]}\nc: *x\nd: [*y, *x]\n",
    "a merge key": "base: &b {q: 1, r: 2}\nuse: {<<: *b, r: 3}\nboth: {<<: [*b, {s: 4}], q: 0}\n",
    "an anchored key": "&k name: 1\nother: *k\n",
    "tags": "t: [!!str 017, !!int '5', ! no, !!map {a: 1}]\n",
    "keys": "1: a\non: b\n1.5: c\n012: d\n",
}
STREAMS = {
    "a surrogate pair": json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "\U0001f680 \\ud83d"}}),
    "two JSON objects": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}\n{"apiVersion":"v1","kind":"Secret","metadata":{"name":"b"}}\n',
    "JSON with tabs": '{\n\t"apiVersion": "v1",\n\t"kind": "ConfigMap", "metadata": {"name": "a\\/b"}\n}',
    "a List": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n",
    "an empty document": "---\n# nothing\n---\n" + HEAD,
}  # fmt: skip
TEXTS = {name: HEAD + body for name, body in BODIES.items()} | STREAMS


def by_kubectl(text: str, folder: Path) -> list[object]:
    """The objects that kubectl reads, without the label that makes it print them."""
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    (folder / "m.yaml").write_text(text)
    words = ["kubectl", "label", "--local", "--dry-run=client", "-o", "json", "-f", str(folder / "m.yaml"), "x=y"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    decoder, found, rest = json.JSONDecoder(), [], done.stdout.strip()
    while rest:
        one, end = decoder.raw_decode(rest)
        found += one["items"] if one["kind"] == "List" else [one]
        rest = rest[end:].strip()
    for one in found:
        assert one["metadata"].pop("labels") == {"x": "y"}
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_what_kubectl_reads_is_read_alike(name: str, tmp_path: Path) -> None:
    read = read_manifest(TEXTS[name], "m.yaml")
    assert [str(fault) for fault in read.faults] == []
    assert read.objects == by_kubectl(TEXTS[name], tmp_path)


def test_the_items_of_a_list_keep_their_places() -> None:
    read = read_manifest("kind: List\nitems:\n- kind: Pod\n- kind: MPIJob\n  spec:\n    a: 1\n", "l.yaml")
    (job,) = read.of_kind("MPIJob")
    assert read.where(job, "spec.a") == "l.yaml:6:5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: *b\n", "m:1:4: a: no anchor &b above"),
        ("a: &b [*b]\n", "m:1:8: a[0]: no anchor &b above"),
        ("a: &b 1\n---\nc: *b\n", "m:3:4: c: no anchor &b above"),
        ("a: !env X\n", "m:1:4: a: a tag (!env)"),
        ("a: .inf\n", "m:1:4: a: .inf is not a finite number"),
    ],
)
def test_what_kubectl_does_not_read_is_one_error(text: str, said: str) -> None:
    (fault,) = read_manifest(text, "m").faults
    assert str(fault).startswith(said)


def test_aliases_cannot_multiply_without_a_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (fault,) = read_manifest("\n".join(lines), "m").faults
    assert "more than 100000 values" in str(fault)


@pytest.mark.parametrize(
    "text",
    [
        "kind: MPIJob\nmetadata:\n  name: {{ .Release.Name }}-a\n{{- range .Values.x }}\n  b: {{ . }}\n{{- end }}\n",
        "kind: MPIJob\nspec:\n  slotsPerWorker: {{ .Values.slots }}\n  runPolicy: {{ toYaml .Values.run }}\n",
        'kind: MPIJob\nmetadata: {name: "{{ job.name }}"}\n',
        "kind: MPIJob\n{% if gang %}\nspec: {}\n{% endif %}\n",
    ],
)
def test_a_template_is_one_error(text: str) -> None:
    (fault,) = read_manifest(text, "t.yaml").faults
    assert "this is a template: render it first" in str(fault)


def test_marks_of_another_program_are_no_template() -> None:
    text = "kind: MPIJob\nspec: {args: ['{{ .Name }}'], command: [sh, -c, 'echo {{ x }}']}\n"
    assert read_manifest(text, "m").faults == []
