"""One training image, from its file to 384 x 384 pixels: our loader's way beside others, interleaved; prints ratios.

python bench/input.py [--rounds 10] [--photographs 48]

The photographs are the two that scikit-learn ships, cut and scaled to ImageNet's mean of 500 x 375, quality 97 and
about 100 KB. Every side takes the same crops (area 5 to 100 %), bilinear, and flips half of them. What is not
installed is said. A side's largest difference from Pillow is told in levels; nothing is fetched.

One core only; bench/loader.py measures all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vit.augment import inception
from vit.order import sample_random
from vit.sources import decode

SIDE = 384
BASELINE = "PIL + RandomResizedCrop + ToTensor + Normalize"
Box = tuple[int, int, int, int]
Side = Callable[[Path, Box, int], Any]
"""File, crop (left, top, right, bottom) and number of the visit -> the image."""


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Different cuts of the two photographs, of ImageNet's usual size."""
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random, paths = np.random.RandomState(0), []
    for number in range(count):
        left, top = random.randint(0, 140), random.randint(0, 52)
        cut = photos[number % 2].crop((left, top, left + 500, top + 375))
        paths.append(folder / f"{number:03d}.JPEG")
        cut.save(paths[-1], quality=97)
    return paths


def boxes_of(paths: list[Path]) -> list[Box]:
    from vit.augment import crop_box

    return [crop_box(*Image.open(path).size, sample_random(0, (0, number))) for number, path in enumerate(paths)]


def ours(path: Path, box: Box, number: int) -> Any:
    return inception(decode(path), SIDE, sample_random(0, (0, number)))


def baseline(path: Path, box: Box, number: int) -> Any:
    from torchvision.transforms import functional

    image = Image.open(path).convert("RGB")
    left, top, right, bottom = box
    image = functional.resized_crop(image, top, left, bottom - top, right - left, [SIDE, SIDE])
    return functional.normalize(functional.to_tensor(image), [0.5] * 3, [0.5] * 3)


def torchvision_v2(path: Path, box: Box, number: int) -> Any:
    from torchvision.io import ImageReadMode, decode_image, read_file
    from torchvision.transforms.v2 import functional

    left, top, right, bottom = box
    image = decode_image(read_file(str(path)), ImageReadMode.RGB)
    return functional.resized_crop(image, top, left, bottom - top, right - left, [SIDE, SIDE], antialias=True)


def torchvision_interpolate(path: Path, box: Box, number: int) -> Any:
    from torchvision.io import ImageReadMode, decode_image, read_file

    left, top, right, bottom = box
    image = decode_image(read_file(str(path)), ImageReadMode.RGB)[None, :, top:bottom, left:right]
    return F.interpolate(image, (SIDE, SIDE), mode="bilinear", antialias=True)[0]


def opencv(path: Path, box: Box, number: int) -> Any:
    import cv2

    left, top, right, bottom = box
    image = cv2.imread(str(path))[top:bottom, left:right]  # type: ignore[index]
    return cv2.cvtColor(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)


SIDES: dict[str, tuple[str, Side]] = {
    BASELINE: ("torchvision", baseline),
    "torchvision v2 (decode_image, uint8)": ("torchvision", torchvision_v2),
    "torchvision decode + F.interpolate, uint8": ("torchvision", torchvision_interpolate),
    "OpenCV, uint8 (aliases)": ("cv2", opencv),
    "ours, default": ("simplejpeg", ours),
}


