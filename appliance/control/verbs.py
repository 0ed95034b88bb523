"""The verbs of org.isthmus.control that change the configuration, as the interface file has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import tomli_w
from varlink.error import VarlinkError

from appliance.config.diff import Change
from appliance.config.masking import masked
from appliance.config.paths import Plain
from appliance.config.transaction import Record
from appliance.control.candidates import check_author
from appliance.control.commits import Commits, ConflictError, Waiting
from appliance.control.drafting import OutdatedError, View
from appliance.errors import ConfigError, IsthmusError, Problem
from appliance.system.passwords import PasswordTooWeakError

INTERFACE = "org.isthmus.control"
MAX_REVISIONS_LISTED = 200
# Of a diff that is sent. Nobody reads more, and a list of users may have 65,536.
MAX_CHANGES = 1_000
# Who asks without saying who: root, on the command line.
ROOT = "root"


def refuse(error: str, **parameters: Any) -> VarlinkError:
    """An error of the interface, as the library wants it."""
    return VarlinkError({"error": f"{INTERFACE}.{error}", "parameters": parameters})


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What is ours, and what the disk says, as an error of the interface."""
    try:
        yield
    except PasswordTooWeakError as error:
        raise refuse("PasswordTooWeak", message=error.message) from None
    except IsthmusError as error:
        message, hint = refusal(error)
        raise refuse("Refused", message=message, hint=hint) from None
    except OSError as error:
        words = f"The configuration cannot be written: {error.strerror or error}."
        raise refuse("Refused", message=words, hint="Nothing was changed.") from None


def refusal(error: IsthmusError) -> tuple[str, str]:
    """(what is wrong, what to do) of a change that was not made; a configuration's problem with its path."""
    if isinstance(error, ConfigError):
        first = error.problems[0]
        more = len(error.problems) - 1
        rest = f" And {more} more." if more else ""
        return f"{first.path}: {first.message}{rest}", first.hint or "Nothing was changed."
    return error.message, error.hint


@contextlib.contextmanager
def committing() -> Iterator[None]:
    """As ``refusals``; with all that is wrong, and all that clashes."""
    with refusals():
        try:
            yield
        except ConfigError as error:
            hint = "Nothing was changed."
            raise refuse(
                "Invalid", message=str(error), hint=hint, problems=problems_plain(error.problems)
            ) from None
        except ConflictError as error:
            clashes = [asdict(clash) for clash in error.clashes]
            raise refuse("Conflict", message=error.message, hint=error.hint, conflicts=clashes) from None
        except OutdatedError as error:
            raise refuse("Outdated", message=error.message, hint=error.hint) from None


def problems_plain(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """The varlink type ``Problem`` of each."""
    return [{"path": p.path, "message": p.message, "hint": p.hint, "code": p.code} for p in problems]


def _changes_plain(changes: Sequence[Change]) -> list[dict[str, Any]]:
    found = [asdict(change) for change in changes[:MAX_CHANGES]]
    if len(changes) > MAX_CHANGES:
        more = f"and {len(changes) - MAX_CHANGES} more"
        found.append(asdict(Change("…", "set", None, more)))
    return found


def _toml(plain: Plain) -> str:
    """A plain configuration, valid or not; what TOML cannot hold is left out."""
    return tomli_w.dumps(_without_none(plain))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_none(one) for one in value if one is not None]
    return value


def view_plain(view: View) -> dict[str, Any]:
    """The varlink type ``Candidate``, as a reply has it."""
    candidate = view.candidate
    return {
        "candidate": {
            "author": candidate.author,
            "version": candidate.version,
            "touched": candidate.touched or None,
            "config": view.config,
            "based_on": candidate.based_on,
            "active": view.active,
            "stale": candidate.based_on != view.active,
            "conflicts": [asdict(clash) for clash in view.clashes],
            "changes": _changes_plain(view.changes),
            "problems": problems_plain(view.problems),
            "effects": [asdict(effect) for effect in view.effects],
            "needs_confirmation": view.cuts,
            "mark": view.mark,
        }
    }


def _waiting(waiting: Waiting | None) -> dict[str, Any] | None:
    if waiting is None:
        return None
    return {
        "revision": waiting.record.number,
        "back_to": waiting.back_to,
        "author": waiting.record.author,
        "comment": waiting.record.comment,
        "deadline": waiting.deadline,
        "remaining": waiting.remaining,
        "old_console": waiting.old_console,
        "new_console": waiting.new_console,
    }


