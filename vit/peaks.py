# SPDX-License-Identifier: Apache-2.0
"""Peak rates of accelerators in bfloat16 with dense matrices, so that a rate can be told as a share. Needs no torch."""

from __future__ import annotations

PEAK_TFLOPS: tuple[tuple[str, float], ...] = (
    # A part of the name that the device gives, and TFLOP/s from the vendor's data sheet. First match wins.
    ("GAUDI3", 1835.0),  # Intel Gaudi 3 white paper, MME BF16
    ("GAUDI2", 432.0),  # Habana Gaudi2 white paper, MME BF16
    ("B200", 2250.0),  # NVIDIA Blackwell data sheet
    ("H200", 989.4),  # NVIDIA H200 data sheet
    ("H100 PCIE", 756.5),  # NVIDIA H100 data sheet, PCIe
    ("H100", 989.4),  # NVIDIA H100 data sheet, SXM
    ("A100", 312.0),  # NVIDIA A100 data sheet
    ("L40S", 362.05),  # NVIDIA L40S data sheet
)
"""First-generation Gaudi is not here: no official figure for it was found."""


def known_peak(device_name: str) -> float | None:
    """TFLOP/s of one device of that name in bfloat16, None where it is not known."""
    name = device_name.upper()
    return next((peak for part, peak in PEAK_TFLOPS if part in name), None)
