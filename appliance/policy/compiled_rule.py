"""One rule, compiled to conditions: each holds (None), does not (No), or cannot tell yet (Unknown)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from appliance.config.rules import Rule, port_range
from appliance.policy.request import DNS, HTTP, Moment, Names, No, Request, Unknown, Verdict, list_with
from appliance.policy.sets import NameSet, NetworkSet, url_glob

_Condition = Callable[[Request, Moment, Mapping[str, Names]], "No | Unknown | None"]


class CompiledRule:
    """A rule, whose conditions are compiled when it is asked first: most of many never are."""

    __slots__ = ("_conditions", "_rule", "allow", "enabled", "name", "named", "verdicts")

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._conditions: tuple[_Condition, ...] | None = None
        self.name = rule.name
        self.named = bool(rule.domains or rule.lists)  # it asks for a name
        self.allow = rule.action == "allow"
        self.enabled = rule.enabled
        self.verdicts = tuple(Verdict(self.allow, rule.name, pending, rule.note) for pending in (False, True))

    def mismatch(self, request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        """None where the rule matches; otherwise the first condition that says no, or cannot say."""
        if self._conditions is None:
            self._conditions = tuple(_conditions(self._rule))
        unknown: Unknown | None = None
        for condition in self._conditions:
            found = condition(request, moment, lists)
            if found is not None:
                if isinstance(found, No):
                    return found
                unknown = unknown or found
        return unknown


def _conditions(rule: Rule) -> Iterable[_Condition]:
    """The conditions that a rule has, those that cost least first."""
    if rule.until is not None:
        yield _until(rule.until.timestamp(), rule.until.isoformat(" ", "minutes"))
    if rule.ways:
        yield _way(frozenset(rule.ways))
    if rule.protocols:
        yield _protocol(frozenset(rule.protocols))
    if rule.ports:
        yield _port(tuple(port_range(entry) for entry in rule.ports), ", ".join(rule.ports))
    if rule.schedules:
        yield _schedule(frozenset(rule.schedules))
    if rule.users:
        yield _user(frozenset(rule.users))
    if rule.groups:
        yield _group(frozenset(rule.groups))
    if rule.devices:
        yield _device(frozenset(rule.devices))
    if rule.sources:
        yield _source(NetworkSet(rule.sources))
    if rule.destinations:
        yield _destination(NetworkSet(rule.destinations))
    if rule.domains or rule.lists:
        yield _name(NameSet(rule.domains), rule.lists)
    if rule.urls:
        yield _url(rule.urls)
    if rule.content_types:
        yield _content_type(frozenset(rule.content_types))
    if rule.larger_than is not None:
        yield _larger_than(rule.larger_than)


def _until(end: float, words: str) -> _Condition:
    over = No(f"it ended at {words}")

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        return None if moment.time < end else over

    return condition


def _way(ways: frozenset[str]) -> _Condition:
    words = " or ".join(sorted(ways))

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        return None if request.way in ways else No(f"it comes by {request.way}, not by {words}")

    return condition


_NOT_OF_A_QUESTION = Unknown("a DNS question does not say what will be done with its answer")


def _protocol(protocols: frozenset[str]) -> _Condition:
    words = " or ".join(sorted(protocols))

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.way == DNS:
            return _NOT_OF_A_QUESTION
        return None if request.kind in protocols else No(f"it is {request.kind}, not {words}")

    return condition


def _port(ranges: tuple[tuple[int, int], ...], words: str) -> _Condition:
    ports = frozenset(low for low, high in ranges if low == high)
    wide = tuple(entry for entry in ranges if entry[0] != entry[1])

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.way == DNS:
            return _NOT_OF_A_QUESTION
        port = request.port
        if port in ports or any(low <= port <= high for low, high in wide):
            return None
        return No(f"the port is {port}, not {words}")

    return condition


def _schedule(schedules: frozenset[str]) -> _Condition:
    outside = No(f"it is not the time of {' or '.join(sorted(schedules))}")

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        return outside if schedules.isdisjoint(moment.schedules) else None

    return condition


def _user(users: frozenset[str]) -> _Condition:
    words = _some(users)

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.user in users:
            return None
        return No(f"the user is {request.user or 'not known'}, not {words}")

    return condition


def _group(groups: frozenset[str]) -> _Condition:
    words = _some(groups)

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if not groups.isdisjoint(request.groups):
            return None
        if not request.user:
            return No(f"the user is not known, so not in {words}")
        return No(f"user {request.user} is not in {words}")

    return condition


def _device(devices: frozenset[str]) -> _Condition:
    words = _some(devices)

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.device in devices:
            return None
        return No(f"the device is {request.device or 'not a known one'}, not {words}")

    return condition


def _source(networks: NetworkSet) -> _Condition:
    outside = No("the client is in none of its networks")

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        return None if networks.holds(request.client) else outside

    return condition


_NO_ADDRESS = Unknown("the destination's address is not known yet")


def _destination(networks: NetworkSet) -> _Condition:
    outside = No("the destination is in none of its networks")

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.readings is None:
            return _NOT_OF_A_QUESTION if request.way == DNS else _NO_ADDRESS
        return None if any(map(networks.holds, request.readings)) else outside

    return condition


_NO_NAME = Unknown("the name is not known yet")


def _name(patterns: NameSet, lists_asked: tuple[str, ...]) -> _Condition:
    nameless = No("no name is known for it")

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        name = request.name
        if name is None:
            return _NO_NAME
        if not name:
            return nameless
        if patterns.matches(name, request.suffixes):
            return None
        if list_with(name, lists_asked, lists):
            return None
        return No(f"{name} is none of its names")

    return condition


_NOT_HTTP = No("it is not plain HTTP, whose content could be seen")


def _url(patterns: tuple[str, ...]) -> _Condition:
    globs = tuple(url_glob(pattern) for pattern in patterns)
    other = No("the URL is none of its own")

    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.way != HTTP:
            return _NOT_HTTP
        return None if any(glob.fullmatch(request.url) is not None for glob in globs) else other

    return condition


_NO_CONTENT = Unknown("the origin has not answered yet")


def _content_type(types: frozenset[str]) -> _Condition:
    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.way != HTTP:
            return _NOT_HTTP
        found = request.content_type
        if found is None:
            return _NO_CONTENT
        if found in types or f"{found.partition('/')[0]}/*" in types:
            return None
        return No(f"the content is {found or 'of no type'}, not {_some(types)}")

    return condition


def _larger_than(octets: int) -> _Condition:
    def condition(request: Request, moment: Moment, lists: Mapping[str, Names]) -> No | Unknown | None:
        if request.way != HTTP:
            return _NOT_HTTP
        if request.size is None:
            return _NO_CONTENT
        return (
            None if request.size > octets else No(f"the content has {request.size} octets, not over {octets}")
        )

    return condition


def _some(names: frozenset[str]) -> str:
    """Names to read, not too many."""
    listed = sorted(names)
    more = len(listed) - 5
    return ", ".join(listed[:5]) + (f" and {more} more" if more > 0 else "")
