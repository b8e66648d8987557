# SPDX-License-Identifier: Apache-2.0
"""Hostile values files: each is refused with place and key, or every reader reads the manifest as the model has it.

scripts/soak values --cases N [--seed S] [--server]; a failing case names its seed. VALUES_CASES, VALUES_SEED and
VALUES_SERVER say the same to this test; the API server is that of KUBECONFIG.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from mpikit.config.job import Job
from mpikit.config.loader import load_job
from mpikit.config.values import PLACEHOLDER_KEYS, load_values
from mpikit.diagnostics import Diagnostic
from mpikit.errors import ValuesError
from mpikit.render.payload import Payload
from mpikit.render.renderer import Rendered, render
from mpikit.text.manifest import read_manifest
from mpikit.validation.manifest import Target, check_manifest
from mpikit.validation.provenance import security_faults
from tests.conftest import ROOT
from tests.support.hostile.cases import Case, make_case
from tests.support.hostile.expected import mpijob
from tests.support.hostile.places import at
from tests.support.hostile.readers import Manifests, alike, first_difference, read_by_kubectl, read_by_server

CASES, FIRST = int(os.environ.get("VALUES_CASES", "150")), int(os.environ.get("VALUES_SEED", "0"))
SERVER = bool(os.environ.get("VALUES_SERVER"))
COMMAND_LINE = 40  # each case of so many goes through the command line too, which takes half a second
KUBERNETES = "1.35"  # the test cluster's
BATCH = 50  # manifests that kubectl reads in one call
STUB = Payload({"vit/__init__.py": b""})
CPU_SECONDS, MEMORY_MIB = 2.0, 300
PLACE = re.compile(r"(:[1-9]\d*(:[1-9]\d*)?|)")


def memory(field: str) -> int:
    """What /proc tells of this process's memory, in MiB: VmRSS is what it has, VmHWM the most it had."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) >> 10


