# SPDX-License-Identifier: Apache-2.0
"""ILSVRC2012's archives -> train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, read in place and written in parallel."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vit.errors import DataError
from vit.prepare.devkit import Devkit, read_devkit
from vit.prepare.staging import Archive, Staging, run_all
from vit.prepare.tar import Member, members
from vit.runtime.console import Talk

# Published MD5s: torchvision/datasets/imagenet.py, ARCHIVE_META.
TRAIN = ("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e")
VAL = ("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622")
DEVKIT = ("ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf")
FULL = {"train": 1_281_167, "val": 50_000}  # image-net.org, ILSVRC2012; the devkit's own sums are compared too
VAL_CHUNK = 500  # validation images that one thread takes at a time
COPY_BYTES = 2**20

_INNER = re.compile(r"(?:\./)?(n\d{8})\.tar")
_TRAIN_IMAGE = re.compile(r"(?:\./)?((n\d{8})_\d+\.JPEG)")
_VAL_IMAGE = re.compile(r"(?:\./)?(ILSVRC2012_val_(\d{8})\.JPEG)")


@dataclass
class Preparation:
    """One run over the three archives."""

    staging: Staging
    train: Archive | None
    val: Archive
    devkit: Devkit
    talk: Talk
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {"train": Counter(), "val": Counter()})
    lock: threading.Lock = field(default_factory=threading.Lock)
    done_bytes: int = 0
    all_bytes: int = 0

    def run(self, num_workers: int) -> None:
        """Extract, verify, put in place."""
        archives = [one for one in (self.train, self.val) if one]
        self.all_bytes = sum(one.path.stat().st_size for one in archives)
        descriptors = {one.name: os.open(one.path, os.O_RDONLY) for one in archives}
        try:
            work = [partial(self.staging.check_md5, one) for one in self.staging.archives]
            work += list(self._units(descriptors))
            run_all(work, num_workers, self.staging.stop)
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)
        self._verify()

    def _units(self, descriptors: Mapping[str, int]) -> Iterator[partial[None]]:
        """Pieces of work that do not touch each other's files, the val set's first since it is checked soonest."""
        images = self._val_images(descriptors[self.val.name])
        wanted = self._train_tars(descriptors[self.train.name]) if self.train else []
        if wanted and not self.staging.full:
            kept = {wnid for wnid, _ in wanted}
            left_out = len(images)
            images = [item for item in images if item[0] in kept]
            left_out -= len(images)
            if left_out:
                self.talk.say(f"{left_out} validation images are left out: training has none of their classes")
        for start in range(0, len(images), VAL_CHUNK):
            yield partial(self._extract_val, descriptors[self.val.name], images[start : start + VAL_CHUNK])
        for wnid, tar in wanted:
            yield partial(self._extract_class, descriptors[TRAIN[0]], wnid, tar)

    def _train_tars(self, descriptor: int) -> list[tuple[str, Member]]:
        """Return the class and the place of each tar within the training archive."""
        assert self.train
        found = []
        for member in members(self.train.path, descriptor):
            match = _INNER.fullmatch(member.name)
            if not match:
                raise _wrong_archive(self.train.path, member.name, "tars of classes such as n01440764.tar")
            if match[1] not in self.devkit.num_train:
                raise DataError(
                    str(self.train.path), f"contains {match[1]}, which is not in the devkit", "give its own devkit"
                )
            found.append((match[1], member))
        return found

    def _val_images(self, descriptor: int) -> list[tuple[str, Member]]:
        """Return the class and the place of each validation image, by the devkit's ground truth."""
        found = []
        for member in members(self.val.path, descriptor):
            match = _VAL_IMAGE.fullmatch(member.name)
            if not match:
                raise _wrong_archive(self.val.path, member.name, "images such as ILSVRC2012_val_00000001.JPEG")
            number = int(match[2])
            if not 1 <= number <= len(self.devkit.val_classes):
                what = f"contains image {number}, but the devkit's ground truth ends at {len(self.devkit.val_classes)}"
                raise DataError(str(self.val.path), what, "give the devkit that belongs to it")
            wnid = self.devkit.val_classes[number - 1]
            found.append((wnid, Member(match[1], member.start, member.size)))
        return found

    def _extract_class(self, descriptor: int, wnid: str, tar: Member) -> None:
        """One class of training images, verified."""
        assert self.train
        if self.staging.stop.is_set():
            return
        folder = self.staging.stage / "train" / wnid
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {}
        for member in members(self.train.path, descriptor, within=tar):
            match = _TRAIN_IMAGE.fullmatch(member.name)
            if not match or match[2] != wnid:
                raise _wrong_archive(self.train.path, f"{wnid}.tar: {member.name}", f"images such as {wnid}_26.JPEG")
            if self.staging.stop.is_set():
                return
            self._write(descriptor, folder / match[1], member)
            sizes[match[1]] = member.size
        _check_folder(folder, sizes)
        self.counts["train"][wnid] = len(sizes)

    def _extract_val(self, descriptor: int, images: Sequence[tuple[str, Member]]) -> None:
        for wnid, member in images:
            if self.staging.stop.is_set():
                return
            folder = self.staging.stage / "val" / wnid
            folder.mkdir(parents=True, exist_ok=True)
            self._write(descriptor, folder / member.name, member)

    def _write(self, descriptor: int, target: Path, member: Member) -> None:
        """Copy a member's bytes, unless an earlier start did: what a kill cuts off is shorter than it should be."""
        if not member.size:
            raise DataError(str(target), "is empty in the archive", "download the archive again")
        if not (target.exists() and target.stat().st_size == member.size):
            with target.open("wb", buffering=0) as file:
                done = 0
                while done < member.size:
                    piece = os.pread(descriptor, min(COPY_BYTES, member.size - done), member.start + done)
                    if not piece:
                        raise DataError(str(target), "the archive ends within it", "copy the archive again")
                    done += file.write(piece)
        with self.lock:
            self.done_bytes += member.size
        self.talk.progress(self.done_bytes, self.all_bytes, f"{self.done_bytes >> 20} of {self.all_bytes >> 20} MiB")

    def _verify(self) -> None:
        """Compare folders and counts with what the devkit says. Raises DataError."""
        stage = self.staging.stage
        for folder in (stage / "val").iterdir() if (stage / "val").is_dir() else ():
            self.counts["val"][folder.name] = sum(1 for _ in folder.iterdir())
        wanted = {"train": dict(self.devkit.num_train), "val": dict(Counter(self.devkit.val_classes))}
        for split, counts in self.counts.items():
            if split == "train" and not self.train:
                continue
            lacking = [
                f"{wnid} has {counts[wnid]} of {number}"
                for wnid, number in wanted[split].items()
                if counts[wnid] != number
            ]
            if self.staging.full and (lacking or counts.total() != FULL[split]):
                why = lacking[0] if lacking else "as the devkit says"
                what = f"{split} has {counts.total()} of {FULL[split]} images ({why})"
                raise DataError(str(self.staging.to), what, "take the published archives; --allow_subset takes others")
            if lacking:
                self.talk.say(
                    f"{split} is a subset: {counts.total()} images; {lacking[0]}, and {len(lacking) - 1} more such"
                )
        if not self.counts["val"] or (self.train and not self.counts["train"]):
            raise DataError(str(self.staging.to), "it would contain no images", "give archives that contain images")


