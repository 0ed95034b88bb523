"""The verbs of org.isthmus.control that ask the policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from appliance.config import Config
from appliance.config.codec import validate
from appliance.control.drafting import Drafting
from appliance.control.explain import explain, question
from appliance.control.verbs import refusals
from appliance.session.tables import Tables


class PolicyVerbs:
    """``config``: the one in force; ``drafting``: everybody's candidates."""

    def __init__(self, config: Callable[[], Config], drafting: Drafting, tables: Tables) -> None:
        self._policy_config = config
        self._drafting = drafting
        self._tables = tables

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
            return {"explanation": explain(config, asked, self._tables)}

    def _candidate(self, author: str) -> Config:
        """The author's candidate, merged with what others have committed since."""
        with self._drafting.line:
            plain = self._drafting.merged(self._drafting.candidate(author))
        users = [{k: v for k, v in user.items() if k != "password"} for user in plain.get("user", ())]
        return validate({**plain, "user": users})
