# SPDX-License-Identifier: Apache-2.0
"""Open the data and build the model of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from vit.class_names import by_position
from vit.config import Config
from vit.data.batches import Data, open_data
from vit.data.sampler import EvalBatches, MicroBatches, TrainOrder
from vit.errors import ConfigError, DataError
from vit.model.transformer import VisionTransformer, create_model
from vit.run.identity import classes_crc
from vit.run.own import Own
from vit.runtime.agreement import compare, host_name
from vit.runtime.cpus import CGROUP_ROOT, cpus_per_rank
from vit.runtime.device import Device
from vit.runtime.distributed import Group
from vit.runtime.ranks import Ranks
from vit.weights.load import load_own, load_weights

MAX_WORKERS = 16  # more decoders than this per rank have not been seen to help


def open_data_once(config: Config, group: Group, *, with_train: bool) -> Data:
    """The data set on every rank; rank 0 lists the files first, so that the others find its index. Raises DataError."""
    first: list[Data] = []
    group.on_rank0(lambda: first.append(open_data(config, with_train=with_train)))
    return group.together(lambda: first[0] if first else open_data(config, with_train=with_train))


def check_same_files(group: Group, data: Data) -> None:
    """Raise DataError on every rank unless all see the same files, in the order that the labels and samples assume."""
    train, val = data.fingerprint()
    mine = {
        "training images": data.num_train,
        "validation images": len(data.val.source),
        "classes": data.num_classes,
        "checksum of the class names": classes_crc(data),
        "checksum of the training files": train,
        "checksum of the validation files": val,
    }
    found = group.gather_objects((host_name(), mine))
    fault, _ = compare([host for host, _ in found], [facts for _, facts in found])
    if fault is not None:
        what = f"the ranks see different files: {fault[0]}: {fault[1]}"
        error = DataError("data", what, "make --data_path the same data set on all nodes")
        error.shared = True
        raise error


def build_model(config: Config, device: Device, data: Data) -> VisionTransformer:
    """Return the model of the flags with a head for the data's classes, freshly initialised from the seed."""
    torch.manual_seed(config.seed)
    return create_model(
        config.model_name,
        config.image_size,
        data.num_classes,
        dropout=config.dropout_rate,
        attention=device.attention,
        gelu=config.gelu_form,
        grad_checkpointing=config.grad_checkpointing,
    )


def fill_from_file(
    model: VisionTransformer, config: Config, own: Own | None, class_names: list[str], *, whole: bool = False
) -> list[str]:
    """Load --pretrained_dir; `whole` rejects a head that does not fit. Returns what was done, in sentences."""
    if own is not None:
        return [f"weights: {own.file}", *load_own(model, own.file, own.class_names, class_names)]
    place = str(config.pretrained_dir)
    notes = load_weights(model, place, config.model_name)
    if whole and any(note.startswith("the head") for note in notes):
        what = f"{place} cannot be evaluated on these images: {notes[0]}"
        raise ConfigError("--pretrained_dir", what, "give weights that were fine-tuned on these classes")
    return [f"weights: {place}", *notes, *([by_position(class_names, place)] if whole else [])]


def train_keys(config: Config, order: TrainOrder, group: Group, start_step: int) -> MicroBatches:
    """Return this rank's share of the training images from `start_step` on."""
    return MicroBatches(
        order=order,
        rank=group.rank,
        world_size=group.world_size,
        accumulation=config.gradient_accumulation_steps,
        start_step=start_step,
        num_steps=config.num_steps,
    )


def eval_keys(config: Config, data: Data, place: Group | Ranks) -> EvalBatches:
    """Return this rank's share of the validation images."""
    return EvalBatches(
        num_images=len(data.val.source),
        rank=place.rank,
        world_size=place.world_size,
        batch_size=config.eval_batch_size,
    )


def num_loader_workers(config: Config, ranks: Ranks, cgroup_root: Path = CGROUP_ROOT) -> int:
    """num_workers, or what the container's CPUs leave each rank besides its main process."""
    if config.num_workers is not None:
        return config.num_workers
    return min(MAX_WORKERS, cpus_per_rank(ranks.local_size, cgroup_root) - 1)
