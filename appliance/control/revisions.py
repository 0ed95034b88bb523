"""The revisions on disk: one file each, the ledger beside them, and the configuration's file.

Nothing here decides: appliance.config.transaction does. What a crash left is put right by ``recover``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from appliance.config.codec import MAX_CONFIG_BYTES
from appliance.config.transaction import (
    MAX_COMMENT,
    Holds,
    Ledger,
    LedgerError,
    Moment,
    Phase,
    Record,
    Repair,
    from_plain,
    repair,
    to_plain,
)
from appliance.files import PRIVATE_FOLDER, put

# Who made what somebody changed in the file itself.
BY_HAND = "file"
# How long a commit that nobody has to confirm may take to be applied. Shorter than a network change takes
# would roll back what is good; longer would leave a box that hangs in it for so long.
APPLY_SECONDS = 30.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
REBOOTED = "The box was started anew before anybody confirmed it."
RESTARTED = "Control ended while it was being applied."
LATE = "Nobody confirmed it in time."


def now() -> Moment:
    """This moment, by the clocks that a deadline goes by. The uptime counts a suspended box's time too."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot)


class Revisions:
    """The ledger and its files. One thread at a time may change them; ``ledger`` may be read by all.

    ``file`` is the configuration's file, ``folder`` where the revisions are.
    """

    def __init__(self, file: Path, folder: Path, clock: Callable[[], Moment] = now) -> None:
        self.file = file
        self._folder = folder
        self._clock = clock
        self.ledger = Ledger()

    # -- reading -------------------------------------------------------------------------------

    def text(self, number: int) -> str | None:
        """The revision's text as it was in the file; None where it is not there (any more)."""
        return _read(self._path(number))

    def remaining(self) -> float | None:
        """Seconds until the pending commit is rolled back; None where none is pending."""
        pending = self.ledger.pending
        return None if pending is None else pending.remaining(self._clock())

    def deadline(self, seconds: float) -> Moment:
        """The moment in so many seconds."""
        moment = self._clock()
        return replace(moment, wall=moment.wall + seconds, uptime=moment.uptime + seconds)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06}.toml"

    # -- writing: OSError where the disk refuses; then nothing has changed -----------------------

    def adopt(self, text: str, author: str, comment: str, changes: int) -> int:
        """The file holds ``text``, which is no revision yet; its number."""
        record = self._record(text, author, comment, changes)
        put(self._path(record.number), text)
        self._keep(self.ledger.adopt(record))
        return record.number

    def commit(self, text: str, author: str, comment: str, changes: int, confirm: float | None) -> int:
        """Put ``text`` into the file, unconfirmed; the revision's number.

        ``confirm``: the seconds in which somebody has to confirm it; None where control will by itself.
        """
        record = self._record(text, author, comment, changes)
        deadline = self.deadline(APPLY_SECONDS if confirm is None else confirm)
        after = self.ledger.commit(record, confirm is not None, deadline)
        before = self.ledger
        self._save_stranger()
        put(self._path(record.number), text)
        self._keep(after)
        try:
            put(self.file, text)
        except OSError:
            if _read(self.file) != text:
                self._forget(before)
                raise
        self._note(self.ledger.written())
        return record.number

    def confirm(self, by: str = "") -> None:
        """The pending commit stays, as this author says; "" where nobody had to."""
        self._keep(self.ledger.confirm(by))

    def roll_back(self, why: str) -> None:
        """Put back into the file what was there before the pending commit.

        After an OSError the phase is REVERTING, and ``write_back`` is to be tried again.
        """
        self._note(self.ledger.roll_back(why))
        self.write_back()

    def write_back(self) -> None:
        """The end of a rollback."""
        self._save_stranger()
        pending = self.ledger.pending
        assert pending is not None
        text = self.text(pending.back_to)
        if text is None:
            raise OSError(None, f"revision {pending.back_to} is not on the disk", str(self._folder))
        put(self.file, text)
        self._note(self.ledger.written())

    def _save_stranger(self) -> None:
        """A copy of what somebody wrote into the file and is no revision, before it is overwritten."""
        text = _read(self.file)
        pending = self.ledger.pending
        known = {self.ledger.active} | ({pending.revision, pending.back_to} if pending else set())
        if text is not None and text not in {self.text(number) for number in known}:
            put(self.file.with_name(f"{self.file.stem}.rejected{self.file.suffix}"), text)

    def _record(self, text: str, author: str, comment: str, changes: int) -> Record:
        return Record(
            number=self.ledger.next_number(),
            based_on=self.ledger.active or None,
            author=author,
            comment=comment[:MAX_COMMENT],
            time=self._clock().wall,
            changes=changes,
            size=len(text.encode()),
        )

    def _keep(self, ledger: Ledger) -> None:
        """The ledger is on disk, and then it is ours."""
        ledger, gone = ledger.pruned()
        put(self._folder / "ledger.json", json.dumps(to_plain(ledger)))
        self.ledger = ledger
        for number in gone:
            self._path(number).unlink(missing_ok=True)

    def _note(self, ledger: Ledger) -> None:
        """The ledger is ours, and on disk where that takes it: a start would come to the same one."""
        self.ledger = ledger
        try:
            self._keep(ledger)
        except OSError as error:
            print(f"isthmus-control: the ledger of revisions cannot be written: {error}", file=sys.stderr)

    def _forget(self, before: Ledger) -> None:
        """The file could not be written: as if nothing had been begun, also where the disk refuses that."""
        try:
            self._keep(self.ledger.abandon())
        except OSError:
            self.ledger = before

    # -- after a start ---------------------------------------------------------------------------

    def recover(self) -> None:
        """Read the ledger, and end what was begun before the power went; OSError where the disk refuses.

        A broken ledger is put aside: the file alone counts then, and its revisions begin anew.
        """
        self._folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        self.ledger = self._load()
        for _turn in range(8):  # three at most, by the table; a mistake there is to end too
            what = repair(self.ledger, self._holds(), self._clock())
            if what is Repair.NOTHING:
                break
            self._repair(what)
        self._sweep()

    def _load(self) -> Ledger:
        path = self._folder / "ledger.json"
        text = _read(path)
        if text is None:
            # Without it no number means anything; those of a ledger that was lost are not given twice.
            numbers = [int(one.stem) for one in self._folder.glob("[0-9]*.toml") if one.stem.isdecimal()]
            for number in numbers:
                self._path(number).rename(self._folder / f"lost-{number:06}.toml")
            return Ledger()
        try:
            return from_plain(json.loads(text))
        except (LedgerError, ValueError) as error:
            aside = path.with_suffix(".broken.json")
            print(f"isthmus-control: {error}; it is put aside as {aside}", file=sys.stderr)
            path.replace(aside)
            return self._load()

    def _holds(self) -> Holds:
        if not self.file.exists():
            return Holds.MISSING
        text = _read(self.file)
        ledger = self.ledger
        pending = ledger.pending if text is not None else None
        if ledger.phase is Phase.WRITING and pending and text == self.text(pending.revision):
            return Holds.TARGET
        if ledger.phase is Phase.REVERTING and pending and text == self.text(pending.back_to):
            return Holds.BACK_TO
        return Holds.ACTIVE if text is not None and text == self.text(ledger.active) else Holds.OTHER

    def _repair(self, what: Repair) -> None:
        if what is Repair.WRITTEN:
            self._keep(self.ledger.written())
        elif what is Repair.ABANDON:
            self._keep(self.ledger.abandon())
        elif what is Repair.ROLL_BACK:
            pending = self.ledger.pending
            assert pending is not None
            rebooted = pending.deadline.boot != self._clock().boot
            why = REBOOTED if rebooted else LATE if pending.by_hand else RESTARTED
            print(f"isthmus-control: revision {pending.revision} is rolled back: {why}", file=sys.stderr)
            self._keep(self.ledger.roll_back(why))
        elif self.ledger.phase is Phase.REVERTING:
            self.write_back()
        else:  # the file is gone
            text = self.text(self.ledger.active)
            if text is None:
                raise OSError(None, "neither the file nor the active revision is on the disk", str(self.file))
            put(self.file, text)

    def _sweep(self) -> None:
        """Remove what a crash left behind: texts that never came into the ledger."""
        known = {self._path(one.number).name for one in self.ledger.records}
        for path in self._folder.glob("[0-9]*.toml"):
            if path.name not in known:
                path.unlink(missing_ok=True)
        for path in self._folder.glob(".*.new"):
            path.unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    """The file's text; None where it cannot be one: missing, too large, no text."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
        return raw.decode() if len(raw) <= MAX_CONFIG_BYTES else None
    except (OSError, UnicodeDecodeError):
        return None
