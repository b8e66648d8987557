# SPDX-License-Identifier: Apache-2.0
"""From flags to a run: opens device, ranks, folder, data, model; logs every derived number; trains or evaluates."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit.config import Config
from vit.data.batches import Batches, Data
from vit.data.loader import Loader
from vit.data.sampler import TrainOrder
from vit.errors import StorageError, TrainError
from vit.images.preprocessing import settle
from vit.model.transformer import VisionTransformer
from vit.packages import optional_package
from vit.run import phases
from vit.run.checkpoint import Checkpoint, find_fault, pointed_at
from vit.run.completion import leave_record
from vit.run.folder import RunFolder
from vit.run.identity import check_identity, identity_of
from vit.run.metrics import metric_line, progress_line
from vit.run.own import FUNCTION, SETTINGS, Own, complete, find_own, own_of, with_classes_of
from vit.run.saver import Saver
from vit.runtime.burn_in import burn_in
from vit.runtime.console import Reporter
from vit.runtime.device import Device
from vit.runtime.devices import open_device
from vit.runtime.distributed import Group
from vit.runtime.failures import named_failures
from vit.runtime.ranks import Ranks
from vit.runtime.signals import StopRequest
from vit.training.ema import WeightAverage
from vit.training.facts import facts_of, with_own_flags
from vit.training.loop import evaluate_session, evaluation_metrics, train
from vit.training.meter import Meter, known_peak
from vit.training.optimizer import create_optimizer
from vit.training.resume import find_checkpoint, say_complete
from vit.training.saving import restore
from vit.training.setup import (
    build_model,
    check_same_files,
    fill_from_file,
    num_loader_workers,
    open_data_once,
    train_keys,
)
from vit.training.state import Session
from vit.training.summary import derived, describe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What stands before any data is read."""

    config: Config
    ranks: Ranks
    device: Device
    group: Group
    folder: RunFolder
    reporter: Reporter
    own: Own | None = None
    """The checkpoint of this trainer that gives the weights: the run's last one, or one named by --pretrained_dir."""


def run(config: Config, ranks: Ranks, reporter: Reporter) -> None:
    """Run this rank until the run is complete. Raises TrainError."""
    stop = StopRequest()
    device = open_device(config.device, ranks)
    facts = facts_of(config, device, ranks.world_size)
    group = Group(ranks, device, timeout_seconds=config.rank_timeout_seconds, facts=facts)
    folder = RunFolder(Path(config.output_dir) / config.name)
    frame = Frame(config=config, ranks=ranks, device=device, group=group, folder=folder, reporter=reporter)
    group.on_rank0(lambda: _open_folder(folder, config, reporter))
    try:
        with named_failures(config):
            step = _run_in_folder(frame, stop)
            group.on_rank0(lambda: leave_record(os.environ, folder.path, step))
    except TrainError as error:
        if ranks.rank == 0 and error.kind not in ("stopped", "storage", "locked"):
            with contextlib.suppress(StorageError):  # `error` is what the user must read
                folder.add_phases(None)
                folder.add_event("error", None, exit_code=error.exit_code, message=str(error))
        raise
    finally:
        folder.release()
    group.barrier()  # the first rank to leave makes mpirun end ranks that still work


def _run_in_folder(frame: Frame, stop: StopRequest) -> int:
    """Return the step at which the run is complete."""
    given, group, folder = frame.config, frame.group, frame.folder
    with phases.during("load"):
        checkpoint = group.on_rank0(lambda: find_checkpoint(folder, given))
    config, own, notes = group.on_rank0(lambda: _settle(given, checkpoint))
    config = with_own_flags(config, given)
    frame = dataclasses.replace(frame, config=config, own=own)
    data = open_data_once(config, group, with_train=not config.eval_only)
    check_same_files(group, data)
    if own is not None and config.eval_only:
        data, remarks = group.together(lambda: with_classes_of(own, data, config.classes))
        notes = [*notes, *remarks]
    identity = identity_of(config, data, world_size=group.world_size)
    if checkpoint is not None:
        found = checkpoint  # for the closure: mypy forgets the check above
        longer = group.together(lambda: check_identity(found, identity, data.class_names, config))
        notes = [*notes, *longer]
        if checkpoint.step >= config.num_steps and not config.eval_only:
            say_complete(checkpoint, config)
            return checkpoint.step
    if given.burn_in_seconds:
        with phases.during("init"):
            burn_in(given.burn_in_seconds, frame.device, group)
    session = _open_session(frame, data, identity, checkpoint, notes)
    if config.eval_only:
        _evaluate_only(session, 0.0 if checkpoint is None else checkpoint.state["epoch"])
        return session.step
    if group.rank == 0:
        _prepare_folder(session, checkpoint)
    stop.arm()
    train(session, stop)
    phases.enter("other")
    group.on_rank0(lambda: _finish(session))
    return session.step


