"""The commit machine: which configuration is in force, and on what conditions. Pure.

Two things are on disk: the configuration's *file*, which the daemons go by, and the *ledger*, which says
what the file is to hold. Each is written whole or not at all, and the power may go between any two writes:

    commit      the new revision is stored; ledger WRITING; the file; ledger UNCONFIRMED; it is applied
    confirm     ledger SETTLED
    roll back   ledger REVERTING; the file; ledger SETTLED; it is applied

Whoever starts anew compares the file with the ledger, and ends what was begun: with the old configuration
or the new one, never with a part of either. Every commit is unconfirmed until it has been applied; one that
needs nobody's word is then confirmed by control itself, so that a configuration that ends control is rolled
back too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from appliance.errors import IsthmusError

# How many revisions are kept. A site with few changes a week has years of them; each is some kilobytes, and
# 4 MB at most. Fewer than the changes of a busy week would lose what somebody wants back.
MAX_REVISIONS = 200
# And how large they are together: the data partition has other uses, too. The newest stay however large.
MAX_REVISIONS_BYTES = 64 << 20
MAX_COMMENT = 500
FORMAT = 1


class Phase(Enum):
    """Where a change of the file is."""

    SETTLED = "settled"  # the file holds the active revision
    WRITING = "writing"  # the file holds the active revision, or the target already
    UNCONFIRMED = "unconfirmed"  # the file holds the active revision, which has a deadline
    REVERTING = "reverting"  # the file holds the active revision, or the one to go back to already


class Event(Enum):
    """What happens to it."""

    COMMIT = "commit"  # a revision is to be put in force
    WRITTEN = "written"  # the file holds it
    ABANDON = "abandon"  # the file could not be written
    CONFIRM = "confirm"
    ROLL_BACK = "roll back"  # asked for, or nobody confirmed in time, or it could not be applied, or a reboot


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.SETTLED, Event.COMMIT): Phase.WRITING,
    (Phase.WRITING, Event.WRITTEN): Phase.UNCONFIRMED,
    (Phase.WRITING, Event.ABANDON): Phase.SETTLED,
    (Phase.UNCONFIRMED, Event.CONFIRM): Phase.SETTLED,
    (Phase.UNCONFIRMED, Event.ROLL_BACK): Phase.REVERTING,
    (Phase.REVERTING, Event.WRITTEN): Phase.SETTLED,
}


class TransitionError(IsthmusError):
    """What was asked for cannot be done now."""

    code = "wrong-phase"


class LedgerError(IsthmusError):
    """What is on disk is no ledger."""

    code = "ledger-broken"


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks: ``wall`` may be set at any time, ``uptime`` counts on while the box is up.

    ``boot`` names the boot: an uptime says nothing about another one's.
    """

    wall: float
    uptime: float
    boot: str


@dataclass(frozen=True, slots=True)
class Pending:
    """What is to become of an unconfirmed commit. ``by_hand``: somebody has to confirm it."""

    revision: int
    back_to: int
    by_hand: bool
    deadline: Moment

    def remaining(self, now: Moment) -> float:
        """Seconds until it is rolled back; 0 when they are over, and in another boot."""
        if now.boot != self.deadline.boot:
            return 0.0
        return max(self.deadline.uptime - now.uptime, 0.0)


