"""Mutated packets against the whole sans-IO core: nothing is raised, nothing grows without end.

FUZZ_PACKETS=1000000 sends a million (about half a minute); the default is for every run of the slow tests.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path

import dns.message
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.config.codec import parse as parse_config
from appliance.dns64 import cache
from appliance.dns64.resolver import Resolver
from appliance.dns64.synthesis import NeedA, Synthesis
from appliance.protocol import dns as wire

PACKETS = int(os.environ.get("FUZZ_PACKETS", "100000"))
# The cache's own bound is reached by then; what grows further is a leak.
MEMORY = 96 << 20
CONFIG = """
[dns]
exclude_names = ["excluded.example"]
exclude_clients = ["fd00::bad/128"]
exclude_prefixes = ["2001:db8:bad::/48"]
exclude_ipv4 = ["192.31.196.128/25"]
[[translation]]
prefix = "64:ff9b::/96"
[[translation]]
prefix = "2001:db8:1::/48"
networks = ["10.0.0.0/8"]
domains = ["corp.example"]
"""

Answered = Callable[[wire.Message | None], None]

_ASKED = b"\xc0\x0c"  # a pointer to the question's name


def _record(owner: bytes, rtype: int, ttl: int, data: bytes) -> bytes:
    return (
        owner
        + rtype.to_bytes(2, "big")
        + b"\0\1"
        + ttl.to_bytes(4, "big")
        + len(data).to_bytes(2, "big")
        + data
    )


def _a(owner: bytes, *octets: int) -> bytes:
    return _record(owner, wire.A, 60, bytes(octets))


def _aaaa(address: str) -> bytes:
    return _record(_ASKED, wire.AAAA, 60, IPv6Address(address).packed)


_ALIAS = b"\1c" + _ASKED
_OTHER = wire.wire_name("x.example.net")
_SOA = wire.wire_name("ns.example") + wire.wire_name("root.example") + bytes(16) + (200).to_bytes(4, "big")
# Numbers of answers and authorities, and the records.
_ANSWERS = (
    (0, 0, b""),
    (0, 1, _record(wire.wire_name("example"), wire.SOA, 300, _SOA)),
    (1, 0, _a(_ASKED, 192, 31, 196, 80)),
    (
        3,
        0,
        _record(_ASKED, wire.CNAME, 60, _ALIAS) + _a(_ALIAS, 192, 31, 196, 80) + _a(_ALIAS, 10, 0, 0, 1),
    ),
    (2, 0, _aaaa("::ffff:1.2.3.4") + _aaaa("2001:db8::1")),
    (1, 0, _aaaa("2001:db8:bad::1")),
    (1, 0, _record(_ASKED, wire.PTR, 60, b"\4host" + _ASKED)),
    (
        3,
        0,
        _record(wire.wire_name("example"), wire.DNAME, 60, wire.wire_name("example.net"))
        + _record(_ASKED, wire.CNAME, 60, _OTHER)
        + _a(_OTHER, 192, 31, 196, 200),
    ),
)


def _seeds() -> list[bytes]:
    names = ("v4.example.", "a.corp.example.", "x.excluded.example.", "ipv4only.arpa.", ".", "a." * 120)
    pointer = "1.0.0.0.0.0.a.0" + ".0" * 16 + ".b.9.f.f.4.6.0.0.ip6.arpa."
    found = []
    for name in (*names, pointer):
        for rtype in ("A", "AAAA", "PTR", "HTTPS", "ANY", "DS", "SOA"):
            query = dns.message.make_query(name, rtype)
            found.append(query.to_wire())
            query.use_edns(0, wire.DO, 1400)
            found.append(query.to_wire())
    return found


def mutated(packet: bytes, rng: random.Random) -> bytes:
    """The packet with a few octets changed, cut out, doubled or put in; one in eight is untouched."""
    out = bytearray(packet)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 4, 8))):
        if not out:
            break
        at = rng.randrange(len(out))
        kind = rng.randrange(5)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[at : at + rng.randrange(1, 8)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 24)]
        else:
            out[at:at] = rng.choice((b"\xc0\x0c", b"\xff\xff", b"\0\0\x29\x05", bytes(4)))
    return bytes(out)


class Upstream:
    """Answers at once: what the question deserves, damaged as a hostile server might, or not at all."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def ask(self, packet: bytes, timeout: float, answered: Answered) -> None:
        if self.rng.random() < 0.05:
            answered(None)
            return
        end = wire.skip_name(packet, wire.HEADER) + 4
        question = packet[wire.HEADER : end]
        answers, authorities, records = self.rng.choice(_ANSWERS)
        head = bytes((0, 0, 0x81, self.rng.choice((0x80, 0x80, 0x80, 0xA0, 0x82, 0x83, 0x85)), 0, 1, 0))
        counts = bytes((answers, 0, authorities, 0, packet[11]))
        damaged = mutated(head + counts + question + records + packet[end:], self.rng)
        try:
            # As upstream.Upstream does: what is no answer to the question is not looked at.
            fits = len(damaged) >= wire.HEADER and wire.answers_question(damaged, question)
            answer = wire.parse_answer(damaged, question) if fits else None
        except wire.DnsError:
            answer = None
        answered(answer)


