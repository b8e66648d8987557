# SPDX-License-Identifier: Apache-2.0
"""An evaluation without a run: device, ranks, validation images and a file of weights, and no folder of output."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn

from vit.config import Config
from vit.data.batches import DamageReport, Data
from vit.data.loader import open_loader
from vit.errors import ConfigError
from vit.findings.record import Place, write_findings
from vit.findings.tally import Tally
from vit.images.preprocessing import settle
from vit.run.folder import RunFolder
from vit.run.own import SETTINGS, Own, complete, find_own, with_classes_of
from vit.run.saved_flags import evaluated_run
from vit.runtime.device import Device
from vit.runtime.devices import open_device
from vit.runtime.distributed import Group
from vit.runtime.ranks import Ranks
from vit.training.evaluation import Evaluation, attention_maps, evaluate
from vit.training.facts import facts_of, with_own_flags
from vit.training.setup import (
    build_model,
    check_same_files,
    eval_keys,
    fill_from_file,
    num_loader_workers,
    open_data_once,
)
from vit.training.summary import data_lines, doubts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What was evaluated, and what came out."""

    config: Config
    """The flags, completed by the checkpoint."""
    result: Evaluation
    class_names: list[str]
    """The model's classes."""
    num_present: int
    """Classes of the data set; fewer than the model's with --classes subset."""


def evaluate_weights(given: Config, ranks: Ranks) -> Outcome:
    """Return the result over all ranks. Raises TrainError."""
    device = open_device(given.device, ranks)
    facts = facts_of(given, device, ranks.world_size)
    group = Group(ranks, device, timeout_seconds=given.rank_timeout_seconds, facts=facts)
    config, own, notes = group.on_rank0(lambda: settle_weights(given))
    config = with_own_flags(config, given)
    data = open_data_once(config, group, with_train=False)
    check_same_files(group, data)
    present = data.num_classes
    if own is not None:
        data, remarks = group.together(lambda: with_classes_of(own, data, config.classes))
        notes = [*notes, *remarks]
    model = build_model(config, device, data)
    loaded = group.on_rank0(lambda: fill_from_file(model, config, own, data.class_names, whole=True))
    for note in (*notes, *loaded, *data_lines(data)):
        logger.info("%s", note)
    for doubt in doubts(config, data) if group.rank == 0 else ():
        logger.warning("%s", doubt)
    model.to(device.torch_device)
    group.broadcast_weights(model)
    if config.compile:
        device.compile(model)
    result = _evaluate(model, config, data, own, group, device, ranks)
    group.barrier()  # the first rank to leave makes mpirun end ranks that still work
    return Outcome(config=config, result=result, class_names=data.class_names, num_present=present)


def _evaluate(
    model: nn.Module, config: Config, data: Data, own: Own | None, group: Group, device: Device, ranks: Ranks
) -> Evaluation:
    """Return the result; the classes and samples of a run's own images go into its folder."""
    keys = eval_keys(config, data, ranks)
    run = None if own is None else group.on_rank0(lambda: evaluated_run(config))
    tally = None if run is None else Tally(keys, data.num_classes, config.samples)
    num_workers = num_loader_workers(config, ranks)
    result = evaluate(
        model,
        open_loader(data.val, keys, device, num_workers=num_workers, read_timeout_seconds=config.read_timeout_seconds),
        device,
        group,
        autocast=config.autocast,
        scaling=config.scaling,
        num_classes=data.num_classes,
        damage=DamageReport(),
        tally=tally,
    )
    if run is not None and own is not None and tally is not None:
        maps = attention_maps(model, data.val, device, config)
        write_findings(tally, group, Place(folder=RunFolder(run), step=own.step, config=config, data=data, maps=maps))
    return result


def settle_weights(config: Config) -> tuple[Config, Own | None, list[str]]:
    """Return the config as the checkpoint completes it, and the checkpoint, if it is one of this trainer's."""
    if config.pretrained_dir is None:
        raise ConfigError("--pretrained_dir", "is not given", "give a weights file, a checkpoint or a run's folder")
    own = find_own(config.pretrained_dir)
    completed, notes = complete(config, own, fixed=SETTINGS)
    settled, remarks = settle(completed, None if own is None else own.settings, evaluating=True)
    return settled, own, [*notes, *remarks]
