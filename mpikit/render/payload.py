# SPDX-License-Identifier: Apache-2.0
"""The trainer as it travels: its sources, deterministic archives of them, and a hash that names both."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpikit.errors import KitError

MAX_BYTES = 190 << 10  # as base64 beside the rest it must stay below the 256 KiB of client-side kubectl apply
_FOR_PEOPLE = ("vit/export/", "vit/predict/")  # who run it on their own machine
NOT_FOR_JOBS = ("vit/supervise/", "vit/training/", "vit/findings/", *_FOR_PEOPLE)
"""What the Jobs of weights, data and TensorBoard have no use for."""
NOT_FOR_TRAINING = ("vit/fetch/", "vit/prepare/", "vit/tensorboard/", "vit/pins.py", *_FOR_PEOPLE)
"""What such Jobs and people run. The pods of an MPIJob train, and have no use for it."""
TRAINING_ARCHIVE = "vit.tar.gz"
"""In the ConfigMap of an MPIJob. It is a quarter smaller than a zip, and setup.sh unpacks it on each node."""
TASK_ARCHIVE = "vit.zip"
"""In the ConfigMap of a weights or data Job, whose Python imports from it."""
_ARCHIVE_LINE = re.compile(r'^  "(vit\.zip|vit\.tar\.gz)": "[A-Za-z0-9+/=]*"$', re.MULTILINE)  # of configmap.yaml.j2
_ARCHIVE_NOTE = r"""\
  # The trainer is left out on a terminal, so kubectl rejects this text. A pipe or --out DIR gives all of it:
  #   python generate.py ... | kubectl apply -f -
  "\1": "left out" on a terminal
""".rstrip()
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


@dataclass(frozen=True, slots=True)
class Payload:
    """Files of the trainer by their path, such as vit/train.py."""

    files: Mapping[str, bytes]

    def training(self) -> Payload:
        """Return what training and evaluation need."""
        return self._without(NOT_FOR_TRAINING)

    def jobs(self) -> Payload:
        """Return what such Jobs need; those of weights and data read what they made as training would."""
        return self._without(NOT_FOR_JOBS)

    def _without(self, left_out: tuple[str, ...]) -> Payload:
        return Payload({name: content for name, content in self.files.items() if not name.startswith(left_out)})

    def zipped(self) -> bytes:
        """Return a zip of the files that Python can import from; the same bytes for the same files and zlib."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(self.files.items()):
                info = zipfile.ZipInfo(name, _EPOCH)
                info.external_attr = 0o644 << 16
                info.create_system = 3  # Unix, whatever machine renders
                archive.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=9)
        return _that_fits(buffer.getvalue())

    def packed(self) -> bytes:
        """Return a gzipped tar of the files; the same bytes for the same files and zlib."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in sorted(self.files.items()):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                archive.addfile(info, io.BytesIO(content))
        return _that_fits(gzip.compress(buffer.getvalue(), mtime=0))


def _that_fits(archive: bytes) -> bytes:
    if len(archive) > MAX_BYTES:
        raise KitError(
            f"the trainer's archive has {len(archive) >> 10} KiB; at most {MAX_BYTES >> 10} fit into a ConfigMap"
        )
    return archive


def without_archive(manifest: str) -> str:
    """Return the manifest with a sentence in place of the trainer's archive.

    The sentence is not YAML: kubectl rejects a copy as a whole, and creates no MPIJob without its ConfigMap.
    """
    return _ARCHIVE_LINE.sub(_ARCHIVE_NOTE, manifest)


def read_payload(folder: Path) -> Payload:
    """Return the Python files of the package in `folder`."""
    files = {f"{folder.name}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.py")}
    if not files:
        raise KitError(f"{folder}: contains no trainer", "clone the project again: vit/ is a part of it")
    return Payload(dict(sorted(files.items())))


def sha256_of(files: Mapping[str, bytes]) -> str:
    """Return one hash over names and contents; the bytes of an archive depend on the zlib build."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def sha256_sums(files: Mapping[str, bytes]) -> bytes:
    """Return the files as `sha256sum --check` reads them."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    return "".join(lines).encode()
