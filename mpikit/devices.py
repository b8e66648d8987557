# SPDX-License-Identifier: Apache-2.0
"""What is known of SynapseAI releases and of devices. Facts of a site stand in values/, not here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mpikit.text.nested import at
from mpikit.text.units import quantity

OLDEST_SYNAPSE = "1.15.0"  # the oldest whose images carry Python 3.10 and torch 2.2, which the trainer needs


@dataclass(frozen=True, slots=True)
class Release:
    """One SynapseAI release as its public images name it. Source: the vault's image names and the release notes."""

    build: str | None
    torch: str
    systems: tuple[str, ...]
    first_generation: bool


@dataclass(frozen=True, slots=True)
class Device:
    """What a node of this kind of accelerator offers. Sources: Habana and NVIDIA device plugins, vendor data sheets."""

    trainer: Literal["hpu", "cuda", "cpu"]
    """The trainer's --device."""
    resource: str | None
    """Extended resource of the device plugin; None where a card is just processor time."""
    most_cards: int | None
    """Cards in the largest node that is sold; None where nothing limits them."""
    generation: str
    """The name as people say it."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that the ranks need, whatever the image's own defaults are."""


_U22 = ("ubuntu22.04",)
_U22_U24 = ("ubuntu22.04", "ubuntu24.04")

# version: build, torch, Ubuntu releases, first-generation Gaudi. A build of None was never seen written down.
SYNAPSE: dict[str, Release] = {
    "1.10.0": Release("494", "2.0.1", ("ubuntu20.04", "ubuntu22.04"), True),
    "1.11.0": Release("587", "2.0.1", ("ubuntu20.04", "ubuntu22.04"), True),
    "1.12.0": Release("480", "2.0.1", ("ubuntu20.04", "ubuntu22.04"), True),
    "1.12.1": Release("10", "2.0.1", ("ubuntu20.04", "ubuntu22.04"), True),
    "1.13.0": Release("463", "2.1.0", ("ubuntu20.04", "ubuntu22.04"), True),
    "1.14.0": Release("493", "2.1.1", _U22, True),
    "1.15.0": Release("479", "2.2.0", _U22, True),
    "1.15.1": Release("15", "2.2.0", _U22, True),
    "1.15.3": Release("5", "2.2.0", _U22, True),
    "1.16.0": Release("526", "2.2.2", _U22, True),
    "1.16.1": Release("7", "2.2.2", _U22, True),
    "1.16.2": Release("2", "2.2.2", _U22, True),
    "1.17.0": Release("495", "2.3.1", _U22, True),
    "1.17.1": Release("40", "2.3.1", _U22, True),
    "1.18.0": Release("524", "2.4.0", _U22_U24, True),
    "1.19.0": Release("561", "2.5.1", _U22_U24, True),
    "1.19.1": Release("26", "2.5.1", _U22_U24, True),
    "1.19.2": Release("32", "2.5.1", _U22_U24, True),
    "1.20.0": Release("543", "2.6.0", _U22_U24, True),
    "1.20.1": Release(None, "2.6.0", _U22_U24, True),
    "1.21.0": Release("555", "2.6.0", _U22_U24, True),
    "1.21.1": Release(None, "2.6.0", _U22_U24, True),
    "1.21.2": Release(None, "2.6.0", _U22_U24, True),
    "1.21.3": Release(None, "2.6.0", _U22_U24, True),
    "1.21.4": Release("3", "2.6.0", _U22_U24, True),
    "1.21.5": Release("6", "2.6.0", _U22_U24, True),
    "1.22.0": Release("740", "2.7.1", _U22_U24, False),
    "1.22.2": Release("32", "2.7.1", _U22_U24, False),
    "1.23.0": Release("695", "2.9.0", _U22_U24, False),
    "1.24.0": Release("1007", "2.10.0", ("ubuntu24.04",), False),
}

# The trainer marks its steps, so lazy mode is asked for by name: the default flipped between 1.20 and 1.23.
_LAZY = (("PT_HPU_LAZY_MODE", "1"),)

DEVICES: dict[str, Device] = {
    "gaudi": Device("hpu", "habana.ai/gaudi", 8, "first-generation Gaudi", _LAZY),
    "gaudi2": Device("hpu", "habana.ai/gaudi", 8, "Gaudi 2", _LAZY),
    "gaudi3": Device("hpu", "habana.ai/gaudi", 8, "Gaudi 3", _LAZY),
    "nvidia": Device("cuda", "nvidia.com/gpu", 16, "NVIDIA"),
    "cpu": Device("cpu", None, None, "CPU"),
}

CARD_RESOURCES = tuple(dict.fromkeys(device.resource for device in DEVICES.values() if device.resource))


def version_key(version: str) -> tuple[int, ...]:
    """A version as numbers, so that 1.9 comes before 1.10."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def release_named(version: str) -> str | None:
    """The release that `version` means: itself, or the newest with a known build of a bare minor such as 1.20."""
    if version in SYNAPSE:
        return version
    patches = [name for name, release in SYNAPSE.items() if name.startswith(f"{version}.") and release.build]
    return max(patches, key=version_key, default=None)


def synapse_image(version: str, system: str) -> str:
    """The public image of a release with its build pinned; `version` and `system` stand in SYNAPSE."""
    release = SYNAPSE[version]
    folder = f"vault.habana.ai/gaudi-docker/{version}/{system}/habanalabs"
    return f"{folder}/pytorch-installer-{release.torch}:{version}-{release.build}"


def cards_of(pod_spec: Any) -> int:
    """Accelerator cards that a pod asks for."""
    limits = [at(container, "resources", "limits") or {} for container in at(pod_spec, "containers") or ()]
    return sum(_cards(limit.get(name, 0)) for limit in limits for name in CARD_RESOURCES)


def _cards(amount: object) -> int:
    """A count of cards, which may be written 8, "8" or 1e1; 0 if it is not a count."""
    try:
        return int(quantity(amount))
    except ValueError:
        return 0
