# SPDX-License-Identifier: Apache-2.0
"""The ResNet below the hybrid's transformer: weight-standardised convolutions, SAME padding, GroupNorm.

As vit_jax/models_resnet.py computes it, under timm's module names (ResNetV2 with preact=False).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit.variants import RESNET_WIDTH

STANDARDISATION_EPS = 1e-5  # added to the standard deviation, not to the variance
GROUP_NORM_EPS = 1e-6  # flax's default, in every norm
NUM_GROUPS = 32
LECUN_TRUNCATION = 0.87962566103423978  # standard deviation of a unit normal cut at +-2 (jax.nn.initializers)


class ResNet(nn.Module):
    """Images (B, 3, S, S) -> maps (B, C, S/16, S/16) for three stages, C = 256 x 2^(stages - 1)."""

    def __init__(self, num_units: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = Stem()
        stages, inputs = [], RESNET_WIDTH
        for number, units in enumerate(num_units):
            inner = RESNET_WIDTH * 2**number
            stages.append(Stage(inputs, inner, units, stride=2 if number else 1))
            inputs = 4 * inner
        self.stages = nn.Sequential(*stages)
        self.num_features = inputs

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> maps (B, C, S/16, S/16)."""
        maps: Tensor = self.stages(self.stem(images))
        return maps


class Stem(nn.Module):
    """The root: 7 x 7 convolution and 3 x 3 max-pooling, each halving the side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = StdConv2dSame(3, RESNET_WIDTH, 7, stride=2)
        self.norm = group_norm(RESNET_WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> maps (B, 64, S/4, S/4)."""
        maps = F.relu(self.norm(self.conv(images)))
        return F.max_pool2d(pad_same(maps, 3, 2, value=-math.inf), 3, 2)


class Stage(nn.Module):
    """Bottleneck units of one width; the first one projects and may halve the side."""

    def __init__(self, inputs: int, inner: int, num_units: int, *, stride: int) -> None:
        super().__init__()
        first = Bottleneck(inputs, inner, stride=stride, projects=True)
        more = (Bottleneck(4 * inner, inner, stride=1, projects=False) for _ in range(num_units - 1))
        self.blocks = nn.Sequential(first, *more)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, s, s) -> (B, 4 x inner, s / stride, s / stride)."""
        out: Tensor = self.blocks(maps)
        return out


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolution beside a shortcut."""

    def __init__(self, inputs: int, inner: int, *, stride: int, projects: bool) -> None:
        super().__init__()
        self.downsample = Shortcut(inputs, 4 * inner, stride) if projects else None
        self.conv1, self.norm1 = StdConv2dSame(inputs, inner, 1), group_norm(inner)
        self.conv2, self.norm2 = StdConv2dSame(inner, inner, 3, stride=stride), group_norm(inner)
        self.conv3, self.norm3 = StdConv2dSame(inner, 4 * inner, 1), group_norm(4 * inner)
        nn.init.zeros_(self.norm3.weight)  # as the reference: a fresh unit is its shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, s, s) -> (B, 4 x inner, s / stride, s / stride)."""
        shortcut = maps if self.downsample is None else self.downsample(maps)
        inner = F.relu(self.norm1(self.conv1(maps)))
        inner = F.relu(self.norm2(self.conv2(inner)))
        return F.relu(shortcut + self.norm3(self.conv3(inner)))


class Shortcut(nn.Module):
    """The projection of a unit whose output has another shape than its input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = StdConv2dSame(inputs, outputs, 1, stride=stride)
        self.norm = group_norm(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, s, s) -> (B, outputs, s / stride, s / stride)."""
        out: Tensor = self.norm(self.conv(maps))
        return out


class StdConv2dSame(nn.Conv2d):
    """Convolution without bias: kernels of mean 0 and deviation 1 each, padding as TensorFlow's SAME."""

    def __init__(self, inputs: int, outputs: int, side: int, *, stride: int = 1) -> None:
        super().__init__(inputs, outputs, side, stride=stride, bias=False)
        std = math.sqrt(1 / (inputs * side * side)) / LECUN_TRUNCATION
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, inputs, s, s) -> (B, outputs, ceil(s / stride), ceil(s / stride))."""
        std, mean = torch.std_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        kernel = (self.weight - mean) / (std + STANDARDISATION_EPS)
        return F.conv2d(pad_same(maps, self.kernel_size[0], self.stride[0]), kernel, stride=self.stride)


def pad_same(maps: Tensor, side: int, stride: int, *, value: float = 0.0) -> Tensor:
    """Pad so that the output has ceil(s / stride) on a side; of an odd padding the larger half goes below and right."""
    total = [max((-(-size // stride) - 1) * stride + side - size, 0) for size in maps.shape[-2:]]
    if not any(total):
        return maps
    (rows, columns) = total
    return F.pad(maps, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=value)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with the reference's groups and epsilon."""
    return nn.GroupNorm(NUM_GROUPS, channels, eps=GROUP_NORM_EPS)
