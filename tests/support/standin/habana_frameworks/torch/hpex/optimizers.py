# SPDX-License-Identifier: Apache-2.0
"""Fused optimizers: torch's arithmetic under Habana's names and signatures."""

import torch

from habana_frameworks import kernel, note


class FusedSGD(torch.optim.SGD):
    def __init__(self, params, lr, momentum=0, dampening=0, weight_decay=0, nesterov=False):
        note("FusedSGD")
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)

    def step(self, closure=None):
        with kernel("optimizer step"):
            return super().step(closure)


class FusedAdamW(torch.optim.AdamW):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, bias_correction=True):
        note(f"FusedAdamW eps={eps}")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=False)

    def step(self, closure=None):
        with kernel("optimizer step"):
            return super().step(closure)
