# SPDX-License-Identifier: Apache-2.0
"""The training loop: steps, metric lines, evaluations, checkpoints, stop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vit.data.batches import Batch
from vit.errors import Stopped
from vit.findings.record import Place, write_findings
from vit.findings.tally import Tally
from vit.run import phases
from vit.run.metrics import MetricValue, metric_line, progress_line
from vit.runtime.distributed import StopAgreement, named_faults
from vit.runtime.signals import StopRequest
from vit.training.evaluation import Evaluation, attention_maps, evaluate, normalise
from vit.training.loss import mixed, share_tensor, training_loss
from vit.training.optimizer import learning_rate, set_learning_rate
from vit.training.saving import save, tensors_of
from vit.training.setup import eval_keys
from vit.training.state import Session

LEAD_STEPS = 3  # before an evaluation, in which its first images are decoded


def train(session: Session, stop: StopRequest) -> None:
    """Train from session.step to num_steps; raises Stopped once state is saved. All ranks run it in step."""
    try:
        _train(session, stop)
    except BaseException:
        session.saver.finish_after_failure()
        raise
    finally:
        for loader in filter(None, (session.train_loader, session.eval_loader)):
            loader.close()
    session.saver.finish()


def _train(session: Session, stop: StopRequest) -> None:
    config, meter = session.config, session.meter
    assert session.train_loader is not None, "only an evaluation goes without it"
    batches = session.train_loader.read()
    agreement = StopAgreement(session.group)
    started, first_step = time.monotonic(), session.step
    session.parallel.train()
    meter.restart_clock()
    while session.step < config.num_steps:
        _start_evaluation(session)
        rate = learning_rate(session.step, config)
        take_step(session, batches, rate)
        session.step += 1
        phases.stepped(session.step, session.order.global_batch // session.group.world_size)
        improved = False
        if session.step % config.log_every == 0 or _evaluation_due(session):
            values = _interval(session, rate)
            improved = _evaluate_if_due(session, values)
            with phases.during("other"):
                _write_line(session, values)
            meter.restart_clock()
        if improved or session.step % config.checkpoint_every == 0 or session.step == config.num_steps:
            save(session)
        elif session.step == first_step + 1 and session.group.rank == 0:
            session.saver.prepare(tensors_of(session))
        session.saver.raise_if_failed()
        if agreement.poll(stop.asked) and session.step < config.num_steps:
            agreement.finish()
            _stop(session)
        _draw(session, started, first_step)
    agreement.finish()


def take_step(session: Session, batches: Iterator[Batch], rate: float) -> None:
    """One update: accumulate micro-batches, clip, step. Nothing here waits for the device."""
    config, device = session.config, session.device
    set_learning_rate(session.optimizer, rate)
    if config.dropout_rate > 0:
        device.manual_seed(dropout_seed(config.seed, session.step, session.group.rank))
    share = share_tensor(config.seed, session.step, config.mixup, device.torch_device)
    losses, waited, num_damaged = [], 0.0, 0
    for part in range(config.gradient_accumulation_steps):
        asked_at = time.perf_counter()
        phases.enter("data")
        batch = next(batches)
        phases.enter("step")
        waited += time.perf_counter() - asked_at
        num_damaged += len(batch.damaged)
        session.damage.tell(batch, "the next image is used instead")
        last = part == config.gradient_accumulation_steps - 1
        losses.append(_backward(session, batch, share, synchronised=last))
    norm = device.clip(session.model.parameters(), config.max_grad_norm)
    device.hold_changes()
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    if session.average is not None:
        session.average.update()
    device.mark_step()
    session.meter.add(torch.stack(losses).sum(), norm, data_seconds=waited, num_damaged=num_damaged)


def _backward(session: Session, batch: Batch, share: Tensor | None, *, synchronised: bool) -> Tensor:
    """Add a micro-batch's share of the gradient; returns its share of the loss, on the device."""
    config, device, parallel = session.config, session.device, session.parallel
    images, labels = device.upload(batch.images), device.upload(batch.labels)
    waiting = isinstance(parallel, nn.parallel.DistributedDataParallel) and not synchronised
    device.start_work()
    with parallel.no_sync() if waiting else contextlib.nullcontext():  # type: ignore[operator]  # checked above
        with device.autocast(config.autocast):
            inputs = normalise(images, config.scaling)
            inputs = inputs if share is None else mixed(inputs, share)
            logits = parallel(inputs).float()
            loss = training_loss(logits, labels, smoothing=config.label_smoothing, share=share)
            loss = loss / config.gradient_accumulation_steps
        phases.worked(device.end_work())  # from here on ranks wait for each other
        with named_faults():
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    device.mark_step()
    return loss.detach()


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Return a seed of its own for each (seed, step, rank), so that a resume draws what the first run drew."""
    return (seed * 1_000_003 + step) * 65_537 + rank  # 65,537 ranks and 1,000,003 steps do not overlap


def _interval(session: Session, rate: float) -> dict[str, MetricValue]:
    """Return the metric line's values but for an evaluation's."""
    global_batch = session.order.global_batch
    values = session.meter.read(session.group, step=session.step, global_batch=global_batch)
    phases.used(session.device.peak_memory_gib())
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


def _start_evaluation(session: Session) -> None:
    """Let the first images of an evaluation be decoded while the last steps before it run."""
    config, loader = session.config, session.eval_loader
    steps_left = min(config.eval_every - session.step % config.eval_every, config.num_steps - session.step)
    if steps_left <= LEAD_STEPS and loader.num_workers and not loader.started:
        started = time.perf_counter()
        with phases.during("eval"):
            loader.start(eval_keys(config, session.data, session.group))
        session.meter.add_away(time.perf_counter() - started)


def evaluate_session(session: Session) -> Evaluation:
    """One exact evaluation of the weights as they are, or of their average."""
    with phases.during("eval"):
        return _evaluate(session)


def _evaluate(session: Session) -> Evaluation:
    config, group, data = session.config, session.group, session.data
    keys = eval_keys(config, data, group)
    last = config.eval_only or session.step == config.num_steps
    tally = Tally(keys, data.num_classes, config.samples) if last else None
    if not session.eval_loader.started:
        session.eval_loader.start(keys)
    session.device.hold_changes()
    with contextlib.nullcontext() if session.average is None else session.average.applied():
        result = evaluate(
            session.model,
            session.eval_loader.read(),
            session.device,
            group,
            autocast=config.autocast,
            scaling=config.scaling,
            num_classes=data.num_classes,
            damage=session.damage,
            tally=tally,
        )
        if group.rank == 0:
            names = data.class_names if config.per_class else None
            session.folder.write_evaluation({"step": session.step, **result.as_dict(names)})
            session.folder.add_event("evaluation", session.step, top1_percent=result.top1_percent)
        if tally is not None:
            maps = attention_maps(session.model, data.val, session.device, config)
            place = Place(folder=session.folder, step=session.step, config=config, data=data, maps=maps)
            write_findings(tally, group, place)
    return result


def evaluation_metrics(result: Evaluation) -> dict[str, MetricValue]:
    """Return the values of a metric line that an evaluation gives."""
    return {
        "top1_percent": result.top1_percent,
        "top5_percent": result.top5_percent,
        "eval_loss": result.eval_loss,
        "eval_images": result.eval_images,
    }


def _write_line(session: Session, values: dict[str, MetricValue]) -> None:
    if session.group.rank != 0:
        return
    session.folder.add_metrics(metric_line(values))
    if "eval_seconds" in values:
        session.folder.add_phases(session.step)
    session.reporter.metrics(progress_line(values, session.config.num_steps))
    session.shown |= {key: value for key, value in values.items() if value is not None}
    if session.board is not None:
        for key, value in values.items():
            if value is not None and key != "step":
                session.board.add_scalar(key, value, session.step)


def _stop(session: Session) -> None:
    """Save, wait until rank 0 has saved, and raise Stopped on all ranks."""
    save(session)
    session.saver.finish()
    if session.group.rank == 0:
        session.folder.add_event("stop", session.step)
    session.group.barrier()  # the first rank to leave makes mpirun end the others
    what = f"stopped as asked after step {session.step} of {session.config.num_steps}, state is saved"
    error = Stopped(session.config.name, what, "the same command continues from there")
    error.shared = True
    raise error


def _draw(session: Session, started: float, first_step: int) -> None:
    """The live line: the last interval's values, and the speed since the start."""
    num_steps, reporter = session.config.num_steps, session.reporter
    if not (reporter.terminal or reporter.piped):
        return
    seconds = (time.monotonic() - started) / (session.step - first_step)
    values = {"images_per_second": session.order.global_batch / seconds, **session.shown}
    reporter.live(progress_line({**values, "step": session.step, "step_seconds": seconds}, num_steps))
