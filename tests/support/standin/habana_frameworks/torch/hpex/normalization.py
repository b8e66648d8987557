# SPDX-License-Identifier: Apache-2.0
import torch

from habana_frameworks import kernel


class FusedClipNorm:
    def __init__(self, parameters, max_norm):
        self.max_norm = max_norm

    def clip_norm(self, parameters):
        with kernel("FusedClipNorm"):
            return torch.nn.utils.clip_grad_norm_(parameters, self.max_norm, foreach=False)