def test_a_hostile_file_is_refused_by_name_or_read_alike_by_all(values_root: Path, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine; any release from 1.25 on will do")
    wrong, count, slowest = [], Counter[str](), 0.0
    before = memory("VmRSS")  # tests that ran before in this process may have left it torch
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    waiting: Manifests = {}
    for seed in range(FIRST, FIRST + CASES):
        case, start = make_case(seed), time.process_time()
        try:
            told, text, written = judged(case, values_root, tmp_path)
        except Exception as error:
            told, text, written = f"traceback: {error!r:.500}", "", []
        seconds = time.process_time() - start
        slowest = max(slowest, seconds)
        if seconds > CPU_SECONDS:
            told = f"{seconds:.1f} s"
        if seed % COMMAND_LINE == 0:
            told = told or through_the_command_line(case, values_root, tmp_path)
        count[told.split(":")[0] or ("taken" if text else "refused")] += 1
        if told:
            wrong.append(f"{case.name}\n    {told}")
        elif text:
            waiting[case.name] = text, written
        if len(waiting) == BATCH or seed == FIRST + CASES - 1:
            wrong += read_by_kubectl(kubectl, waiting)
            if SERVER:
                passed = _passed_by_check(waiting)
                count["dry run by the server"] += len(passed)
                wrong += read_by_server(kubectl, passed)
            waiting = {}
    mebibytes = memory("VmHWM") - before
    print(
        f"{CASES} files from seed {FIRST}: {dict(count)}, slowest {slowest:.2f} s of CPU, {mebibytes} MiB more at most"
    )
    assert not wrong, f"{len(wrong)} of {CASES}\n" + "\n".join(wrong)
    assert mebibytes < MEMORY_MIB


def _passed_by_check(manifests: Manifests) -> Manifests:
    """What check has nothing against must be taken by a cluster."""
    found = {
        name: check_manifest(read_manifest(text, name), Target(kubernetes=KUBERNETES))
        for name, (text, _) in manifests.items()
    }
    return {name: one for name, one in manifests.items() if not any(fault.severity == "fault" for fault in found[name])}


def judged(case: Case, root: Path, folder: Path) -> tuple[str, str, list[Any]]:
    """What is wrong with the kit's answer to a case (empty: nothing), and the manifest with its objects, if any."""
    file = folder / "case.yaml"
    file.write_bytes(case.text)
    try:
        values = load_values(root, [case.base, str(file)], case.settings, "ada")
        read = next(layer for layer in values.layers if layer.source == str(file)).document
        told = _read_otherwise(case, read.data) if not read.faults else ""
        job, warnings = load_job(values)
    except ValuesError as error:
        return _badly_refused(case, error.faults, str(file)), "", []
    told = told or _badly_told(warnings) or _otherwise_in_model(case, job)
    rendered = render(job, STUB)
    manifest = read_manifest(rendered.manifest)
    check_manifest(manifest)  # what it finds is for tests/e2e to judge; that it ends, for us
    security_faults(manifest, "restricted", values)
    objects = list(yaml.load_all(rendered.manifest, Loader=yaml.CSafeLoader))
    return told or _otherwise_in_manifest(job, rendered, objects), rendered.manifest, objects


def through_the_command_line(case: Case, root: Path, folder: Path) -> str:
    """What is wrong with the answer of generate.py itself to the file that `judged` has written."""
    command = [sys.executable, str(ROOT / "generate.py"), "--values-root", str(root), "-f", case.base]
    try:
        words = [word for flag, text in case.settings for word in (flag, text.encode("utf-8", "surrogateescape"))]
        done = subprocess.run(
            [*command, "-f", str(folder / "case.yaml"), *words],
            capture_output=True,
            env=os.environ | {"LOGNAME": "ada"},
            timeout=60,
            check=False,
        )
    except UnicodeEncodeError:  # a lone surrogate, which no command line can hold
        return ""
    told = done.stderr.decode("utf-8", "replace")
    if done.returncode not in (0, 2) or "Traceback" in told or "internal error" in told:
        return f"command: exit {done.returncode}, {told[:500]}"
    return f"command: {told!r:.300}" if any(_disturbs(char) for char in told) else ""


def _disturbs(char: str) -> bool:
    """A character that could disturb a terminal."""
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char != "\n"


def _badly_refused(case: Case, faults: tuple[Diagnostic, ...], file: str) -> str:
    for fault in faults:
        place = fault.where.removeprefix(file)
        named = fault.where.startswith(("values/", "--set", "login name")) or fault.where == ""
        if not named and not PLACE.fullmatch(place):
            return f"place: {fault}"
        if not fault.key and not fault.where:
            return f"neither key nor place: {fault}"
    if case.written and not any(_is_about(fault, place) for fault in faults for place in case.written):
        return f"key: {faults[0]}"
    return _badly_told(faults)


def _is_about(fault: Diagnostic, place: tuple[Any, ...]) -> bool:
    return not fault.key or str(place[0]) in (
        fault.key,
        *re.split(r"[.\[]", fault.key),
        *re.findall(r"\w+", fault.message),
    )


def _badly_told(faults: Any) -> str:
    """A sentence that could disturb a terminal."""
    for fault in faults:
        if any(map(_disturbs, str(fault))):
            return f"terminal: {str(fault)!r:.300}"
    return ""


def _read_otherwise(case: Case, data: Any) -> str:
    """PyYAML and the strict reader differ on a text that the latter takes, or neither reads what was written."""
    if case.settings:
        return ""
    theirs = yaml.load(case.text.decode("utf-8-sig"), Loader=yaml.CSafeLoader)
    return "" if alike(data, theirs) else f"reader: {data!r:.200} is {theirs!r:.200} to PyYAML"


def _otherwise_in_model(case: Case, job: Job) -> str:
    """A text that the model holds in another form than it was written."""
    held = job.model_dump(by_alias=True)
    for place, value in case.written.items():
        try:
            found = at(held, place)
        except (KeyError, IndexError, TypeError):
            if value is None or (isinstance(value, str) and case.settings and value == "null"):
                continue
            return f"model: {place} is not there"
        if isinstance(value, str) and isinstance(found, str) and found != _as_meant(place, value, job):
            return f"model: {place} is {found!r:.200}"
    return ""


def _as_meant(place: tuple[Any, ...], value: str, job: Job) -> str:
    if place[0] in PLACEHOLDER_KEYS:
        value = value.replace("{user}", job.user).replace("{synapse}", job.synapse or "")
    is_path = place[0] == "sshAuthMountPath" or (
        len(place) == 1 and place[0] in ("mydir", "dataset", "pretrained", "output")
    )
    return value.rstrip("/") or "/" if is_path else value


def _otherwise_in_manifest(job: Job, rendered: Rendered, objects: list[Any]) -> str:
    """PyYAML reads something else than what the model says."""
    if job.delivery == "mydir":
        return "" if len(objects) == 1 else f"manifest: {len(objects)} objects"
    config, found = objects
    files = {name: text for name, text in config["data"].items() if name != "passwd"}
    if files != rendered.scripts:
        return "manifest: the scripts differ"
    wanted = mpijob(job, config["metadata"]["name"])
    told = first_difference(found, wanted)
    return f"manifest: {told}" if told else ""
