"""An evaluation without a run: device, ranks, validation images and a file of weights, and no folder of output."""

from __future__ import annotations

import logging
from pathlib import Path

from vit.agreement import facts_of
from vit.checkpoint import find_fault
from vit.config import Config
from vit.data import DamageReport
from vit.describe import data_lines, doubts
from vit.device import open_device
from vit.distributed import Group
from vit.errors import ConfigError, StorageError
from vit.evaluation import Evaluation, evaluate
from vit.loader import open_loader
from vit.model import VisionTransformer
from vit.order import EvalBatches
from vit.preprocessing import saved_config, settle
from vit.ranks import Ranks
from vit.session import build_model, check_same_files, fill_from_file, num_loader_workers, open_data_once

logger = logging.getLogger(__name__)


def evaluate_weights(config: Config, ranks: Ranks) -> tuple[Evaluation, list[str]]:
    """The result over all ranks, and the classes' names. Raises TrainError."""
    device = open_device(config.device, ranks)
    facts = facts_of(config, device, ranks.world_size)
    group = Group(ranks, device, timeout_seconds=config.rank_timeout_seconds, facts=facts)
    given = config  # for the closure
    config, remarks = group.on_rank0(lambda: settle(given, saved_config(given.pretrained_dir), evaluating=True))
    data = open_data_once(config, group, with_train=False)
    check_same_files(group, data)
    model = build_model(config, device, data)
    for note in (*group.on_rank0(lambda: _fill(model, config)), *data_lines(data), *remarks):
        logger.info("%s", note)
    for doubt in doubts(config, data) if group.rank == 0 else ():
        logger.warning("%s", doubt)
    model.to(device.torch_device)
    group.broadcast_weights(model)
    if config.compile:
        device.compile(model)
    keys = EvalBatches(
        num_images=len(data.val.source),
        rank=group.rank,
        world_size=group.world_size,
        batch_size=config.eval_batch_size,
    )
    loader = open_loader(
        data.val,
        keys,
        device,
        num_workers=num_loader_workers(config, ranks),
        read_timeout_seconds=config.read_timeout_seconds,
    )
    result = evaluate(
        model,
        loader,
        device,
        group,
        autocast=config.autocast,
        scaling=config.scaling,
        num_classes=data.num_classes,
        damage=DamageReport(),
    )
    group.barrier()  # the first rank to leave makes mpirun end ranks that still work
    return result, data.class_names


def _fill(model: VisionTransformer, config: Config) -> list[str]:
    if config.pretrained_dir is None:
        raise ConfigError("--pretrained_dir", "is not given", "give a weights file, a checkpoint or a run's folder")
    path = checkpoint_file(Path(config.pretrained_dir))
    return fill_from_file(model, config, str(path), whole=True)


def checkpoint_file(path: Path) -> Path:
    """The weights of a run's folder (its best checkpoint) or of a checkpoint's; other paths as they are."""
    if (path / "best").is_file():
        path = path / "checkpoints" / (path / "best").read_text(encoding="utf-8").strip()
    if not (path / "model.pt").is_file():
        return path
    fault = find_fault(path)
    if fault is not None:
        raise StorageError(str(path), f"is damaged ({fault})", "take another checkpoint of that run")
    averaged = path / "ema.pt"
    return averaged if averaged.is_file() else path / "model.pt"
