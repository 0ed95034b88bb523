"""Verdicts: what each condition asks, that the first rule says, and that the index changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config
from appliance.config.schema import Group, User
from appliance.policy.decide import CompiledPolicy
from appliance.policy.request import DNS, Moment, Names, No, Request, Unknown, Verdict
from appliance.policy.sets import active_schedules

NOW = Moment(datetime(2026, 11, 25, 12, 0, tzinfo=UTC).timestamp(), frozenset({"noon"}))


Rules = list[dict[str, Any]]


class Table:
    """A list of names, with all below them."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find(self, name: str) -> str:
        return next((own for own in self._names if name == own or name.endswith("." + own)), "")


LISTS: dict[str, Names] = {"ads": Table("ads.example", "track.example")}


def config(*rules: dict[str, Any], **sections: Any) -> Config:
    """A configuration with these rules, the first named r0."""
    named = [{"name": f"r{number}", "action": "deny", **rule} for number, rule in enumerate(rules)]
    return Config.model_validate({"rule": named, **sections})


def packed(address: str) -> bytes:
    return ip_address(address).packed


def request(**known: Any) -> Request:
    """A session of a client's with a server, changed by ``known``."""
    settings: dict[str, Any] = {
        "way": "transparent",
        "kind": "tcp",
        "client": packed("fd00:1::2"),
        "port": 443,
        "name": "www.site.example",
        "readings": (packed("192.0.2.80"),),
    }
    return Request(**{**settings, **known})


def verdict(rules: Rules, asked: Request, lists: Mapping[str, Names] = LISTS) -> Verdict:
    return CompiledPolicy(config(*rules)).decide(asked, NOW, lists)


@pytest.mark.parametrize(
    ("rule", "known", "matches"),
    [
        ({}, {}, True),
        ({"enabled": False}, {}, False),
        ({"domains": ["site.example"]}, {}, True),
        ({"domains": ["site.example"]}, {"name": "site.example"}, True),
        ({"domains": ["site.example"]}, {"name": "othersite.example"}, False),
        ({"domains": ["=site.example"]}, {}, False),
        ({"domains": ["=site.example"]}, {"name": "site.example"}, True),
        ({"domains": ["*.site.example"]}, {}, True),
        ({"domains": ["*.site.example"]}, {"name": "a.b.site.example"}, True),
        ({"domains": ["*.site.example"]}, {"name": "site.example"}, False),
        ({"domains": ["w*.site.example"]}, {}, True),
        ({"domains": ["w*.site.example"]}, {"name": "w.a.site.example"}, False),
        ({"domains": ["*.s*e.example"]}, {"name": "a.b.site.example"}, True),
        ({"domains": ["site.example"]}, {"name": ""}, False),
        ({"lists": ["ads"]}, {}, False),
        ({"lists": ["ads"]}, {"name": "x.ads.example"}, True),
        ({"lists": ["ads"], "domains": ["site.example"]}, {}, True),
        ({"lists": ["gone"]}, {"name": "x.ads.example"}, False),
        ({"destinations": ["192.0.2.0/24"]}, {}, True),
        ({"destinations": ["192.0.2.0/24"]}, {"readings": (packed("198.51.100.1"),)}, False),
        (
            {"destinations": ["192.0.2.0/24"]},
            {"readings": (packed("2002:c000:201::1"), packed("192.0.2.1"))},
            True,
        ),
        ({"destinations": ["2001:db8::/32"]}, {"readings": (packed("2001:db8::1"),)}, True),
        ({"ports": [443]}, {}, True),
        ({"ports": ["400-500"]}, {}, True),
        ({"ports": [80, "8000-9000"]}, {}, False),
        ({"protocols": ["tcp"]}, {}, True),
        ({"protocols": ["udp", "icmp"]}, {}, False),
        ({"ways": ["transparent"]}, {}, True),
        ({"ways": ["socks", "connect"]}, {}, False),
        ({"sources": ["fd00:1::/64"]}, {}, True),
        ({"sources": ["203.0.113.0/24"]}, {}, False),
        ({"sources": ["203.0.113.0/24"]}, {"client": packed("203.0.113.9")}, True),
        ({"users": ["ada"]}, {}, False),
        ({"users": ["ada"]}, {"user": "ada"}, True),
        ({"groups": ["staff"]}, {"user": "ada", "groups": frozenset({"staff", "all"})}, True),
        ({"groups": ["staff"]}, {"user": "bob", "groups": frozenset({"all"})}, False),
        ({"devices": ["tablet"]}, {"device": "tablet"}, True),
        ({"devices": ["tablet"]}, {}, False),
        ({"schedules": ["noon"]}, {}, True),
        ({"schedules": ["night"]}, {}, False),
        ({"until": "2026-11-25T12:00:01Z"}, {}, True),
        ({"until": "2026-11-25T12:00:00Z"}, {}, False),
        ({"urls": ["site.example/*"]}, {"way": "http", "url": "site.example/a?b"}, True),
        ({"urls": ["site.example"]}, {"way": "http", "url": "site.example/a"}, True),
        ({"urls": ["site.example/b*"]}, {"way": "http", "url": "site.example/a"}, False),
        ({"urls": ["*"]}, {"way": "connect"}, False),
        ({"content_types": ["video/*"]}, {"way": "http", "content_type": "video/mp4"}, True),
        ({"content_types": ["text/html"]}, {"way": "http", "content_type": "video/mp4"}, False),
        ({"larger_than": 1000}, {"way": "http", "size": 1001}, True),
        ({"larger_than": 1000}, {"way": "http", "size": 1000}, False),
        ({"larger_than": 1000}, {}, False),
        ({"ports": [443], "domains": ["site.example"], "users": ["ada"]}, {"user": "ada"}, True),
        ({"ports": [444], "domains": ["site.example"], "users": ["ada"]}, {"user": "ada"}, False),
    ],
)
def test_a_rule_matches_where_all_of_its_conditions_hold(
    rule: dict[str, Any], known: dict[str, Any], matches: bool
) -> None:
    for action in ("allow", "deny"):
        found = verdict([{**rule, "action": action}], request(**known))
        assert found.rule == ("r0" if matches else "default")
        assert found.allow is (action == "allow" or not matches)
        assert not found.pending


