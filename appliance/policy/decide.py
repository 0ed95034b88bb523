"""Who may reach what: ``decide`` gives the verdict of the first rule that matches, ``explain`` says why.

Pure: the moment, the schedules that it is in and the lists' tables are passed in.

Rules lie in an index by what each of them asks for first: names, networks of destinations, users, groups,
devices, networks of sources. Only those that are found by the request, and those that no index holds, are
looked at, in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from appliance.config.rules import Rule
from appliance.config.schema import Config
from appliance.policy.compiled_rule import CompiledRule
from appliance.policy.request import (
    DNS,
    NO_RULE,
    PUBLISHED,
    Explanation,
    Moment,
    Names,
    No,
    Request,
    Step,
    Unknown,
    Verdict,
)
from appliance.policy.sets import NetworkIndex, keys_of


class CompiledPolicy:
    """A configuration's rules, ready to be asked."""

    def __init__(self, config: Config) -> None:
        self.rules = tuple(CompiledRule(rule) for rule in config.rule)
        self._groups = {user.name: frozenset(user.groups) for user in config.user}
        allow = config.policy.default == "allow"
        self._default = tuple(Verdict(allow, NO_RULE, pending) for pending in (False, True))
        # Published services are allowed by being there, questions by having to be answered first.
        self._allowed = tuple(Verdict(True, NO_RULE, pending) for pending in (False, True))
        # Where no rule can change the default, nobody need ask.
        self.asks = bool(any(rule.enabled for rule in self.rules)) or not allow
        self._by_name: dict[str, list[int]] = {}
        self._by_subject: dict[tuple[str, str], list[int]] = {}
        self._by_source = NetworkIndex()
        self._by_destination = NetworkIndex()
        self._others: list[int] = []
        # By action: the first rule that denies, that allows, by a name, by an address.
        self._first_named = [len(self.rules)] * 2
        self._first_addressed = [len(self.rules)] * 2
        for index, rule in enumerate(config.rule):
            if rule.enabled:
                self._enter(index, rule)
        self.asks_names = min(self._first_named) < len(self.rules)

    def _enter(self, index: int, rule: Rule) -> None:
        """Into the index that is likely to leave out most requests."""
        named = bool(rule.domains or rule.lists)
        if named:
            allow = rule.action == "allow"
            self._first_named[allow] = min(self._first_named[allow], index)
        if rule.destinations:
            allow = rule.action == "allow"
            self._first_addressed[allow] = min(self._first_addressed[allow], index)
        keys = keys_of(rule.domains) if rule.domains and not rule.lists else None
        if keys is not None:
            for key in keys:
                self._by_name.setdefault(key, []).append(index)
        elif named and rule.action == "allow":
            # A question has no destination yet, and is answered all the same.
            self._others.append(index)
        elif rule.destinations:
            for network in set(rule.destinations):
                self._by_destination.add(network, index)
        elif rule.users or rule.groups or rule.devices:
            kind = "user" if rule.users else "group" if rule.groups else "device"
            for name in set(rule.users or rule.groups or rule.devices):
                self._by_subject.setdefault((kind, name), []).append(index)
        elif rule.sources:
            for network in set(rule.sources):
                self._by_source.add(network, index)
        else:
            self._others.append(index)

    def groups_of(self, user: str) -> frozenset[str]:
        """The groups of a user; none of somebody who is not known."""
        return self._groups.get(user, frozenset())

    def _candidates(self, request: Request) -> Iterable[int]:
        found: list[int] = []
        by_name = self._by_name
        if by_name:
            for suffix in request.suffixes:
                named = by_name.get(suffix)
                if named is not None:
                    found += named
        for reading in request.readings or ():
            self._by_destination.find(reading, found)
        if self._by_subject:
            if request.user:
                found += self._by_subject.get(("user", request.user), ())
                for group in request.groups:
                    found += self._by_subject.get(("group", group), ())
            if request.device:
                found += self._by_subject.get(("device", request.device), ())
        self._by_source.find(request.client, found)
        if not found:
            return self._others
        found += self._others
        return sorted(set(found))

    def decide(self, request: Request, moment: Moment, lists: Mapping[str, Names]) -> Verdict:
        """The verdict of the first rule that matches, or the default's."""
        unknown = [False, False]  # whether a rule that was looked at may yet deny, allow
        for index in self._candidates(request):
            rule = self.rules[index]
            found = rule.mismatch(request, moment, lists)
            if found is None:
                pending = unknown[not rule.allow] or self._may_come(request, not rule.allow, index)
                return rule.verdicts[pending]
            if isinstance(found, Unknown):
                if request.way == DNS and rule.allow and rule.named:
                    return rule.verdicts[0]  # the name has to be resolved for what the rule allows
                unknown[rule.allow] = True
        verdicts = self._allowed if request.way in (PUBLISHED, DNS) else self._default
        otherwise = not verdicts[0].allow
        return verdicts[unknown[otherwise] or self._may_come(request, otherwise, len(self.rules))]

    def _may_come(self, request: Request, allow: bool, before: int) -> bool:
        """Whether a rule before ``before`` with this action may match by what is not known yet.

        No index finds by that; so any such rule counts, whatever else it asks for.
        """
        return (request.name is None and self._first_named[allow] < before) or (
            request.readings is None and self._first_addressed[allow] < before
        )

    def explain(self, request: Request, moment: Moment, lists: Mapping[str, Names]) -> Explanation:
        """The verdict as of ``decide``, and what each rule up to it says."""
        verdict = self.decide(request, moment, lists)
        steps = []
        for rule in self.rules:
            if not rule.enabled:
                steps.append(Step(rule.name, False, "it is switched off"))
                continue
            found = rule.mismatch(request, moment, lists)
            if found is None:
                steps.append(Step(rule.name, True, "all of its conditions hold"))
            else:
                steps.append(Step(rule.name, False if isinstance(found, No) else None, str(found)))
            if rule.name == verdict.rule:
                break
        return Explanation(verdict, steps)
