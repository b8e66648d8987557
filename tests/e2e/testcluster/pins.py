# SPDX-License-Identifier: Apache-2.0
"""Which programs the cluster is made of, and where the built ones are kept. go.mod and go.sum hold every version."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent / "build"
_COMPONENT = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Program:
    """One program: the module below build/ that pins it, its package there, and the name that `go build` gives it."""

    name: str
    module: str
    package: str
    built_name: str


@dataclass(frozen=True)
class File:
    """One file that the cluster reads out of a Go module: its name, the module below build/, and where it is."""

    name: str
    module: str
    dependency: str
    path: str


OPERATOR = "github.com/kubeflow/mpi-operator"
OPERATORS = ("0.8.2", "0.8.0", "0.7.0", "0.6.0")  # the first is the one in build/main

PROGRAMS = (
    Program("kube-apiserver", "main", "k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
    Program(
        "kube-controller-manager", "main", "k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"
    ),
    Program("kube-scheduler", "main", "k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
    Program("kubelet", "main", "k8s.io/kubernetes/cmd/kubelet", "kubelet"),
    Program("kubectl", "main", "k8s.io/kubernetes/cmd/kubectl", "kubectl"),
    Program("mpi-operator", "main", f"{OPERATOR}/cmd/mpi-operator", "mpi-operator"),
    Program("etcd", "main", "go.etcd.io/etcd/server/v3", "server"),
    Program("coredns", "main", "github.com/coredns/coredns", "coredns"),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", "kwok"),
    Program("pause", "pause", ".", "pause"),
)

FILES = (
    File("mpi-operator.yaml", "main", OPERATOR, "deploy/v2beta1/mpi-operator.yaml"),
    File("pod-ready.yaml", "kwok", "sigs.k8s.io/kwok", "kustomize/stage/pod/fast/pod-ready.yaml"),
    File("pod-delete.yaml", "kwok", "sigs.k8s.io/kwok", "kustomize/stage/pod/fast/pod-delete.yaml"),
)


def cache_folder() -> Path:
    """Where built programs, images and the pods' Python are kept: MPIKIT_CACHE, else ~/.cache/mpikit."""
    return Path(os.environ.get("MPIKIT_CACHE") or Path.home() / ".cache" / "mpikit").resolve()


def digest(*parts: bytes) -> str:
    """A short name for these contents."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


def chosen(operator: str) -> tuple[list[Program], list[File]]:
    """The programs and files of a cluster with this version of the operator; an older one has a module of its own."""
    module = "main" if operator == OPERATORS[0] else f"operator-{operator}"
    programs = [replace(one, module=module) if one.name == "mpi-operator" else one for one in PROGRAMS]
    return programs, [replace(one, module=module) if one.name == "mpi-operator.yaml" else one for one in FILES]


def programs_folder(module: str) -> Path:
    """The folder of what the pins of build/<module> make."""
    pinned = [path for path in sorted((BUILD / module).iterdir()) if path.suffix in (".mod", ".sum", ".go")]
    return cache_folder() / digest(linker_flags(module).encode(), *(path.read_bytes() for path in pinned)) / "bin"


def version_of(module: str, dependency: str) -> str:
    """The version of a Go module that build/<module>/go.mod pins."""
    found = re.search(
        rf"^\s*(?:require )?{re.escape(dependency)} (v\S+)", (BUILD / module / "go.mod").read_text(), re.M
    )
    assert found, f"{module}/go.mod does not name {dependency}"
    return found.group(1)


def linker_flags(module: str) -> str:
    """-ldflags that strip the programs and tell them their version, which `go build` of a dependency leaves out."""
    if module == "kwok":
        return f"-s -w -X sigs.k8s.io/kwok/pkg/consts.Version={version_of('kwok', 'sigs.k8s.io/kwok')}"
    if module == "pause":
        return "-s -w"
    if module.startswith("operator-"):
        return f"-s -w -X {OPERATOR}/pkg/version.Version={version_of(module, OPERATOR)}"
    kubernetes = version_of("main", "k8s.io/kubernetes")
    major, minor, _ = kubernetes[1:].split(".", 2)
    settings = {
        f"{_COMPONENT}.gitVersion": kubernetes,
        f"{_COMPONENT}.gitMajor": major,
        f"{_COMPONENT}.gitMinor": minor,
        f"{_COMPONENT}.gitTreeState": "clean",
        f"{OPERATOR}/pkg/version.Version": version_of("main", OPERATOR),
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in settings.items())])
