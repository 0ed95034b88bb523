"""Commit, confirm, roll back: for the console, the command line, and files edited by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Network
from pathlib import Path

from appliance.config import parse
from appliance.config.codec import validate, write
from appliance.config.diff import Clash, changes
from appliance.config.effects import CONFIRM_SECONDS, MAX_CONFIRM_SECONDS, MIN_CONFIRM_SECONDS, console_url
from appliance.config.ground import Ground
from appliance.config.paths import Plain
from appliance.config.schema import Config, as_plain
from appliance.config.transaction import Event, Phase, Record, TransitionError
from appliance.control.candidates import Candidates
from appliance.control.drafting import CommitError, Drafting, OutdatedError
from appliance.control.revisions import BY_HAND, LATE, Revisions
from appliance.errors import ConfigError, IsthmusError
from appliance.system.certificates import judge_client_authority


class ConflictError(IsthmusError):
    """Two changed the same settings."""

    code = "conflict"

    def __init__(self, clashes: tuple[Clash, ...]) -> None:
        count = len(clashes)
        super().__init__(
            f"{count} setting{' was' if count == 1 else 's were'} changed by others, too: "
            + ", ".join(clash.path for clash in clashes[:5])
            + (" …" if count > 5 else ""),
            "Merge the candidate with the active configuration, and choose for each.",
        )
        self.clashes = clashes


class NotAppliedError(IsthmusError):
    """Raised by ``apply``: the change is saved, and will be in force when the box comes to it."""

    code = "not-applied-yet"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An unconfirmed commit. ``remaining`` in seconds, ``deadline`` by the wall clock."""

    record: Record
    back_to: int
    deadline: float
    remaining: float
    old_console: str | None
    new_console: str | None