def prepare_imagenet(staging: Staging, archives: Path, talk: Talk, num_workers: int) -> None:
    """Prepare staging.to from the folder `archives`. Raises TrainError."""
    if not staging.verified:
        named = {one.name: one for one in staging.archives}
        devkit = read_devkit(archives / DEVKIT[0])
        preparation = Preparation(staging, named.get(TRAIN[0]), named[VAL[0]], devkit, talk)
        preparation.run(num_workers)
        splits = {split: dict(counts) for split, counts in preparation.counts.items() if counts}
        known = {wnid for classes in splits.values() for wnid in classes}
        words = {wnid: text for wnid, text in sorted(devkit.words.items()) if wnid in known}
        staging.publish(splits, ["train", "val"], words=words)
    else:
        staging.put_in_place()


def imagenet_archives(folder: Path, *, full: bool) -> list[Archive]:
    """The archives that `folder` must contain; training images may be missing from a subset. Raises DataError."""
    found = [Archive(folder / name, md5) for name, md5 in (TRAIN, VAL, DEVKIT)]
    missing = [one.name for one in found if not one.path.is_file()]
    if missing == [TRAIN[0]] and not full:
        return found[1:]
    if missing:
        fix = f"put {', '.join(name for name, _ in (TRAIN, VAL, DEVKIT))} there; image-net.org has them"
        raise DataError(str(folder), f"does not contain {missing[0]}", fix)
    return found


def _check_folder(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raise DataError unless the folder contains these files with these sizes, and nothing else."""
    found = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    if found != sizes:
        name = next(iter(found.keys() ^ sizes.keys()), None) or next(n for n in sizes if sizes[n] != found[n])
        raise DataError(str(folder / name), "is not as the archive has it", f"remove {folder} and start again")


def _wrong_archive(path: Path, member: str, expected: str) -> DataError:
    what = f"contains {member!r}, not {expected}"
    if _VAL_IMAGE.fullmatch(member):
        what = f"is the validation archive (it contains {member}), not {expected}"
    elif _INNER.fullmatch(member):
        what = f"is the training archive (it contains {member}), not {expected}"
    return DataError(str(path), what, "give each archive under its own name, as it is published")
