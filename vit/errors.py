# SPDX-License-Identifier: Apache-2.0
"""Exit codes and the exception tree of the trainer. Needs no torch.

TrainError > ConfigError > WeightsError
           > LockedError, HangError, NotFiniteError, IncompleteError, StorageError, DataError, NetworkError,
             DeviceError, Stopped
"""

from __future__ import annotations

EXIT_CODES: dict[str, int] = {
    "complete": 0,  # the run is complete and its last checkpoint verified
    "configuration": 2,  # a flag, the environment (memory, limits, packages) or the weights file is wrong
    "locked": 3,  # another run uses the folder
    "hang": 4,  # a rank did not answer in time
    "not_finite": 5,  # loss or gradient is not finite
    "incomplete": 6,  # another rank was lost
    "storage": 7,  # the output folder cannot be written or read
    "data": 8,  # the images, archives or weights are missing, too few or corrupt
    "network": 9,  # a server is unreachable or rejects the request (vit.fetch)
    "restarts": 10,  # the budget of restarts is spent (vit.supervise)
    "device": 11,  # a device gave wrong results before step 1
    "internal": 70,  # a bug (EX_SOFTWARE of sysexits.h)
    "interrupted": 130,  # Ctrl-C (128 + SIGINT)
    "stopped": 143,  # asked to stop (128 + SIGTERM), state saved
}


class TrainError(Exception):
    """An end that the user can understand: where, what, how to fix."""

    kind = "internal"
    shared = False
    """True if every rank has this error and only rank 0 should report it."""

    def __init__(self, where: str, what: str, fix: str) -> None:
        super().__init__(where, what, fix)  # all three, so that pickle can carry it to other ranks
        self.where, self.what, self.fix = where, what, fix

    def __str__(self) -> str:
        return f"{self.where}: {self.what}, {self.fix}"

    @property
    def exit_code(self) -> int:
        """The process's exit code for this error."""
        return EXIT_CODES[self.kind]


class ConfigError(TrainError):
    """A flag or an environment variable is wrong; `where` is its name."""

    kind = "configuration"


class WeightsError(ConfigError):
    """The .npz file does not contain the weights of this model."""


class LockedError(TrainError):
    """Another run uses the folder."""

    kind = "locked"


class HangError(TrainError):
    """A rank did not answer in time."""

    kind = "hang"


class NotFiniteError(TrainError):
    """Loss or gradient is NaN or infinite; every rank raises it at the same step."""

    kind = "not_finite"


class DeviceError(TrainError):
    """A device gives wrong results (vit.runtime.burn_in)."""

    kind = "device"


class IncompleteError(TrainError):
    """Another rank was lost."""

    kind = "incomplete"


class StorageError(TrainError):
    """The output folder cannot be written or read."""

    kind = "storage"


class DataError(TrainError):
    """Images are missing, too few or corrupt."""

    kind = "data"


class NetworkError(TrainError):
    """A server is unreachable or rejects the request."""

    kind = "network"


class Stopped(TrainError):
    """SIGTERM or SIGUSR1 arrived; state is saved."""

    kind = "stopped"
