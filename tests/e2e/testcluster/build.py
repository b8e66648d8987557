# SPDX-License-Identifier: Apache-2.0
"""Finds the programs of the cluster, and builds those that are not there yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from testcluster.errors import ClusterError, missing
from testcluster.pins import BUILD, File, Program, cache_folder, chosen, linker_flags, programs_folder

GO_DEFAULT = Path("/usr/local/go/bin/go")  # where Go's own installer puts it
BUILT_ELSEWHERE = ("etcd", "kube-apiserver", "kubectl")  # what setup-envtest puts into KUBEBUILDER_ASSETS


def say(text: str) -> None:
    """One line of progress on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; a second process waits for the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_programs(operator: str) -> dict[str, Path]:
    """The path of each program and pinned file by name; builds what is missing, once for all work trees."""
    programs, files = chosen(operator)
    found = {one.name: _path(one) for one in programs} | {one.name: _cached(one) for one in files}
    if not all(path.exists() for path in found.values()):
        with locked(cache_folder() / "build.lock"):
            for module in dict.fromkeys([*(one.module for one in programs), *(one.module for one in files)]):
                _build_missing(
                    module,
                    [one for one in programs if one.module == module and not found[one.name].exists()],
                    [one for one in files if one.module == module and not found[one.name].exists()],
                )
    return found


def _cached(one: Program | File) -> Path:
    return programs_folder(one.module) / one.name


def _path(program: Program) -> Path:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and program.name in BUILT_ELSEWHERE and (Path(assets) / program.name).exists():
        return Path(assets).resolve() / program.name
    installed = shutil.which("kubectl") if program.name == "kubectl" else None
    return Path(installed) if installed else _cached(program)


def _build_missing(module: str, programs: list[Program], files: list[File]) -> None:
    """Make these in an unfinished folder, then move each into the cache when it is whole."""
    if not programs and not files:
        return
    go, folder = find_go(), programs_folder(module)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unfinished = Path(temporary)
        if programs:
            _build(go, module, programs, unfinished)
        for file in files:
            source = Path(_go(go, module, ["list", "-m", "-f", "{{.Dir}}", file.dependency]).strip())
            shutil.copyfile(source / file.path, unfinished / file.name)
        built = {program.built_name: program.name for program in programs} | {file.name: file.name for file in files}
        for made, name in built.items():
            (unfinished / made).replace(folder / name)


def find_go() -> str:
    """The Go of PATH, or the one that Go's installer leaves; MPIKIT_GO names another."""
    named = os.environ.get("MPIKIT_GO", "go")
    go = shutil.which(named) or (str(GO_DEFAULT) if named == "go" and GO_DEFAULT.exists() else None)
    if go is None:
        raise missing("there is no Go here to build Kubernetes with", "install Go 1.26 or newer")
    return go


def _build(go: str, module: str, wanted: list[Program], unfinished: Path) -> None:
    say(f"building {', '.join(program.name for program in wanted)} (once; up to 20 minutes on 2 cores)")
    flags = ["-buildvcs=false", "-trimpath", "-ldflags", linker_flags(module), "-o", f"{unfinished}/"]
    _go(go, module, ["build", *flags, *(program.package for program in wanted)])


def _go(go: str, module: str, words: list[str]) -> str:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    result = subprocess.run([go, *words], cwd=BUILD / module, env=environment, text=True, stdout=subprocess.PIPE)
    if result.returncode != 0:
        fix = "see its lines above; Go needs its module proxy, 5 GB of disk and 4 GiB of memory; then run this again"
        raise ClusterError(f"go {words[0]} failed in tests/e2e/build/{module}", fix)
    return result.stdout
