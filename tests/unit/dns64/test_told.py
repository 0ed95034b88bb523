"""Who was told what is noted before the answer leaves, once, and by the name that was asked for."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dns64 import told as told_module
from appliance.dns64.cache import Answer, Cache, Entry
from appliance.dns64.misses import Misses, Outbox
from appliance.dns64.resolver import Resolver
from appliance.dns64.synthesis import Synthesis
from appliance.dns64.told import MAX_ADDRESSES, Told, addresses_in, name_in, packed
from tests.unit.dns64.test_misses import Front
from tests.unit.dns64.test_resolver import SOA, Bench

GRACE = 600
CLIENT = "fd00::2"


class Notes:
    """What was stored: client and address as text, name, until."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, int]] = []

    def store(self, client: bytes, address: bytes, name: bytes, now: int, until: int) -> None:
        shown = IPv6Address(address)
        where = str(shown.ipv4_mapped or shown)
        self.rows.append((str(IPv6Address(client)), where, name.decode(), until))

    def take(self) -> list[tuple[str, str, str, int]]:
        rows, self.rows = self.rows, []
        return rows


def answer(question: str, *lines: str) -> bytes:
    """An answer without its id."""
    name, rtype = question.split()
    response = dns.message.make_response(dns.message.make_query(name, rtype))
    for line in lines:
        response.answer.append(rrset(line))
    return response.to_wire()[2:]


def rrset(line: str) -> dns.rrset.RRset:
    name, ttl, rclass, rtype, data = line.split(None, 4)
    return dns.rrset.from_text(name, int(ttl), rclass, rtype, data)


def entry(tail: bytes, now: int = 100) -> Entry:
    packet = b"\0\0" + tail
    return Cache().put(tail, Answer(packet, 60, ()), packet, now)


def told_bench(config: str = "", **script: object) -> tuple[Bench, Notes]:
    box, notes = Bench(config), Notes()
    box.script = {key.replace("__", " ").replace("_", "."): lines for key, lines in script.items()}
    box.resolver.told = Told(notes.store, GRACE)
    return box, notes


def test_synthesised_and_real_addresses_behind_any_chain() -> None:
    box, notes = told_bench(
        v4_example__AAAA=SOA.format(ttl=60, minimum=60),
        v4_example__A="v4.example 300 IN A 192.31.196.1\nv4.example 300 IN A 192.31.196.2",
        v6_example__AAAA="v6.example 300 IN AAAA 2001:db8::1",
        www_example__AAAA=SOA.format(ttl=60, minimum=60),
        www_example__A="www.example 30 IN CNAME cdn.example.\ncdn.example 30 IN A 192.31.196.3",
        no_example__AAAA=SOA.format(ttl=60, minimum=60),
        no_example__A=SOA.format(ttl=60, minimum=60),
    )
    box.get("V4.Example")
    until = box.now + 60 + GRACE
    assert notes.take() == [
        (CLIENT, "64:ff9b::c01f:c401", "v4.example", until),
        (CLIENT, "64:ff9b::c01f:c402", "v4.example", until),
    ]
    box.get("v6.example")
    assert notes.take() == [(CLIENT, "2001:db8::1", "v6.example", box.now + 300 + GRACE)]
    box.get("www.example")
    assert notes.take() == [(CLIENT, "64:ff9b::c01f:c403", "www.example", box.now + 30 + GRACE)]
    box.get("v4.example", "A")
    assert [row[:3] for row in notes.take()] == [
        (CLIENT, "192.31.196.1", "v4.example"),
        (CLIENT, "192.31.196.2", "v4.example"),
    ]
    box.get("no.example")
    assert notes.take() == []


def test_a_hit_is_noted_once_for_each_client() -> None:
    box, notes = told_bench(v6_example__AAAA="v6.example 300 IN AAAA 2001:db8::1")
    for _ in range(3):
        box.get("v6.example")
        box.now += 1
    assert len(notes.take()) == 1
    box.get("v6.example", client=IPv6Address("fd00::3"))
    assert [row[0] for row in notes.take()] == ["fd00::3"]
    box.now += 400  # asked for anew
    box.get("v6.example")
    assert notes.take() == [(CLIENT, "2001:db8::1", "v6.example", box.now + 300 + GRACE)]


def test_the_name_asked_last_is_noted_over_the_other() -> None:
    box, notes = told_bench(
        a_example__AAAA="a.example 300 IN AAAA 2001:db8::1",
        b_example__AAAA="b.example 300 IN AAAA 2001:db8::1",
    )
    for name in ("a.example", "b.example", "a.example", "a.example"):
        box.now += 1
        box.get(name)
    assert [row[2] for row in notes.take()] == ["a.example", "b.example", "a.example"]


