# SPDX-License-Identifier: Apache-2.0
"""`doctor` compares the access modes of a claim with the pods that mount it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mpikit.config.job import Job
from mpikit.errors import Forbidden
from mpikit.kube.api import Kind
from mpikit.preflight.references import Backing, Use, access_check, backing_of, in_tree
from mpikit.render.payload import Payload
from mpikit.render.renderer import render
from mpikit.text.strict_yaml import read_all

RWO, RWX, ROX, RWOP = "ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany", "ReadWriteOncePod"


def use(job: Job, name: str) -> Use:
    text = render(job, Payload({"vit/__init__.py": b""})).manifest
    return Use.of(job, [document.data for document in read_all(text, "a")], name)


OUTPUT, DATASET = 'output={"pvc": "c"}', 'dataset={"pvc": "c"}'
MORE = 'worker.volumes=[{"name": "m", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}}]'
MOUNT = 'worker.volumeMounts=[{"name": "m", "mountPath": "/m"}]'


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("nodes=1", DATASET), Use(1, "one", False)),
        (("nodes=1", OUTPUT), Use(2, "maybe several", True)),  # the launcher writes its log there
        (("nodes=2", DATASET), Use(2, "several", False)),  # 8 Gaudi cards are a node
        (("nodes=4", OUTPUT), Use(5, "several", True)),
        (("nodes=2", "cards=4", DATASET), Use(2, "maybe several", False)),
        (("nodes=2", "cards=4", "worker.onePerNode=true", DATASET), Use(2, "several", False)),
        (("nodes=2", MORE, MOUNT), Use(2, "several", False)),
        (("nodes=2",), Use(0, "one", False)),
    ],
)
def test_the_use_of_a_claim_follows_from_the_templates(
    make_job: Callable[..., Job], settings: tuple[str, ...], expected: Use
) -> None:
    assert use(make_job(*settings), "c") == expected


READS, WRITES = (Use(3, "several", writes) for writes in (False, True))
NEAR = Use(3, "maybe several", True)


@pytest.mark.parametrize(
    ("modes", "how", "severity", "said"),
    [
        ([RWX], WRITES, "", ""),
        ([RWO, RWX], WRITES, "", ""),
        ([ROX], READS, "", ""),
        ([RWO], Use(1, "one", True), "", ""),
        ([RWOP], Use(1, "one", True), "", ""),
        ([], WRITES, "", ""),
        ([RWO], Use(0, "one", False), "", ""),
        ([ROX], WRITES, "fault", "is ReadOnlyMany, but the job writes to it"),
        ([RWO], READS, "fault", "is ReadWriteOnce: one node can mount it, and 3 pods of the job mount it on several"),
        ([ROX, RWO], WRITES, "fault", "is ReadWriteOnce: one node can mount it"),
        (
            [RWO],
            NEAR,
            "warning",
            "is ReadWriteOnce: one node can mount it, and 3 pods of the job mount it, so all must",
        ),
        ([RWOP], NEAR, "fault", "is ReadWriteOncePod: one pod can mount it, and 3 pods of the job mount it"),
    ],
)
def test_a_claim_that_its_pods_cannot_all_mount_is_told(modes: list[str], how: Use, severity: str, said: str) -> None:
    found = list(access_check("c", modes, how))
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all(one.message.startswith(f"PersistentVolumeClaim c {said}") for one in found)
    assert all(one.fix.startswith("use a claim with Read") for one in found)


# -- What is behind the claim -----------------------------------------------------------------------------------------

NFS, HOST_PATH, EFS = (
    Backing("shared", "nfs"),
    Backing("of each node", "hostPath"),
    Backing("shared", "efs.csi.aws.com"),
)


@pytest.mark.parametrize(
    ("modes", "how", "backing", "severity", "said"),
    [
        ([RWO], WRITES, NFS, "warning", "is ReadWriteOnce, which is not enforced for nfs: 3 pods on several nodes"),
        ([RWO], READS, EFS, "warning", "is ReadWriteOnce, which is not enforced for efs.csi.aws.com: 3 pods"),
        ([RWO], NEAR, NFS, "", ""),
        ([RWO], WRITES, HOST_PATH, "warning", "is a hostPath volume: each node mounts its own folder, and 3 pods"),
        ([RWO], NEAR, HOST_PATH, "warning", "is a hostPath volume: each node mounts its own folder, and 3 pods"),
        ([RWO], Use(1, "one", True), HOST_PATH, "", ""),
        ([RWO], WRITES, Backing("hidden"), "fault", "is ReadWriteOnce: one node can mount it"),
        ([RWOP], WRITES, NFS, "fault", "is ReadWriteOncePod: one pod can mount it"),
        ([ROX], WRITES, NFS, "fault", "is ReadOnlyMany, but the job writes to it"),
    ],
)
def test_read_write_once_is_judged_by_what_enforces_it(
    modes: list[str], how: Use, backing: Backing, severity: str, said: str
) -> None:
    found = list(access_check("c", modes, how, backing))
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all(one.message.startswith(f"PersistentVolumeClaim c {said}") for one in found)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("cephfs", "shared"),
        ("glusterfs", "shared"),
        ("azureFile", "shared"),
        ("hostPath", "of each node"),
        ("local", "attached"),  # all of its pods run on its node
        ("rbd", "attached"),
        ("iscsi", "attached"),
        ("gcePersistentDisk", "attached"),
    ],
)
def test_the_source_of_a_volume_says_whether_it_is_attached(source: str, kind: str) -> None:
    assert in_tree({"spec": {"accessModes": [RWO], source: {}}}).kind == kind


@pytest.mark.parametrize(
    ("driver", "kind"),
    [
        ({"spec": {"attachRequired": False}}, "shared"),
        ({"spec": {"attachRequired": True}}, "attached"),
        (None, "attached"),  # the default of a driver without a CSIDriver object
        (Forbidden("you may not"), "hidden"),
    ],
)
def test_a_csi_driver_says_itself_whether_it_attaches(
    driver: object, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(_cluster: object, what: Kind, _namespace: None, name: str) -> object:
        if what.name == "PersistentVolume":
            return {"spec": {"csi": {"driver": "d.example"}}}
        assert name == "d.example"
        if isinstance(driver, Exception):
            raise driver
        return driver

    monkeypatch.setattr("mpikit.preflight.references.find", find)
    assert backing_of(None, "pv-1").kind == kind  # type: ignore[arg-type]  # unused


def test_a_volume_that_may_not_be_read_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*_: object) -> object:
        raise Forbidden("you may not")

    monkeypatch.setattr("mpikit.preflight.references.find", find)
    assert backing_of(None, "pv-1").kind == "hidden"  # type: ignore[arg-type]  # unused
