# SPDX-License-Identifier: Apache-2.0
"""A tree of train/<class>/<image> and val/<class>/<image>, looked through where it lies and marked as whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vit.data.datasets import open_header
from vit.data.folders import EXTENSIONS, Walk, skipped_text
from vit.errors import DataError
from vit.images.pixels import UnknownWhite, check_mode
from vit.prepare.staging import run_all, write_manifest
from vit.runtime.console import Talk

CHUNK = 200  # files that one thread takes at a time
NAMED = 3


def check_imagefolder(folder: Path, talk: Talk, num_workers: int) -> dict[str, dict[str, int]]:
    """Images of each class of train and val, every header read; the manifest is written. Raises DataError."""
    splits = {split: _images(folder / split) for split in ("train", "val")}
    only = sorted(splits["train"].keys() ^ splits["val"].keys())
    if only:
        where = "train" if only[0] in splits["train"] else "val"
        what = f"train and val have different classes: {only[0]} is in {where} alone ({len(only)} such)"
        raise DataError(str(folder), what, "make the folders in train/ and val/ agree")
    paths = [path for classes in splits.values() for files in classes.values() for path in files]
    damaged = _damaged(paths, talk, num_workers)
    if damaged:
        what = f"{len(damaged)} of {len(paths)} files are not images: {'; '.join(sorted(damaged)[:NAMED])}"
        raise DataError(str(folder), what, "repair or remove them")
    counts = {split: {name: len(files) for name, files in classes.items()} for split, classes in splits.items()}
    write_manifest(folder, "imagefolder", full=True, archives={}, splits=counts)
    return counts


def _images(root: Path) -> dict[str, list[Path]]:
    """Return the image files of each class, folders within it included."""
    if not root.is_dir():
        raise DataError(
            str(root), "is not a folder", "give --from a folder that contains train/<class>/ and val/<class>/"
        )
    walk = Walk(root)
    found = {name: [root / name / os.fsdecode(file) for file in walk.images(name)] for name in walk.class_names}
    empty = [name for name, files in found.items() if not files]
    if empty or not found:
        where = root / empty[0] if empty else root
        raise DataError(
            str(where),
            f"contains no images{skipped_text(walk.skipped)}",
            f"put some there ({', '.join(EXTENSIONS)}), or remove the folder",
        )
    return found


def _damaged(paths: Sequence[Path], talk: Talk, num_workers: int) -> list[str]:
    """Return what is wrong with each file whose header cannot be read."""
    found: list[str] = []
    done = 0
    lock, stop = threading.Lock(), threading.Event()

    def look(chunk: Sequence[Path]) -> None:
        nonlocal done
        if stop.is_set():
            return
        bad = [text for path in chunk if (text := _fault(path))]
        with lock:
            found.extend(bad)
            done += len(chunk)
        talk.progress(done, len(paths), f"{done} of {len(paths)} files")

    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    work: list[Callable[[], None]] = [partial(look, chunk) for chunk in chunks]
    run_all(work, num_workers, stop)
    return found


def _fault(path: Path) -> str | None:
    """Return what Pillow says of a header; None if it can be read."""
    try:
        with open_header(path) as image:
            check_mode(image)
            return None
    except UnknownWhite as error:
        return f"{path} ({error})"
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on bytes that are not an image
        return f"{path} ({str(error).replace(str(path), 'it')[:100]})"
