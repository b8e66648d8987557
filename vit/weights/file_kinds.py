# SPDX-License-Identifier: Apache-2.0
"""What a file given as weights is, by its first bytes and its name: a kind that can be read, or a refusal with a fix.

Nothing of the file is executed. Needs no torch.
"""

from __future__ import annotations

import json
import re
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from vit.errors import WeightsError

Kind = Literal["npz", "torch", "safetensors"]

PUBLISHED_NAMES = {"R50-ViT-B_16": "R50+ViT-B_16"}
"""Files in Google's bucket that are not named as their model_type."""
HF_FILES = ("model.safetensors", "pytorch_model.bin")
ENDINGS = (".npz", ".safetensors", ".bin", ".pt", ".pth", ".tar", ".ckpt")
HEAD_BYTES = 1024
SAFETENSORS_HEADER = 8  # bytes with the length of its JSON
MOST_HEADER = 100 * 2**20  # safetensors' own limit
TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # protocol 2, then torch.serialization.MAGIC_NUMBER
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
LEVELDB_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # of TensorFlow's .index files
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
HUB = re.compile(r"(hf[-_]hub|timm|local-dir):.+")
TENSORFLOW = re.compile(r".*\.(index|meta|data-\d{5}-of-\d{5})|checkpoint|saved_model\.pb")
ONNX = re.compile(rb"\x08[\x01-\x20]\x12.[\x20-\x7e]{3}", re.DOTALL)  # ir_version, then the producer's name

CONVERT = "save it from PyTorch with torch.save(model.state_dict(), 'weights.pt') and give that file"
AGAIN = "download it again"
PACKED = (
    (b"\x1f\x8b", "a gzip file", "gunzip"),
    (b"BZh", "a bzip2 file", "bunzip2"),
    (b"\xfd7zXZ\x00", "an xz file", "unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unzstd"),
)
"""First bytes, what it is, and the program that unpacks it."""


def file_of(place: str | Path, model_type: str = "") -> Path:
    """Return the file that a path means: itself, or the weights in a folder. Raises WeightsError."""
    text = str(place)
    if ADDRESS.match(text):
        fix = "download it with python -m vit.fetch URL FILE, and give FILE"
        raise WeightsError(text, "is a URL, not a path", fix)
    if HUB.fullmatch(text) and not Path(text).exists():
        raise WeightsError(text, "is a name in a hub, not a path", "download the model's folder, and give the folder")
    path = Path(place)
    return _in_folder(path, model_type) if path.is_dir() else path


def _in_folder(folder: Path, model_type: str) -> Path:
    names = [f"{PUBLISHED_NAMES.get(model_type, model_type)}.npz"] if model_type else []
    names += HF_FILES
    for name in names:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path.name for path in folder.iterdir())
    what, fix = _folder_fault(folder, found, names)
    raise WeightsError(str(folder), what, fix)


def _folder_fault(folder: Path, found: list[str], names: list[str]) -> tuple[str, str]:
    """Return what a folder is that has none of these files, and what to do."""
    if any(name.endswith(".index.json") for name in found):
        return "has weights in several parts (.index.json)", f"save them as one file: {CONVERT}"
    if any(TENSORFLOW.fullmatch(name) for name in found):
        return "is a TensorFlow checkpoint or SavedModel", "give the model's .npz, .safetensors or .pt file instead"
    if {"_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"} & set(found):
        return "is an Orbax (JAX) checkpoint", "give the model's .npz file instead"
    if "events.jsonl" in found:
        return "is a run without a checkpoint", "give a run that has saved a checkpoint"
    what = f"has no {', '.join(names[:-1])} or {names[-1]}"
    other = next((name for name in found if name.endswith(ENDINGS)), None)
    return what, f"give {folder / other}" if other else "give the file or the folder with the weights"


def kind_of(path: Path) -> Kind:
    """Return how to read the file. Raises WeightsError that says what else it is."""
    head = _head(path)
    if not head:
        raise WeightsError(str(path), "is empty (0 bytes)", AGAIN)
    if head.startswith(b"PK") and zipfile.is_zipfile(path):  # a tar with a zip in it looks like one at its end
        return _in_zip(path)
    if _begins_as_safetensors(head):
        _check_length(path, head)
        return "safetensors"
    if head.startswith(TORCH_LEGACY):
        return "torch"
    what, fix = _other_thing(path, head)
    raise WeightsError(str(path), what, fix)


