# SPDX-License-Identifier: Apache-2.0
"""Loaders of photographs, ours and others, each in a process of its own; bench/input.py starts them.

python bench/input_sides.py SIDE FOLDER

Every loader turns the JPEG files of FOLDER/one into batches of 384 x 384 images, cropped at random (area 5 to 100 %),
bilinear, half of them mirrored, in one thread. The process prints the largest difference from Pillow's crop and resize
in levels, or what is missing; then, for each line that it reads, the CPU time of one pass over all files in seconds.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from photographs import SIDE
from PIL import Image

from vit.images.turbojpeg import cropper

BATCH = 32
SCALE, RATIO = (0.05, 1.0), (3 / 4, 4 / 3)
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Side:
    """One loader."""

    name: str
    package: str
    """What must be importable."""
    loader: Callable[[Path], Callable[[], object]]
    """Folder -> a function that makes one pass over it."""
    crop: Callable[[Path, Box], Any]
    """The same library's pixels (S, S, 3) of a given box, to compare with Pillow's."""
    peer: bool = True
    """Whether somebody maintains it as a loader; not so: ours, and what is written by hand here."""


def exhaust(batches: Iterator[object]) -> None:
    for _ in batches:
        pass


def ours(folder: Path) -> Callable[[], object]:
    from vit.data.batches import Batches
    from vit.data.datasets import FolderSource
    from vit.images.transforms import inception

    source = FolderSource(folder)
    source.cache_left = 0  # as in a set that is too large to be kept
    batches = Batches(source=source, transform=inception, side=SIDE, seed=0, replaces=True)
    keys = [(0, index) for index in range(len(source))]
    images, labels = np.empty((BATCH, SIDE, SIDE, 3), np.uint8), np.empty(BATCH, np.int64)  # a slot of the ring
    parts = [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
    return lambda: exhaust(batches.fill(part, images, labels) for part in parts)


def ours_of(path: Path, box: Box) -> Any:
    from vit.data.datasets import open_image
    from vit.images.resize import resize

    left, top, right, bottom = box
    return resize(open_image(path)[top:bottom, left:right], SIDE, SIDE)


def torch_loader(dataset: Any) -> Callable[[], object]:
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch_size=BATCH)
    return lambda: exhaust(iter(loader))


def existing(folder: Path) -> Callable[[], object]:
    """The loader of the trainer that this one replaces: float32, normalised on the CPU, not mirrored."""
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomResizedCrop((SIDE, SIDE), scale=SCALE),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
    return torch_loader(datasets.ImageFolder(str(folder), transforms.Compose(steps)))


def torchvision_v1(folder: Path) -> Callable[[], object]:
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomResizedCrop(SIDE, SCALE, RATIO),
        transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
    ]
    return torch_loader(datasets.ImageFolder(str(folder), transforms.Compose(steps)))


def torchvision_v1_of(path: Path, box: Box) -> Any:
    from torchvision.transforms import functional

    left, top, right, bottom = box
    image = Image.open(path).convert("RGB")
    return np.asarray(functional.resized_crop(image, top, left, bottom - top, right - left, [SIDE, SIDE]))


def decoded(path: str) -> Any:
    from torchvision.io import ImageReadMode, decode_image, read_file

    return decode_image(read_file(path), ImageReadMode.RGB)


def torchvision_v2(folder: Path) -> Callable[[], object]:
    from torchvision import datasets
    from torchvision.transforms import v2

    steps = v2.Compose([v2.RandomResizedCrop(SIDE, SCALE, RATIO, antialias=True), v2.RandomHorizontalFlip()])
    return torch_loader(datasets.ImageFolder(str(folder), steps, loader=decoded))


def torchvision_v2_of(path: Path, box: Box) -> Any:
    from torchvision.transforms.v2 import functional

    left, top, right, bottom = box
    size = [SIDE, SIDE]
    image = functional.resized_crop(decoded(str(path)), top, left, bottom - top, right - left, size, antialias=True)
    return image.permute(1, 2, 0).numpy()


def by_hand(crop: Callable[[Path, Box], Any], mirror: Callable[[Any], Any]) -> Callable[[Path], Callable[[], object]]:
    """A bare loop around a crop: boxes and flips are drawn once, before."""
    from vit.images.transforms import crop_box

    def loader(folder: Path) -> Callable[[], object]:
        paths = sorted(folder.glob("one/*"))
        random, images = np.random.RandomState(0), np.empty((BATCH, SIDE, SIDE, 3), np.uint8)
        draws = [(crop_box(*Image.open(path).size, random), random.randint(2)) for path in paths]

        def one_pass() -> None:
            for number, (path, (box, flip)) in enumerate(zip(paths, draws, strict=True)):
                image = crop(path, box)
                images[number % BATCH] = mirror(image) if flip else image

        return one_pass

    return loader


def interpolated(path: Path, box: Box) -> Any:
    from torch.nn import functional

    left, top, right, bottom = box
    image = decoded(str(path))[None, :, top:bottom, left:right]
    return functional.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def opencv(path: Path, box: Box) -> Any:
    import cv2

    left, top, right, bottom = box
    image: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    return cv2.resize(image[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def opencv_mirrored(image: Any) -> Any:
    import cv2

    return cv2.flip(image, 1)


def albumentations(folder: Path) -> Callable[[], object]:
    import albumentations as library
    import cv2
    from torchvision import datasets

    cv2.setNumThreads(1)
    steps = library.Compose(
        [library.RandomResizedCrop(size=(SIDE, SIDE), scale=SCALE, ratio=RATIO), library.HorizontalFlip()]
    )
    return torch_loader(
        datasets.ImageFolder(
            str(folder),
            transform=lambda image: np.ascontiguousarray(steps(image=image)["image"]),
            loader=lambda path: cv2.imread(path, cv2.IMREAD_COLOR_RGB),
        )
    )


def dali(folder: Path) -> Callable[[], object]:
    from nvidia.dali import fn

    num_passes = -(-len(list(folder.glob("one/*"))) // BATCH)

    def crops(files: Any) -> Any:
        images = fn.decoders.image_random_crop(
            files, device="cpu", random_area=SCALE, random_aspect_ratio=RATIO, num_attempts=10
        )
        return fn.flip(dali_resized(images), horizontal=fn.random.coin_flip())

    built = dali_pipeline([str(path) for path in sorted(folder.glob("one/*"))], BATCH, crops)
    return lambda: exhaust(built.run() for _ in range(num_passes))


def dali_of(path: Path, box: Box) -> Any:
    from nvidia.dali import fn

    left, top, right, bottom = box
    crops = functools.partial(fn.decoders.image_slice, start=[left, top], end=[right, bottom], axis_names="WH")
    (images,) = dali_pipeline([str(path)], 1, lambda files: dali_resized(crops(files, device="cpu"))).run()
    return np.asarray(images.as_array()[0])


def dali_resized(images: Any) -> Any:
    from nvidia.dali import fn, types

    return fn.resize(images, resize_x=SIDE, resize_y=SIDE, interp_type=types.INTERP_LINEAR, antialias=True)


def dali_pipeline(paths: list[str], batch: int, steps: Callable[[Any], Any]) -> Any:
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=batch, num_threads=1, device_id=None, prefetch_queue_depth=1)  # type: ignore[untyped-decorator]
    def pipeline() -> Any:
        files, _ = fn.readers.file(files=paths, prefetch_queue_depth=1)
        return steps(files)

    built = pipeline(exec_async=False, exec_pipelined=False)
    built.build()
    return built


SIDES = {
    "existing": Side("existing trainer: PIL, float32", "torchvision", existing, torchvision_v1_of, peer=False),
    "v1": Side("torchvision v1: PIL", "torchvision", torchvision_v1, torchvision_v1_of),
    "v2": Side("torchvision v2: decode_image", "torchvision", torchvision_v2, torchvision_v2_of),
    "dali": Side("DALI on the CPU (crop decode)", "nvidia.dali", dali, dali_of),
    "albumentations": Side("albumentationsx", "albumentations", albumentations, opencv),
    "opencv": Side("OpenCV, by hand", "cv2", by_hand(opencv, opencv_mirrored), opencv, peer=False),
    "interpolate": Side(
        "torchvision decode, F.interpolate, by hand",
        "torchvision",
        by_hand(interpolated, lambda image: image.flip(1)),
        interpolated,
        peer=False,
    ),
    "ours": Side("ours, default", "vit", ours, ours_of, peer=False),
    "crop": Side("ours, crop decode", "vit", ours, ours_of, peer=False),
}


def is_there(side: Side) -> bool:
    """Whether what it needs is installed."""
    try:
        return importlib.util.find_spec(side.package) is not None
    except ModuleNotFoundError:  # the package that holds it
        return False


def largest_difference(side: Side, folder: Path) -> int:
    """From Pillow's pixels of 16 crops, in levels."""
    from vit.images.transforms import crop_box

    random, most = np.random.RandomState(1), 0
    for path in sorted(folder.glob("one/*"))[:16]:
        image = Image.open(path)
        box = crop_box(*image.size, random)
        wanted = np.asarray(image.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(int)
        most = max(most, int(np.abs(np.asarray(side.crop(path, box)).astype(int) - wanted).max()))
    return most


def main() -> None:
    key, folder = sys.argv[1], Path(sys.argv[2])
    side = SIDES[key]
    if not is_there(side):
        print(f"{side.package} is not installed", flush=True)
        return
    if key == "crop" and cropper().turbo is None:
        print(cropper().remark or "no libjpeg-turbo 3 is installed, and VIT_TURBOJPEG names none", flush=True)
        return
    import torch

    torch.set_num_threads(1)
    one_pass = side.loader(folder)
    one_pass()
    print(largest_difference(side, folder), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        one_pass()
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main()