class ConfigurationVerbs:
    """Candidates, commits and revisions. Methods are named as in the interface file."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._drafting = commits.drafting
        # The last revision and the last candidate that were looked at as text, which takes long to write.
        self._written: tuple[int, str] = (0, "")
        self._drafted: tuple[str, str] = ("", "")

    def changed_paths(self, author: str) -> list[str]:
        """What a commit of the author's candidate would change."""
        return [change.path for change in self._drafting.view(author).changes]

    def GetActive(self, known: str | None) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, and below
        """What is in force."""
        mark = self._drafting.active_mark()
        number, plain = self._drafting.active()
        return {"revision": number, "config": None if known == mark else masked(plain), "mark": mark}

    def GetCandidate(self, author: str, known: str | None) -> dict[str, Any]:  # noqa: N802
        """Somebody's."""
        with committing():
            view = self._drafting.view(author)
        return {"candidate": None} if known == view.mark else view_plain(view)

    def GetCandidateText(self, author: str) -> dict[str, Any]:  # noqa: N802
        """Somebody's, for people."""
        with committing():
            view = self._drafting.view(author)
        if self._drafted[0] != view.mark:
            self._drafted = (view.mark, _toml(view.config))
        return {"toml": self._drafted[1]}

    def ListCandidates(self) -> dict[str, Any]:  # noqa: N802
        """Everybody's."""
        found = self._drafting.drafts()
        return {
            "candidates": [
                {"author": one.author, "changes": count, "touched": one.touched} for one, count in found
            ]
        }

    def PutCandidate(  # noqa: N802
        self, author: str, config: object, based_on: int, version: int | None
    ) -> dict[str, Any]:
        """Keep one."""
        if not isinstance(config, dict):
            raise refuse("InvalidArgument", name="config", message="The configuration is to be an object.")
        with committing():
            return view_plain(self._drafting.put(author, config, based_on, version))

    def MergeCandidate(self, author: str, mine: list[str]) -> dict[str, Any]:  # noqa: N802
        """On top of what is in force."""
        with committing():
            return view_plain(self._drafting.merge(author, mine))

    def DiscardCandidate(self, author: str) -> dict[str, Any]:  # noqa: N802
        """Forget one."""
        with committing():
            self._drafting.discard(author)
        return {}

    def Restore(self, author: str, number: int) -> dict[str, Any]:  # noqa: N802
        """A revision as a candidate."""
        with committing():
            return view_plain(self._drafting.restore(author, number))

    def Commit(  # noqa: N802
        self, author: str, comment: str, based_on: int, version: int | None, confirm_seconds: int | None
    ) -> dict[str, Any]:
        """Put one in force."""
        with committing():
            number, waiting = self._commits.commit(author, comment, based_on, version, confirm_seconds)
        return {"revision": number, "pending": _waiting(waiting)}

    def Confirm(self, author: str, revision: int | None) -> dict[str, Any]:  # noqa: N802
        """What was committed stays."""
        with committing():
            check_author(author)
            return {"revision": self._commits.confirm(author, revision)}

    def Rollback(self, author: str, revision: int | None) -> dict[str, Any]:  # noqa: N802
        """What was committed goes."""
        with committing():
            check_author(author)
            return {"revision": self._commits.roll_back(author, revision)}

    def GetPending(self) -> dict[str, Any]:  # noqa: N802
        """What waits."""
        return {"pending": _waiting(self._commits.waiting())}

    def ListRevisions(self, limit: int, before: int | None) -> dict[str, Any]:  # noqa: N802
        """The newest first."""
        if not 1 <= limit <= MAX_REVISIONS_LISTED:
            message = f"{limit} is not 1 to {MAX_REVISIONS_LISTED}."
            raise refuse("InvalidArgument", name="limit", message=message)
        records = self._commits.revisions.ledger.records[::-1]
        if before is not None:
            records = tuple(record for record in records if record.number < before)
        return {
            "revisions": [self._record(record) for record in records[:limit]],
            "more": len(records) > limit,
        }

    def GetRevision(self, number: int) -> dict[str, Any]:  # noqa: N802
        """One of them."""
        with committing():
            record, plain, changes = self._drafting.revision(number)
        if self._written[0] != number:
            self._written = (number, _toml(plain))
        return {
            "revision": self._record(record),
            "toml": self._written[1],
            "config": plain,
            "changes": _changes_plain(changes),
        }

    def _record(self, record: Record) -> dict[str, Any]:
        return {
            "number": record.number,
            "based_on": record.based_on,
            "author": record.author,
            "comment": record.comment,
            "time": record.time,
            "state": self._commits.revisions.ledger.state(record),
            "ended": record.ended,
            "changes": record.changes,
        }