class TestOrder:
    """The first rule that matches says; the default is explicit."""

    def test_the_first_one_says(self) -> None:
        rules: Rules = [
            {"action": "allow", "domains": ["site.example"]},
            {"destinations": ["192.0.2.0/24"]},
            {"action": "allow"},
        ]
        assert verdict(rules, request()) == (True, "r0", False, "")
        assert verdict(rules, request(name="")) == (False, "r1", False, "")
        assert verdict(rules, request(name="", readings=(packed("198.51.100.1"),))).rule == "r2"

    @pytest.mark.parametrize("default", ["allow", "deny"])
    def test_the_default_is_for_the_lan(self, default: str) -> None:
        policy = CompiledPolicy(config(policy={"default": default}))
        assert policy.decide(request(), NOW, {}) == (default == "allow", "default", False, "")
        for way in ("published", DNS):
            assert policy.decide(request(way=way), NOW, {}).allow
        assert policy.asks is (default == "deny")

    def test_a_note_comes_with_its_rule(self) -> None:
        assert verdict([{"note": "Homework first."}], request()).note == "Homework first."


class TestUnknown:
    """What may still become known leaves the verdict pending."""

    def test_a_name(self) -> None:
        rules: Rules = [{"domains": ["site.example"]}]
        assert verdict(rules, request(name=None)) == (True, "default", True, "")
        assert verdict([*rules, {}], request(name=None)) == (False, "r1", False, "")
        assert verdict([{"ports": [443], "action": "allow"}, *rules], request(name=None)).pending is False

    def test_a_condition_that_does_not_hold_needs_no_name(self) -> None:
        asked = request(name=None)
        rule = CompiledPolicy(config({"domains": ["site.example"], "ports": [80]})).rules[0]
        assert isinstance(rule.mismatch(asked, NOW, LISTS), No)

    def test_an_address(self) -> None:
        rules: Rules = [{"destinations": ["192.0.2.0/24"], "action": "allow"}, {"ports": [443]}]
        assert verdict(rules, request(readings=None)) == (False, "r1", True, "")
        assert verdict(rules[1:], request(readings=None)).pending is False
        assert (
            verdict([{"destinations": ["192.0.2.0/24"]}, *rules[1:]], request(readings=None)).pending is False
        )
        rule = CompiledPolicy(config({"destinations": ["192.0.2.0/24"]})).rules[0]
        assert isinstance(rule.mismatch(request(readings=None), NOW, LISTS), Unknown)

    def test_content(self) -> None:
        found = verdict([{"content_types": ["video/*"]}], request(way="http"))
        assert found == (True, "default", True, "")


