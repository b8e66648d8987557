# SPDX-License-Identifier: Apache-2.0
"""A process of the trainer from its first line to its end. Needs no torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from vit.errors import EXIT_CODES
from vit.streams import keep_streams


def run_process(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run `main` on the command line's flags and end the process with its exit code, whatever it raises."""
    code = EXIT_CODES["internal"]
    try:
        keep_streams()
        code = main(sys.argv[1:])
    except SystemExit as error:  # --help
        code = error.code if isinstance(error.code, int) else EXIT_CODES["internal"]
        code = EXIT_CODES["complete"] if error.code is None else code
    except KeyboardInterrupt:
        code = EXIT_CODES["interrupted"]
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def leave(code: int) -> NoReturn:
    """End the process now, with no clean-up: nothing may wait for other ranks, loaders, threads or exit handlers.

    Nor after success: freeing a gloo process group can wait for ever for its own thread, which waits for the
    interpreter's lock (seen with torch 2.2.2, one run of about twenty).
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for child in multiprocessing.active_children():
            child.kill()
    finally:
        os._exit(code)
