# SPDX-License-Identifier: Apache-2.0
"""Failures of the system and of libraries, named: exceptions that are not bugs of this program become a TrainError.

Needs no torch: its exceptions are recognised by class name and text.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from vit.config import Config
from vit.errors import ConfigError, DataError, StorageError, TrainError
from vit.packages import is_absent, reason_of

CARD_FULL = (  # CUDA, cuBLAS, cuDNN; then Habana's bridge (its PT_DEVMEM module)
    *("CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED", "HIP out of memory"),
    *("PT_DEVMEM", "Allocation failed for size", "out of device memory", "HPU out of memory"),
)
HOST_FULL = (
    "DefaultCPUAllocator",
    "annot allocate memory",
    "std::bad_alloc",
    "bad allocation",
    "failed to map segment",
)
PORT_TAKEN = ("EADDRINUSE", "ddress already in use")
NO_FILES = ("EMFILE", "Too many open files")
NO_PROCESSES = ("can't start new thread", "Resource temporarily unavailable")
STORAGE = (
    *(errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTCONN),
    *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ELOOP, errno.ENAMETOOLONG, errno.EREMOTEIO),
)
ASKED_FOR = re.compile(r"allocate (?:([\d.]+ [KMGTPE]iB)|(\d+) bytes)")  # numpy, CUDA; torch on the host


@contextlib.contextmanager
def named_failures(config: Config | None = None) -> Iterator[None]:
    """Raise the TrainError that names a failure of the system; let every other exception pass."""
    try:
        yield
    except TrainError:
        raise
    except Exception as error:
        named = name_failure(error, config)
        if named is None:
            raise
        raise named from error


def name_failure(error: BaseException, config: Config | None = None) -> TrainError | None:
    """Return what to say of a failure of the system or the card, None where `error` is a bug of this program."""
    one: BaseException | None = error
    while one is not None:
        named = _card_memory(one, config) or _host_memory(one, config) or _limit(one, config) or _storage(one, config)
        if named is not None:
            return named
        one = one.__cause__
    return None


def _card_memory(error: BaseException, config: Config | None) -> TrainError | None:
    by_class = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    if not by_class and not _says(error, CARD_FULL):
        return None
    what = f"the card's memory is full{_asked_for(error)}{_load(error, config)}"
    fix = "end other processes on the card, or use a smaller --model_type or --img_size"
    return ConfigError("memory", what, _use_less(error, config) or fix)


def _host_memory(error: BaseException, config: Config | None) -> TrainError | None:
    full = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not full and not _says(error, HOST_FULL):
        return None
    what = f"the host's memory is used up{_asked_for(error)}{_load(error, config)}"
    return ConfigError("memory", what, f"give the pod or the process more memory, or {_use_less_host(error, config)}")


def _use_less_host(error: BaseException, config: Config | None) -> str:
    """Return what lowers the need of the host's memory."""
    workers = [] if config is not None and config.num_workers == 0 else ["lower --num_workers"]
    less = _use_less(error, config)
    return ", or ".join([*workers, *([less] if less else [])]) or "use a smaller --model_type or --img_size"


