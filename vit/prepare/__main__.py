# SPDX-License-Identifier: Apache-2.0
"""python -m vit.prepare DATASET --from DIR --to DIR: published archives -> what the trainer reads. Needs no torch.

It continues where it stopped, however often it is started. The data set is complete when --to has MANIFEST.json;
until then the parts lie in --to/.preparing. Exit codes: vit/errors.py; 3 another one works in --to, 7 the disk, 8 the
archives.
"""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vit.errors import ConfigError, DataError
from vit.prepare.imagenet import imagenet_archives, prepare_imagenet
from vit.prepare.staging import MANIFEST, Archive, Staging, named_target, read_manifest
from vit.runtime.console import Talk
from vit.runtime.launcher import Parser, run_program
from vit.runtime.process import run_process

DATASETS = ("imagenet1K", "cifar10", "cifar100", "fashion_mnist", "imagefolder")


def main(argv: Sequence[str]) -> int:
    """Prepare; returns the exit code."""
    return run_program("vit.prepare", argv, _prepare)


def _parser() -> Parser:
    parser = Parser(prog="python -m vit.prepare", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("dataset", metavar="DATASET", choices=DATASETS, help=", ".join(DATASETS))
    parser.add_argument(
        "--from", dest="archives", metavar="DIR", type=Path, required=True, help="where the archives are"
    )
    parser.add_argument("--to", metavar="DIR", type=Path, help="where the data set is to be; not for imagefolder")
    parser.add_argument("--allow_subset", action="store_true", help="take archives that are not the full data set")
    parser.add_argument("--num_workers", type=int, default=8, help="threads; they wait for the storage (default 8)")
    return parser


def _prepare(argv: Sequence[str], talk: Talk) -> None:
    flags = _parser().parse_args(argv)
    if flags.num_workers < 1:
        raise ConfigError("--num_workers", f"is {flags.num_workers}", "give 1 or more")
    if not flags.archives.is_dir():
        raise DataError(str(flags.archives), "is not a folder", "give --from the folder of the archives")
    try:
        if flags.dataset == "imagefolder":
            _look_through(flags, talk)
        else:
            _build(flags, talk)
    except ModuleNotFoundError as missing:
        what = f"this Python ({sys.executable}) has no {missing.name}"
        raise ConfigError("python", what, "pip install numpy pillow, or run it in the image (--job)") from missing


def _look_through(flags: argparse.Namespace, talk: Talk) -> None:
    """Check an image folder where it lies."""
    from vit.prepare.image_folder import check_imagefolder

    if flags.to and flags.to.resolve() != flags.archives.resolve():
        raise ConfigError("--to", "an image folder is checked where it lies", "leave --to out")
    there = read_manifest(flags.archives)
    if there and there["dataset"] != "imagefolder":
        raise ConfigError(
            "--from", f"{flags.archives} contains {there['dataset']}", f"it is complete already: {MANIFEST}"
        )
    with named_target(flags.archives):
        check_imagefolder(flags.archives, talk, flags.num_workers)
    _tell(flags.archives, talk)


def _build(flags: argparse.Namespace, talk: Talk) -> None:
    """Make a data set out of archives."""
    if flags.to is None:
        raise ConfigError("--to", "is missing", "give the folder for the data set")
    archives = _archives(flags)
    staging = Staging(dataset=flags.dataset, to=flags.to, archives=archives, full=not flags.allow_subset, tell=talk.say)
    with staging.held():
        if staging.is_complete():
            talk.say(f"{flags.to} is complete already")
        else:
            own = ("train", "val") if flags.dataset == "imagenet1K" else _foreign(archives, flags.to)
            staging.begin(own, sum(one.stamp()["bytes"] for one in archives))
            _fill(staging, flags, talk)
    _tell(flags.to, talk)


def _archives(flags: argparse.Namespace) -> list[Archive]:
    if flags.dataset == "imagenet1K":
        return imagenet_archives(flags.archives, full=not flags.allow_subset)
    from vit.prepare.small_datasets import small_archives

    return small_archives(flags.dataset, flags.archives)


def _foreign(archives: Sequence[Archive], to: Path) -> list[str]:
    """Names that must not stand in the folder yet; archives that lie there themselves may."""
    return [one.name for one in archives if one.path.parent.resolve() != to.resolve()]


def _fill(staging: Staging, flags: argparse.Namespace, talk: Talk) -> None:
    if flags.dataset == "imagenet1K":
        prepare_imagenet(staging, flags.archives, talk, flags.num_workers)
        return
    from vit.prepare.small_datasets import prepare_small

    prepare_small(staging, talk)


def _tell(folder: Path, talk: Talk) -> None:
    """The last line: the contents of the folder."""
    found = read_manifest(folder)
    assert found
    parts = [
        f"{split} {item['images']} images of {item['num_classes']} classes" for split, item in found["splits"].items()
    ]
    subset = "" if found["full"] else " (a subset)"
    talk.say(f"complete: {found['dataset']}{subset} in {folder}: {', '.join(parts)}")


if __name__ == "__main__":
    run_process(main)
