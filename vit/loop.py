"""The training loop: steps, metric lines, evaluations, checkpoints, stop."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vit.checkpoint import folder_name, prune_checkpoints, save_checkpoint
from vit.config import Config
from vit.data import Batch, DamageReport, Data, checked, named_worker_faults, open_loader
from vit.device import Device
from vit.distributed import Group, StopAgreement, named_faults
from vit.errors import Stopped
from vit.evaluation import Evaluation, evaluate, normalise
from vit.meter import Meter
from vit.metrics import MetricValue, metric_line
from vit.optim import learning_rate, set_learning_rate
from vit.order import EvalBatches, MicroBatches, TrainOrder
from vit.reporter import Reporter
from vit.run_folder import RunFolder
from vit.stop import StopRequest


@dataclass(kw_only=True)
class Session:
    """Everything a run consists of; made once by vit.session."""

    config: Config
    device: Device
    group: Group
    reporter: Reporter
    folder: RunFolder
    data: Data
    order: TrainOrder
    num_workers: int
    identity: dict[str, Any]
    model: nn.Module
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    meter: Meter
    board: Any = None
    step: int = 0
    best: dict[str, Any] | None = None
    """{step, top1_percent} of the best evaluation so far."""
    last_top1: float | None = None
    saved_step: int | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    """Values of the last metric line, for the live line."""
    damage: DamageReport = field(default_factory=DamageReport)


def train(session: Session, stop: StopRequest) -> None:
    """Train to the end or to a stop, with the faults of loader processes named; see `_train`."""
    with named_worker_faults():
        _train(session, stop)


def _train(session: Session, stop: StopRequest) -> None:
    """Train from session.step to num_steps; raises Stopped once state is saved. All ranks run it in step."""
    config, meter = session.config, session.meter
    batches = iter(_train_loader(session))
    agreement = StopAgreement(session.group)
    started, first_step = time.monotonic(), session.step
    session.parallel.train()
    meter.restart_clock()
    while session.step < config.num_steps:
        rate = learning_rate(session.step, config)
        _take_step(session, batches, rate)
        session.step += 1
        improved = False
        if session.step % config.log_every == 0 or _evaluation_due(session):
            values = _interval(session, rate)
            improved = _evaluate_if_due(session, values)
            _write_line(session, values)
            meter.restart_clock()
        if improved or session.step % config.checkpoint_every == 0 or session.step == config.num_steps:
            save(session)
        if agreement.poll(stop.asked) and session.step < config.num_steps:
            agreement.finish()
            _stop(session)
        _draw(session, started, first_step)
    agreement.finish()


def _take_step(session: Session, batches: Iterator[Any], rate: float) -> None:
    """One update: accumulate micro-batches, clip, step. Nothing here waits for the device."""
    config, device = session.config, session.device
    set_learning_rate(session.optimizer, rate)
    if config.dropout_rate > 0:
        device.manual_seed(dropout_seed(config.seed, session.step, session.group.rank))
    losses, waited, num_damaged = [], 0.0, 0
    for part in range(config.gradient_accumulation_steps):
        asked_at = time.perf_counter()
        batch = checked(next(batches))
        waited += time.perf_counter() - asked_at
        num_damaged += len(batch.damaged)
        session.damage.tell(batch, "the next one is taken")
        last = part == config.gradient_accumulation_steps - 1
        losses.append(_backward(session, batch, synchronised=last))
    norm = device.clip(session.model.parameters(), config.max_grad_norm)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    device.mark_step()
    session.meter.add(torch.stack(losses).sum(), norm, data_seconds=waited, num_damaged=num_damaged)


def _backward(session: Session, batch: Batch, *, synchronised: bool) -> Tensor:
    """Add a micro-batch's share of the gradient; returns its share of the loss, on the device."""
    config, device, parallel = session.config, session.device, session.parallel
    images = batch.images.to(device.torch_device, non_blocking=True)
    labels = batch.labels.to(device.torch_device, non_blocking=True)
    waiting = isinstance(parallel, nn.parallel.DistributedDataParallel) and not synchronised
    with parallel.no_sync() if waiting else contextlib.nullcontext():  # type: ignore[operator]  # checked above
        with device.autocast(config.autocast):
            logits = parallel(normalise(images))
            loss = F.cross_entropy(logits.float(), labels) / config.gradient_accumulation_steps
        with named_faults():
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    device.mark_step()
    return loss.detach()


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for each (seed, step, rank), so that a resume draws what the first run drew."""
    return (seed * 1_000_003 + step) * 65_537 + rank  # 65,537 ranks and 1,000,003 steps do not overlap


def _train_loader(session: Session) -> Any:
    config, group = session.config, session.group
    keys = MicroBatches(
        order=session.order,
        rank=group.rank,
        world_size=group.world_size,
        accumulation=config.gradient_accumulation_steps,
        start_step=session.step,
        num_steps=config.num_steps,
    )
    assert session.data.train is not None, "only an evaluation goes without training images"
    return _loader(session, session.data.train, keys)


def _loader(session: Session, batches: Any, keys: Any) -> Any:
    device = session.device
    return open_loader(
        batches,
        keys,
        num_workers=session.num_workers,
        worker_context=device.worker_context,
        pin_memory=device.kind == "cuda",
    )


def _interval(session: Session, rate: float) -> dict[str, MetricValue]:
    """The metric line's values but for an evaluation's."""
    global_batch = session.order.global_batch
    values = session.meter.read(session.group, step=session.step, global_batch=global_batch)
    values |= {"step": session.step, "epoch": session.order.epoch_of(session.step), "learning_rate": rate}
    return values


def _evaluation_due(session: Session) -> bool:
    return session.step % session.config.eval_every == 0 or session.step == session.config.num_steps


def _evaluate_if_due(session: Session, values: dict[str, MetricValue]) -> bool:
    """Evaluate if it is time and add the result to `values`; returns whether it is the best so far."""
    if not _evaluation_due(session):
        return False
    started = time.perf_counter()
    result = evaluate_session(session)
    values |= {**evaluation_metrics(result), "eval_seconds": time.perf_counter() - started}
    session.last_top1 = result.top1_percent
    if session.best is not None and result.top1_percent <= session.best["top1_percent"]:
        return False
    session.best = {"step": session.step, "top1_percent": result.top1_percent}
    return True


def evaluate_session(session: Session) -> Evaluation:
    """One exact evaluation of the model as it is."""
    config, group = session.config, session.group
    keys = EvalBatches(
        num_images=len(session.data.val.source),
        rank=group.rank,
        world_size=group.world_size,
        batch_size=config.eval_batch_size,
    )
    result = evaluate(
        session.model,
        _loader(session, session.data.val, keys),
        session.device,
        group,
        autocast=config.autocast,
        num_classes=session.data.num_classes,
        damage=session.damage,
    )
    if group.rank == 0:
        names = session.data.class_names if config.per_class else None
        session.folder.write_evaluation({"step": session.step, **result.as_dict(names)})
        session.folder.add_event("evaluation", session.step, top1_percent=result.top1_percent)
    return result


def evaluation_metrics(result: Evaluation) -> dict[str, MetricValue]:
    """The values of a metric line that an evaluation gives."""
    return {
        "top1_percent": result.top1_percent,
        "top5_percent": result.top5_percent,
        "eval_loss": result.eval_loss,
        "eval_images": result.eval_images,
    }


def _write_line(session: Session, values: dict[str, MetricValue]) -> None:
    if session.group.rank != 0:
        return
    line = metric_line(values)
    session.folder.add_metrics(line)
    session.reporter.metrics(line)
    session.shown |= {key: value for key, value in values.items() if value is not None}
    if session.board is not None:
        for key, value in values.items():
            if value is not None and key != "step":
                session.board.add_scalar(key, value, session.step)


def save(session: Session) -> None:
    """Write a checkpoint of this step, point last and best at it, drop old ones. Collective; rank 0 writes."""
    started = time.perf_counter()
    interval = session.meter.state(session.group, session.step)
    if session.group.rank == 0 and session.saved_step != session.step:
        state = {
            "step": session.step,
            "epoch": session.order.epoch_of(session.step),
            "best": session.best,
            "top1_percent": session.last_top1,
            "num_classes": session.data.num_classes,
            "class_names": session.data.class_names,
            "interval": interval,
            "identity": session.identity,
            "config": session.config.as_dict(),
        }
        _write_checkpoint(session, state, started)
    session.saved_step = session.step
    session.meter.away_seconds += time.perf_counter() - started


def _write_checkpoint(session: Session, state: dict[str, Any], started: float) -> None:
    folder = session.folder
    folder.sync_metrics()
    model = {key: tensor.detach().cpu() for key, tensor in session.model.state_dict().items()}
    path = save_checkpoint(folder.checkpoints, model, _on_cpu(session.optimizer.state_dict()), state)
    folder.point("last", path.name)
    keep = {path.name}
    if session.best is not None:
        best = folder_name(session.best["step"])
        keep.add(best)
        if (folder.checkpoints / best).is_dir():
            folder.point("best", best)
    prune_checkpoints(folder.checkpoints, keep_last=session.config.keep_checkpoints, keep=keep)
    folder.add_event("checkpoint", session.step, path=str(path), seconds=round(time.perf_counter() - started, 3))


def _on_cpu(value: Any) -> Any:
    """The same nested dicts and lists with tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(part) for key, part in value.items()}
    return [_on_cpu(part) for part in value] if isinstance(value, list) else value