class TestQuestions:
    """DNS: a name is denied where nothing can be done with it, and answered where something may."""

    def test_a_denied_name(self) -> None:
        assert not verdict([{"domains": ["site.example"]}], request(way=DNS, readings=None)).allow

    def test_a_rule_about_a_port_says_nothing(self) -> None:
        rules: Rules = [{"domains": ["site.example"], "ports": [443]}]
        assert verdict(rules, request(way=DNS, readings=None)).allow

    def test_what_is_allowed_for_a_port_has_to_be_resolved(self) -> None:
        rules: Rules = [
            {"domains": ["www.site.example"], "ports": [443], "action": "allow"},
            {"domains": ["site.example"]},
        ]
        assert verdict(rules, request(way=DNS, readings=None)).rule == "r0"
        assert verdict(rules, request(way=DNS, readings=None, name="site.example")).rule == "r1"

    def test_what_is_allowed_for_any_name_allows_none(self) -> None:
        rules: Rules = [{"ports": [443], "action": "allow"}, {"domains": ["site.example"]}]
        assert verdict(rules, request(way=DNS, readings=None)).rule == "r1"


class TestSchedules:
    """By the clock on the wall."""

    @pytest.mark.parametrize(
        ("when", "active"),
        [
            ("2026-11-25T08:00", {"school"}),  # a Wednesday
            ("2026-11-25T13:00", set()),
            ("2026-11-28T08:00", set()),  # a Saturday
            ("2026-11-27T23:00", {"night"}),  # Friday night
            ("2026-11-28T05:59", {"night"}),
            ("2026-11-28T06:00", set()),
            ("2026-11-28T23:00", set()),
        ],
    )
    def test_days_and_nights(self, when: str, active: set[str]) -> None:
        schedules = config(
            schedule=[
                {
                    "name": "school",
                    "days": ["mon", "tue", "wed", "thu", "fri"],
                    "since": "08:00",
                    "until": "13:00",
                },
                {"name": "night", "days": ["fri"], "since": "22:00", "until": "06:00"},
            ]
        ).schedule
        assert active_schedules(schedules, datetime.fromisoformat(when)) == active

    def test_an_hour_that_comes_twice_is_in_twice(self) -> None:
        zone = ZoneInfo("Europe/Vienna")
        late = config(schedule=[{"name": "late", "since": "02:00", "until": "03:00"}]).schedule
        moments = [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)]
        assert [active_schedules(late, moment.astimezone(zone)) for moment in moments] == [{"late"}] * 2


class TestExplain:
    """Each rule up to the one that matched says why."""

    def test_all_kinds_of_steps(self) -> None:
        policy = CompiledPolicy(
            config(
                {"users": ["ada"]},
                {"enabled": False},
                {"ports": [80, "8000-9000"]},
                {"domains": ["site.example"], "action": "allow"},
                {},
            )
        )
        found = policy.explain(request(), NOW, LISTS)
        assert found.verdict.rule == "r3"
        assert found.steps == [
            ("r0", False, "the user is not known, not ada"),
            ("r1", False, "it is switched off"),
            ("r2", False, "the port is 443, not 80, 8000-9000"),
            ("r3", True, "all of its conditions hold"),
        ]


NAMES = ["", "a.example", "b.a.example", "c.b.a.example", "x.test"]
PATTERNS = ["a.example", "=a.example", "*.a.example", "b.*.example", "*.example", "test"]
USERS = {"ada": ("staff",), "bob": ("staff", "kids"), "": ()}
ADDRESSES = ["192.0.2.1", "192.0.2.200", "198.51.100.1", "2001:db8::1", "fd00:2::1"]
NETWORKS = ["192.0.2.0/24", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "::/0"]


