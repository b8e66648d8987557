# SPDX-License-Identifier: Apache-2.0
"""The completion record, which proves to the launcher that the run is complete. Needs no torch.

mpirun's exit code proves nothing: Open MPI 5 ends with 0 when it has lost the daemon of a node.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from vit.errors import StorageError
from vit.files import named_storage, write_atomic

logger = logging.getLogger(__name__)

RECORD = "completion.json"


def leave_record(environ: Mapping[str, str], run: Path, step: int) -> None:
    """Write {attempt, run, step} to the node's state folder, where the launcher looks first, and to the run's folder.

    Without MPIKIT_ATTEMPT, the launcher's name for this start of the ranks, do nothing. Raises StorageError if neither
    folder can be written.
    """
    attempt = environ.get("MPIKIT_ATTEMPT")
    if not attempt:
        return
    record = json.dumps({"attempt": attempt, "run": run.name, "step": step}) + "\n"
    folders = [Path(environ["MPIKIT_STATE"]), run] if environ.get("MPIKIT_STATE") else [run]
    faults = [fault for folder in folders if (fault := _write(folder / RECORD, record)) is not None]
    for fault in faults:
        if len(faults) == len(folders):
            raise fault
        logger.warning("%s", fault)


def _write(path: Path, record: str) -> StorageError | None:
    """Return the error that stopped the write, if any."""
    try:
        with named_storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, record)
    except StorageError as error:
        return error
    return None