def _stop(session: Session) -> None:
    """Save, wait until rank 0 has saved, and raise Stopped on all ranks."""
    save(session)
    if session.group.rank == 0:
        session.folder.add_event("stop", session.step)
    # From here on mpirun may end our loader processes before us, and torch would raise that over this stop.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    session.group.barrier()  # the first rank to leave makes mpirun end the others
    what = f"stopped as asked after step {session.step} of {session.config.num_steps}, state is saved"
    error = Stopped(session.config.name, what, "the same command goes on from there")
    error.shared = True
    raise error


def _draw(session: Session, started: float, first_step: int) -> None:
    """The live line: step k/n, loss, top-1, images/s, time left."""
    num_steps, shown = session.config.num_steps, session.shown
    if session.group.rank != 0 or not session.reporter.terminal:
        return
    left = (time.monotonic() - started) / (session.step - first_step) * (num_steps - session.step)
    parts = [f"step {session.step}/{num_steps}"]
    parts += [f"loss {shown['loss']:.3f}"] if "loss" in shown else []
    parts += [f"top-1 {shown['top1_percent']:.1f} %"] if "top1_percent" in shown else []
    parts += [f"{shown['images_per_second']:.0f} images/s"] if "images_per_second" in shown else []
    session.reporter.live(", ".join([*parts, f"{left // 60:.0f}:{left % 60:02.0f} left"]))
