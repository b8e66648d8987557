# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import logging
from pathlib import Path

from vit.errors import DataError
from vit.runtime.console import Reporter


def reporter(rank: int = 0, *, terminal: bool = False) -> tuple[Reporter, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Reporter(rank=rank, terminal=terminal, stdout=out, stderr=err), out, err


def record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("vit", level, "", 0, text, None, None)


def test_off_a_terminal_metrics_are_data_and_sentences_talk() -> None:
    speaker, out, err = reporter()
    speaker.metrics('{"step": 1}')
    speaker.live("step 1/2")
    speaker.emit(record(logging.INFO, "hello"))
    assert (out.getvalue(), err.getvalue()) == ('{"step": 1}\n', "hello\n")


def test_on_a_terminal_one_live_line_is_redrawn_and_cleared() -> None:
    speaker, out, _ = reporter(terminal=True)
    speaker.metrics('{"step": 1}')
    speaker.live("step 1/2")
    speaker.live("too soon")
    speaker.summary("done")
    assert out.getvalue() == "\rstep 1/2\r        \rdone\n"


def test_other_ranks_speak_with_their_rank_and_only_to_warn() -> None:
    speaker, _, err = reporter(rank=3)
    speaker.fault(DataError("a.png", "is broken", "repair it"))
    assert err.getvalue() == "[rank 3] vit.train: a.png: is broken, repair it\n"
    assert speaker.level == logging.WARNING


def test_the_attempts_log_has_all_lines(tmp_path: Path) -> None:
    speaker, _, _ = reporter()
    speaker.open_log(tmp_path / "001.log")
    speaker.metrics("{}")
    speaker.emit(record(logging.WARNING, "careful"))
    assert (tmp_path / "001.log").read_text() == "{}\nwarning: careful\n"
