# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Habana's package on a machine without a Gaudi: it writes down calls and lets the CPU do the work.

It holds the trainer to the documented contract: what is called, in which order, and what must not be called. It says
nothing of numbers, speed or memory on a card.
"""

import contextlib
import os
import sys
from pathlib import Path

CALLS = os.environ.get("HABANA_CALLS")
inside = 0  # depth in a kernel of the stand-in's own, whose calls are not the trainer's


def note(call):
    """One line of this rank's record."""
    if CALLS and not inside:
        with Path(f"{CALLS}.{os.environ.get('RANK', '0')}").open("a") as file:
            file.write(call + "\n")


@contextlib.contextmanager
def kernel(call):
    """Note the call, and nothing that is called within it."""
    global inside
    note(call)
    inside += 1
    yield
    inside -= 1


note(f"import habana_frameworks PT_HPU_LAZY_MODE={os.environ.get('PT_HPU_LAZY_MODE')} torch={'torch' in sys.modules}")
