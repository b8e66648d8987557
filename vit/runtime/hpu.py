# SPDX-License-Identifier: Apache-2.0
"""The Gaudi backend. The only module that imports habana_frameworks, and only when an HPU is asked for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vit.errors import ConfigError
from vit.packages import reason_of
from vit.runtime.device import Device
from vit.runtime.ranks import LAZY_MODE, Ranks
from vit.variants import AttentionKind

logger = logging.getLogger(__name__)

BUCKET_CAP_MB = 256  # Habana's own ViT and the Gaudi DDP guide


def import_habana(name: str) -> Any:
    """Return a module of habana_frameworks.torch; lazy mode is set before the first import reads it."""
    os.environ.setdefault(LAZY_MODE, "1")
    return importlib.import_module(f"habana_frameworks.torch.{name}")


def _need_habana(name: str) -> Any:
    """Import a module that Gaudi needs. Raises ConfigError: a run must not fall back to the CPU silently."""
    try:
        return import_habana(name)
    except Exception as error:  # a package can raise anything while it is imported
        what = f"habana_frameworks is installed but cannot be imported ({reason_of(error)})"
        raise ConfigError("--device", what, "use Habana's PyTorch image, or --device cpu") from error


class HpuDevice(Device):
    """A Gaudi card, one per process."""

    kind = "hpu"
    backend = "hccl"
    attention: AttentionKind = "explicit"  # nothing shows that fused attention trains on first-generation Gaudi
    worker_context = "forkserver"  # a forked copy of a process that uses a card may hang

    def __init__(self, ranks: Ranks) -> None:
        if importlib.util.find_spec("habana_frameworks") is None:
            what = "hpu, but this Python has no habana_frameworks"
            raise ConfigError("--device", what, "use Habana's PyTorch image, or --device cpu")
        self.core, self.hpu = _need_habana("core"), _need_habana("hpu")
        if not self.hpu.is_available():
            raise ConfigError(
                "--device", "is hpu, but no Gaudi card was found", "see hl-smi and the pod's habana.ai/gaudi"
            )
        self.torch_device = torch.device("hpu")
        self.lazy = os.environ[LAZY_MODE] == "1"
        self.world_size = ranks.world_size
        self.fused_norm: Any = None

    @classmethod
    def count(cls) -> int:
        """Cards that habana_frameworks sees."""
        hpu = _need_habana("hpu")
        return int(hpu.device_count()) if hpu.is_available() else 0

    def name(self) -> str:
        """GAUDI, GAUDI2 or GAUDI3."""
        return str(self.hpu.get_device_name())

    def describe(self) -> str:
        """Card and mode, read back and not assumed."""
        mode = "lazy" if self.lazy else "eager"
        return f"{self.name()} in {mode} mode ({LAZY_MODE}={os.environ[LAZY_MODE]})"

    def prepare_distributed(self) -> None:
        """Let Habana's helper register hccl and set its own variables; its ranks must be ours."""
        world_size, _, _ = import_habana("distributed.hccl").initialize_distributed_hpu()
        if world_size != self.world_size:
            what = f"Habana's helper sees {world_size} ranks, the environment says {self.world_size}"
            raise ConfigError("WORLD_SIZE", what, "start all ranks with one mpirun")

    def autocast(self, enabled: bool) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 around forward and loss; it needs no scaling of gradients."""
        return torch.autocast("hpu", torch.bfloat16) if enabled else contextlib.nullcontext()

    def upload(self, tensor: Tensor) -> Tensor:
        """Copy from separate memory that is not overwritten: the copy is asynchronous."""
        return tensor.clone().to(self.torch_device, non_blocking=True)

    def copy_to_host(self, pairs: list[tuple[Tensor, Tensor]]) -> Callable[[], None]:
        """Copy in the order of the card's work, and wait: Habana documents no copy to the host beside a lazy graph."""
        self.mark_step()
        return super().copy_to_host(pairs)

    def mark_step(self) -> None:
        """Run the graph collected so far; eager mode has none."""
        if self.lazy:
            self.core.mark_step()

    def synchronize(self) -> None:
        """Wait for the card."""
        self.hpu.synchronize()

    def peak_memory_gib(self) -> float | None:
        """max_memory_allocated of the card."""
        return float(self.hpu.max_memory_allocated()) / 2**30

    def manual_seed(self, seed: int) -> None:
        """Seed the host's and the card's generators."""
        torch.manual_seed(seed)
        import_habana("hpu.random").manual_seed(seed)

    def compile(self, model: nn.Module) -> None:
        """Compile with Habana's backend, which needs eager mode. Raises ConfigError in lazy mode."""
        if self.lazy:
            what = f"works on HPU without lazy mode only, and {LAZY_MODE}={os.environ[LAZY_MODE]}"
            raise ConfigError("--compile", what, f"set {LAZY_MODE}=0 for all ranks, or leave --compile out")
        model.compile(backend="hpu_backend")

    def ddp_options(self) -> dict[str, Any]:
        """Return what Habana's guide to DDP asks for."""
        return {**super().ddp_options(), "broadcast_buffers": False, "bucket_cap_mb": BUCKET_CAP_MB}

    def sgd(self, groups: list[dict[str, Any]], *, learning_rate: float, momentum: float) -> torch.optim.Optimizer:
        """FusedSGD, or torch's where the image lacks it."""
        fused = _fused("FusedSGD")
        if fused is None:
            return super().sgd(groups, learning_rate=learning_rate, momentum=momentum)
        optimizer: torch.optim.Optimizer = fused(groups, lr=learning_rate, momentum=momentum)
        return optimizer

    def adamw(self, groups: list[dict[str, Any]], *, learning_rate: float) -> torch.optim.Optimizer:
        """FusedAdamW with torch's epsilon (its own is 1e-6), or torch's where the image lacks it."""
        fused = _fused("FusedAdamW")
        if fused is None:
            return super().adamw(groups, learning_rate=learning_rate)
        optimizer: torch.optim.Optimizer = fused(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)
        return optimizer

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """FusedClipNorm, or torch's where the image lacks it."""
        weights = list(parameters)
        if self.fused_norm is None:
            self.fused_norm = self._open_fused_norm(weights, max_norm)
        if self.fused_norm is False:
            return super().clip(weights, max_norm)
        norm: Tensor = self.fused_norm.clip_norm(weights)
        return norm

    def _open_fused_norm(self, weights: list[nn.Parameter], max_norm: float) -> Any:
        try:
            return import_habana("hpex.normalization").FusedClipNorm(weights, max_norm)
        except (ImportError, AttributeError):
            logger.warning("no FusedClipNorm in this image: using torch's clipping")
            return False


def _fused(name: str) -> Any:
    """Return an optimizer of Habana's, None where the image lacks it."""
    try:
        return getattr(import_habana("hpex.optimizers"), name)
    except (ImportError, AttributeError):
        logger.warning("no %s in this image: using torch's", name)
        return None
