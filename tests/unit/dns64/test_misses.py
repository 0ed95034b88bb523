"""The short way of plain uncached questions gives what the resolver alone gives, to the octet."""

from __future__ import annotations

from collections.abc import Callable

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.codec import parse as parse_config
from appliance.dns64 import misses as misses_module
from appliance.dns64.misses import LATE, Misses, Outbox
from appliance.dns64.resolver import Resolver
from appliance.dns64.synthesis import Synthesis
from appliance.protocol import dns as wire

ADDRESS = ("fd00::2", 4242, 0, 0)
NAME = "v4.example"
Upstream = Callable[[bytes], bytes | None]


class Front:
    """A resolver, with the short way before it or alone. ``upstream`` answers packets, ids included."""

    def __init__(self, upstream: Upstream, short: bool, config: str = "") -> None:
        self.upstream = upstream
        self.now = 1000.0
        self.asked = 0
        self.slow: list[bytes] = []
        self.resolver = Resolver(Synthesis(parse_config(config)), self._ask, lambda: int(self.now))
        self.misses: Misses | None = None
        if short:
            self.misses = Misses(lambda address: address[0])
            self.resolver.follow(self.misses)

    def _ask(self, packet: bytes, timeout: float, answered: Callable[[wire.Message | None], None]) -> None:
        self.asked += 1
        came = self.upstream(packet)
        question = packet[12 : wire.skip_name(packet, 12) + 4]
        if came is None or len(came) < 12 or not wire.answers_question(came, question) or came[2] & 2:
            answered(None)
            return
        try:
            message = wire.parse_answer(came, question)
        except wire.DnsError:
            message = None
        answered(message)

    def get(self, packet: bytes) -> list[bytes]:
        """All answers to a question."""
        outbox: Outbox = []
        left: Outbox = [(packet, ADDRESS)]
        if self.misses is not None:
            left = self.misses.take(left, outbox, self.now)
            while self.misses.questions:
                asked, self.misses.questions = self.misses.questions, []
                self.asked += len(asked)
                self.misses.answered([came for one in asked if (came := self.upstream(one))], self.now)
            self.misses.sweep(self.now + LATE + 0.01)
            odd, self.misses.odd = self.misses.odd, []
            replies = [answer for answer, _ in outbox]
            for miss, answer in odd:
                self.slow.append(miss.packet)
                self.resolver.resume(miss.packet, ADDRESS[0], replies.append, miss.empty, answer)
        else:
            replies = []
        for one, _ in left:
            self.slow.append(one)
            self.resolver.handle(one, ADDRESS[0], False, replies.append)
        return replies


def scripted(aaaa: list[str], a: list[str], rcodes: tuple[int, int] = (0, 0)) -> Upstream:
    """Zone lines for each of the two questions; SOA and NS go into the authority section."""

    def upstream(packet: bytes) -> bytes:
        query = dns.message.from_wire(packet)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA | dns.flags.AD
        second = query.question[0].rdtype == dns.rdatatype.A
        response.set_rcode(dns.rcode.Rcode(rcodes[second]))
        for line in a if second else aaaa:
            name, ttl, rtype, data = line.split(None, 3)
            where = response.authority if rtype in ("SOA", "NS") else response.answer
            if name == "ns.example.":
                where = response.additional
            where.append(dns.rrset.from_text(name, int(ttl), "IN", rtype, data))
        return response.to_wire(max_size=65_535)

    return upstream


def question(name: str = NAME, rtype: str = "AAAA", number: int = 7, **options: object) -> bytes:
    query = dns.message.make_query(name, rtype, **options)  # type: ignore[arg-type]
    query.id = number
    return query.to_wire()


SOA = "example. 300 SOA ns.example. root.example. 1 2 3 4 60"
A = f"{NAME}. 200 A 192.31.196.80"


@pytest.mark.parametrize("edns", [None, 0])
def test_a_plain_miss_never_reaches_the_resolver(edns: int | None) -> None:
    packet = question(use_edns=edns if edns is not None else False)
    fronts = [Front(scripted([SOA], [A]), short) for short in (True, False)]
    short, alone = fronts
    assert short.get(packet) == alone.get(packet)
    assert short.slow == [] and short.asked == 2
    # And it is kept: the second time nobody is asked, and both say the same a minute later.
    for front in fronts:
        front.now += 59
    assert short.get(packet) == alone.get(packet) != []
    assert short.asked == 2
    assert len(short.misses or ()) == 0


