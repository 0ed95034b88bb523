"""How much all workers hold together, for limits that are of the box: memory that they share.

Each worker writes its own counts and adds up the others', with no lock: a count is one aligned word. Two that
admit in the same instant may both take the last place.
"""

from __future__ import annotations

import mmap

from appliance.dataplane import MAX_WORKERS

# Workers at a time, those that drain included. A worker beyond them knows of its own counts only.
MAX_TALLIED = 4 * MAX_WORKERS

SESSIONS, HALF_OPEN, NEW, SECOND = range(4)  # a worker's counts; NEW is of the second (monotonic) in SECOND
_STRIDE = 8  # words: a cache line for each worker
_USED = 0  # the first word says how many places were in use at most

_NEW, _SECOND = NEW, SECOND
UNTOLD = -1  # the place of who has none


def shared_words() -> memoryview:
    """New memory for the counts of all: it is the children's too."""
    return memoryview(mmap.mmap(-1, (1 + MAX_TALLIED) * _STRIDE * 8)).cast("q")


class Tally:
    """One worker's view of the counts. ``place``: its own, of ``Places``."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: memoryview, place: int = UNTOLD) -> None:
        self._words = words
        self._at = (1 + place) * _STRIDE if place != UNTOLD else -1

    def tell(self, what: int, count: int) -> None:
        """Write down a count of our own."""
        if self._at >= 0:
            self._words[self._at + what] = count

    def others(self, what: int) -> int:
        """The sum of what the others have, as of now."""
        words, total = self._words, 0
        for place in range(words[_USED]):
            at = (1 + place) * _STRIDE
            if at != self._at:
                total += words[at + what]
        return total

    def others_new(self, second: int) -> int:
        """What the others were asked for in this second."""
        words, total = self._words, 0
        for place in range(words[_USED]):
            at = (1 + place) * _STRIDE
            if at != self._at and words[at + _SECOND] == second:
                total += words[at + _NEW]
        return total


class Places:
    """The supervisor's part: who has which place."""

    def __init__(self) -> None:
        self.words = shared_words()
        self._taken: set[int] = set()

    def take(self) -> int:
        """A place whose counts are 0; UNTOLD where there is none left."""
        place = next((one for one in range(MAX_TALLIED) if one not in self._taken), UNTOLD)
        if place != UNTOLD:
            self._taken.add(place)
            self._clear(place)
            self.words[_USED] = max(self._taken) + 1
        return place

    def give_back(self, place: int) -> None:
        """Its worker has ended, however it did."""
        if place in self._taken:
            self._taken.discard(place)
            self._clear(place)
            self.words[_USED] = max(self._taken, default=-1) + 1

    def _clear(self, place: int) -> None:
        at = (1 + place) * _STRIDE
        for what in range(_STRIDE):
            self.words[at + what] = 0
