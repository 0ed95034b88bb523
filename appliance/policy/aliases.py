"""Names that an answer of the DNS passes through (CNAME) on its way to addresses: is one of them denied?

So a denied server does not become another by a CNAME that the asked name's owner has set up for it.
``policy.aliases`` says how far: where a list has the alias ("lists"), where any rule denies it ("all"), never
("off"). A name that a rule of its own allows (``rules_of_names``) is the caller's to leave out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from appliance.config.rules import Rule
from appliance.policy.request import NO_RULE, Names, Verdict, list_with


class DeniedAlias(NamedTuple):
    """A name on the way, and the verdict on it."""

    name: str
    verdict: Verdict


def rules_of_names(rules: Iterable[Rule]) -> frozenset[str]:
    """The rules that are about names. Others allow one without a word of it, as by the client's network."""
    return frozenset(rule.name for rule in rules if rule.domains or rule.lists)


def denied_alias(
    aliases: Iterable[str],
    mode: str,
    decide: Callable[[str], Verdict],
    lists_of: Mapping[str, tuple[str, ...]],
    lists: Mapping[str, Names],
) -> DeniedAlias | None:
    """The first alias that is denied, or None.

    ``mode``: ``policy.aliases``; ``decide``: the verdict on the same request for another name; ``lists_of``:
    the lists of each rule that has some. The default denies no alias: it is about what nobody speaks of.
    """
    if mode == "off":
        return None
    for alias in aliases:
        verdict = decide(alias)
        if verdict.allow or verdict.rule == NO_RULE:
            continue
        if mode == "lists" and not list_with(alias, lists_of.get(verdict.rule, ()), lists):
            continue
        return DeniedAlias(alias, verdict)
    return None
