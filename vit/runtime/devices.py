# SPDX-License-Identifier: Apache-2.0
"""Choose and count devices. `python -m vit.runtime.devices KIND` prints how many torch sees."""

from __future__ import annotations

import importlib.util
import sys

from vit.runtime.console import write
from vit.runtime.cuda import CudaDevice
from vit.runtime.device import Device
from vit.runtime.ranks import Ranks


def device_class(kind: str) -> type[Device]:
    """Return the class for hpu, cuda or cpu; habana_frameworks is touched for hpu alone."""
    if kind == "hpu":
        from vit.runtime.hpu import HpuDevice

        return HpuDevice
    return {"cuda": CudaDevice, "cpu": Device}[kind]


def open_device(kind: str, ranks: Ranks) -> Device:
    """Return the device of this rank; `auto` takes hpu if its software and a card are there, else cuda, else cpu."""
    if kind == "auto":
        kind = next(name for name in ("hpu", "cuda", "cpu") if name == "cpu" or count_devices(name))
    return device_class(kind)(ranks)


def count_devices(kind: str) -> int:
    """Devices of that kind on this machine; 0 if their software is absent."""
    if kind == "hpu" and importlib.util.find_spec("habana_frameworks") is None:
        return 0
    return device_class(kind).count()


def main(argv: list[str]) -> int:
    """Print the number of devices of argv[0]'s kind."""
    if len(argv) != 1 or argv[0] not in ("hpu", "cuda", "cpu"):
        write(sys.stderr, "usage: python -m vit.runtime.devices hpu|cuda|cpu\n")
        return 2
    write(sys.stdout, f"{count_devices(argv[0])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
