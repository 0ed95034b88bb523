"""Denied names: for every type that leads to addresses, by every way to an answer, and told to people."""

from __future__ import annotations

from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config
from appliance.config.codec import parse as parse_config
from appliance.dns64.gate import MAX_REMEMBERED, Gate, may_deny
from appliance.dns64.misses import Misses, Outbox
from appliance.dns64.told import packed
from appliance.policy.name_table import EXACT, TableBuilder
from appliance.session.tables import LOOK, Tables
from tests.unit.dns64.test_misses import SOA, A, Front, scripted
from tests.unit.dns64.test_resolver import Bench

CLIENT = "fd00::2"
NOON = 1_795_003_200.0  # 12:00 UTC, a Wednesday
ADS = '[[rule]]\nname = "no ads"\naction = "deny"\ndomains = ["ads.example"]\n'.replace("no ads", "no-ads")


class Devices:
    """fd00::7 is the television."""

    def device_of(self, client: bytes, now: float) -> str:
        return "tv" if client == packed("fd00::7") else ""


class Gated:
    """A resolver with a policy, a script for its upstream, and a wall clock of its own."""

    def __init__(self, config: str, folder: Path) -> None:
        self.wall = NOON
        self.lists = Tables(folder)
        self.gate = Gate(parse_config(config), self.lists, Devices(), lambda: self.wall)
        self.bench = Bench()
        self.bench.resolver.configure(self.bench.resolver.synthesis, self.gate)
        for name in ("ads.example", "www.ads.example", "good.example"):
            self.bench.script[f"{name} AAAA"] = f"{name} 300 IN AAAA 2001:db8::1"

    def answers(self, name: str) -> bool:
        """Whether a question for AAAA gets an address."""
        query = dns.message.make_query(name, "AAAA", use_edns=True)
        out: list[bytes] = []
        self.bench.resolver.handle(query.to_wire(), CLIENT, False, out.append)
        return any(rrset.rdtype == dns.rdatatype.AAAA for rrset in dns.message.from_wire(out[0]).answer)

    def is_denied(self, name: str, rtype: str = "AAAA", client: str = CLIENT) -> bool:
        asked = len(self.bench.asked)
        query = dns.message.make_query(name, rtype, use_edns=True)
        out: list[bytes] = []
        self.bench.resolver.handle(query.to_wire(), client, False, out.append)
        answer = dns.message.from_wire(out[0])
        assert answer.id == query.id and answer.question == query.question
        reasons = [o for o in answer.options if isinstance(o, dns.edns.EDEOption)]
        assert bool(reasons) == (not answer.answer and bool(answer.authority))
        if reasons:
            assert len(self.bench.asked) == asked, "what is denied is asked of nobody"
        return bool(reasons)


def test_the_answer(tmp_path: Path) -> None:
    gated = Gated(ADS, tmp_path)
    query = dns.message.make_query("WWW.ads.example", "AAAA", use_edns=True)
    out: list[bytes] = []
    gated.bench.resolver.handle(query.to_wire(), CLIENT, True, out.append)
    answer = dns.message.from_wire(out[0])
    assert answer.rcode() == 0 and not answer.answer
    (soa,) = answer.authority
    assert soa.to_text().startswith("WWW.ads.example. 10 IN SOA isthmus.invalid. isthmus.invalid. 1 ")
    (reason,) = answer.options
    assert isinstance(reason, dns.edns.EDEOption)
    assert (reason.code, reason.text) == (15, "rule no-ads")
    plain = dns.message.make_query("ads.example", "AAAA", use_edns=False)
    out.clear()
    gated.bench.resolver.handle(plain.to_wire(), CLIENT, True, out.append)
    assert dns.message.from_wire(out[0]).edns == -1
    assert gated.gate.denied >= 2


def test_any_class_has_what_the_internets_has(tmp_path: Path) -> None:
    gate = Gate(parse_config(ADS), Tables(tmp_path), Devices(), lambda: NOON)
    query = dns.message.make_query("ads.example", "A", "ANY")
    assert gate.denies(packed(CLIENT), query.to_wire()[2:], 1) == "no-ads"


@pytest.mark.parametrize("rtype", ["A", "AAAA", "HTTPS", "SVCB", "ANY"])
def test_denied_for_all_types_that_lead_to_addresses(rtype: str, tmp_path: Path) -> None:
    gated = Gated(ADS, tmp_path)
    assert gated.is_denied("ads.example", rtype) and gated.is_denied("a.b.ADS.example", rtype)
    assert not gated.is_denied("good.example", rtype) and not gated.is_denied("badads.example", rtype)