@pytest.mark.parametrize(
    "packet",
    [
        question(rtype="A"),
        question(want_dnssec=True),
        question(payload=4096, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")]),
        question("ipv4only.arpa"),
        question("IPV4only.ARPA"),
        question("kept.out"),
        question("deep.in.island.example"),
        question()[:-1],
        question() + b"\0",
        question()[:2] + b"\0\0" + question()[4:],
        question()[:11] + b"\1" + question()[12:],
        b"\0" * 12,
        b"",
    ],
)
def test_what_is_not_plain_is_left(packet: bytes) -> None:
    config = (
        '[[translation]]\nprefix = "64:ff9b::/96"\n[[translation]]\nprefix = "2001:db8:64::/96"\n'
        'networks = ["10.0.0.0/8"]\ndomains = ["island.example"]\n[dns]\nexclude_names = ["kept.out"]\n'
    )
    front = Front(scripted([SOA], [A]), True, config)
    assert front.misses is not None
    assert front.misses.take([(packet, ADDRESS)], [], 1000.0) == [(packet, ADDRESS)]
    assert not front.misses.questions


def test_one_client_has_its_share_only(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(scripted([SOA], [A]), True)
    misses = front.misses
    assert misses is not None
    most = misses_module.MAX_MISSES_PER_CLIENT
    many = [(question(f"n{number}.example"), ADDRESS) for number in range(most + 1)]
    other = (question("other.example"), ("fd00::3", 1, 0, 0))
    assert misses.take([*many, other], [], 1000.0) == many[-1:]
    misses.sweep(1000.0 + LATE)
    assert len(misses) == 0 and len(misses.odd) == most + 1
    assert misses.take(many[:1], [], 1001.0) == []


def test_one_question_of_two_clients_is_asked_once() -> None:
    misses = Front(scripted([SOA], [A]), True).misses
    assert misses is not None
    second = (question(number=9), ("fd00::3", 1, 0, 0))
    assert misses.take([(question(), ADDRESS), second], [], 1000.0) == [second]


def test_what_was_asked_by_older_rules_is_given_back() -> None:
    front = Front(scripted([SOA], [A]), True)
    misses = front.misses
    assert misses is not None
    outbox: Outbox = []
    misses.take([(question(), ADDRESS)], outbox, 1000.0)
    front.resolver.configure(Synthesis(parse_config('[[translation]]\nprefix = "2001:db8:64::/96"\n')))
    misses.answered([front.upstream(one) or b"" for one in misses.questions], 1000.1)
    ((miss, _),) = misses.odd
    assert not outbox and not misses.current(miss)


def test_an_answer_to_nothing_is_counted() -> None:
    misses = Front(scripted([SOA], [A]), True).misses
    assert misses is not None
    misses.take([(question(), ADDRESS)], [], 1000.0)
    (asked,) = misses.questions
    answer = scripted([SOA], [A])(asked)
    assert answer is not None
    wrong_id = bytes((asked[0] ^ 1, *answer[1:]))
    wrong_name = answer.replace(b"\2v4", b"\2v5")
    misses.answered([wrong_id, wrong_name, asked, b"short"], 1000.0)
    assert misses.mismatched == 3 and len(misses) == 1


AAAA_LINES = st.lists(
    st.sampled_from(
        [
            SOA,
            "example. 0 SOA ns.example. root.example. 1 2 3 4 90000",
            f"{NAME}. 300 AAAA 2001:db8::1",
            f"{NAME}. 300 AAAA ::ffff:192.0.2.1",
            f"{NAME}. 40 CNAME www.example.",
            "ns.example. 60 A 192.31.196.1",
        ]
    ),
    max_size=3,
    unique=True,
)
A_LINES = st.lists(
    st.sampled_from(
        [
            A,
            f"{NAME}. 100000 A 192.31.196.81",
            f"{NAME}. 10 A 10.0.0.1",
            f"{NAME}. 40 CNAME www.example.",
            "www.example. 30 A 192.31.196.82",
            "example. 60 NS ns.example.",
            "ns.example. 60 A 192.31.196.1",
            SOA,
        ]
    ),
    max_size=4,
    unique=True,
)
QUESTIONS = st.sampled_from(
    [
        question(),
        question(use_edns=0, payload=512),
        question(use_edns=0, payload=4096),
        question("V4.eXample"),
        question(want_dnssec=True),
        question()[:2] + b"\1\x20" + question()[4:],
        question()[:2] + b"\1\x10" + question()[4:],
    ]
)


@given(QUESTIONS, AAAA_LINES, A_LINES, st.sampled_from([0, 2, 3, 5]), st.sampled_from([0, 2, 3]))
def test_both_ways_are_one(packet: bytes, aaaa: list[str], a: list[str], first: int, second: int) -> None:
    upstream = scripted(aaaa, a, (first, second))
    short, alone = Front(upstream, True), Front(upstream, False)
    assert short.get(packet) == alone.get(packet)
    for front in (short, alone):
        front.now += 7
    assert short.get(packet) == alone.get(packet)


@given(
    QUESTIONS,
    st.sampled_from(["AAAA", "A"]),
    st.lists(st.tuples(st.integers(2, 200), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_both_ways_take_damage_alike(
    packet: bytes, which: str, octets: list[tuple[int, int]], cut: int
) -> None:
    sound = scripted([SOA], [A, "example. 60 NS ns.example.", "ns.example. 60 A 192.31.196.1"])
    damaged_type = 28 if which == "AAAA" else 1

    def upstream(asked: bytes) -> bytes | None:
        answer = bytearray(sound(asked) or b"")
        end = wire.skip_name(asked, 12)
        if asked[end : end + 2] == damaged_type.to_bytes(2, "big"):
            for offset, value in octets:
                if offset < len(answer):
                    answer[offset] = value
            if cut == 1:
                answer = answer[:-1]
            elif cut == 2:
                answer += b"\0"
        return bytes(answer)

    short, alone = Front(upstream, True), Front(upstream, False)
    assert short.get(packet) == alone.get(packet)
