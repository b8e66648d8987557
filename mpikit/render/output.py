# SPDX-License-Identifier: Apache-2.0
"""What the kit writes to disk: the folder of --out, and a first values/user.yaml."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mpikit.config.identity import identity_of
from mpikit.config.job import Job
from mpikit.config.profiles import profile_names
from mpikit.errors import KitError, one_fault
from mpikit.render.folders import refuse_system_folder
from mpikit.render.renderer import Rendered, render_user_values
from mpikit.text.quoting import shown

SCHEMA_FILE = "values.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
"""The first line of each file in values/: editors with a YAML language server check and complete what is typed."""


def write_out(folder: Path, job: Job, rendered: Rendered) -> list[Path]:
    """Write job.yaml and the scripts, and for `delivery: mydir` the trainer and SHA256SUMS; returns the files."""
    files = rendered.shared_files
    if job.delivery == "configmap":
        files = {name: content for name, content in files.items() if name in rendered.scripts}
    files["job.yaml"] = rendered.manifest.encode()
    refuse_system_folder("--out", str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(folder)
        for name, content in files.items():
            _write_file(folder, name, content, _mode_of(name, job))
    except (FileExistsError, NotADirectoryError) as error:
        raise KitError(f"--out {folder}: is not a folder", "--out DIR, a new folder or one of your own") from error
    except OSError as error:
        raise KitError(f"--out {folder}: {error.strerror}", "--out DIR, a folder that you may write to") from error
    return [folder / name for name in sorted(files)]


def write_one(path: Path, content: bytes) -> None:
    """Write the file of --out, whole or not at all."""
    try:
        _write_file(path.parent, path.name, content, 0o644)
    except OSError as error:
        raise KitError(f"--out {path}: {error.strerror}", "--out FILE, in a folder that you may write to") from error


def _mode_of(name: str, job: Job) -> int:
    """Return the mode of a file: all may run scripts; a manifest with variables or a podSpec may contain secrets."""
    if name == "job.yaml" and (job.env or job.launcher.pod_spec or job.worker.pod_spec):
        return 0o600
    return 0o755 if name.endswith(".sh") else 0o644


def _refuse_foreign(folder: Path) -> None:
    """Raise KitError for a link that another user made, and for a folder in which others may swap files."""
    found, link = folder.stat(), folder.lstat()
    others = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX and found.st_uid != os.geteuid()
    if link.st_uid not in (0, os.geteuid()) or others:
        raise KitError(f"--out {folder}: belongs to another user", "give a folder of your own")


def _write_file(folder: Path, name: str, content: bytes, mode: int) -> None:
    """Write below `folder` by a rename, following no link there: one could lead to another file of the user."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for place in (path, *path.parents):
        if place == folder:
            break
        if place.is_symlink():
            raise KitError(f"--out {folder}: {place} is a symbolic link", "remove it, or give another folder")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def write_user_values(root: Path, target: Path, profile: str, user: str) -> Path:
    """Write `target`, which names a profile of `root` and the user. Raises KitError if there is one already."""
    known = profile_names(root)
    if profile not in known:
        raise one_fault("", f"{shown(profile)} is not a profile", f"one of {', '.join(known)}", "--profile")
    identity = identity_of(user)
    if not identity.exact:
        fix = "--user NAME (a-z, 0-9, -)" + ("" if identity.placeholder else f", such as --user {identity.name}")
        raise one_fault("user", f"{shown(user)} is not a valid user name", fix, "--user")
    schema = SCHEMA_LINE if target.with_name(SCHEMA_FILE).exists() else ""
    text = schema + render_user_values(user, profile)
    try:
        target.parent.mkdir(exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise KitError(f"{target} exists already", "edit it, or move it away first") from None
    except OSError as error:
        raise KitError(f"{target}: {error.strerror}", "make the folder writable") from error
    return target


def next_step(folder: Path, job: Job) -> str:
    """Return what to do with a folder that --out wrote."""
    if job.delivery == "mydir":
        where = job.mydir if isinstance(job.mydir, str) else "the folder of the claim mydir"
        return f"next: copy all of {folder}/ to {where}, then kubectl apply -f {folder / 'job.yaml'}"
    return f"next: kubectl apply -f {folder / 'job.yaml'} (it carries the scripts and the trainer itself)"
