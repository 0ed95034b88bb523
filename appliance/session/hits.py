"""How often each rule and each list has decided: of this day, and in all; kept over restarts as limits are.

A hit is a row of the log of sessions: a session that ended or did not come about by a rule, or a question for
a name that was denied. Counted also where ``policy.privacy`` lets no row be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from appliance.dataplane import MAX_WORKERS
from appliance.session.meters import Meters, Period

FILE = "hits"  # beside the limits' counters
# The cell of what is counted for the DNS front; a worker of this number shares it.
DNS_CELL = MAX_WORKERS - 1
RULE, LIST = "rule", "list"


class Hit(NamedTuple):
    """``kind``: RULE or LIST. ``name``: its name. ``today`` by the box's time zone."""

    kind: str
    name: str
    today: int
    total: int


def _period(local: datetime) -> Period:
    """Days are counted as a meter's days; the month that never ends holds the sum of all."""
    return Period(local.toordinal(), 0)


class Hits:
    """The counters at ``path``, whose cells of ``worker`` are ours; OSError where they cannot be used."""

    def __init__(self, path: Path, worker: int) -> None:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._meters = Meters(path, worker)

    def add(self, kind: str, counts: Mapping[str, int], local: datetime) -> None:
        """Count hits by name; of too many names one that was hit least makes room."""
        if not counts:
            return
        period = _period(local)
        with self._meters.alone():
            for name, count in counts.items():
                place = self._meters.meter(kind, name, period)
                if place >= 0:
                    self._meters.add(place, count, period)

    def all(self, local: datetime) -> list[Hit]:
        """Everything that was hit at some time."""
        return [
            Hit(kind, name, reading.day, reading.month)
            for kind, name, reading in self._meters.all(_period(local))
        ]

    def close(self) -> None:
        """Let go of the file."""
        self._meters.close()