def _head(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise WeightsError(str(path), "is not a regular file", "give --pretrained_dir the path of a weights file")
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError:
        fix = "give --pretrained_dir the path of a weights file or folder"
        raise WeightsError(str(path), "does not exist", fix) from None
    except OSError as error:
        fix = "give --pretrained_dir the path of a readable file"
        raise WeightsError(str(path), f"cannot be read ({error.strerror})", fix) from error


def _in_zip(path: Path) -> Kind:
    """Return an .npz or torch.save's file, by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(str(path), "is a damaged archive", AGAIN) from error
    if any(name.endswith("/constants.pkl") for name in names):
        fix = "torch.save(torch.jit.load('OLD').state_dict(), 'weights.pt') in Python, and give weights.pt"
        raise WeightsError(str(path), "is a TorchScript program, which is not executed", fix)
    if any(name.endswith("/data.pkl") for name in names):
        return "torch"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    if "model.weights.h5" in names:
        raise WeightsError(str(path), "is a Keras model", "give the model's .npz, .safetensors or .pt file instead")
    inner = next((name for name in names if name.endswith(ENDINGS)), None)
    fix = f"unzip {path}, and give the unpacked {inner}" if inner else "give an .npz, .safetensors or .pt file instead"
    raise WeightsError(str(path), "is a zip archive, not weights", fix)


def _begins_as_safetensors(head: bytes) -> bool:
    return len(head) > SAFETENSORS_HEADER and head[5:SAFETENSORS_HEADER] == bytes(3) and head[8:9] == b"{"


def _check_length(path: Path, head: bytes) -> None:
    """Raise WeightsError if the .safetensors file is shorter than its header says."""
    (length,) = struct.unpack("<Q", head[:SAFETENSORS_HEADER])
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(SAFETENSORS_HEADER)
        text = file.read(min(length, MOST_HEADER))
    try:
        entries = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        whole = SAFETENSORS_HEADER + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        whole = -1
    if whole != size:
        much = f": it has {size:,} bytes of {whole:,}" if whole > size else ""
        raise WeightsError(str(path), f"is a .safetensors file that is cut off or damaged{much}", AGAIN)


def _other_thing(path: Path, head: bytes) -> tuple[str, str]:
    """Return what a file is that cannot be read, and what to do."""
    for packed, what, program in PACKED:
        if head.startswith(packed):
            return f"is {what}", f"unpack it with {program}, and give the unpacked file"
    for is_it, what, fix in TESTS:
        if is_it(path, head):
            return what, fix
    return "is not a weights file of a known kind", "give an .npz, .safetensors or .pt file"


def _text(head: bytes) -> bytes:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()


def _starts(*marks: bytes) -> Callable[[Path, bytes], bool]:
    return lambda _path, head: head.startswith(marks)


def _ends(*endings: str) -> Callable[[Path, bytes], bool]:
    return lambda path, _head: path.name.lower().endswith(endings)


def _is_tensorflow(path: Path, _head: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(LEVELDB_END)))
        return file.read() == LEVELDB_END or TENSORFLOW.fullmatch(path.name) is not None


HTML = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")
INSTEAD = "give the model's .npz, .safetensors or .pt file instead"
TESTS: tuple[tuple[Callable[[Path, bytes], bool], str, str], ...] = (
    (
        _starts(b"version https://git-lfs"),
        "is a git LFS pointer, not the weights that it stands for",
        "run git lfs pull in its repository, or download the file itself",
    ),
    (
        lambda _path, head: _text(head).startswith(HTML),
        "is a web page, not weights",
        "the download was answered by HTML: get it again",
    ),
    (
        lambda _path, head: head[257:262] == b"ustar",
        "is a tar archive",
        "unpack it with tar -xf, and give the weights file in it",
    ),
    (_starts(b"\x93NUMPY"), "is a single NumPy array (.npy), not a model", INSTEAD),
    (_starts(b"\x89HDF\r\n\x1a\n"), "is an HDF5 file, as Keras writes", INSTEAD),
    (_starts(b"GGUF"), "is a GGUF file", INSTEAD),
    (lambda _path, head: head[4:8] == b"TFL3", "is a TensorFlow Lite model", INSTEAD),
    (_is_tensorflow, "is part of a TensorFlow checkpoint", INSTEAD),
    (
        lambda path, head: path.name.lower().endswith(".onnx") or ONNX.match(head) is not None,
        "is an ONNX model",
        CONVERT,
    ),
    (_ends(".msgpack"), "is a Flax file (.msgpack)", INSTEAD),
    (_starts(b"PK"), "is cut off: it begins as a zip archive (.npz, .pt) and has no end", AGAIN),
    (_starts(*PICKLES), "is a Python pickle that torch.save did not write; it is not executed", CONVERT),
    (_ends(".safetensors", ".npz"), "is not what its name says, or is cut off", AGAIN),
    (
        lambda _path, head: _text(head).startswith((b"{", b"[")),
        "is JSON text, not weights",
        "give the weights file that belongs to it, or its folder",
    ),
)
"""Is it such a file? What it is, and what to do; the first that fits counts."""
