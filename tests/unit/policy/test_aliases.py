"""Names that an answer passes through: which of them is a reason to deny."""

from __future__ import annotations

import pytest

from appliance.policy.aliases import denied_alias
from appliance.policy.request import NO_RULE, Names, Verdict


class Table:
    """A list of one name."""

    def find(self, name: str) -> str:
        return name if name == "tracker.example" else ""


LISTS: dict[str, Names] = {"trackers": Table()}
LISTS_OF = {"by-list": ("trackers",)}
VERDICTS = {
    "tracker.example": Verdict(False, "by-list"),
    "denied.example": Verdict(False, "by-hand"),
    "default.example": Verdict(False, NO_RULE),
}


@pytest.mark.parametrize(
    ("aliases", "mode", "found"),
    [
        (["fine.example", "tracker.example"], "lists", "tracker.example"),
        (["denied.example", "tracker.example"], "lists", "tracker.example"),
        (["denied.example"], "lists", None),
        (["denied.example"], "all", "denied.example"),
        (["default.example"], "all", None),
        (["tracker.example"], "off", None),
        ([], "all", None),
    ],
)
def test_the_first_that_is_denied(aliases: list[str], mode: str, found: str | None) -> None:
    def decide(name: str) -> Verdict:
        return VERDICTS.get(name, Verdict(True, NO_RULE))

    denied = denied_alias(aliases, mode, decide, LISTS_OF, LISTS)
    assert (denied and denied.name) == found
    assert denied is None or denied.verdict == VERDICTS[denied.name]
