"""What others of this machine took of its processors while we measured, and measuring again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.bench.topology import TICK, family, ticks

T = TypeVar("T")

# Of one core. Daemons that idle come to a hundredth; a compiler is 1.
DISTURBED = 0.15
MAX_TRIES = 4
# Before the second try; twice as long before each further one. A test suite's burst passes meanwhile.
PAUSE = 1.0
# Seconds that all repetitions of a bench may take: on a busy machine it says so rather than go on.
PATIENCE = 900.0


def others_seconds() -> float:
    """Seconds the processors have worked so far for other processes than us and our descendants.

    It is the sum of their own exact times: those that /proc/stat has are sampled by the tick, and would
    come out too low beside ours. Who has ended is in the sum of who waited for it. What the hypervisor
    took is added; the kernel's own threads work for us.
    """
    ours = set(family(os.getpid()))
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    total = sum(ticks(pid) for pid in pids if pid not in ours)
    stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    return (total + stolen) / TICK


class Quiet:
    """Repeats disturbed measurements; ``patience`` is left of PATIENCE."""

    def __init__(
        self,
        others: Callable[[], float] = others_seconds,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._others, self._now, self._sleep = others, now, sleep
        self.patience = PATIENCE
        self.measured = 0
        self.disturbed = 0

    def run(self, measurement: Callable[[], T], prepare: Callable[[], object] = int) -> tuple[T, float]:
        """The least disturbed of a few tries, each prepared, and the cores that others took meanwhile."""
        self.measured += 1
        best: tuple[T, float] | None = None
        pause = PAUSE
        for number in range(MAX_TRIES):
            begun = self._now()
            if number:
                self._sleep(pause)
                pause *= 2
            prepare()
            start, before = self._now(), self._others()
            found = measurement()
            share = (self._others() - before) / (self._now() - start)
            if number:
                self.patience -= self._now() - begun
            if best is None or share < best[1]:
                best = found, share
            if share <= DISTURBED or self.patience <= 0:
                break
        assert best is not None
        self.disturbed += best[1] > DISTURBED
        return best

    def summary(self) -> str:
        """How quiet it was."""
        return (
            f"\nothers took more than {DISTURBED} cores during {self.disturbed}"
            f" of {self.measured} measurements ({PATIENCE - self.patience:.0f} s spent on measuring again)"
        )