@pytest.mark.parametrize("rtype", ["MX", "TXT", "SRV", "NS"])
def test_other_types_pass(rtype: str, tmp_path: Path) -> None:
    assert not Gated(ADS, tmp_path).is_denied("ads.example", rtype)


def test_a_rule_that_comes_after_the_answer_was_kept(tmp_path: Path) -> None:
    gated = Gated(ADS, tmp_path)
    resolver = gated.bench.resolver
    resolver.configure(resolver.synthesis)
    assert not gated.is_denied("ads.example")
    kept = resolver._normal.cache
    resolver.configure(resolver.synthesis, gated.gate)
    resolver._normal.cache = kept
    assert gated.is_denied("ads.example")
    query = dns.message.make_query("ads.example", "AAAA", use_edns=True).to_wire()
    assert resolver.quick(query, CLIENT, gated.bench.now) is None


def test_subjects_and_order(tmp_path: Path) -> None:
    config = (
        '[[device]]\nname = "tv"\nmacs = ["02:00:5e:10:00:01"]\n'
        '[[rule]]\nname = "r0"\naction = "allow"\ndevices = ["tv"]\ndomains = ["ads.example"]\n'
        '[[rule]]\nname = "r1"\naction = "deny"\nsources = ["fd00::/125"]\ndomains = ["ads.example"]\n'
    )
    gated = Gated(config, tmp_path)
    assert gated.is_denied("ads.example")
    assert not gated.is_denied("ads.example", client="fd00::7")
    assert not gated.is_denied("ads.example", client="fd00::9")
    assert not gated.is_denied("ads.example", client="::1")


def test_schedules_go_by_the_wall(tmp_path: Path) -> None:
    config = (
        '[[schedule]]\nname = "lunch"\nsince = "12:00"\nuntil = "13:00"\n' + ADS + 'schedules = ["lunch"]\n'
    )
    gated = Gated(config, tmp_path)
    assert gated.is_denied("ads.example")
    gated.wall += 3_600
    gated.bench.now += 3_600
    assert not gated.is_denied("ads.example")


def test_lists_are_taken_up(tmp_path: Path) -> None:
    config = (
        '[[name_list]]\nname = "ads"\nsource = "/ads"\n'
        '[[rule]]\nname = "r0"\naction = "deny"\nlists = ["ads"]\n'
    )
    gated = Gated(config, tmp_path)
    assert not gated.is_denied("good.example")
    builder = TableBuilder(bytes(16))
    builder.add(b"good.example", EXACT)
    with (tmp_path / ".new").open("wb") as out:
        builder.write(out)
    (tmp_path / ".new").rename(tmp_path / "ads.table")
    gated.bench.now += int(LOOK)
    assert gated.is_denied("good.example") and gated.lists.hits() == {"ads": 1}


@pytest.mark.parametrize(
    ("rule", "may"),
    [
        ({}, True),
        ({"ways": ["dns"]}, True),
        ({"enabled": False}, False),
        ({"action": "allow"}, False),
        ({"ways": ["http"]}, False),
        ({"ports": [443]}, False),
        ({"protocols": ["udp"]}, False),
        ({"destinations": ["192.0.2.0/24"]}, False),
        ({"urls": ["a.example/x"]}, False),
        ({"larger_than": 5}, False),
    ],
)
def test_which_rules_may_deny(rule: dict[str, object], may: bool, tmp_path: Path) -> None:
    config = Config.model_validate(
        {"rule": [{"name": "r", "action": "deny", "domains": ["ads.example"], **rule}]}
    )
    assert may_deny(config.rule[0]) is may
    gate = Gate(config, Tables(tmp_path), Devices(), lambda: NOON)
    tail = dns.message.make_query("ads.example", "AAAA").to_wire()[2:]
    assert gate.denies(packed(CLIENT), tail, 1) == ("r" if may else "")


def test_the_short_way_takes_nothing_that_is_denied(tmp_path: Path) -> None:
    upstream = scripted([SOA], [A])
    front = Front(upstream, short=False)
    misses = front.misses = Misses(lambda address: packed(address[0]))
    front.resolver.follow(misses)
    query = dns.message.make_query("v4.example", "AAAA").to_wire()
    front.get(query)
    config = parse_config(ADS.replace("ads.example", "v4.example"))
    gate = Gate(config, Tables(tmp_path), Devices(), lambda: NOON)
    front.resolver.configure(front.resolver.synthesis, gate)
    front.slow.clear()
    asked = front.asked
    (reply,) = front.get(query)
    assert front.slow == [query] and front.asked == asked
    assert not dns.message.from_wire(reply).answer
    outbox: Outbox = []
    left: Outbox = [(query, ("fd00::3", 1, 0, 0))]
    assert misses.take(left, outbox, front.now) == left and not outbox


