"""The verbs of org.isthmus.control that ask the policy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from appliance.config import Config
from appliance.config.codec import validate
from appliance.config.rules import DEFAULT_RULE
from appliance.control.drafting import Drafting
from appliance.control.explain import MAX_COMPILED, Compiled, QuestionError, explain, question
from appliance.control.verbs import refusals
from appliance.dataplane import MAX_WORKERS
from appliance.session.hits import FILE as HITS
from appliance.session.hits import LIST, RULE, Hits
from appliance.session.meters import Meters, Period, period_of
from appliance.session.tables import Tables

CONTROLS_CELL = MAX_WORKERS - 1  # of the meters' file; nothing is ever written there


class PolicyVerbs:
    """``config``: the one in force; ``drafting``: everybody's candidates; ``meters``: the limits' file."""

    def __init__(
        self, config: Callable[[], Config], drafting: Drafting, tables: Tables, meters: Path
    ) -> None:
        self._policy_config = config
        self._drafting = drafting
        self._tables = tables
        self._meters_path = meters
        self._compiled = Compiled()
        self._candidates: dict[str, tuple[str, Config]] = {}  # by author: the view's mark, and the policy

    def Explain(  # noqa: N802 - varlink's own spelling
        self,
        client: str | None,
        user: str | None,
        target: str,
        protocol: str,
        addresses: list[str] | None,
        candidate_of: str | None,
    ) -> dict[str, Any]:
        """The verdict, and why."""
        with refusals():
            asked = question(protocol, client, user, target, addresses)
            config = self._policy_config() if candidate_of is None else self._candidate(candidate_of)
            self._tables.refresh(time.monotonic())
            return {"explanation": explain(config, asked, self._tables, self._compiled)}

    def ListHits(self) -> dict[str, Any]:  # noqa: N802
        """How often each rule and each list has decided."""
        config = self._policy_config()
        path = self._meters_path.with_name(HITS)
        with refusals():
            if not path.exists():
                return {"hits": []}
            hits = Hits(path, CONTROLS_CELL)
            try:
                found = hits.all(datetime.now(ZoneInfo(config.system.timezone)))
            finally:
                hits.close()
        known = {(RULE, rule.name) for rule in config.rule} | {(RULE, DEFAULT_RULE)}
        known |= {(LIST, one.name) for one in config.name_list}
        return {"hits": [hit._asdict() for hit in found if (hit.kind, hit.name) in known]}

    def ListLimits(self) -> dict[str, Any]:  # noqa: N802
        """What is used of each limit."""
        config = self._policy_config()
        period = period_of(datetime.now(ZoneInfo(config.system.timezone)))
        names = {limit.name for limit in config.limit}
        with refusals(), self._meters() as meters:
            found = meters.all(period)
        return {
            "meters": [
                {"limit": limit, "subject": subject, **reading._asdict()}
                for limit, subject, reading in found
                if limit in names
            ]
        }

    def ResetLimit(self, limit: str, subject: str) -> dict[str, Any]:  # noqa: N802
        """The day and the month begin anew for it."""
        with refusals(), self._meters() as meters:
            known = {(one, who) for one, who, _reading in meters.all(Period(0, 0))}
            if (limit, subject) not in known:
                words = f"Nothing is counted for “{subject}” by a limit “{limit}”."
                raise QuestionError(words, "`isthmus limits` shows what is.")
            place = meters.meter(limit, subject)
            if place >= 0:  # or it was given up this moment, and begins anew by itself
                meters.reset(place)
        return {}

    @contextlib.contextmanager
    def _meters(self) -> Iterator[Meters]:
        self._meters_path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        meters = Meters(self._meters_path, CONTROLS_CELL)
        try:
            yield meters
        finally:
            meters.close()

    def _candidate(self, author: str) -> Config:
        """The author's candidate, merged with what others have committed since."""
        with self._drafting.line:
            mark = self._drafting.view(author).mark
            known = self._candidates.get(author)
            if known is not None and known[0] == mark:
                return known[1]
            plain = self._drafting.merged(self._drafting.candidate(author))
        users = [{k: v for k, v in user.items() if k != "password"} for user in plain.get("user", ())]
        config = validate({**plain, "user": users})
        if len(self._candidates) >= MAX_COMPILED:
            self._candidates.clear()
        self._candidates[author] = (mark, config)
        return config
