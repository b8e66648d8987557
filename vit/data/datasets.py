# SPDX-License-Identifier: Apache-2.0
"""Folders of labelled images, and the decoding of one file."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from vit.data.folder_index import open_index
from vit.data.folders import EXTENSIONS, skipped_text
from vit.data.sources import Array, ArraySource, DamagedImage, Source
from vit.errors import DataError
from vit.images.jpeg import can_crop, fast_crop, fast_decode, find_frame
from vit.images.pixels import Picture, UnknownWhite, to_rgb

CACHE_IMAGES = 20_000  # only small sets are kept decoded: a part of ImageNet in memory does not help
CACHE_BYTES = 256 * 2**20  # per process that decodes
REFUSED_FIX = "convert it to 8-bit or 16-bit PNG, or remove the file"


class FolderSource:
    """The images below root/<class>/, classes and files sorted by name, as torchvision's ImageFolder finds them."""

    def __init__(self, root: Path, kept_in: tuple[Path, ...] = ()) -> None:
        """Raises DataError; `kept_in` names files that may contain the folder's index, or may be written."""
        self.root, self.index = root, open_index(root, kept_in)
        self.class_names = self.index.class_names
        if not len(self.index):
            expected = f"expected images in {root}/<class>/<image> ({', '.join(EXTENSIONS)})"
            raise DataError(str(root), f"contains no images{skipped_text(self.index.skipped)}", expected)
        self.cache: dict[int, Array] = {}
        self.cache_left = CACHE_BYTES if len(self.index) <= CACHE_IMAGES else 0

    def __len__(self) -> int:
        return len(self.index)

    def label(self, index: int) -> int:
        """Index of the folder's name among the sorted names."""
        return self.index.label(index)

    def image(self, index: int) -> Picture:
        """Return the file, decoded and from memory where a small set was read before."""
        if index in self.cache:
            return self.cache[index]
        image = open_image(Path(self.where(index)))
        num_bytes = math.prod(image.shape)
        if num_bytes > self.cache_left:
            return image
        self.cache[index] = image[:, :]
        self.cache_left -= num_bytes
        return self.cache[index]

    def where(self, index: int) -> str:
        """Path of the file."""
        return str(self.root / self.index.file(index))

    def fingerprint(self) -> int:
        """CRC-32 of all names and labels."""
        return self.index.checksum


class FileSource:
    """Image files by their paths. What they show is not known: each counts as class 0."""

    def __init__(self, files: Sequence[Path], class_names: list[str]) -> None:
        self.files, self.class_names = files, class_names

    def __len__(self) -> int:
        return len(self.files)

    def label(self, index: int) -> int:
        """0."""
        return 0

    def image(self, index: int) -> Picture:
        """Return the file."""
        return open_image(self.files[index])

    def where(self, index: int) -> str:
        """Path of the file."""
        return str(self.files[index])

    def fingerprint(self) -> int:
        """Return the number of files."""
        return len(self.files)


def class_counts(source: Source) -> list[int]:
    """Images of each class."""
    match source:
        case FolderSource():
            labels = source.index.labels
        case ArraySource():
            labels = source.labels
        case _:
            labels = np.fromiter(map(source.label, range(len(source))), np.int64, len(source))
    found: list[int] = np.bincount(labels, minlength=len(source.class_names)).tolist()
    return found


class JpegFile:
    """A plain JPEG whose parts are decoded when they are asked for."""

    def __init__(self, path: Path, data: bytes) -> None:
        frame = find_frame(data)
        assert frame is not None, "can_crop has seen it"
        _, height, width, _ = frame
        self.path, self.data, self.shape = path, data, (height, width, 3)

    def __getitem__(self, part: tuple[slice, slice], /) -> Array:
        """Pixels of these rows and columns: a part alone, all of them as `decode` does. Raises DamagedImage."""
        (top, bottom, _), (left, right, _) = (
            along.indices(length) for along, length in zip(part, self.shape[:2], strict=True)
        )
        box, whole = (left, top, right, bottom), (0, 0, self.shape[1], self.shape[0])
        pixels = None if box == whole else fast_crop(self.data, box)
        return _decode_data(self.path, self.data)[part] if pixels is None else pixels


def open_image(path: Path) -> Picture:
    """Return the image as RGB (H, W, 3), as torchvision's loader does: the first frame, EXIF rotation not applied.

    Unlike torchvision's, 16-bit grey keeps its levels, and a mode without a known white is refused (vit.images.pixels).

    Decoded, unless parts of it can be decoded alone. Raises DamagedImage if the file is not an image, DataError if it
    cannot be read.
    """
    data = _read(path)
    return JpegFile(path, data) if can_crop(data) else _decode_data(path, data)


def decode(path: Path) -> Array:
    """Return the pixels of the whole image, as open_image."""
    return _decode_data(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fix = "repair the mount or the file, then start again: the run resumes"
        raise DataError(str(path), f"cannot be read ({error.strerror})", fix) from error


def _decode_data(path: Path, data: bytes) -> Array:
    pixels = fast_decode(data)
    return _decode_by_pillow(path, data) if pixels is None else pixels


def _decode_by_pillow(path: Path, data: bytes) -> Array:
    """Whatever is not a plain JPEG, and the verdict on damaged files."""
    try:
        with open_header(io.BytesIO(data)) as image:
            return to_rgb(image)
    except UnknownWhite as error:
        raise DataError(str(path), f"cannot be used: {error}", REFUSED_FIX) from error
    except Image.DecompressionBombError as error:
        what = f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, the most that is decoded"
        raise DamagedImage(str(path), what, "make it smaller or remove the file") from error
    except MemoryError as error:
        fix = "give the pod more memory, lower --num_workers, or make the image smaller"
        raise DataError(str(path), "needs more memory to decode than is available", fix) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on bytes that are not an image
        reason = "not an image that Pillow can read" if isinstance(error, UnidentifiedImageError) else error
        raise DamagedImage(str(path), f"cannot be decoded ({reason})", "replace or remove the file") from error


def open_header(file: BinaryIO | Path) -> Image.Image:
    """The image by Pillow, pixels not read; its warning on the size, which names no file, is `large`'s business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(file)


def large(shape: tuple[int, ...]) -> bool:
    """Return whether an image (H, W, ...) has more pixels than Pillow decodes without a warning."""
    return Image.MAX_IMAGE_PIXELS is not None and shape[0] * shape[1] > Image.MAX_IMAGE_PIXELS