def dali_side(paths: list[Path], boxes: list[Box]) -> Callable[[], None] | None:
    """One pass of NVIDIA's DALI on the CPU over the photographs, one thread; None where it is not installed."""
    if importlib.util.find_spec("nvidia.dali") is None:
        return None
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=len(paths), num_threads=1, device_id=None, prefetch_queue_depth=1)  # type: ignore[untyped-decorator]
    def pipeline() -> Any:
        files, _ = fn.readers.file(files=[str(path) for path in paths], prefetch_queue_depth=1)
        images = fn.decoders.image_random_crop(
            files, device="cpu", random_area=[0.05, 1.0], random_aspect_ratio=[3 / 4, 4 / 3], num_attempts=10
        )
        images = fn.resize(images, resize_x=SIDE, resize_y=SIDE, interp_type=types.INTERP_LINEAR, antialias=True)
        return fn.flip(images, horizontal=fn.random.coin_flip())

    built = pipeline(exec_async=False, exec_pipelined=False)
    built.build()
    return lambda: built.run()


def pixels_of(found: Any) -> np.ndarray[Any, Any]:
    """Levels (S, S, 3) as integers, whatever a side gives."""
    if isinstance(found, torch.Tensor):
        if found.dtype.is_floating_point:
            found = (found * 127.5 + 127.5).round()
        found = found.permute(1, 2, 0).numpy()
    return np.asarray(found).astype(int)


def difference(side: Side, paths: list[Path], boxes: list[Box]) -> int:
    """The largest difference from Pillow's crop and resize, flipped or not."""
    most = 0
    for number, (path, box) in enumerate(zip(paths, boxes, strict=True)):
        wanted = np.asarray(Image.open(path).crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(int)
        found = pixels_of(side(path, box, number))
        most = max(most, min(int(np.abs(found - other).max()) for other in (wanted, wanted[:, ::-1])))
    return most


def passes(paths: list[Path], boxes: list[Box]) -> dict[str, Callable[[], None]]:
    """A function for each side that is installed which takes every photograph once."""
    found: dict[str, Callable[[], None]] = {}
    for name, (package, side) in SIDES.items():
        if importlib.util.find_spec(package) is None:
            print(f"not measured: {name} ({package} is not installed)")
            continue
        found[name] = lambda side=side: [
            side(path, box, number) for number, (path, box) in enumerate(zip(paths, boxes, strict=True))
        ]
    try:
        dali = dali_side(paths, boxes)
    except (ImportError, ModuleNotFoundError):
        dali = None
    if dali is None:
        print("not measured: DALI (nvidia-dali-cuda130 is not installed)")
    else:
        found["DALI on the CPU, uint8"] = dali
    return found


def seconds(work: Callable[[], None]) -> float:
    """Processor time of this process and its threads, so that other work on the machine counts little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def one_core(paths: list[Path], num_rounds: int) -> None:
    boxes = boxes_of(paths)
    works = passes(paths, boxes)
    for work in works.values():
        work()
    rounds: list[dict[str, float]] = []
    names = list(works)
    for number in range(num_rounds):
        turn = number % len(names)
        rounds.append({name: seconds(works[name]) for name in names[turn:] + names[:turn]})
    print(
        "| stack | images/s of one core | times the existing trainer's, median (least to most) | largest difference |"
    )
    print("|---|---|---|---|")
    for name in names:
        ratios = sorted(each[BASELINE] / each[name] for each in rounds)
        rate = len(paths) / statistics.median(each[name] for each in rounds)
        level = str(difference(SIDES[name][1], paths, boxes)) if name in SIDES else "other crops"
        print(
            f"| {name} | {rate:.0f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {level} |"
        )
    peers = [name for name in names if name not in (BASELINE, "ours, default") and "alias" not in name]
    best = max(peers, key=lambda name: statistics.median(each[BASELINE] / each[name] for each in rounds))
    ratios = sorted(each[best] / each["ours, default"] for each in rounds)
    print(f"ours against the best peer ({best}): {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--photographs", type=int, default=48)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), options.photographs)
        size = statistics.mean(path.stat().st_size for path in paths) / 1000
        python = sys.version.split()[0]
        print(f"{len(paths)} photographs of 500 x 375, {size:.0f} KB each; {options.rounds} rounds; Python {python}")
        one_core(paths, options.rounds)


if __name__ == "__main__":
    main()
