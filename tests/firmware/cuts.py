"""Power cuts of a running box, and what is found when it is switched on again.

A run stands still at random moments, its disk is copied each time, and it goes on: a copy is what killing
QEMU there would have left (all that it had handed to the host, nothing that waited), for a second instead of
two boots. At the last moment of a run QEMU is killed. Each copy then boots. What a disk loses that lies about
its cache is not simulated.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.firmware.conftest import Machine
from tests.lab.box import Box
from tests.lab.lab import copy_machine

SEED = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
# Copies that wait for their boot, at 700 MB each.
MAX_COPIES = 25
_POLL = 0.2


@dataclass(frozen=True, slots=True)
class Cut:
    """``moment``: seconds from the run's start; ``disk``: as the cut left it; ``killed``: by a real one."""

    moment: float
    disk: Path
    killed: bool


def moments(count: int, span: float, salt: int) -> list[float]:
    """So many, anywhere within the span; repeated by the same SEED."""
    chance = random.Random(SEED * 1000 + salt)
    return sorted(chance.uniform(0, span) for _ in range(count))


def take(
    box: Box, at: Sequence[float], folder: Path, step: Callable[[], bool], kill: bool = True
) -> list[Cut]:
    """Cut at these moments from now; while a disk is copied, the time stands still.

    ``step`` moves the box on, and says whether all is over: the moments that are left come to nothing then.
    ``kill``: at the last moment the power goes for good.
    """
    found: list[Cut] = []
    started = time.monotonic()
    for moment in at:
        while (now := time.monotonic() - started) < moment:
            if step():
                return found
            time.sleep(min(_POLL, moment - now))
        killed = kill and moment == at[-1]
        where = folder / f"cut-{len(found)}"
        where.mkdir()
        began = time.monotonic()
        if killed:
            box.cut_power()
            copy_machine(box.disk, where / box.disk.name)
        else:
            with box.held() as disk:
                copy_machine(disk, where / disk.name)
        started += time.monotonic() - began
        found.append(Cut(moment, where / box.disk.name, killed))
    return found


class Updating:
    """Moves a box from the request for an update to the new version that was kept."""

    def __init__(self, box: Machine, address: str, over: str) -> None:
        """``over``: the pattern by which it has ended."""
        box.ask("7", "nothing: back", 60)
        box.lab.box.type(address)
        self._box = box
        self._over = over
        self._restarted = False

    def __call__(self) -> bool:
        """One step."""
        if not self._restarted and "is ready: it starts" in self._box.console:
            self._box.leave()
            self._box.restart()
            self._restarted = True
        return self._restarted and self._box.has(self._over)
