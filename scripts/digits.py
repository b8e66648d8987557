# SPDX-License-Identifier: Apache-2.0
"""Write scikit-learn's handwritten digits as an ImageFolder: train/<digit>/*.png and val/<digit>/*.png.

1,797 real scans (Alpaydin and Kaynak, UCI, 1998), 8 x 8 pixels, enlarged to 32 x 32; a stratified fifth is held out.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 32
HELD_OUT = 0.2


def write_digits(folder: Path, seed: int = 0) -> int:
    """The number of images written below `folder`; a folder that is complete is left alone."""
    digits: Any = load_digits()
    if (folder / "complete").exists():
        return len(digits.target)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    numbers = np.arange(len(digits.target))
    train, val = train_test_split(numbers, test_size=HELD_OUT, random_state=seed, stratify=digits.target)
    for split, members in (("train", train), ("val", val)):
        for number in sorted(members):
            target = unfinished / split / str(digits.target[number])
            target.mkdir(parents=True, exist_ok=True)
            _image(digits.images[number]).save(target / f"{number:04d}.png")
    (unfinished / "complete").touch()
    unfinished.rename(folder)
    return len(digits.target)


def _image(scan: Any) -> Image.Image:
    """One 8 x 8 scan with values 0..16 as a grey image."""
    pixels = np.asarray(scan * (255 / 16), dtype=np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"{write_digits(target)} digits in {target}\n")
