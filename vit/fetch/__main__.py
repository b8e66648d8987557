# SPDX-License-Identifier: Apache-2.0
"""python -m vit.fetch URL PATH: one file from a web server, complete and verified, or none. Needs no torch.

It continues where it stopped, however often it is started. Exit codes: vit/errors.py; 7 the disk, 8 the downloaded file
is damaged or does not exist, 9 the network.
"""

from __future__ import annotations

from vit.runtime.process import leave_on_interrupt

if __name__ == "__main__":
    leave_on_interrupt()

import argparse
import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from vit.errors import ConfigError
from vit.fetch.download import MOST_BYTES, Download, Patience
from vit.fetch.http import Remote, checked_url
from vit.fetch.unpacking import LIMIT_FLAG, check_gzip, check_tar, check_zip, damaged, not_arrays
from vit.pins import pin_of_url
from vit.runtime.console import Talk
from vit.runtime.launcher import Parser, run_program
from vit.runtime.process import run_process
from vit.variants import VARIANTS

MOST_UNPACKED = 2**34  # 16 GiB
LOADED_COPIES = 5  # of the weights at the peak of load_npz, with the model's own: ViT-H_14 would break a small pod
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # version 2, 1


def main(argv: Sequence[str]) -> int:
    """Download; returns the exit code."""
    return run_program("vit.fetch", argv, _fetch)


def _parser() -> Parser:
    parser = Parser(prog="python -m vit.fetch", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("url", metavar="URL", help="address of the file; https_proxy and no_proxy are followed")
    parser.add_argument("path", metavar="PATH", type=Path, help="where it is to be; folders above it are made")
    parser.add_argument("--model_type", choices=sorted(VARIANTS), help="also load the file into this model")
    parser.add_argument("--md5", metavar="HEX", help="MD5 of the file, where the server states none")
    parser.add_argument("--sha256", metavar="HEX", help="SHA-256 of the file; known for CIFAR, Fashion-MNIST, ImageNet")
    parser.add_argument(
        "--max_mib", type=int, default=MOST_BYTES >> 20, help="a larger file is rejected (default %(default)s)"
    )
    parser.add_argument(
        LIMIT_FLAG, type=int, default=MOST_UNPACKED >> 20, help="so is one that unpacks to more (default %(default)s)"
    )
    parser.add_argument("--tries", type=int, default=8, help="in a row without progress (default 8)")
    parser.add_argument(
        "--pause_seconds", type=float, default=1.0, help="before the second try, then doubled (default 1)"
    )
    parser.add_argument("--stall_seconds", type=float, default=30.0, help="limit of a silent connection (default 30)")
    return parser


def _fetch(argv: Sequence[str], talk: Talk) -> None:
    flags = _checked_flags(_parser().parse_args(argv))
    remote = Remote(checked_url(flags.url), flags.stall_seconds)

    def progress(done: int, size: int | None) -> None:
        talk.progress(done, size, f"{done >> 20} of {f'{size >> 20} MiB' if size else 'unknown MiB'}")

    download = Download(
        remote=remote,
        target=flags.path,
        tell=talk.say,
        progress=progress,
        patience=Patience(tries=flags.tries, pause_seconds=flags.pause_seconds),
        md5=flags.md5.lower() if flags.md5 else None,
        sha256=flags.sha256.lower() if flags.sha256 else pin_of_url(flags.url),
        most_bytes=flags.max_mib << 20,
    )
    talk.say(f"{remote.name} -> {flags.path}")
    most = flags.max_unpacked_mib << 20
    found = download.run(lambda path: verify(path, flags.path.name, flags.model_type, most))
    talk.say(f"complete: {flags.path}, {found}")


def _checked_flags(flags: argparse.Namespace) -> argparse.Namespace:
    """Raise ConfigError for what argparse lets through."""
    if flags.path.is_dir() or not flags.path.name:
        raise ConfigError("PATH", f"{flags.path} is a folder", "give the path of the file that is to be made")
    if flags.tries < 1 or flags.pause_seconds < 0 or flags.stall_seconds <= 0:
        raise ConfigError("--tries", "tries and seconds must be above 0", "leave them out")
    for name, value, length in (("--md5", flags.md5, 32), ("--sha256", flags.sha256, 64)):
        if value and not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", value):
            raise ConfigError(name, f"{value} is not a checksum", f"give its {length} hex digits")
    for name, value in (("--max_mib", flags.max_mib), (LIMIT_FLAG, flags.max_unpacked_mib)):
        if value < 1:
            raise ConfigError(name, f"is {value}", "give 1 or more")
    return flags


def verify(path: Path, name: str, model_type: str | None, most_bytes: int = MOST_UNPACKED) -> str:
    """What a whole file called `name` was found to be. Raises DataError; WeightsError where it fits another model."""
    if name.endswith((".gz", ".tgz")):
        unpacked = check_gzip(path, most_bytes)
        packs_tar = name.endswith((".tar.gz", ".tgz"))
        return f"{check_tar(path, most_bytes)} whole members" if packs_tar else f"{unpacked} bytes when unpacked"
    if not name.endswith((".npz", ".zip")):
        return f"{path.stat().st_size} bytes"
    names = check_zip(path, most_bytes)
    if name.endswith(".zip"):
        return f"{len(names)} whole members"
    others = not_arrays(path, names)
    if others or not names:
        raise damaged(path, f"is not an .npz: {others[0] if others else 'nothing'} in it is not an array")
    loaded = _loaded(path, model_type) if model_type else ""
    return f"{len(names)} whole arrays{loaded}"


def _free_memory() -> int:
    """Bytes that this process may still use: the machine's, or what its control group allows."""
    found = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    for limit in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number
            found.append(int(Path(limit).read_text(encoding="ascii")))
    return min(found)


def _loaded(path: Path, model_type: str) -> str:
    """Load the weights as the trainer will. Raises WeightsError."""
    try:
        from vit.model.transformer import create_model
        from vit.weights.load import load_npz
    except ModuleNotFoundError as missing:
        return f" (not loaded into a model: this Python has no {missing.name})"
    needed = LOADED_COPIES * path.stat().st_size
    if needed > (free := _free_memory()):
        return f" (not loaded into a model: that takes about {needed >> 20} MiB of memory, {free >> 20} are free)"
    model = create_model(model_type, img_size=VARIANTS[model_type].img_size)
    load_npz(model, path)
    return f", loaded into {model_type}"


if __name__ == "__main__":
    run_process(main)
