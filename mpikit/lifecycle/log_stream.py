# SPDX-License-Identifier: Apache-2.0
"""Read the lines of one container, each once and in order, also when connections break.

The kubelet stamps each line with a time and can start at a whole second, not at a line. So a new connection starts a
little before the last line, and what was handed on already is recognised by its stamp and text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from mpikit.errors import ClusterError, Silent
from mpikit.kube.answers import Lines
from mpikit.kube.api import POD
from mpikit.kube.client import Call, Cluster

OVERLAP = timedelta(seconds=2)  # stdout and stderr are stamped by two threads, which may disagree by a little
IDLE_SECONDS = 20.0  # a connection that is silent for longer may be dead; a new one costs two requests
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d) ?")


class ContainerLog:
    """One run of one container; remembers which lines were yielded."""

    def __init__(
        self, cluster: Cluster, namespace: str, pod: str, container: str = "", *, tail: int | None = None
    ) -> None:
        self.cluster, self.path, self.tail = cluster, POD.path(namespace, pod, "log"), tail
        self.container = container
        """Its name, which the server needs if a pod has several."""
        self.recent: list[tuple[datetime, bytes]] = []
        """Lines handed on that a new connection will bring again: all that are not older than `since`."""
        self.since: datetime | None = None
        self.first: datetime | None = None
        """Time of the first line handed on, while lines before it, which `tail` left out, may come too."""
        self.num_lines = 0
        self.stamped = True
        self.half = Lines()
        """What ends in half a line, at the end of the last connection."""
        self.told_rest = b""
        """The half line that was handed on after all."""
        self.end: tuple[int, bytes] | None = None
        """Where the last connection ended, if it came past all that was handed on. It may still have been cut off:
        a proxy that loses the kubelet ends the answer as if it were whole."""
        self.lost = False
        """The last connection began with lines other than those handed on: another run's, or a file's after rotation.
        None of them was handed on."""

    def read(self, *, follow: bool, previous: bool = False, anywhere: bool = False) -> Iterator[bytes]:
        """New lines over one connection, without their stamps; Unreachable when it breaks, NotFound without a pod.

        `anywhere`: do not mind if it does not begin with lines handed on before.
        """
        call = Call("GET", self.path, self._query(follow, previous), accept="*/*")
        seen = _Seen([line for _, line in self.recent]) if self.stamped else _Seen([], self.num_lines)
        self.half, self.end, self.lost = Lines(), None, False
        with (
            contextlib.suppress(Silent) if follow else contextlib.nullcontext(),
            self.cluster.stream(call, IDLE_SECONDS, steady=not follow) as pieces,
        ):
            for line in self._lines(pieces):
                yield from self._new(line, seen, anywhere)
                if self.lost:
                    return
            self.end = (self.num_lines, self.rest) if seen.all else None

    @property
    def rest(self) -> bytes:
        """Half a line, at the end of the last connection."""
        return self.half.rest

    def _lines(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            try:
                found = self.half.add(piece)
            except ValueError as error:
                raise ClusterError(f"the log of {self.path}: {error}", "kubectl logs shows it as it is") from error
            yield from found

    def rest_of(self) -> Iterator[bytes]:
        """Yield the last line of a container that ended without a line end; call it after all else is read."""
        if self.rest and self.rest != self.told_rest:
            stamp = _STAMP.match(self.rest)
            yield self.rest[stamp.end() :] if stamp else self.rest
            self.told_rest = self.rest

    def _query(self, follow: bool, previous: bool) -> dict[str, str]:
        query = {"timestamps": "true"}
        query |= {"container": self.container} if self.container else {}
        query |= {"follow": "true"} if follow else {}
        query |= {"previous": "true"} if previous else {}
        if self.since and self.stamped:
            query["sinceTime"] = self.since.strftime("%Y-%m-%dT%H:%M:%SZ")
        elif self.tail is not None and not self.num_lines:
            query["tailLines"] = str(self.tail)
        return query

    def _new(self, line: bytes, seen: _Seen, anywhere: bool) -> Iterator[bytes]:
        stamp = _STAMP.match(line)
        moment = _moment(stamp) if stamp else None
        if moment is None:
            self.stamped = False  # not a kubelet's log: lines are counted instead
        elif self.since and self.stamped and moment < self.since and not seen.all:
            return  # handed on before; this server does not start where it is asked to
        if not seen.any and seen.lines and line not in seen.lines:
            if self.first and moment and moment <= self.first + OVERLAP:
                return  # left out by `tail`
            if not anywhere:
                self.lost = True
                return
        if seen.before(line):
            return
        self.num_lines += 1
        if moment is not None:
            self._remember(moment, line)
        yield line[stamp.end() :] if stamp else line

    def _remember(self, moment: datetime, line: bytes) -> None:
        if self.since is None:
            self.first = moment if self.tail is not None else None
        since = moment - OVERLAP
        if self.since is None or since > self.since:
            self.since = since
            self.recent = [(time, text) for time, text in self.recent if time >= since]
            self.first = self.first if self.first and self.first >= since else None
        if moment >= self.since:
            self.recent.append((moment, line))


class _Seen:
    """The lines that a new connection brings again."""

    def __init__(self, lines: list[bytes], count: int = 0) -> None:
        self.lines, self.count, self.position = lines, count, 0

    @property
    def any(self) -> bool:
        """Whether one of them has come."""
        return self.position > 0

    @property
    def all(self) -> bool:
        """Whether the last of them has come, or what follows it."""
        return self.position == len(self.lines) and not self.count

    def before(self, line: bytes) -> bool:
        """Whether this line was handed on already."""
        if self.count:
            self.count -= 1
            return True
        if self.position == len(self.lines):
            return False
        try:  # lines that were rotated away in the meantime are passed over
            self.position = self.lines.index(line, self.position) + 1
        except ValueError:
            self.position = len(self.lines)
            return False
        return True


def _moment(stamp: re.Match[bytes]) -> datetime:
    """Return the whole second of a stamp."""
    text = f"{stamp[1].decode()}{'+00:00' if stamp[2] == b'Z' else stamp[2].decode()}"
    return datetime.fromisoformat(text).astimezone(timezone.utc)