@dataclass(frozen=True, slots=True)
class Record:
    """A revision: who made it, when and why.

    ``undone``: "", "rolled-back" or "abandoned", and ``ended`` says why. ``changes``: how many, against
    ``based_on``, the revision that was in force before it. ``size``: of its text, in bytes.
    """

    number: int
    based_on: int | None
    author: str
    comment: str
    time: float
    changes: int
    size: int
    undone: str = ""
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The revisions, oldest first, and where the file is. Every method gives the ledger after it."""

    active: int = 0  # 0: there is no revision yet
    phase: Phase = Phase.SETTLED
    pending: Pending | None = None  # in every phase but SETTLED
    records: tuple[Record, ...] = ()

    def after(self, event: Event) -> Phase:
        """The phase that follows; TransitionError where the event has no place."""
        try:
            return TRANSITIONS[self.phase, event]
        except KeyError:
            if event is Event.COMMIT:
                raise TransitionError(
                    f"Revision {self.active} waits to be confirmed",
                    "Confirm it or roll it back first: `isthmus confirm`, `isthmus rollback`.",
                ) from None
            raise TransitionError("No commit waits to be confirmed", "`isthmus history` lists all.") from None

    def record(self, number: int) -> Record | None:
        """The revision with this number."""
        return next((one for one in reversed(self.records) if one.number == number), None)

    def next_number(self) -> int:
        """The number of the next revision. None is given twice."""
        return self.records[-1].number + 1 if self.records else 1

    def state(self, record: Record) -> str:
        """The revision's state, as the interface names it."""
        if record.undone:
            return record.undone
        if record.number != self.active:
            return "replaced"
        return "unconfirmed" if self.pending is not None else "active"

    def adopt(self, record: Record) -> Ledger:
        """The file holds this already: the first one, or an edit by hand. A deadline that runs runs on."""
        pending = self.pending and replace(self.pending, revision=record.number)
        return replace(self, active=record.number, pending=pending, records=(*self.records, record))

    def commit(self, record: Record, by_hand: bool, deadline: Moment) -> Ledger:
        """The file is going to hold this."""
        pending = Pending(record.number, self.active, by_hand, deadline)
        phase = self.after(Event.COMMIT)
        return replace(self, phase=phase, pending=pending, records=(*self.records, record))

    def written(self) -> Ledger:
        """The file holds what it is to hold."""
        phase, pending = self.after(Event.WRITTEN), self.pending
        assert pending is not None
        if self.phase is Phase.REVERTING:
            return replace(self, phase=phase, active=pending.back_to, pending=None)
        return replace(self, phase=phase, active=pending.revision)

    def abandon(self) -> Ledger:
        """The file still holds the active revision."""
        phase = self.after(Event.ABANDON)
        assert self.pending is not None
        ended = "It was not written: the disk refused, or the power went."
        return self._undone(self.pending.revision, "abandoned", ended, phase, None)

    def confirm(self) -> Ledger:
        """The pending commit stays."""
        return replace(self, phase=self.after(Event.CONFIRM), pending=None)

    def roll_back(self, why: str) -> Ledger:
        """The file is going to hold again what it held before the pending commit."""
        phase = self.after(Event.ROLL_BACK)
        assert self.pending is not None
        return self._undone(self.pending.revision, "rolled-back", why, phase, self.pending)

    def _undone(self, number: int, undone: str, ended: str, phase: Phase, pending: Pending | None) -> Ledger:
        records = tuple(
            replace(one, undone=undone, ended=ended) if one.number == number else one for one in self.records
        )
        return replace(self, phase=phase, pending=pending, records=records)

    def pruned(self) -> tuple[Ledger, tuple[int, ...]]:
        """Without the oldest revisions that are too many and needed no more; and the numbers of those."""
        needed = {
            self.active,
            self.pending.revision if self.pending else 0,
            self.pending.back_to if self.pending else 0,
        }
        kept = size = 0
        for one in reversed(self.records):
            size += one.size
            if kept and (kept == MAX_REVISIONS or size > MAX_REVISIONS_BYTES):
                break
            kept += 1
        gone = tuple(
            one.number for one in self.records[: len(self.records) - kept] if one.number not in needed
        )
        return replace(self, records=tuple(one for one in self.records if one.number not in gone)), gone


class Holds(Enum):
    """What the file holds, of what the ledger knows."""

    ACTIVE = "active"
    TARGET = "target"  # of a commit that was being written
    BACK_TO = "back to"  # of a rollback that was being written
    MISSING = "missing"
    OTHER = "other"  # edited by hand


class Repair(Enum):
    """What a start does before anything else."""

    NOTHING = "nothing"
    WRITTEN = "written"  # the ledger follows the file
    ABANDON = "abandon"
    WRITE = "write"  # the file is written again: what the ledger says it is to hold
    ROLL_BACK = "roll back"


def repair(ledger: Ledger, holds: Holds, now: Moment) -> Repair:
    """The next thing to do after a start; to be asked again until it is NOTHING."""
    if ledger.phase is Phase.WRITING:
        return Repair.WRITTEN if holds is Holds.TARGET else Repair.ABANDON
    if ledger.phase is Phase.REVERTING:
        # An edit by hand in the meantime was made by somebody who could reach the box.
        return Repair.WRITTEN if holds in (Holds.BACK_TO, Holds.OTHER) else Repair.WRITE
    if holds is Holds.MISSING and ledger.active:
        return Repair.WRITE
    if ledger.pending is not None and (not ledger.pending.by_hand or ledger.pending.remaining(now) <= 0):
        return Repair.ROLL_BACK
    return Repair.NOTHING


def to_plain(ledger: Ledger) -> dict[str, Any]:
    """The ledger as JSON can hold it."""
    pending = ledger.pending
    return {
        "format": FORMAT,
        "active": ledger.active,
        "phase": ledger.phase.value,
        "pending": pending
        and {
            "revision": pending.revision,
            "back_to": pending.back_to,
            "by_hand": pending.by_hand,
            "deadline": {name: getattr(pending.deadline, name) for name in ("wall", "uptime", "boot")},
        },
        "records": [{name: getattr(one, name) for name in Record.__slots__} for one in ledger.records],
    }


def from_plain(plain: Any) -> Ledger:
    """The ledger that ``to_plain`` gave; LedgerError where it is none."""
    try:
        if plain["format"] != FORMAT:
            raise LedgerError(
                f"The ledger of revisions has format {plain['format']}; this version reads {FORMAT}",
                "It was written by a newer version.",
            )
        pending = plain["pending"]
        ledger = Ledger(
            active=int(plain["active"]),
            phase=Phase(plain["phase"]),
            pending=pending
            and Pending(
                int(pending["revision"]),
                int(pending["back_to"]),
                bool(pending["by_hand"]),
                Moment(**pending["deadline"]),
            ),
            records=tuple(Record(**one) for one in plain["records"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"The ledger of revisions is broken: {error!r}") from None
    known = {one.number for one in ledger.records}
    named = {ledger.active} | ({ledger.pending.revision, ledger.pending.back_to} if ledger.pending else set())
    if not named - {0} <= known or (ledger.phase is Phase.SETTLED) != (ledger.pending is None):
        raise LedgerError("The ledger of revisions contradicts itself")
    return ledger
