# SPDX-License-Identifier: Apache-2.0
"""Which fault befalls which request: the same seed, the same faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

NONE = ""
BEFORE = ("reset", "429", "429-after", "500", "503", "503-after", "expired", "html", "garbage", "not-http", "refused")
AFTER = ("reset-done", "half-length", "half-chunked", "half-closed", "500-done", "html-done", "garbage-done")
SLOW = ("hang", "hang-done", "late", "drip", "drip-head")  # each costs real time
TLS = ("bad-certificate",)
READING = ("gone",)  # only where a version or a place in a list is asked for
WATCHING = ("gone-event", "cut-reset", "cut-clean", "idle-cut")  # of a watch that was granted


@dataclass
class Plan:
    """Faults of one schedule: at most `in_a_row` one after another, and `total` in all."""

    seed: object
    kinds: Sequence[str] = ()
    rate: float = 0.0
    in_a_row: int = 1
    total: int = 1 << 30
    row: int = 0
    drawn: list[str] = field(default_factory=list)
    at_peace: bool = False

    def draw(self, number: int, *, watching: bool = False, reading: bool = False) -> str:
        """The fault of this request; empty for none."""
        chance = random.Random(f"{self.seed}/fault/{number}")
        kinds = [
            kind
            for kind in self.kinds
            if (kind not in READING or reading) and (kind not in WATCHING or watching) and kind not in TLS
        ]
        wanted = kinds and not self.at_peace and self.row < self.in_a_row and len(self.drawn) < self.total
        if not wanted or chance.random() >= self.rate:
            self.row = 0
            return NONE
        self.row += 1
        self.drawn.append(chance.choice(kinds))
        return self.drawn[-1]

    def draw_certificate(self, number: int) -> bool:
        """Whether this connection gets the certificate of a stranger."""
        chance = random.Random(f"{self.seed}/certificate/{number}")
        bad = not self.at_peace and "bad-certificate" in self.kinds and chance.random() < self.rate / 4
        self.drawn += ["bad-certificate"] * bad
        return bad


def seeded(seed: int, *, tls: bool) -> Plan:
    """The plan of a schedule. One in three has hangs, which cost real time, and few of them."""
    chance = random.Random(f"{seed}/plan")
    slow = SLOW if seed % 3 == 0 else ()
    kinds = [*BEFORE, *AFTER, *READING, *WATCHING, *slow, *(TLS if tls else ())]
    if chance.random() < 0.5:  # some schedules know few kinds, and so more of each
        kinds = chance.sample(kinds, 4)
    rate = chance.choice((0.05, 0.15, 0.3, 0.5))
    return Plan(seed, kinds, rate, chance.randint(1, 5), chance.choice((3, 10, 30)))