class Commits:
    """The configuration's changes, one at a time.

    ``apply`` has the file taken up: it returns None, or in words why the network is not as the file says;
    NotAppliedError where that takes too long. ``generated`` is the LAN prefix that the box made, if it did;
    ``ground`` is what the box puts into a configuration.
    """

    def __init__(
        self,
        revisions: Revisions,
        candidates: Candidates,
        apply: Callable[[], str | None],
        generated: Callable[[], IPv6Network | None],
        ground: Callable[[Config], Ground] = lambda _config: Ground(),
    ) -> None:
        self.revisions = revisions
        self.drafting = Drafting(revisions, candidates, generated, ground)
        self.line = self.drafting.line
        self._apply = apply
        self._generated = generated
        self._leaving: tuple[int, Mapping[str, object]] = (0, {})
        self._places: dict[int, tuple[str, int] | None] = {}

    # -- looking ---------------------------------------------------------------------------------

    def waiting(self) -> Waiting | None:
        """The commit that waits for somebody's word; None where none does."""
        ledger = self.revisions.ledger
        pending = ledger.pending
        record = ledger.record(pending.revision) if pending is not None else None
        if pending is None or record is None or not pending.by_hand or ledger.phase is not Phase.UNCONFIRMED:
            return None
        urls = [self._console(number) for number in (pending.back_to, pending.revision)]
        remaining = self.revisions.remaining() or 0.0
        return Waiting(record, pending.back_to, pending.deadline.wall, remaining, urls[0], urls[1])

    def leaving(self) -> Mapping[str, object]:
        """The LANs' prefixes, by name, of what an unconfirmed commit may be rolled back to; else none.

        For the thread that applies: it waits for nobody.
        """
        ledger = self.revisions.ledger
        pending = ledger.pending
        if pending is None or not pending.by_hand or ledger.phase is not Phase.UNCONFIRMED:
            return {}
        if self._leaving[0] != pending.revision:
            text = self.revisions.text(pending.back_to)
            try:
                before = parse(text) if text is not None else None
            except ConfigError:
                before = None
            lans = before.lans() if before is not None else []
            self._leaving = pending.revision, {name: str(lan.prefix) for name, lan in lans}
        return self._leaving[1]

    def _console(self, number: int) -> str | None:
        """Where the console is by this revision. Asked for every other second while a commit waits."""
        if number not in self._places:
            if len(self._places) >= 8:
                self._places.clear()
            plain = self.drafting.plain(number)
            self._places[number] = (plain["lan"]["prefix"], plain["console"]["port"]) if plain else None
        place = self._places[number]
        return None if place is None else console_url(*place, self._generated())

    # -- commits -----------------------------------------------------------------------------------

    def commit(
        self, author: str, comment: str, based_on: int, version: int | None, confirm: int | None
    ) -> tuple[int, Waiting | None]:
        """Put the author's candidate in force; the revision, and what it waits for.

        ConflictError, OutdatedError, ConfigError, CommitError, OSError: nothing has changed then.
        """
        with self.line:
            self.adopt()
            self.revisions.ledger.after(Event.COMMIT)
            candidate = self.drafting.candidate(author)
            if based_on != candidate.based_on or (version is not None and version != candidate.version):
                raise OutdatedError("The candidate is another than you have seen.", "Look at it again.")
            view = self.drafting.judge(candidate)
            if view.clashes:
                raise ConflictError(view.clashes)
            if view.problems:
                raise ConfigError(list(view.problems))
            if not view.changes:
                raise CommitError("There is nothing to commit", "The candidate is the active configuration.")
            seconds = _confirm_seconds(confirm, view.cuts)
            config = validate(dict(self.drafting.merged(candidate)))
            _check_client_authority(config, self.drafting.active()[1])
            text = write(config)
            number = self._put_in_force(text, author, comment, len(view.changes), seconds)
            self.drafting.discard(author)
            return number, self.waiting()

    def change_file(self, text: str, author: str, comment: str) -> None:
        """Put ``text``, which is valid, in force: a change that needs no candidate and nobody's word."""
        with self.line:
            self.adopt()
            self.revisions.ledger.after(Event.COMMIT)
            found = changes(self.drafting.active()[1], as_plain(parse(text)))
            if found:
                self._put_in_force(text, author, comment, len(found), None)

    def _put_in_force(self, text: str, author: str, comment: str, count: int, seconds: int | None) -> int:
        number = self.revisions.commit(text, author, comment, count, seconds)
        try:
            problem = self._apply()
        except NotAppliedError:
            if seconds is None:
                self._keep()
                raise
            problem = None  # the deadline runs, whatever it is that holds the box up
        if problem is not None:
            self._roll_back(f"It could not be applied: {problem}")
            raise CommitError(f"The box cannot do that: {problem.rstrip('.')}", "It was rolled back.")
        if seconds is None:
            self._keep()
        return number

    def _keep(self) -> None:
        """The end of a commit that needs nobody's word; where the disk refuses, it is rolled back."""
        try:
            self.revisions.confirm()
        except OSError as error:
            self._roll_back(f"It could not be kept: {error.strerror or error}.")
            raise

    def confirm(self, author: str, revision: int | None) -> int:
        """The pending commit stays; its number."""
        with self.line:
            number = self._pending(revision)
            if self.revisions.remaining() == 0.0:
                raise CommitError(f"The time to confirm revision {number} is over", "It is rolled back.")
            self.revisions.confirm(author)
            return number

    def roll_back(self, author: str, revision: int | None) -> int:
        """The pending commit is taken back; the revision that is in force again."""
        with self.line:
            self._pending(revision)
            self._roll_back(f"{author} rolled it back.")
            return self.revisions.ledger.active

    def _pending(self, revision: int | None) -> int:
        waiting = self.waiting()
        if waiting is None:
            raise TransitionError("No commit waits to be confirmed", "`isthmus history` lists all.")
        number = waiting.record.number
        if revision is not None and revision != number:
            raise OutdatedError(f"Revision {number} waits, not {revision}.", "Look at it again.")
        return number

    def _roll_back(self, why: str) -> None:
        self.revisions.roll_back(why)
        try:
            problem = self._apply()
        except NotAppliedError as error:
            problem = error.message
        if problem is not None:
            print(f"isthmus-control: after the rollback: {problem}", file=sys.stderr)

    # -- what happens by itself ----------------------------------------------------------------------

    def pause(self, most: float) -> float:
        """Seconds until ``tick`` has to look again, at most ``most``."""
        ledger = self.revisions.ledger
        # What the disk would not take at the deadline is tried again at leisure.
        remaining = None if ledger.phase is Phase.REVERTING else self.revisions.remaining()
        return most if remaining is None else min(most, remaining + 0.01)

    def tick(self) -> bool:
        """Roll back what nobody confirmed in time. True where the file is to be taken up anew.

        For the thread that applies: where somebody else is at work it returns at once.
        """
        if not self.line.acquire(blocking=False):
            return False
        try:
            ledger = self.revisions.ledger
            if ledger.phase is Phase.REVERTING:
                self.revisions.write_back()
            elif ledger.phase is Phase.UNCONFIRMED and self.revisions.remaining() == 0.0:
                print(f"isthmus-control: revision {ledger.active} is rolled back: {LATE}", file=sys.stderr)
                self.revisions.roll_back(LATE)
            else:
                return False
        except OSError as error:
            print(f"isthmus-control: the rollback cannot be written: {error}", file=sys.stderr)
            return False
        finally:
            self.line.release()
        return True

    def adopt(self, wait: bool = True) -> bool:
        """Make what somebody changed in the file a revision; nothing where it has mistakes.

        False where somebody else is at work and this is not to wait: the thread that applies must not.
        """
        if not self.line.acquire(blocking=wait):
            return False
        try:
            self._adopt()
        finally:
            self.line.release()
        return True

    def _adopt(self) -> None:
        ledger = self.revisions.ledger
        if ledger.phase in (Phase.WRITING, Phase.REVERTING):
            return
        try:
            text = self.revisions.file.read_text()
            if text == self.revisions.text(ledger.active):
                return
            config = parse(text)
            self.drafting.check(config)
        except (ConfigError, OSError, UnicodeDecodeError):
            return
        before = self.drafting.plain(ledger.active)
        count = len(changes(before, as_plain(config))) if before else 0
        comment = "Changed in the file" if ledger.active else "The first configuration"
        self.revisions.adopt(text, BY_HAND, comment, count)


def _check_client_authority(config: Config, active: Plain) -> None:
    """ConfigError where a commit names an authority by whose certificates nobody could sign in.

    One that expires later is a health issue, and stands in the way of no other change.
    """
    path = config.explicit.client_authority
    if path is None or path == active.get("explicit", {}).get("client_authority"):
        return
    problem = judge_client_authority(Path(path), datetime.now(UTC))
    if problem is not None and problem.code != "ends-soon":
        raise ConfigError([problem])


def _confirm_seconds(asked: int | None, cuts: bool) -> int | None:
    """How long somebody has to confirm; None where nobody has to."""
    if asked is None:
        return CONFIRM_SECONDS if cuts else None
    if asked == 0:
        if cuts:
            raise CommitError(
                "This can part you from the box, so it has to be confirmed",
                f"Give it {MIN_CONFIRM_SECONDS} to {MAX_CONFIRM_SECONDS} seconds.",
            )
        return None
    if not MIN_CONFIRM_SECONDS <= asked <= MAX_CONFIRM_SECONDS:
        raise CommitError(
            f"{asked} s is no time to confirm in", f"{MIN_CONFIRM_SECONDS} to {MAX_CONFIRM_SECONDS} seconds."
        )
    return asked
