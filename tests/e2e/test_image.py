# SPDX-License-Identifier: Apache-2.0
"""The pods' image: what it holds, and that the Dockerfile says the same."""

from __future__ import annotations

import re
import tarfile

from jobs import ROOT
from testcluster.image import CONSTRAINTS, PACKAGES, PYTHON_PACKAGES, SUITE, find_images

DOCKERFILE = (ROOT / "images" / "cpu" / "Dockerfile").read_text()


def test_the_dockerfile_names_the_packages_of_the_test_image() -> None:
    """Judged by the text of images/cpu/Dockerfile; python3-venv is what it needs to bring torch in."""
    listed = re.search(r"--no-install-recommends \\\n(.*?)\n && ", DOCKERFILE, re.S)
    assert listed
    assert set(listed.group(1).replace("\\", "").split()) == {*PACKAGES, "python3-venv"}
    assert f"FROM debian:{SUITE}" in DOCKERFILE


def test_the_dockerfile_names_the_versions_of_the_tests() -> None:
    """Judged by constraints.txt: the lines for Python 3.11, Debian's."""
    pinned = dict(re.findall(r'^([a-z-]+)==([^;\s]+)(?:; python_version >= "3.11")?$', CONSTRAINTS.read_text(), re.M))
    for name in PYTHON_PACKAGES:
        assert f"{name}=={pinned[name]}" in DOCKERFILE


def test_the_image_holds_no_host_keys_and_both_open_mpis() -> None:
    """Judged by the files in the archive: keys in an image would be everybody's, so worker.sh has to make them."""
    with tarfile.open(find_images()) as archive:
        names = []
        for layer in ("base.tar", "openmpi5.tar"):
            file = archive.extractfile(layer)
            with tarfile.open(fileobj=file) as members:
                names += members.getnames()
    assert not [name for name in names if "ssh_host_" in name]
    assert "./usr/bin/mpirun" in names
    assert "opt/openmpi/bin/mpirun" in names