def test_it_is_noted_before_the_answer_leaves() -> None:
    box, notes = told_bench(v6_example__AAAA="v6.example 300 IN AAAA 2001:db8::1")
    seen: list[int] = []
    query = dns.message.make_query("v6.example", "AAAA").to_wire()
    box.resolver.handle(query, CLIENT, False, lambda _: seen.append(len(notes.rows)))
    box.resolver.handle(query, "fd00::3", False, lambda _: seen.append(len(notes.rows)))
    assert seen == [1, 2]
    box.resolver.quick(query, "fd00::4", box.now)
    assert len(notes.rows) == 3


def test_everybody_who_waits_is_noted() -> None:
    box, notes = told_bench(v6_example__AAAA="v6.example 0 IN AAAA 2001:db8::1")
    box.held = []
    query = dns.message.make_query("v6.example", "AAAA").to_wire()
    for client in ("fd00::2", "fd00::3", "fe80::1%lan0", "192.0.2.1"):
        box.resolver.handle(query, client, False, lambda _: None)
    box.held.pop()()
    clients = ["fd00::2", "fd00::3", "fe80::1", "::ffff:192.0.2.1"]
    assert [(IPv6Address(row[0]), row[3]) for row in notes.take()] == [
        (IPv6Address(client), box.now + GRACE) for client in clients
    ]


def test_the_short_way() -> None:
    notes = Notes()
    told = Told(notes.store, GRACE)

    def upstream(packet: bytes) -> bytes:
        query = dns.message.from_wire(packet)
        response = dns.message.make_response(query)
        if query.question[0].rdtype == 1:
            response.answer.append(
                dns.rrset.from_text(query.question[0].name, 300, "IN", "A", "192.31.196.1")
            )
        else:
            response.authority.append(rrset(SOA.format(ttl=60, minimum=60)))
        return response.to_wire()

    front = Front(upstream, short=False)
    misses = front.misses = Misses(lambda address: packed(address[0]), told)
    front.resolver.follow(misses)
    query = dns.message.make_query("V4.example", "AAAA")
    assert len(front.get(query.to_wire())) == 1 and not front.slow
    assert notes.take() == [(CLIENT, "64:ff9b::c01f:c401", "v4.example", int(front.now) + 60 + GRACE)]
    outbox: Outbox = []
    assert misses.take([(query.to_wire(), ("fd00::3", 1, 0, 0))], outbox, front.now) == [] and outbox
    assert [row[0] for row in notes.take()] == ["fd00::3"]


def test_without_a_table_names_are_answered_all_the_same() -> None:
    box = Bench()
    box.script = {"v6.example AAAA": "v6.example 300 IN AAAA 2001:db8::1"}
    assert box.resolver.told is None and len(box.get("v6.example").answer) == 1
    assert isinstance(box.resolver, Resolver) and isinstance(box.resolver.synthesis, Synthesis)


def test_hints_of_https() -> None:
    tail = answer(
        "a.example HTTPS",
        'a.example. 60 IN HTTPS 1 . alpn="h3" ipv4hint="192.0.2.1,192.0.2.2" ipv6hint="2001:db8::1"',
    )
    assert [str(IPv6Address(one).ipv4_mapped or IPv6Address(one)) for one in addresses_in(tail)] == [
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::1",
    ]


def test_an_answer_of_very_many_addresses_is_noted_in_part() -> None:
    lines = [f"a.example. 60 IN AAAA 2001:db8::{number:x}" for number in range(100)]
    assert len(addresses_in(answer("a.example AAAA", *lines))) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("A.Example AAAA", "a.example"),
        (". AAAA", ""),
        ("x AAAA", "x"),
        (r"a\.b.\000\255*.example AAAA", "a?b.???.example"),
        (f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61} AAAA", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}"),
    ],
)
def test_names(question: str, name: str) -> None:
    assert name_in(answer(question)) == name


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    told = Told(notes.store, GRACE)
    kept = entry(answer("a.example AAAA", "a.example. 60 IN AAAA 2001:db8::1"))
    for number in range(100_000):
        told.tell(number.to_bytes(16, "big"), kept, 100)
    assert len(notes.take()) == 100_000
    told.tell((99_999).to_bytes(16, "big"), kept, 101)
    told.tell((0).to_bytes(16, "big"), kept, 101)  # forgotten, so noted again
    assert [int(ip_address(row[0])) for row in notes.take()] == [0]
    assert told_module.MAX_NOTED < 100_000
    told.forget()
    told.tell((0).to_bytes(16, "big"), kept, 101)
    assert len(notes.take()) == 1


@given(st.binary(min_size=17, max_size=100))
def test_any_answer(noise: bytes) -> None:
    """What is kept was read before; the rest may be anything."""
    head = b"\x81\x80\0\1\0\x05\0\0\0\0" + b"\x01a\x07example\0\0\x1c\0\1"
    for one in addresses_in(head + noise):
        assert len(one) == 16
