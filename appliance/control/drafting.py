"""Candidates at work: changed, merged, compared with what is in force, judged before they are committed."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from ipaddress import IPv6Network

from appliance.config import Config, parse
from appliance.config.codec import validate
from appliance.config.diff import Change, Clash, changes, merge
from appliance.config.effects import Effect, effects
from appliance.config.ground import Ground, check, grounded
from appliance.config.masking import masked, unmasked
from appliance.config.paths import Plain
from appliance.config.schema import as_plain
from appliance.config.transaction import Record
from appliance.control.candidates import MAX_CANDIDATES, Candidate, Candidates, check_size
from appliance.control.revisions import Revisions
from appliance.errors import ConfigError, IsthmusError, Problem

# Revisions whose configurations are remembered: the one in force, and those that somebody looks at. None ever
# changes, and with thousands of rules one takes long to read.
MAX_READ = 6


class CommitError(IsthmusError):
    """Nothing was put in force; the message says why."""

    code = "commit-refused"


class OutdatedError(IsthmusError):
    """The candidate, or what it is based on, is another by now."""

    code = "outdated"


@dataclass(frozen=True, slots=True)
class View:
    """A candidate with all that is to be known of it before a commit. ``config`` has marks for hashes."""

    candidate: Candidate
    config: Plain
    active: int
    clashes: tuple[Clash, ...]
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    effects: tuple[Effect, ...]
    mark: str  # no other view has it

    @property
    def cuts(self) -> bool:
        """True where a commit has to be confirmed."""
        return any(effect.cut for effect in self.effects)


class Drafting:
    """Everybody's candidates, seen against the active revision.

    ``generated`` is the LAN prefix that the box made, if it did; ``ground`` is what it puts into a
    configuration. ``line`` is held while anything changes.
    """

    def __init__(
        self,
        revisions: Revisions,
        candidates: Candidates,
        generated: Callable[[], IPv6Network | None],
        ground: Callable[[Config], Ground],
    ) -> None:
        self.line = threading.RLock()
        self._revisions = revisions
        self._candidates = candidates
        self._generated = generated
        self._ground = ground
        # What every page of the console asks for again: the last revision's configuration, views by author.
        self._last: tuple[int, Plain] = (0, {})
        self._active_config: tuple[int, Config | None] = (0, None)
        self._revisions_read: dict[int, Plain] = {}
        self._views: dict[str, tuple[object, View]] = {}
        # Marks of another process's views are none of ours.
        self._process = secrets.token_hex(8)
        self._judged = 0

    def active(self) -> tuple[int, Plain]:
        """The active revision's number and configuration, with hashes."""
        number = self._revisions.ledger.active
        if self._last[0] != number:
            self._last = (number, self.plain(number))
        return number, self._last[1]

    def active_mark(self) -> str:
        """Of the active revision, as a view has one: a revision never changes."""
        return f"{self._process}-r{self._revisions.ledger.active}"

    def view(self, author: str) -> View:
        """The author's candidate; the active configuration where there is none."""
        with self.line:
            candidate = self.candidate(author)
            known = self._views.get(author)
            if known is None or known[0] != self._seen(candidate):
                return self._judge_and_remember(candidate)
            return known[1]

    def _seen(self, candidate: Candidate) -> object:
        """All that a view is made from."""
        active, ground = self._revisions.ledger.active, self._ground(self._in_force())
        return (candidate.version, candidate.touched, active, self._generated(), ground)

    def _judge_and_remember(self, candidate: Candidate, valid: Config | None = None) -> View:
        seen = self._seen(candidate)
        view = self.judge(candidate, valid)
        if len(self._views) >= MAX_CANDIDATES:
            self._views.clear()
        self._views[candidate.author] = (seen, view)
        return view

    def drafts(self) -> list[tuple[Candidate, int]]:
        """Every candidate with the number of its changes."""
        return [(one, len(changes(one.base, one.config))) for one in self._candidates.all()]

    def revision(self, number: int) -> tuple[Record, Plain, list[Change]]:
        """A revision with its configuration, masked, and what it changed; CommitError: it is not kept."""
        record = self._revisions.ledger.record(number)
        if record is None or self._revisions.text(number) is None:
            raise CommitError(
                f"There is no revision {number}", "`isthmus history` lists those that are kept."
            )
        plain = self.plain(number)
        before = self.plain(record.based_on) if record.based_on else {}
        found = changes(before, plain) if before else []
        return record, masked(plain), found

    def plain(self, number: int) -> Plain:
        """The revision's configuration with hashes; empty where it is not kept, or cannot be read now."""
        with self.line:
            if number in self._revisions_read and self._revisions.ledger.record(number) is not None:
                return self._revisions_read[number]
        text = self._revisions.text(number)
        try:
            found = as_plain(parse(text)) if text is not None else {}
        except ConfigError:
            return {}
        with self.line:
            if found:
                if len(self._revisions_read) >= MAX_READ:
                    del self._revisions_read[next(iter(self._revisions_read))]
                self._revisions_read[number] = found
        return found

    def candidate(self, author: str) -> Candidate:
        found = self._candidates.get(author)
        if found is not None:
            return found
        number, plain = self.active()
        return Candidate(author, 0, 0.0, number, plain, plain)

    def _in_force(self) -> Config:
        """The active configuration."""
        number, plain = self.active()
        if self._active_config[0] != number or self._active_config[1] is None:
            self._active_config = (number, validate(dict(plain)))
        config = self._active_config[1]
        assert config is not None
        return config

    def check(self, config: Config) -> Ground:
        """What the box puts into a configuration that is valid; ConfigError where that does not fit."""
        ground = self._ground(config)
        check(config, ground)
        return ground

    def _told(self, after: Config) -> list[Effect]:
        """What it does in place of the one in force; ConfigError where it cannot be."""
        before, ground = self._in_force(), self.check(after)
        was = grounded(before, self._ground(before))
        return effects(was, grounded(after, ground), self._generated())

    def judge(self, candidate: Candidate, valid: Config | None = None) -> View:
        """The candidate, merged with the active configuration. ``valid``: its own, where it is valid."""
        number, active = self.active()
        merged = merge(candidate.base, candidate.config, active)
        # Marks that nobody knew a hash for.
        _plain, problems = unmasked(merged.plain, (active,))
        told: list[Effect] = []
        try:
            if valid is not None and merged.plain is candidate.config:
                after = valid
            else:
                after = validate(dict(merged.plain))
                merged = replace(merged, plain=as_plain(after))
            told = self._told(after)
        except ConfigError as error:
            known = {problem.path for problem in problems}
            problems += [problem for problem in error.problems if problem.path not in known]
        self._judged += 1
        return View(
            candidate,
            masked(candidate.config),
            number,
            merged.clashes,
            tuple(changes(active, merged.plain)),
            tuple(problems),
            tuple(told),
            f"{self._process}-{self._judged}",
        )

    def put(self, author: str, config: Plain, based_on: int, version: int | None) -> View:
        """Keep ``config`` (with marks for hashes) as the author's candidate."""
        check_size(config)
        with self.line:
            old = self.candidate(author)
            if old.version == 0 and based_on != old.based_on and (base := self.plain(based_on)):
                # A form that was opened before others committed: it is merged with what they did.
                old = replace(old, based_on=based_on, base=base, config=base)
            if based_on != old.based_on or (version is not None and version != old.version):
                raise OutdatedError(
                    "The candidate was changed meanwhile, in another window or by a commit.",
                    "Look at it again, and make the change anew.",
                )
            _number, active = self.active()
            return self._keep(old, unmasked(config, (old.config, old.base, active))[0])

    def _keep(self, old: Candidate, config: Plain) -> View:
        valid = None
        try:
            # Written out, so that a difference is one.
            valid = validate(dict(config))
            config = as_plain(valid)
        except ConfigError:
            pass  # the view says what is wrong; it is kept, for there may be a second half to come
        touched = self._revisions.deadline(0).wall
        # Also greater than that of one which was discarded.
        version = max(old.version + 1, int(touched * 1000))
        candidate = replace(old, config=config, version=version, touched=touched)
        self._candidates.put(candidate)
        return self._judge_and_remember(candidate, valid)

    def merge(self, author: str, mine: Collection[str]) -> View:
        """The author's candidate, on top of the active configuration; where both clash, see ``mine``."""
        with self.line:
            old = self.candidate(author)
            number, active = self.active()
            merged = merge(old.base, old.config, active, mine)
            return self._keep(replace(old, based_on=number, base=active), merged.plain)

    def merged(self, candidate: Candidate) -> Plain:
        """What a commit puts in force."""
        return merge(candidate.base, candidate.config, self.active()[1]).plain

    def restore(self, author: str, number: int) -> View:
        """A revision's configuration as the author's candidate, in the place of whatever there was."""
        with self.line:
            if self._revisions.ledger.record(number) is None or not (plain := self.plain(number)):
                raise CommitError(
                    f"Revision {number} cannot be restored", "`isthmus history` lists those that are kept."
                )
            return self.replace(author, plain)

    def replace(self, author: str, config: Plain) -> View:
        """A whole configuration, with its hashes, in the place of whatever the author had."""
        check_size(config)
        with self.line:
            active, base = self.active()
            return self._keep(replace(self.candidate(author), based_on=active, base=base), config)

    def active_text(self) -> str:
        """The active revision as it is in the file, with its comments and hashes."""
        return self._revisions.text(self._revisions.ledger.active) or ""

    def lan_prefix(self) -> str | None:
        """The LAN's prefix, also where it was generated; None where none was yet."""
        prefix = self.active()[1].get("lan", {}).get("prefix")
        generated = self._generated()
        return (str(generated) if generated else None) if prefix == "generated" else prefix

    def discard(self, author: str) -> None:
        """Forget the author's candidate."""
        with self.line:
            self._candidates.drop(author)
