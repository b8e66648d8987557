# SPDX-License-Identifier: Apache-2.0
"""Every number that follows from the flags, as a sentence before step 1 and in config.json."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from vit.config import Config
from vit.data.batches import Data
from vit.data.classes import listed
from vit.data.datasets import FolderSource, class_counts
from vit.data.folders import skipped_text
from vit.data.loader import layout_of
from vit.images.jpeg import decoder
from vit.images.resize import has_opencv
from vit.images.turbojpeg import cropper
from vit.training.state import Session

logger = logging.getLogger(__name__)


def describe(session: Session, notes: list[str]) -> None:
    """Log every derived number, then the notes on the weights, then the state of the run."""
    config = session.config
    numbers = [] if config.eval_only else list(_training(session))
    stands = "starts" if session.step == 0 else f"resumes after step {session.step:,}"
    if config.eval_only:
        stands = "evaluation only"
    for text in (*_setting(session), *numbers, *notes, f"run: {session.folder.path}, {stands}"):
        logger.info("%s", text)
    for text in doubts(config, session.data) if session.group.rank == 0 else ():
        logger.warning("%s", text)
    if config.warmup_steps >= config.num_steps and session.group.rank == 0 and not config.eval_only:
        logger.warning("the warm-up of %d steps does not end before the run does", config.warmup_steps)


def _setting(session: Session) -> Iterator[str]:
    config, data = session.config, session.data
    num_parameters = sum(parameter.numel() for parameter in session.model.parameters())
    grid = config.variant.grid((config.image_size, config.image_size))
    yield f"device: {session.device.describe()}; {counted(session.group.world_size, 'rank')}"
    yield (
        f"model: {config.model_name} at {config.image_size} px, {grid[0] * grid[1] + 1:,} tokens, "
        f"{num_parameters:,} parameters, dropout {config.dropout_rate}, {config.gelu_form} GELU, "
        f"{'bfloat16 autocast' if config.autocast else 'float32'}{', compiled' if config.compile else ''}"
        f"{', activations computed again in the backward pass' if config.grad_checkpointing else ''}"
    )
    yield from data_lines(data)
    yield f"augment: {_augmentation(session)}"
    grows = "OpenCV where they grow and torch where they shrink" if has_opencv() else "torch"
    yield f"loader: {_loader(session)}"
    reader = decoder()[0]
    decoded = "decoded by Pillow" if reader == "Pillow" else f"JPEG decoded by {reader}, other formats by Pillow"
    yield f"images: {decoded}; resized by {grows}"
    if cropper().remark:
        yield f"images: {cropper().remark}"


def data_lines(data: Data) -> Iterator[str]:
    """Yield what each part has: images, the least and most of a class, and what was skipped."""
    parts = {"train": data.train, "val": data.val}
    for name, source in ((name, listed(part.source)) for name, part in parts.items() if part is not None):
        counts = class_counts(source)
        least, most = min(counts), max(counts)
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        skipped = skipped_text(source.index.skipped) if isinstance(source, FolderSource) else ""
        yield f"data: {name} {len(source):,} images in {len(counts):,} classes ({each} each){skipped}"


def doubts(config: Config, data: Data) -> Iterator[str]:
    """Warnings on data and image size that leave a run possible."""
    if data.num_classes == 1:
        yield f"there is only one class ({data.class_names[0]}): every prediction is right"
    counts = zip(data.class_names, class_counts(data.val.source), strict=True)
    empty = [name for name, count in counts if not count]
    if empty and isinstance(data.val.source, FolderSource):
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        yield f"class {empty[0]}{more} has no validation images: its accuracy is not measured"
    patch, lost = config.variant.patch, config.image_size % config.variant.patch
    if lost and not config.variant.resnet:  # a ResNet's padded convolutions see every pixel
        below = config.image_size - lost
        yield (
            f"--img_size {config.image_size} is not a multiple of the patch of {patch} px: the last {lost} rows and "
            f"columns are not seen; use {below} or {below + patch}"
        )


def _loader(session: Session) -> str:
    """Return what decodes, how far ahead, and in how much memory."""
    num_workers = session.eval_loader.num_workers
    if not num_workers:
        return "images are decoded by the main process"
    training = session.data.train is not None
    batches = session.data.train or session.data.val
    size = session.config.micro_batch if training else session.config.eval_batch_size
    layout = layout_of(batches, size, num_workers)
    return (
        f"{counted(num_workers, 'process', 'es')} per rank, up to {layout.num_slots - 1} batches of "
        f"{size} images decoded ahead, "
        f"in {scaled_text(layout.num_bytes, 1024, 'B KiB MiB GiB TiB')} of shared memory"
    )


def _augmentation(session: Session) -> str:
    config = session.config
    parts: list[str] = [config.augment]
    parts += [config.aa] if config.aa else []
    parts += [f"{config.reprob:.0%} erased with {config.remode}"] if config.reprob else []
    parts += [f"mixup {config.mixup}"] if config.mixup else []
    parts += [f"labels smoothed by {config.label_smoothing}"] if config.label_smoothing else []
    return ", ".join(parts)


def _training(session: Session) -> Iterator[str]:
    config, order, world_size = session.config, session.order, session.group.world_size
    per_epoch = order.steps_per_epoch
    yield (
        f"batch: {order.global_batch} images a step = {counted(world_size, 'rank')} x {config.train_batch_size}"
        f"{_micro_batches(config)}"
    )
    yield (
        f"schedule: {config.num_steps:,} steps = {order.epoch_of(config.num_steps):.2f} epochs of {per_epoch:,} steps; "
        f"{config.optimizer} at {config.learning_rate}, {config.warmup_steps} warm-up steps "
        f"({config.warmup_steps / per_epoch:.2f} epochs), then {config.decay_type}"
    )
    left_out = session.data.num_train - per_epoch * order.global_batch
    if left_out:
        yield f"each epoch leaves out {counted(left_out, 'image')} that do not fill a batch, different ones each time"
    flops = session.meter.flops_per_image
    units = "FLOP kFLOP MFLOP GFLOP TFLOP PFLOP"
    each = f"{scaled_text(flops, 1000, units)} an image, {scaled_text(flops * order.global_batch, 1000, units)} a step"
    peak = session.meter.peak_tflops
    yield f"compute: {each}" + ("" if peak is None else f"; MFU against {peak:g} TFLOP/s a rank")
    size = scaled_text(checkpoint_bytes(session), 1024, "B KiB MiB GiB TiB")
    yield (
        f"a progress line every {config.log_every} steps, an evaluation every {config.eval_every}, "
        f"a checkpoint of about {size} every {config.checkpoint_every}; "
        f"the last {config.keep_checkpoints} and the best are kept"
    )


def _micro_batches(config: Config) -> str:
    """Return how a rank divides its batch, if it does."""
    number = config.gradient_accumulation_steps
    return "" if number == 1 else f", as {number} micro-batches of {config.micro_batch} a rank"


def counted(number: int, noun: str, ending: str = "s") -> str:
    """1 rank, 2 ranks."""
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def scaled_text(number: float, base: int, units: str) -> str:
    """Return a number with three digits and the largest of the units that keeps it above 1: 774 MFLOP, 2.4 MiB."""
    names = units.split()
    power = next((power for power in reversed(range(len(names))) if number >= base**power), 0)
    value = number / base**power
    return f"{value:.0f} {names[power]}" if value >= 100 else f"{value:.3g} {names[power]}"


def checkpoint_bytes(session: Session) -> int:
    """Expected size of a checkpoint: weights, what the optimizer keeps of them, and their average, in float32."""
    num_parameters = sum(parameter.numel() for parameter in session.model.parameters())
    copies = 1 + (2 if session.config.optimizer == "adamw" else int(session.config.momentum > 0))
    return 4 * num_parameters * (copies + (session.average is not None))


def derived(session: Session) -> dict[str, Any]:
    """Return the numbers that config.json has beside the flags."""
    return {
        "world_size": session.group.world_size,
        "global_batch": session.order.global_batch,
        "steps_per_epoch": session.order.steps_per_epoch,
        "num_classes": session.data.num_classes,
        "train_images": session.data.num_train,
        "val_images": len(session.data.val.source),
        "device": session.device.kind,
        "flops_per_image": session.meter.flops_per_image,
        "checkpoint_bytes": checkpoint_bytes(session),
    }
