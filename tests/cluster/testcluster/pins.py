"""Which programs the cluster is made of, and where the built ones are kept. go.mod and go.sum hold every version."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
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


PROGRAMS = (
    Program("kube-apiserver", "main", "k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
    Program(
        "kube-controller-manager", "main", "k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"
    ),
    Program("kube-scheduler", "main", "k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
    Program("kubelet", "main", "k8s.io/kubernetes/cmd/kubelet", "kubelet"),
    Program("kubectl", "main", "k8s.io/kubernetes/cmd/kubectl", "kubectl"),
    Program("mpi-operator", "main", "github.com/kubeflow/mpi-operator/cmd/mpi-operator", "mpi-operator"),
    Program("etcd", "main", "go.etcd.io/etcd/server/v3", "server"),
    Program("coredns", "main", "github.com/coredns/coredns", "coredns"),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", "kwok"),
    Program("pause", "pause", ".", "pause"),
)

# What else the modules carry and the cluster reads: cached name, module below build/, Go module, path in it.
FILES = (
    ("mpi-operator.yaml", "main", "github.com/kubeflow/mpi-operator", "deploy/v2beta1/mpi-operator.yaml"),
    ("pod-ready.yaml", "kwok", "sigs.k8s.io/kwok", "kustomize/stage/pod/fast/pod-ready.yaml"),
    ("pod-delete.yaml", "kwok", "sigs.k8s.io/kwok", "kustomize/stage/pod/fast/pod-delete.yaml"),
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


def programs_folder() -> Path:
    """The folder of the programs that these pins make."""
    pinned = sorted([*BUILD.glob("*/go.mod"), *BUILD.glob("*/go.sum"), *BUILD.glob("*/*.go")])
    recipe = repr([PROGRAMS, FILES, *(linker_flags(module) for module in ("main", "kwok", "pause"))])
    return cache_folder() / digest(recipe.encode(), *(path.read_bytes() for path in pinned)) / "bin"


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
    kubernetes = version_of("main", "k8s.io/kubernetes")
    major, minor, _ = kubernetes[1:].split(".", 2)
    settings = {
        f"{_COMPONENT}.gitVersion": kubernetes,
        f"{_COMPONENT}.gitMajor": major,
        f"{_COMPONENT}.gitMinor": minor,
        f"{_COMPONENT}.gitTreeState": "clean",
        "github.com/kubeflow/mpi-operator/pkg/version.Version": version_of("main", "github.com/kubeflow/mpi-operator"),
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in settings.items())])
