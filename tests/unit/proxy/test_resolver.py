"""The resolver over real sockets on loopback, the test being unbound, and a clock that the test moves."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Failure
from appliance.proxy import resolver as module
from appliance.proxy.lan import Lan, networks_beside
from appliance.proxy.loop import Loop
from appliance.proxy.relay import EPOLLIN
from appliance.proxy.resolver import Answer, Resolver
from tests.unit.proxy.simulation import START, Kernel

SOA = "example. 40 IN SOA ns.example. root.example. 1 2 3 4 20"


class Bench:
    """A resolver, and the socket that it asks."""

    def __init__(self) -> None:
        self.server = socket.socket(AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.server.settimeout(0.2)
        self.kernel = Kernel()
        self.loop = Loop(self.kernel)
        self.resolver = Resolver(self.loop, self.server.getsockname())
        self.peer: Any = None
        self.answers: list[Answer] = []

    def close(self) -> None:
        self.resolver.close()
        self.loop.close_buried()
        self.server.close()

    def resolve(self, name: str = "www.example") -> None:
        self.resolver.resolve(name, self.answers.append)

    def questions(self) -> list[dns.message.QueryMessage]:
        """What has been asked since."""
        found: list[dns.message.QueryMessage] = []
        self.server.setblocking(False)
        while True:
            try:
                data, self.peer = self.server.recvfrom(2_000)
            except BlockingIOError:
                return found
            query = dns.message.from_wire(data)
            assert isinstance(query, dns.message.QueryMessage)
            found.append(query)

    def send(self, data: bytes) -> None:
        self.server.sendto(data, self.peer)
        self.resolver.on_event(EPOLLIN)

    def answer(self, query: dns.message.Message, *records: str, rcode: int = 0, flags: int = 0) -> None:
        """``records`` as in a zone file; SOA goes to the authority section."""
        message = dns.message.make_response(query, recursion_available=True)
        message.set_rcode(dns.rcode.Rcode(rcode))
        message.flags |= flags
        for record in records:
            owner, ttl, cls, kind, data = record.split(" ", 4)
            rrset = dns.rrset.from_text(owner, int(ttl), cls, kind, data)
            (message.authority if kind == "SOA" else message.answer).append(rrset)
        self.send(message.to_wire(max_size=65_535))

    def pass_time(self, seconds: float) -> None:
        until = self.kernel.time + seconds
        while self.kernel.time < until:
            self.loop.dispatch(self.loop.wait(until - self.kernel.time))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def found(family: int, *addresses: str) -> Answer:
    return Answer(family, tuple(ip_address(text).packed for text in addresses), None)


def failed(failure: Failure) -> list[Answer]:
    return [Answer(AF_INET6, (), failure), Answer(AF_INET, (), failure)]


def test_both_families_at_once_each_answer_as_it_comes(bench: Bench) -> None:
    bench.resolve()
    six, four = bench.questions()
    assert [q.question[0].to_text() for q in (six, four)] == ["www.example. IN AAAA", "www.example. IN A"]
    assert six.flags == dns.flags.RD
    assert six.payload == module.EDNS_SIZE
    assert six.id != four.id
    bench.answer(four, "www.example. 60 IN A 192.31.196.80", "www.example. 60 IN A 192.31.196.81")
    assert bench.answers == [found(AF_INET, "192.31.196.80", "192.31.196.81")]
    bench.answer(six, "www.example. 60 IN AAAA 2001:db8:9::1")
    assert bench.answers[1:] == [found(AF_INET6, "2001:db8:9::1")]


def test_what_is_behind_a_cname(bench: Bench) -> None:
    bench.resolve()
    _, four = bench.questions()
    chain = "www.example. 60 IN CNAME a.example.", "a.example. 4 IN CNAME b.example."
    bench.answer(four, *chain, "b.example. 60 IN A 192.31.196.80")
    answer = found(AF_INET, "192.31.196.80")._replace(aliases=("a.example", "b.example"))
    assert bench.answers == [answer]
    bench.pass_time(3.9)
    bench.resolve()
    assert bench.answers[1:] == [answer]
    bench.pass_time(0.2)
    bench.questions()
    bench.resolve()
    assert len(bench.questions()) == 1, "the shortest TTL of the chain is over; AAAA is on its way yet"


@pytest.mark.parametrize(
    ("rcode", "records", "failure"),
    [
        (dns.rcode.NXDOMAIN, [SOA], Failure.NO_NAME),
        (dns.rcode.NOERROR, [SOA], Failure.NO_NAME),
        (dns.rcode.NOERROR, [], Failure.NO_NAME),
        (dns.rcode.NOERROR, ["www.example. 60 IN CNAME a.example."], Failure.NO_NAME),
        (dns.rcode.SERVFAIL, [], Failure.NAME_FAILED),
        (dns.rcode.REFUSED, [], Failure.NAME_FAILED),
        (dns.rcode.BADVERS, [], Failure.NAME_FAILED),
    ],
)
def test_no_address(bench: Bench, rcode: int, records: list[str], failure: Failure) -> None:
    bench.resolve()
    for query in bench.questions():
        bench.answer(query, *records, rcode=rcode)
    assert bench.answers == failed(failure)


def test_truncated_it_serves_with_what_it_has(bench: Bench) -> None:
    bench.resolve()
    six, four = bench.questions()
    bench.answer(six, flags=dns.flags.TC)
    bench.answer(four, "www.example. 60 IN A 192.31.196.80", flags=dns.flags.TC)
    assert bench.answers == [Answer(AF_INET6, (), Failure.NAME_FAILED), found(AF_INET, "192.31.196.80")]


def test_only_so_many_addresses_and_each_once(bench: Bench) -> None:
    bench.resolve()
    _, four = bench.questions()
    bench.answer(four, *(f"www.example. 60 IN A 192.31.196.{number}" for number in range(200)))
    assert len(bench.answers[0].addresses) == module.MAX_ADDRESSES


def test_asked_once_more_then_given_up(bench: Bench) -> None:
    bench.resolve()
    first = bench.questions()
    bench.pass_time(module.RETRANSMIT - 0.01)
    assert not bench.questions()
    bench.pass_time(0.02)
    assert [query.id for query in bench.questions()] == [query.id for query in first]
    bench.pass_time(module.NAME_TIMEOUT - module.RETRANSMIT - 0.02)
    assert not bench.answers
    bench.pass_time(0.02)
    assert bench.answers == failed(Failure.NAME_TIMEOUT)
    assert bench.kernel.time - START <= 5.02
    bench.resolve()
    assert len(bench.questions()) == 2, "a time-out is not remembered"
    bench.answer(first[0], "www.example. 60 IN AAAA 2001:db8:9::1")
    assert len(bench.answers) == 2, "an answer to a question that is over"


def test_a_resolver_that_is_not_there_yet(bench: Bench) -> None:
    address = bench.server.getsockname()
    bench.server.close()
    bench.resolve()
    bench.resolver.on_event(EPOLLIN)  # ICMP: nobody listens
    bench.resolve("other.example")
    bench.resolver.on_event(EPOLLIN)
    bench.server = socket.socket(AF_INET, socket.SOCK_DGRAM)
    bench.server.bind(address)
    bench.pass_time(module.RETRANSMIT + 0.1)
    queries = bench.questions()
    assert len(queries) == 4
    for query in queries:
        bench.answer(query, rcode=dns.rcode.NXDOMAIN)
    assert len(bench.answers) == 4


def test_identical_questions_are_asked_once(bench: Bench) -> None:
    for _ in range(50):
        bench.resolve()
    six, four = bench.questions()
    bench.answer(four, "www.example. 0 IN A 192.31.196.80")
    assert bench.answers == 50 * [found(AF_INET, "192.31.196.80")]
    bench.answer(six, rcode=dns.rcode.SERVFAIL)
    assert len(bench.answers) == 100


def test_answers_are_remembered_for_their_time(bench: Bench) -> None:
    bench.resolve()
    six, four = bench.questions()
    bench.answer(six, "www.example. 0 IN AAAA 2001:db8:9::1")  # the floor: MIN_TTL
    bench.answer(four, "www.example. 86400 IN A 192.31.196.80")  # the ceiling: MAX_TTL
    bench.answers.clear()
    bench.pass_time(module.MIN_TTL - 0.01)
    bench.resolve()
    assert bench.answers == [found(AF_INET6, "2001:db8:9::1"), found(AF_INET, "192.31.196.80")]
    bench.pass_time(0.02)
    bench.resolve()
    assert [q.question[0].rdtype for q in bench.questions()] == [dns.rdatatype.AAAA]
    bench.pass_time(module.MAX_TTL)
    bench.questions()
    bench.resolve()
    assert len(bench.questions()) == 2


def test_no_is_remembered_by_the_soa(bench: Bench) -> None:
    bench.resolve()
    for query in bench.questions():
        bench.answer(query, SOA, rcode=dns.rcode.NXDOMAIN)
    bench.pass_time(19.9)
    bench.resolve()
    assert not bench.questions()
    bench.pass_time(0.2)
    bench.resolve()
    assert len(bench.questions()) == 2


def test_the_cache_has_a_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 8)
    for number in range(20):
        bench.resolve(f"n{number}.example")
        for query in bench.questions():
            bench.answer(query, SOA, rcode=dns.rcode.NXDOMAIN)
    bench.resolve("n19.example")
    assert not bench.questions(), "the newest is there"
    bench.resolve("n0.example")
    assert len(bench.questions()) == 2, "the oldest went"


def test_too_many_questions_fail_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    bench.resolve("a.example")
    bench.resolve("b.example")
    assert bench.answers == [Answer(AF_INET, (), Failure.NAME_FAILED)]


@pytest.mark.parametrize("wrong", ["id", "name", "case", "type", "no answer", "cut"])
def test_what_does_not_answer_the_very_question(bench: Bench, wrong: str) -> None:
    bench.resolve()
    _, four = bench.questions()
    message = dns.message.make_response(four)
    message.answer.append(dns.rrset.from_text("www.example.", 60, "IN", "A", "203.0.113.66"))
    data = bytearray(message.to_wire())
    if wrong == "id":
        data[0] ^= 1
    elif wrong == "name":
        data[13] ^= 1
    elif wrong == "case":
        data[13] ^= 0x20
    elif wrong == "type":
        data[12 + 13 + 1] = 28
    elif wrong == "no answer":
        data[2] &= 0x7F
    else:
        del data[-3:]
    bench.send(bytes(data))
    assert not bench.answers
    bench.answer(four, "www.example. 60 IN A 192.31.196.80")
    assert bench.answers == [found(AF_INET, "192.31.196.80")]


def test_a_stranger_is_not_heard(bench: Bench) -> None:
    bench.resolve()
    _, four = bench.questions()
    message = dns.message.make_response(four)
    message.answer.append(dns.rrset.from_text("www.example.", 60, "IN", "A", "203.0.113.66"))
    with socket.socket(AF_INET, socket.SOCK_DGRAM) as stranger:
        try:
            stranger.sendto(message.to_wire(), bench.peer)
        except OSError as error:
            assert error.errno == errno.ECONNREFUSED
    bench.resolver.on_event(EPOLLIN)
    assert not bench.answers


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes(tail: bytes, is_answer: bool) -> None:
    bench = Bench()
    try:
        bench.resolve()
        _, four = bench.questions()
        head = four.to_wire()[:2] + (b"\x81\x80" if is_answer else b"\1\0")
        bench.send(head + b"\0\1" + tail)
        bench.send(head + b"\0\1\0\1\0\0\0\0" + b"\3www\7example\0\0\1\0\1" + tail)
        bench.send(tail)
        assert all(len(address) == 4 for answer in bench.answers for address in answer.addresses)
    finally:
        bench.close()


# -- lan.py -------------------------------------------------------------------------------------------

TABLE = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000001000000000000000000000001 02 40 00 80     lan0
20010db8000700000000000000000001 02 40 00 80     lan0
fe80000000000000000000000000000a 02 40 20 80     lan0
20010db8000500000000000000000002 03 40 00 80     wan0
"""


@pytest.mark.parametrize("own", ["fd00:1::1", "fe80::a"])
def test_the_networks_of_the_interface_that_a_client_came_by(own: str) -> None:
    networks = networks_beside(ip_address(own).packed, TABLE)
    assert [str(network) for network in networks] == ["2001:db8:7::/64", "fd00:1::/64", "fe80::/64"]


@pytest.mark.parametrize("table", ["", TABLE, "nonsense\n\n"])
def test_an_address_that_no_interface_has(table: str) -> None:
    assert [str(n) for n in networks_beside(ip_address("fd99::1").packed, table)] == ["fd99::/64"]


def test_it_is_looked_up_again_after_a_while(tmp_path: Any) -> None:
    path = tmp_path / "if_inet6"
    lan = Lan(path)
    own, other = ip_address("fd00:1::1").packed, ip_address("2001:db8:7::9").packed
    assert not lan.beside(own, 100.0).find(other)  # not there at all
    path.write_text(TABLE)
    assert not lan.beside(own, 100.5).find(other)
    assert lan.beside(own, 101.5).find(other) == "the LAN"
