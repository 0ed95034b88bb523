"""What others of this machine took of its processors while we measured, and measuring again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.bench.topology import family

T = TypeVar("T")

# Of one core. Kernel threads that work for us come to a few hundredths; a compiler is 1.
DISTURBED = 0.15
MAX_TRIES = 4
# Before the second try; twice as long before each further one. A test suite's burst passes meanwhile.
PAUSE = 1.0
# Seconds that all repetitions of a bench may take: on a busy machine it says so rather than go on.
PATIENCE = 900.0

_TICK = os.sysconf("SC_CLK_TCK")


def others_seconds() -> float:
    """Seconds the processors have worked so far, but for us: our descendants and the kernel's softirqs."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(field) for field in fields[:8])
    ours = sum(_spent(pid) for pid in (*family(os.getpid()), *_softirq_threads()))
    return (user + nice + system + irq + softirq + steal - ours) / _TICK


def _spent(pid: int) -> int:
    """Ticks of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(field) for field in fields[11:15])


def _softirq_threads() -> list[int]:
    """The kernel's threads that carry our packets on when there are many."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().startswith("ksoftirqd/"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


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
            share = max(0.0, (self._others() - before) / (self._now() - start))
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