def test_memory_is_bounded(tmp_path: Path) -> None:
    gate = Gate(parse_config(ADS), Tables(tmp_path), Devices(), lambda: NOON)
    tail = dns.message.make_query("x.example", "AAAA").to_wire()[2:]
    for number in range(MAX_REMEMBERED + 10):
        gate.denies(number.to_bytes(16, "big"), tail, 1)
    assert (
        gate.denies(packed(CLIENT), dns.message.make_query("ads.example", "A").to_wire()[2:], 1) == "no-ads"
    )


@given(st.binary(max_size=300))
def test_any_octets(noise: bytes) -> None:
    gate = Gate(parse_config(ADS), Tables(Path("/nonexistent")), Devices(), lambda: NOON)
    head = b"\1\0\0\1\0\0\0\0\0\0"
    for tail in (noise, head + noise, head + b"\3ads\7example\0" + noise):
        assert gate.denies(packed(CLIENT), tail, 1) in ("", "no-ads")


class TestAliases:
    """A name whose answer passes through a denied one."""

    LISTED = (
        '[[name_list]]\nname = "trackers"\nsource = "/t"\n'
        '[[rule]]\nname = "no-trackers"\naction = "deny"\nlists = ["trackers"]\n'
    )
    OWN = '[[rule]]\nname = "no-evil"\naction = "deny"\ndomains = ["evil.example"]\n'
    ALLOWED = '[[rule]]\nname = "mine"\naction = "allow"\ndomains = ["shop.example"]\n'

    def gated(self, config: str, folder: Path) -> Gated:
        builder = TableBuilder(bytes(16))
        builder.add(b"tracker.example", EXACT)
        with (folder / "trackers.table").open("wb") as stream:
            builder.write(stream)
        made = Gated(config, folder)
        for target in ("tracker.example", "evil.example", "good.example"):
            made.bench.script[f"{target}.shop.example AAAA"] = (
                f"{target}.shop.example. 300 IN CNAME {target}.\n{target}. 300 IN AAAA 2001:db8::1"
            )
        return made

    @pytest.mark.parametrize(
        ("mode", "denied"),
        [("lists", {"tracker.example"}), ("all", {"tracker.example", "evil.example"}), ("off", set())],
    )
    def test_by_the_setting(self, tmp_path: Path, mode: str, denied: set[str]) -> None:
        gated = self.gated(f'[policy]\naliases = "{mode}"\n' + self.LISTED + self.OWN, tmp_path)
        for target in ("tracker.example", "evil.example", "good.example"):
            assert gated.answers(f"{target}.shop.example") is (target not in denied)
            assert gated.answers(f"{target}.shop.example") is (target not in denied), "from the cache, too"

    def test_a_rule_that_allows_without_a_word_of_names(self, tmp_path: Path) -> None:
        """As by the client's network, and by it alone where the default is to deny."""
        allowed = '[[rule]]\nname = "lan"\naction = "allow"\nsources = ["fd00::/16"]\n'
        gated = self.gated('[policy]\ndefault = "deny"\n' + self.LISTED + allowed, tmp_path)
        assert not gated.answers("tracker.example.shop.example")
        assert gated.answers("good.example.shop.example")

    def test_other_types_than_those_that_lead_to_addresses(self, tmp_path: Path) -> None:
        """As mail's keys, which are often behind a CNAME."""
        gated = self.gated(self.LISTED, tmp_path)
        gated.bench.script["key.shop.example TXT"] = (
            'key.shop.example. 300 IN CNAME tracker.example.\ntracker.example. 300 IN TXT "v=DKIM1"'
        )
        query = dns.message.make_query("key.shop.example", "TXT", use_edns=True)
        out: list[bytes] = []
        gated.bench.resolver.handle(query.to_wire(), CLIENT, False, out.append)
        assert len(dns.message.from_wire(out[0]).answer) == 2

    def test_the_name_that_a_rule_allows_is_answered(self, tmp_path: Path) -> None:
        gated = self.gated(self.ALLOWED + self.LISTED, tmp_path)
        assert gated.answers("tracker.example.shop.example")