def _limit(error: BaseException, config: Config | None) -> TrainError | None:
    """Ports, open files, processes, the size of a file."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE or _says(error, PORT_TAKEN):
        port = os.environ.get("MASTER_PORT", "the port")
        return ConfigError("MASTER_PORT", f"{port} is already in use on this host", "set MASTER_PORT to a free port")
    if number in (errno.EMFILE, errno.ENFILE) or _says(error, NO_FILES):
        return ConfigError(
            "limits", "this process cannot open more files", "raise the limit (ulimit -n 65536) or lower --num_workers"
        )
    if number == errno.EAGAIN or _says(error, NO_PROCESSES):
        fix = "raise the limit of processes (ulimit -u, the pod's pids limit) or lower --num_workers"
        return ConfigError("limits", "this system cannot start more processes or threads", fix)
    return None


def _storage(error: BaseException, config: Config | None) -> TrainError | None:
    """Return an OSError of a file that no other place has named."""
    if not isinstance(error, OSError) or not isinstance(error.filename, (str, bytes)):
        return None
    path = os.fsdecode(error.filename)
    if error.errno == errno.EFBIG:
        return StorageError(path, "may not grow further (a file's size is limited)", "raise the limit (ulimit -f)")
    if error.errno not in STORAGE:
        return None
    what = f"cannot be read or written ({error.strerror})"
    if config is not None and _is_below(path, config.data_path):
        return DataError(path, what, "repair the mount or the permissions of --data_path")
    return StorageError(path, what, "repair the mount or the permissions, then start again: the run resumes")


def _is_below(path: str, folder: str) -> bool:
    return bool(folder) and Path(path).is_relative_to(folder)


def _says(error: BaseException, signs: tuple[str, ...]) -> bool:
    """Return whether a library's exception has one of the texts; our own TrainErrors and texts of bugs do not count."""
    return isinstance(error, (RuntimeError, ImportError, OSError)) and any(sign in str(error) for sign in signs)


def _asked_for(error: BaseException) -> str:
    found = ASKED_FOR.search(str(error))
    if found is None:
        return ""
    return f" ({found[1] or f'{int(found[2]) / 2**30:,.1f} GiB'} more were needed)"


def _load(error: BaseException, config: Config | None) -> str:
    """Return how many images a rank worked on at once, and the flags that decide it."""
    if config is None:
        return ""
    if _passed(error, "vit.training.evaluation", "evaluate"):
        return f" in an evaluation with {config.eval_batch_size} images at once on a rank"
    if not _passed(error, "vit.training.loop", "train"):
        return ""
    return (
        f" with {config.micro_batch} images at once on a rank (--train_batch_size {config.train_batch_size}, "
        f"--gradient_accumulation_steps {config.gradient_accumulation_steps})"
    )


def _use_less(error: BaseException, config: Config | None) -> str:
    """Return the flags that lower the need of memory where it was needed; "" where none does."""
    if config is None:
        return ""
    if _passed(error, "vit.training.evaluation", "evaluate"):
        return "lower --eval_batch_size" if config.eval_batch_size > 1 else ""
    if not _passed(error, "vit.training.loop", "train"):
        return ""
    finer = finer_accumulation(config)
    ways = [] if finer is None else [f"set --gradient_accumulation_steps {finer} (the same global batch)"]
    ways += [] if config.grad_checkpointing else ["set --grad_checkpointing"]
    return " or ".join(ways)


def finer_accumulation(config: Config) -> int | None:
    """Return the next number of micro-batches that the flags allow; None where a micro-batch cannot be smaller."""
    batch = config.train_batch_size
    least = 2 if config.mixup else 1  # mixup blends images in pairs
    counts = range(config.gradient_accumulation_steps + 1, batch // least + 1)
    return next((count for count in counts if batch % count == 0 and batch // count % least == 0), None)


def _passed(error: BaseException, module: str, function: str) -> bool:
    """Return whether the exception came through this function."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_code.co_name == function and frame.f_globals.get("__name__") == module for frame in frames)


NEEDED = ("torch", "numpy", "PIL.Image")


def import_needed(names: Sequence[str] = NEEDED) -> None:
    """Import what every run needs. Raises ConfigError where a package is absent or broken."""
    here = f"{sys.executable} on {socket.gethostname()}"  # setup.sh does not import torch: this is the first to know
    for name in names:
        package = name.partition(".")[0]
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            if is_absent(error, package):
                what = f"this Python ({here}) has no {package}"
                fix = "pip install torch numpy pillow, or use the right image"
                raise ConfigError("python", what, fix) from error
            what = f"{package} of this Python ({here}) cannot be imported ({reason_of(error)})"
            fix = "install it again, or use the right image"
            raise name_failure(error) or ConfigError("python", what, fix) from error