def resident() -> int:
    """Octets of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
def test_mutated_packets() -> None:
    seed = int(os.environ.get("FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
    print(f"FUZZ_SEED={seed}")  # pytest shows it with a failure
    rng = random.Random(seed)
    now = 0
    resolver = Resolver(Synthesis(parse_config(CONFIG)), Upstream(rng).ask, lambda: now)
    seeds = _seeds()
    before = resident()
    answered = 0
    for number in range(PACKETS):
        now = number // 1_000
        packet = mutated(rng.choice(seeds), rng)
        replies: list[bytes] = []
        resolver.handle(
            packet, rng.choice(("fd00::2", "fd00::bad", "fe80::1%lan0")), bool(number & 1), replies.append
        )
        assert len(replies) <= 1
        for reply in replies:
            answered += 1
            assert reply[:2] == packet[:2] and reply[2] & 0x80
            assert number & 1 or len(reply) <= wire.EDNS_SIZE
        if number % 20_000 == 0:
            assert resident() - before < MEMORY
    assert resident() - before < MEMORY
    assert answered > PACKETS // 2
    assert dns.message.from_wire(_last(resolver)).answer, "alive, and right"


def _last(resolver: Resolver) -> bytes:
    out: list[bytes] = []
    resolver.handle(dns.message.make_query("ipv4only.arpa.", "AAAA").to_wire(), "fd00::2", True, out.append)
    return out[0]


_owners = st.sampled_from(["v4.example.", "c.v4.example.", "host.test."])
_records = st.lists(
    st.one_of(
        st.tuples(_owners, st.integers(0, 900), st.just("A"), st.ip_addresses(v=4).map(str)),
        st.tuples(_owners, st.integers(0, 900), st.just("CNAME"), _owners),
        st.tuples(_owners, st.integers(0, 900), st.just("TXT"), st.just("x")),
    ),
    max_size=6,
)


@given(_records, st.booleans(), st.integers(0, 600))
def test_the_quick_way_and_the_long_one_mean_the_same(
    records: list[tuple[str, int, str, str]], edns: bool, cap: int
) -> None:
    query = dns.message.make_query("v4.example.", "AAAA", use_edns=0 if edns else -1)
    told = dns.message.make_response(dns.message.make_query("v4.example.", "A", use_edns=0 if edns else -1))
    for owner, ttl, rtype, data in records:
        told.answer.append(dns.rrset.from_text(owner, ttl, "IN", rtype, data))
    synthesis = Synthesis(parse_config(CONFIG))
    asked = wire.parse(query.to_wire())
    answer = wire.parse(told.to_wire())
    quick = synthesis._patched(asked, cap, answer, b"")
    written, made = synthesis._rewritten(asked, cap, answer, b"")
    whole = synthesis.answer_from_a(asked, NeedA(cap, None), answer)
    assert dns.message.from_wire(whole.packet).question == query.question
    if quick is None:
        return
    assert made
    long = cache.answer_of(written)
    a, b = dns.message.from_wire(quick.packet), dns.message.from_wire(long.packet)
    assert (a.flags, a.edns, a.payload) == (b.flags, b.edns, b.payload)
    assert [r.to_text() for r in a.answer] == [r.to_text() for r in b.answer]
    assert quick.seconds == long.seconds
    parsed = wire.parse(quick.packet)
    assert quick.fields == tuple((record.ttl_offset - 2, record.ttl) for record in parsed.records)


@given(st.lists(st.tuples(st.integers(28, 90), st.integers(0, 255)), max_size=3))
@example([(28 + 1, 13)])  # the CNAME's owner, into the middle of a label
@example([(28 + 12 + 6, 0x61)])  # the CNAME's data runs on
@example([(28 + 12 + 6 + 1, 25)])  # the address's owner, into the question's type, which changes
def test_an_answer_that_cannot_be_read_is_not_passed_on(damage: list[tuple[int, int]]) -> None:
    """The resolver behind us need not be unbound: what the quick way keeps of its answer is read."""
    told = dns.message.make_response(dns.message.make_query("v4.example.", "A"))
    told.answer.append(dns.rrset.from_text("v4.example.", 60, "IN", "CNAME", "www.v4.example."))
    told.answer.append(dns.rrset.from_text("www.v4.example.", 60, "IN", "A", "192.31.196.80"))
    packet = bytearray(told.to_wire())
    for offset, value in damage:
        if offset < len(packet):
            packet[offset] = value
    asked = wire.parse(dns.message.make_query("v4.example.", "AAAA").to_wire())
    synthesis = Synthesis(parse_config(CONFIG))
    try:
        quick = synthesis._patched(asked, 60, wire.parse(bytes(packet)), b"")
    except wire.DnsError:
        return
    if quick is not None:
        assert len(dns.message.from_wire(quick.packet).answer) >= 1