def _settle(config: Config, checkpoint: Checkpoint | None) -> tuple[Config, Own | None, list[str]]:
    """Return the config as the run's checkpoint or its initial weights complete it."""
    own = own_of(checkpoint) or find_own(config.pretrained_dir)
    if config.eval_only and checkpoint is not None:  # as training evaluates: the average, where the run has one
        completed, notes = complete(config, own, fixed=SETTINGS, names=(*SETTINGS, "ema_decay"))
    elif checkpoint is not None:  # all settings are compared once the data set is open
        completed, notes = complete(config, own, fixed=())
    else:
        completed, notes = complete(config, own, fixed=SETTINGS if config.eval_only else FUNCTION)
    settled, remarks = settle(completed, None if own is None else own.settings, evaluating=config.eval_only)
    return settled, own, [*notes, *remarks]


def _open_folder(folder: RunFolder, config: Config, reporter: Reporter) -> None:
    folder.acquire()
    if config.resume == "never" and not config.eval_only:
        old = folder.set_aside()
        if old is not None:
            logger.info("the earlier run is kept as %s (--resume never)", old)
    reporter.open_log(folder.next_log())


def _open_session(
    frame: Frame, data: Data, identity: dict[str, Any], checkpoint: Checkpoint | None, remarks: list[str]
) -> Session:
    """Model, optimizer and all else, filled from the checkpoint or the weights file."""
    config, device, group = frame.config, frame.device, frame.group
    order = group.together(lambda: _order(config, group, data))
    train_loader = None if config.eval_only else _start_loader(frame, data, order, checkpoint)
    model = build_model(config, device, data)
    with phases.during("load"):
        notes = group.on_rank0(lambda: _fill_model(model, checkpoint, frame, data.class_names))
    model.to(device.torch_device)
    group.broadcast_weights(model)
    if config.compile:
        device.compile(model)
    session = Session(
        config=config,
        device=device,
        group=group,
        reporter=frame.reporter,
        folder=frame.folder,
        data=data,
        order=order,
        train_loader=train_loader,
        eval_loader=_loader(frame, data.val),
        identity=identity,
        model=model,
        parallel=model if config.eval_only else group.wrap(model, device),
        optimizer=create_optimizer(model, config, device),
        average=WeightAverage(model, config.ema_decay) if config.ema_decay is not None else None,
        saver=Saver(frame.folder, device, keep_checkpoints=config.keep_checkpoints),
        meter=Meter(device, flops_per_image=_flops(config, data), peak_tflops=_peak_tflops(config, device)),
    )
    if checkpoint is not None:
        with phases.during("load"):
            restore(session, checkpoint)
    describe(session, [*remarks, *notes])
    return session


def _start_loader(frame: Frame, data: Data, order: TrainOrder, checkpoint: Checkpoint | None) -> Loader:
    """Return the loader of the training images; it decodes the first batches while the weights are loaded."""
    config, group = frame.config, frame.group
    assert data.train is not None, "only an evaluation goes without training images"
    loader = _loader(frame, data.train)
    start_step = 0 if checkpoint is None else checkpoint.step
    group.together(lambda: loader.start(train_keys(config, order, group, start_step)))
    return loader


