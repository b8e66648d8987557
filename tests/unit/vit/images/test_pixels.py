# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip
from PIL import Image  # noqa: E402

from tests.support.running import Result  # noqa: E402
from vit.data.datasets import decode, open_image  # noqa: E402
from vit.data.sources import DamagedImage  # noqa: E402
from vit.errors import DataError  # noqa: E402
from vit.images.pixels import DEEP_MODES, UnknownWhite, to_rgb  # noqa: E402

RAMP = np.linspace(0, 65535, 64 * 48).reshape(48, 64)
"""A gradient of 16 bits."""
WANTED = np.repeat(np.rint(RAMP / 257).astype(int)[:, :, None], 3, axis=2)
COLOURS = np.stack([WANTED[:, :, 0], WANTED[::-1, :, 0], WANTED[:, ::-1, 0]], axis=2).astype(np.uint8)
REFUSED = ("I", "F", "La")


def distance(found: Any, wanted: Any) -> int:
    return int(np.abs(found.astype(int) - wanted).max())


def coloured(mode: str) -> Image.Image:
    """The colours in that mode, and grey where it has none."""
    colours = Image.fromarray(COLOURS)
    if mode in ("PA", "LA"):
        return colours.convert("P" if mode == "PA" else "L").convert(mode)
    return colours.convert("RGBA").convert(mode) if mode == "RGBa" else colours.convert(mode)


@pytest.mark.parametrize("mode", sorted(Image.MODES))
def test_every_mode_of_pillow_is_converted_to_one_level_or_refused_by_its_name(mode: str) -> None:
    if mode in (*DEEP_MODES, *REFUSED):
        with pytest.raises(UnknownWhite, match=f"the mode {mode}"):
            to_rgb(Image.new(mode, (4, 4)))
        return
    if mode == "LAB":
        from PIL import ImageCms

        profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        image = ImageCms.profileToProfile(Image.fromarray(COLOURS), *profiles, outputMode="LAB")
    else:
        image = coloured(mode)
    found = to_rgb(image)
    assert (found.shape, found.dtype) == ((48, 64, 3), np.uint8)
    assert distance(found, np.asarray(image.convert("RGB"))) <= 1
    grey = mode in ("1", "L", "LA", "P", "PA", "HSV", "LAB", "YCbCr", "CMYK")
    assert grey or distance(found, COLOURS) <= 1, mode


def tiff(pixels: bytes, bits: int, *, sample_format: int = 1, photometric: int = 1, order: str = "<") -> bytes:
    """A TIFF of one strip of 64 x 48 grey samples, made by hand: Pillow writes few of these."""
    entries = [
        (256, 64), (257, 48), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 12 * 10 + 4), (277, 1),
        (278, 48), (279, len(pixels)), (339, sample_format),
    ]  # fmt: skip
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    table = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries)
    return head + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + pixels


def twelve_bits() -> bytes:
    values = np.rint(RAMP / 65535 * 4095).astype(int).reshape(-1, 2)
    return b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in values.tolist())


def png_of_16_bits() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RAMP.astype(np.uint16)).save(file, "PNG")
    return file.getvalue()


DEEP: dict[str, Callable[[], bytes]] = {
    "x.png": png_of_16_bits,
    "x.pgm": lambda: b"P5\n64 48\n65535\n" + RAMP.astype(">u2").tobytes(),
    "maxval.pgm": lambda: b"P5\n64 48\n1023\n" + np.rint(RAMP / 65535 * 1023).astype(">u2").tobytes(),
    "little.tif": lambda: tiff(RAMP.astype("<u2").tobytes(), 16),
    "big.tif": lambda: tiff(RAMP.astype(">u2").tobytes(), 16, order=">"),
    "white_is_zero.tif": lambda: tiff((65535 - RAMP).astype("<u2").tobytes(), 16, photometric=0),
    "white_is_zero_8.tif": lambda: tiff((255 - WANTED[:, :, 0]).astype("u1").tobytes(), 8, photometric=0),
    "twelve.tif": lambda: tiff(twelve_bits(), 12),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_grey_keeps_its_levels_whatever_its_bits_and_format(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP[name]())
    assert distance(decode(tmp_path / name), WANTED) <= 1


@pytest.mark.parametrize(("name", "mode"), [("16 bits of colour.png", 2), ("grey with alpha.png", 4), ("rgba.png", 6)])
def test_deep_colour_of_png_keeps_its_levels(tmp_path: Path, name: str, mode: int) -> None:
    import zlib

    channels = {2: 3, 4: 2, 6: 4}[mode]
    rows = np.repeat(RAMP.astype(">u2")[:, :, None], channels, axis=2)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, mode, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    assert distance(decode(tmp_path / name), WANTED) <= 1


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (lambda: tiff(RAMP.astype("<f4").tobytes(), 32, sample_format=3), "F of TIFF"),
        (lambda: tiff(RAMP.astype("<u4").tobytes(), 32), "I of TIFF"),
        (lambda: tiff((RAMP - 32768).astype("<i2").tobytes(), 16, sample_format=2), "I of TIFF"),
        (lambda: b"Pf\n64 48\n-1.0\n" + RAMP.astype("<f4").tobytes(), "F of PPM"),
    ],
)
def test_pixels_without_a_known_white_end_with_the_file_and_its_mode(
    tmp_path: Path, data: Callable[[], bytes], mode: str
) -> None:
    (tmp_path / "x.tif").write_bytes(data())
    with pytest.raises(DataError, match=rf"x\.tif: cannot be used: its pixels have the mode {mode}") as caught:
        decode(tmp_path / "x.tif")
    assert not isinstance(caught.value, DamagedImage)
    assert caught.value.exit_code == 8


@pytest.mark.parametrize("options", [{"keep_rgb": True}, {"subsampling": 0}, {"progressive": True}, {"quality": 5}])
def test_jpegs_of_rgb_and_of_ycc_are_pillows_pixels_by_every_decoder(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "x.jfif"
    Image.fromarray(np.tile(COLOURS, (3, 3, 1))).save(path, "JPEG", **options)
    wanted = np.asarray(Image.open(path).convert("RGB"))
    picture = open_image(path)
    assert np.array_equal(decode(path), wanted)
    assert np.array_equal(picture[11:90, 20:100], wanted[11:90, 20:100])


def test_a_very_large_image_is_named_once_and_pillows_warning_is_not_seen(
    here: Callable[..., Result], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)  # an image here has 256: below twice this limit
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for workers in ("0", "2"):
            done = here("--num_workers", workers, "--name", workers, "--num_steps", "2", "--eval_every", "1")
            assert done.code == 0, done.err
            named = [line for line in (done.out + done.err).splitlines() if "16 x 16 pixels: decoding takes" in line]
            paths = [line.split(": has ")[0].split()[-1] for line in named]
            assert len(paths) == len(set(paths)) >= 13
    assert "DecompressionBomb" not in done.out + done.err


def test_a_decompression_bomb_is_damage_with_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DamagedImage, match=r"x\.png: has more than 200 pixels, the most that is decoded"):
        decode(tmp_path / "x.png")
