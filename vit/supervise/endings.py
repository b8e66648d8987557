# SPDX-License-Identifier: Apache-2.0
"""Classify the end of an attempt by its exit code and its last lines, with one ordered table.

The first rule that matches decides. The trainer's own codes (vit/errors.py) come first, then lines of the log, then the
remaining codes. If in doubt an attempt is repeated: a wrong stop costs hours, a wrong repetition minutes. Source of the
order: arXiv 2607.01409 (ordered rules over lines do better than keywords or exit codes alone).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vit.errors import EXIT_CODES

Verdict = Literal["end", "retry", "once"]
"""end: another attempt would fail the same way. once: end if it happens again at the same step. retry: try again."""
MOST_CAUSE = 300  # characters of the line that is quoted


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of endings: its name in messages and in attempts.jsonl, and what follows from it."""

    name: str
    verdict: Verdict
    drained: bool = False
    """Whether somebody asked for it: such endings do not count as restarts."""


COMPLETE = Kind("complete", "end")
STOPPED = Kind("stopped as asked", "end", drained=True)
CONFIGURATION = Kind("wrong configuration", "end")
DATA = Kind("unusable data", "end")
CHECKS = Kind("failed checks of a node", "retry")
NO_WORKERS = Kind("workers do not answer", "end")
PROGRAM = Kind("an error in the program", "end")
MEMORY = Kind("out of memory", "once")
NOT_FINITE = Kind("loss not finite", "once")
BACK = Kind("lost nodes work again", "retry", drained=True)
DRAINED = Kind("a worker was drained", "retry", drained=True)
LOCKED = Kind("folder in use", "retry")
HANG = Kind("a rank hangs", "retry")
STORAGE = Kind("storage", "retry")
NETWORK = Kind("network", "retry")
DEVICE = Kind("an accelerator or its driver", "retry")
LOST = Kind("a rank or node was lost", "retry")
OTHER = Kind("unknown", "retry")
KINDS = {
    kind.name: kind
    for kind in (
        *(COMPLETE, STOPPED, CONFIGURATION, DATA, CHECKS, NO_WORKERS, PROGRAM, MEMORY, NOT_FINITE),
        *(BACK, DRAINED, LOCKED, HANG, STORAGE, NETWORK, DEVICE, LOST, OTHER),
    )
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Codes and a pattern of a line; each must match if given."""

    kind: Kind
    codes: frozenset[int] = frozenset()
    pattern: re.Pattern[str] | None = None

    def finds(self, code: int, lines: Sequence[str]) -> str | None:
        """Return the line that matches, an empty one for codes alone; None if the rule does not match."""
        if self.codes and code not in self.codes:
            return None
        if self.pattern is None:
            return ""
        return next((line for line in lines if self.pattern.search(line)), None)


def _codes(*names: str) -> frozenset[int]:
    return frozenset(EXIT_CODES[name] for name in names)


def _line(kind: Kind, *patterns: str, codes: Sequence[int] = ()) -> Rule:
    return Rule(kind, frozenset(codes), re.compile("|".join(patterns)))


_RAISED = (1, EXIT_CODES["internal"])  # of a Python program that ends with an exception
_MOUNT_ERRORS = (
    *("EIO", "ESTALE", "EREMOTEIO", "EAGAIN", "ETIMEDOUT", "ENOTCONN", "ECONNRESET", "ECONNABORTED"),
    *("ESHUTDOWN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
)
"""Errors of a read from a mount that fails for a while; a missing or forbidden file raises others."""
_MARK = r"^(\[[^\]]*\]\s*(<std\w+>:\s*)?)?"  # of a rank, or of mpirun --tag-output

RULES: tuple[Rule, ...] = (
    Rule(COMPLETE, _codes("complete")),
    # The trainer's own codes: every rank compared its facts, or named the file.
    Rule(CONFIGURATION, _codes("configuration")),
    # Data that could not be read or decoded, although the files may be valid (vit/data).
    _line(
        MEMORY,
        r"the process that decoded it died \(signal (9|15) ",
        r"needs more memory to decode than is available",
        rf"cannot be read \({os.strerror(errno.ENOMEM)}\)",
        codes=tuple(_codes("data")),
    ),
    _line(
        STORAGE,
        r"has not been read.* after [\d.]+ s,",
        rf"cannot be read \(({'|'.join(os.strerror(getattr(errno, name)) for name in _MOUNT_ERRORS)})\)",
        codes=tuple(_codes("data")),
    ),
    Rule(DATA, _codes("data")),
    Rule(NOT_FINITE, _codes("not_finite")),
    Rule(HANG, _codes("hang")),
    Rule(DEVICE, _codes("device")),
    Rule(LOCKED, _codes("locked")),
    Rule(STORAGE, _codes("storage")),
    Rule(DRAINED, _codes("stopped")),
    # Lines of run_vit.sh and setup.sh.
    _line(NO_WORKERS, r"^run_vit\.sh: gave up after "),
    _line(CHECKS, r"^\[\S+\] FAULT  (?!\d+ of the checks)"),
    _line(CHECKS, r"^run_vit\.sh: setup\.sh found a fault"),
    _line(CONFIGURATION, r"^run_vit\.sh: mpirun was not found", r"^run_vit\.sh: the files in mydir are not those"),
    # Open MPI 4 and 5, what no other attempt changes: its help texts, help-orte-*.txt and help-prte-*.txt.
    _line(
        CONFIGURATION,
        r"There are not enough slots available in the system to satisfy",
        r"unable to find the specified executable file",
        r"could not access\s+or execute an executable",
        r"would require binding processes to more cpus",
        r"more processes than the ppr for this topology",
        r"An unrecognized value was given for",
        r"directive is not recognized",
    ),
    # Python: the program itself.
    _line(
        PROGRAM,
        _MARK + r"(ModuleNotFoundError|ImportError|SyntaxError|IndentationError|NameError|\w*\.?ZipImportError): ",
        r"No module named '?[\w.]+'?\)?$",
        r"cannot open shared object file",
        r"undefined symbol",
        r"size mismatch for [\w.]+",
        r"shapes cannot be multiplied",
        r"shape '\[.*\]' is invalid for input",
        r"must match the size of tensor",
        r"(Missing|Unexpected) key\(s\) in state_dict",
        r"[Gg]iven groups=\d+, weight of size",
        r"Sizes of tensors must match",
        codes=_RAISED,
    ),
    _line(
        CONFIGURATION, r"can't open file '.*': \[Errno 2\]", r"error: unrecognized arguments: ", r"error: argument -"
    ),
    # Memory of a card or of the host, before the wider texts below.
    _line(
        MEMORY,
        r"(CUDA|HIP|XPU) out of memory",
        r"OutOfMemoryError",
        r"Allocation failed for size",
        r"OUT_OF_(DEVICE|HOST)_MEMORY",
        r"Host memory allocation .*failed",
        r"DefaultCPUAllocator: (can't|not enough)",
        _MARK + r"MemoryError",
        r"[Oo]ut of memory: Killed process",
        r"oom-kill",
        r"OOMKilled",
    ),
    # Cards and their drivers: CUDA, NVRM (Xid), SynapseAI and the habanalabs driver.
    _line(
        DEVICE,
        r"(CUDA|CUDNN|cuBLAS|cuDNN) error",
        r"CU(DNN|BLAS)_STATUS_",
        r"device-side assert",
        r"uncorrectable ECC",
        r"NVRM: Xid",
        r"fallen off the bus",
        r"Unable to determine the device handle",
        r"synStatus\w*",
        r"synLaunch\w* failed",
        r"Graph compile failed",
        r"habanalabs .*(reset|timeout|error)",
        r"[Ss]ynapse.*([Dd]evice not found|acquire|DEVICE_LOST)",
        r"Device critical error",
    ),
    # Collectives: c10d's watchdog, HCCL, NCCL, gloo, libfabric, ssh.
    _line(
        HANG,
        r"Watchdog caught collective operation timeout",
        r"WorkNCCL\(.*ran for \d+ milliseconds",
        r"Heartbeat monitor timed out",
        r"Timed out (while )?waiting",
    ),
    _line(
        NETWORK,
        r"NCCL (WARN|error)",
        r"[nh]ccl(System|Internal|Remote|UnhandledCuda)Error",
        r"unhandled system error",
        r"HCCL (error|ERR)",
        r"hcclResult",
        r"libfabric|OFI.*(failed|error)",
        r"gloo/transport",
        r"Connection (closed|reset|refused|timed out)",
        r"[Bb]roken pipe",
        r"Socket Timeout",
        r"Dist(Store|Network|Backend)Error",
        r"No route to host",
        r"Network is unreachable",
        r"Name or service not known",
        r"Temporary failure in name resolution",
        r"Could not resolve hostname",
        r"ssh: connect to host",
        r"(kex|ssh)_exchange_identification",
        r"Connection to .* closed by remote host",
        r"client_loop: send disconnect",
        r"Permission denied \(publickey",
        r"Host key verification failed",
    ),
    _line(
        LOST,
        r"lost communication with a remote daemon",
        r"A daemon failed to report back",
        r"unable to reliably start one or more daemons",
        r"lost connection to (the )?server",
        r"TCP connection to .* was lost",
    ),
    _line(
        STORAGE,
        r"No space left on device",
        r"Disk quota exceeded",
        r"Stale (NFS )?file handle",
        r"Input/output error",
        r"Remote I/O error",
        r"Read-only file system",
        r"Transport endpoint is not connected",
        r"LustreError",
    ),
    # Signals, as mpirun names them; its own code is then 128 + the signal.
    _line(
        LOST, r"exited on signal \d+", r"signal 9 \(Killed\)", r"Segmentation fault", r"Bus error", r"Signal: Aborted"
    ),
    Rule(LOST, _codes("incomplete") | {134, 135, 136, 137, 139, 205, 213, 255}),
    Rule(CONFIGURATION, frozenset({126, 127})),
    Rule(OTHER),
)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why an attempt ended."""

    kind: Kind
    code: int
    cause: str
    """The line that names the cause; empty if there is none."""


def classify(code: int, lines: Sequence[str], *, asked: bool = False) -> Ending:
    """Return why an attempt ended with this code and these last lines; `asked`: this process was asked to stop."""
    if asked and code:
        return Ending(STOPPED, code, "")
    lines = _whole([line for line in lines if not _PASSED.match(line)])
    for rule in RULES:
        found = rule.finds(code, lines)
        if found is not None:
            return Ending(rule.kind, code, (found or cause_in(lines)).strip()[:MOST_CAUSE])
    raise AssertionError("the last rule matches everything")


def _whole(lines: Sequence[str]) -> list[str]:
    """Return the lines with the sentence in one piece that Open MPI 5 breaks in two."""
    text = "\n".join(lines)
    return text.replace(" exited on\nsignal ", " exited on signal ").split("\n")


_PASSED = re.compile(r"(\[rank \d+\] )?warning: |run_vit\.sh: waiting for ")  # lines of what the job survived
_CAUSES = (
    re.compile(r"^(\[rank \d+\] )?vit\.train: "),
    re.compile(r"exited on signal "),
    re.compile(r"^(\[[^\]]*\]\s*)?[A-Za-z_.]*(Error|Exception)\b"),
    re.compile(r"^run_vit\.sh: mpirun ended "),
)


def cause_in(lines: Sequence[str]) -> str:
    """Return the first line that names a cause, by the writer that knows most; empty if there is none."""
    for pattern in _CAUSES:
        for line in lines:
            if pattern.search(line):
                return line
    return ""