def _loader(frame: Frame, batches: Batches) -> Loader:
    config = frame.config
    num_workers = num_loader_workers(config, frame.ranks)
    return Loader(batches, frame.device, num_workers=num_workers, read_timeout_seconds=config.read_timeout_seconds)


def _flops(config: Config, data: Data) -> int:
    """Operations of one image in training: two for a multiply-accumulate, and a backward pass is two forward passes."""
    return 6 * config.variant.forward_macs((config.image_size, config.image_size), data.num_classes)


def _peak_tflops(config: Config, device: Device) -> float | None:
    """--peak_tflops, else the table's, which is for bfloat16."""
    return config.peak_tflops or (known_peak(device.name()) if config.autocast else None)


def _order(config: Config, group: Group, data: Data) -> TrainOrder:
    num_images, global_batch = data.num_train, config.train_batch_size * group.world_size
    if config.eval_only:  # no step is taken, and no training images are needed
        num_images = max(num_images, global_batch)
    return TrainOrder(seed=config.seed, num_images=num_images, global_batch=global_batch)


def _fill_model(
    model: VisionTransformer, checkpoint: Checkpoint | None, frame: Frame, class_names: list[str]
) -> list[str]:
    """Load the checkpoint's or the file's weights; returns where the weights come from, in sentences."""
    config = frame.config
    if checkpoint is not None:
        model.load_state_dict(checkpoint.load("model.pt"))
        return [f"weights: checkpoint {checkpoint.path}, step {checkpoint.step}"]
    if config.pretrained_dir is None:
        return [f"weights: random, seed {config.seed}"]
    return fill_from_file(model, config, frame.own, class_names, whole=config.eval_only)


def _prepare_folder(session: Session, checkpoint: Checkpoint | None) -> None:
    folder, config = session.folder, session.config
    folder.trim_metrics(-1 if checkpoint is None else session.step)
    folder.write_config({**config.as_dict(), **{f"derived_{key}": value for key, value in derived(session).items()}})
    folder.add_event("start" if checkpoint is None else "resume", session.step, world_size=session.group.world_size)
    session.board = _open_board(folder.path / "tensorboard", session.step)


def _open_board(path: Path, step: int) -> Any:
    """Return a TensorBoard writer if the package is there, else None."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    package = optional_package("torch.utils.tensorboard", "tensorboard", ("SummaryWriter",))
    if package is None:
        return None
    try:
        return package.SummaryWriter(str(path), purge_step=step + 1 if step else None)
    except (OSError, ValueError):  # ValueError: the path is not UTF-8
        logger.warning("%s cannot be written: continuing without TensorBoard's files", path)
        return None


def _finish(session: Session) -> None:
    """Verify the last checkpoint, then say that the run is complete. Raises StorageError."""
    name = pointed_at(session.folder.path / "last")
    fault = find_fault(session.folder.checkpoints / name)
    if fault is not None:
        raise StorageError(name, f"the last checkpoint is damaged ({fault})", "start again: the run resumes before it")
    if session.board is not None:
        session.board.close()
    assert session.best is not None, "the last step is always evaluated"
    assert session.last_top1 is not None
    session.folder.add_phases(session.step)
    session.folder.add_event("complete", session.step, top1_percent=session.last_top1, best=session.best)
    session.reporter.summary(
        f"top-1 {session.last_top1:.1f} % at step {session.step} (best {session.best['top1_percent']:.1f} % "
        f"at step {session.best['step']}); checkpoints in {session.folder.checkpoints}"
    )


def _evaluate_only(session: Session, epoch: float) -> None:
    """Evaluate the weights as they are and write one metric line."""
    try:
        result = evaluate_session(session)
    finally:
        session.eval_loader.close()
    if session.group.rank != 0:
        return
    values = {"step": session.step, "epoch": epoch, **evaluation_metrics(result)}
    if not session.folder.has_evaluation(session.step):
        session.folder.add_metrics(metric_line(values))
    session.reporter.metrics(progress_line(values, max(session.step, session.config.num_steps)))
    session.reporter.summary(
        f"top-1 {result.top1_percent:.2f} % of {result.eval_images:,} images, loss {result.eval_loss:.4f}"
    )
