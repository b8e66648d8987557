# SPDX-License-Identifier: Apache-2.0
"""htcore: makes "hpu" mean the CPU, and writes down what a step does."""

import os

import torch

from habana_frameworks import note

REAL_DEVICE, REAL_AUTOCAST = torch.device, torch.autocast


class _DeviceType(type):
    def __call__(cls, kind, *index):
        return REAL_DEVICE("cpu") if kind == "hpu" else REAL_DEVICE(kind, *index)

    def __instancecheck__(cls, value):
        return isinstance(value, REAL_DEVICE)


class device(metaclass=_DeviceType):
    """torch.device that takes "hpu" for the CPU."""


class autocast(REAL_AUTOCAST):
    """torch.autocast that takes "hpu" for the CPU."""

    def __init__(self, device_type, dtype=None, **options):
        note(f"autocast {device_type} {dtype}")
        super().__init__("cpu" if device_type == "hpu" else device_type, dtype=dtype, **options)


def noted(kind, name):
    real = getattr(kind, name)

    def call(*args, **kwargs):
        note(name)
        return real(*args, **kwargs)

    setattr(kind, name, call)


def mark_step():
    assert os.environ["PT_HPU_LAZY_MODE"] == "1", "mark_step belongs to lazy mode"
    note("mark_step")


torch.device, torch.autocast = device, autocast
for name in ("item", "tolist", "cpu", "backward", "__bool__"):
    noted(torch.Tensor, name)
if os.environ.get("PT_HPU_LAZY_MODE") == "0":
    import torch._dynamo

    @torch._dynamo.register_backend(name="hpu_backend")
    def hpu_backend(graph, inputs):
        note("hpu_backend compiles")
        return graph.forward