def some(of: list[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(of), max_size=most, unique_by=str)


RULES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"action": st.sampled_from(["allow", "deny"])},
    optional={
        "enabled": st.booleans(),
        "domains": some(PATTERNS),
        "lists": some(["ads"]),
        "destinations": some(NETWORKS),
        "ports": some([80, 443, "400-500"]),
        "protocols": some(["tcp", "udp"]),
        "ways": some(["transparent", "http", "dns", "published"]),
        "users": some(["ada", "bob"]),
        "groups": some(["staff", "kids"]),
        "devices": some(["tablet"]),
        "sources": some(["fd00:1::/64", "::/0"]),
        "schedules": some(["noon", "night"]),
        "content_types": some(["video/*"]),
    },
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    user = draw(st.sampled_from(sorted(USERS)))
    addresses = draw(st.none() | st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2))
    way = draw(st.sampled_from(["transparent", "http", "dns", "published"]))
    names = st.sampled_from(NAMES)
    return request(
        way=way,
        kind=draw(st.sampled_from(["tcp", "udp"])),
        client=packed(draw(st.sampled_from(["fd00:1::2", "fd00:9::2", "203.0.113.9"]))),
        port=draw(st.sampled_from([80, 443, 450])),
        name=draw(names if way == DNS else st.none() | names),  # a question has one
        readings=None if addresses is None else tuple(packed(address) for address in addresses),
        user=user,
        groups=frozenset(USERS[user]),
        device=draw(st.sampled_from(["", "tablet"])),
        content_type=draw(st.none() | st.sampled_from(["video/mp4", "text/html"])),
    )


@pytest.mark.parametrize(
    "names", [{"lists": ["ads"]}, {"domains": ["*.example"]}, {"domains": ["ads.example"]}]
)
def test_a_question_is_answered_for_what_a_rule_allows_of_it(names: dict[str, Any]) -> None:
    """Though the rule speaks of addresses too, by which the index would have looked for it."""
    policy = CompiledPolicy(
        config(
            {"name": "r0", "action": "allow", "destinations": ["192.0.2.0/24"], **names},
            {"name": "r1", "action": "deny", "domains": ["example"]},
        )
    )
    asked = request(way=DNS, kind="udp", port=53, name="ads.example", readings=None)
    assert policy.decide(asked, NOW, LISTS)[:2] == (True, "r0")


@given(st.lists(RULES, max_size=8), requests(), st.sampled_from(["allow", "deny"]))
def test_the_index_changes_no_verdict(rules: list[dict[str, Any]], asked: Request, default: str) -> None:
    """``decide`` against going through all rules; and what it explains is what it decided."""
    whole = config(
        *rules,
        policy={"default": default},
        group=[Group(name=name) for name in ("staff", "kids")],
        user=[User(name=name, groups=groups) for name, groups in USERS.items() if name],
    )
    policy = CompiledPolicy(whole)
    expected = None
    for rule in policy.rules:
        if not rule.enabled:
            continue
        found = rule.mismatch(asked, NOW, LISTS)
        needed = asked.way == DNS and rule.allow and rule.named  # the name, by what the rule allows
        if found is None or (isinstance(found, Unknown) and needed):
            expected = (rule.allow, rule.name)
            break
    if expected is None:
        expected = (default == "allow" or asked.way in ("published", DNS), "default")
    verdict = policy.decide(asked, NOW, LISTS)
    assert verdict[:2] == expected
    explained = policy.explain(asked, NOW, LISTS)
    assert explained.verdict == verdict
    matched = [step.rule for step in explained.steps if step.matched]
    assert matched == ([verdict.rule] if verdict.rule != "default" and matched else [])


@given(
    st.lists(RULES, max_size=6),
    st.sampled_from([80, 443]),
    st.none() | st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from(ADDRESSES),
)
def test_what_is_not_pending_stays_when_more_is_known(
    rules: list[dict[str, Any]], port: int, known: str | None, name: str, resolved: bool, address: str
) -> None:
    policy = CompiledPolicy(config(*rules))
    readings = (packed(address),)
    before = policy.decide(
        request(name=known, readings=readings if resolved else None, port=port), NOW, LISTS
    )
    if not before.pending:
        later = request(name=known if known is not None else name, readings=readings, port=port)
        assert policy.decide(later, NOW, LISTS).allow is before.allow
