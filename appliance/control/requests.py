"""Requests for access, and the timed exceptions that grant them: rules, committed as any other change."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from appliance.config.codec import validate, write
from appliance.config.paths import Plain
from appliance.config.rules import DEFAULT_RULE
from appliance.control.commits import Commits
from appliance.control.verbs import refusals
from appliance.errors import IsthmusError
from appliance.session.record import literal_address

# Seconds that an exception may last. What is to last longer is a rule that somebody writes.
MIN_GRANT, MAX_GRANT = 60, 30 * 86_400
# What the names of exceptions begin with; those that are over go with the next one.
PREFIX = "access-"


class RequestError(IsthmusError):
    """The request cannot be granted or refused."""

    code = "access-request"


def exception(request: dict[str, Any], until: datetime) -> dict[str, Any]:
    """The rule that grants a request: its client and its host alone, until then."""
    host = request["host"]
    rule: dict[str, Any] = {
        "name": PREFIX + re.sub("[^a-z0-9]", "", request["id"].lower()),
        "action": "allow",
        "until": until.isoformat(timespec="seconds"),
    }
    literal = literal_address(host)
    if literal is None:
        rule["domains"] = ["=" + host]
    else:
        rule["destinations"] = [f"{host}/{len(literal) * 8}"]
    if request["user"]:
        rule["users"] = [request["user"]]
    elif request["device"]:
        rule["devices"] = [request["device"]]
    else:
        rule["sources"] = [f"{request['client']}/{128 if ':' in request['client'] else 32}"]
    return rule


def with_exception(plain: Plain, rule: dict[str, Any], denied_by: str, now: datetime) -> dict[str, Any]:
    """A configuration with the exception above the rule ``denied_by``, without those that are over."""
    rules = [one for one in plain.get("rule", ()) if one["name"] != rule["name"] and not _is_over(one, now)]
    names = [one["name"] for one in rules]
    # The default comes last; a rule that is gone denies nothing, and its heir may stand anywhere.
    names.append(DEFAULT_RULE)
    place = names.index(denied_by) if denied_by in names else 0
    return {**plain, "rule": [*rules[:place], rule, *rules[place:]]}


def _is_over(rule: dict[str, Any], now: datetime) -> bool:
    until = rule.get("until")
    return rule["name"].startswith(PREFIX) and until is not None and datetime.fromisoformat(str(until)) <= now


class RequestVerbs:
    """The verbs of org.isthmus.control about requests. ``ask_proxy`` is None where there is no proxy."""

    ask_proxy: Callable[..., dict[str, Any] | None] | None = None

    def __init__(self, commits: Commits) -> None:
        self._request_commits = commits

    def ListRequests(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """Those that wait, the oldest first."""
        with refusals():
            return {"requests": self._ask("ListRequests")["requests"]}

    def GrantRequest(self, id: str, seconds: int, author: str, comment: str) -> dict[str, Any]:  # noqa: N802, A002
        """Put the exception in force, and forget the request."""
        with refusals():
            if not MIN_GRANT <= seconds <= MAX_GRANT:
                words = f"{seconds} s is no time to grant."
                raise RequestError(words, f"{MIN_GRANT} s to {MAX_GRANT // 86_400} days.")
            request = self._request(id)
            now = datetime.now(UTC)
            rule = exception(request, now + timedelta(seconds=seconds))
            commits = self._request_commits
            with commits.line:
                commits.adopt()  # what was changed in the file is not to be undone
                plain = with_exception(commits.drafting.active()[1], rule, request["rule"], now)
                who = request["user"] or request["device"] or request["client"]
                words = comment or f"Access for {who} to {request['host']}, asked for as {id}"
                commits.change_file(write(validate(plain)), author, words)
            self._forget(id)
            return {"rule": rule["name"]}

    def RefuseRequest(self, id: str) -> dict[str, Any]:  # noqa: N802, A002
        """Forget it. Its client may ask again."""
        with refusals():
            self._request(id)
            self._forget(id)
            return {}

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        answer = self.ask_proxy(method, **parameters) if self.ask_proxy is not None else None
        if answer is None:
            raise RequestError("The proxy does not answer.", "`isthmus status` says what is wrong.")
        return answer

    def _request(self, number: str) -> dict[str, Any]:
        for request in self._ask("ListRequests")["requests"]:
            if request["id"] == number.upper():
                found: dict[str, Any] = request
                return found
        raise RequestError(f"No request “{number}” waits.", "`isthmus requests` lists those that do.")

    def _forget(self, number: str) -> None:
        problem = self._ask("RemoveRequest", id=number.upper())["problem"]
        if problem:
            raise RequestError(problem, "The disk may be full.")
