"""The dialler over a simulated kernel and clock: who is tried when, who wins, what is told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address
from itertools import pairwise
from math import inf
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Failure
from appliance.policy.request import Request
from appliance.proxy import dialer as module
from appliance.proxy.arbiter import Judge
from appliance.proxy.dialer import Dial, Dialer, Dialled
from appliance.proxy.relay import EPOLLIN, EPOLLOUT
from appliance.proxy.resolver import Answer, Resolver
from tests.unit.proxy.simulation import START, Kernel, World

CLIENT = ip_address("fd00:1::2").packed
OWN = ip_address("fd00:1::1").packed
SIX = ["2001:db8:9::1", "2001:db8:9::2", "2001:db8:9::3"]
FOUR = ["192.31.196.1", "192.31.196.2", "192.31.196.3"]
UP = (0.01, 0)
REFUSED = (0.01, errno.ECONNREFUSED)
HOLE = (inf, 0)

# What a name's question comes to: seconds until it is answered, and addresses or a failure.
Fate = tuple[float, list[str] | Failure]


class Names(Resolver):
    """Answers by a script: for each family, in the order AAAA, A."""

    def __init__(self, world: World, six: Fate, four: Fate) -> None:
        self._world = world
        self._fates = {AF_INET6: six, AF_INET: four}

    def resolve(self, name: str, done: Callable[[Answer], None]) -> None:
        for family, (seconds, what) in self._fates.items():
            if isinstance(what, Failure):
                answer = Answer(family, (), what)
            else:
                answer = Answer(family, tuple(ip_address(text).packed for text in what), None)
            if seconds == 0:
                done(answer)
            elif seconds != inf:
                self._world.at(seconds, lambda answer=answer: done(answer))  # type: ignore[misc]


class Bench:
    """A dialler in a world, and what it reported."""

    def __init__(
        self,
        hosts: dict[str, tuple[float, int]],
        six: Fate = (0, []),
        four: Fate = (0, []),
        config: dict[str, Any] | None = None,
        own: tuple[str, ...] = ("203.0.113.2", "fd00:1::1", "2001:db8:5::2"),
    ) -> None:
        self.kernel = Kernel(hosts)
        self.world = World(self.kernel, config, own)
        self.dialer = Dialer(self.world, Names(self.world, six, four))
        self.results: list[tuple[float, Dialled | Failure]] = []

    def dial(self, host: str = "name.example", port: int = 443, own: bytes = OWN) -> Dial:
        def done(result: Dialled | Failure) -> None:
            self.results.append((round(self.kernel.time - START, 6), result))

        before = len(self.results)
        dial = self.dialer.dial(CLIENT, own, host, port, done)
        assert len(self.results) == before, "reported before dial() has returned"
        return dial

    def result(self, host: str = "name.example", **more: Any) -> Dialled | Failure:
        """Dial, and wait for the one report."""
        self.dial(host, **more)
        self.world.run(60)
        assert len(self.results) == 1
        result = self.results[0][1]
        kept = [result.text] if isinstance(result, Dialled) else []
        assert list(self.kernel.open.values()) == kept, "a loser is open"
        return result

    @property
    def tried(self) -> list[tuple[float, str]]:
        """When and where connects began."""
        return [entry[:2] for entry in self.kernel.dialled]


def text_of(result: Dialled | Failure) -> str:
    return result.text if isinstance(result, Dialled) else f"{result}"


# -- literals -----------------------------------------------------------------------------------------


def test_a_literal_is_dialled() -> None:
    bench = Bench({FOUR[0]: UP})
    result = bench.result(FOUR[0], port=8443)
    assert isinstance(result, Dialled)
    assert (result.text, result.address) == (FOUR[0], ip_address(FOUR[0]).packed)
    assert bench.kernel.dialled == [(0.0, FOUR[0], 8443, b"", b"")]
    assert result.events & EPOLLOUT


def test_what_happens_before_it_is_taken_over_is_kept() -> None:
    bench = Bench({SIX[0]: UP})
    result = bench.result(SIX[0])
    assert isinstance(result, Dialled)
    result.on_event(EPOLLIN)
    assert result.events & EPOLLIN
    assert bench.kernel.open


@pytest.mark.parametrize(
    ("fate", "failure"),
    [
        (REFUSED, Failure.REFUSED),
        ((0, errno.ENETUNREACH), Failure.NO_ROUTE),
        ((0.5, errno.EHOSTUNREACH), Failure.HOST_UNREACHABLE),
        ((0.5, errno.EACCES), Failure.PROHIBITED),
        ((0, errno.EMFILE), Failure.DESCRIPTORS),
        (HOLE, Failure.TIMEOUT),
    ],
)
@pytest.mark.parametrize("literal", [FOUR[0], SIX[0]])
def test_a_literal_fails(literal: str, fate: tuple[float, int], failure: Failure) -> None:
    bench = Bench({literal: fate}, config={"proxy": {"timers": {"dial": 3}}})
    assert bench.result(literal) is failure
    assert bench.results[0][0] <= 3.0


@pytest.mark.parametrize(
    "literal",
    ["64:ff9b::192.31.196.1", "::ffff:192.31.196.1", "fd60::192.31.196.1", "192.31.196.1"],
)
def test_ipv4_in_any_form_is_dialled_as_ipv4(literal: str) -> None:
    config = {"translation": [{"prefix": "64:ff9b::/96"}, {"prefix": "fd60::/96"}]}
    bench = Bench({FOUR[0]: UP}, config=config)
    assert text_of(bench.result(literal)) == FOUR[0]


FORBIDDEN = [
    "127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "203.0.113.2", "::", "::1",
    "fe80::1", "ff02::1", "fd00:ec2::254", "fd00:1::77", "fd00:1::1", "2001:db8:5::2",
    "64:ff9b::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::1",
    "2001:0:c01f:c401::80ff:fffe", "64:ff9b::203.0.113.2", "2002:cb00:7102::1", "64:ff9b:1::1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_the_forbidden_is_refused_written_or_resolved(address: str) -> None:
    everywhere = dict.fromkeys([*FORBIDDEN, "127.0.0.1"], UP)
    bench = Bench(everywhere)
    assert bench.result(address) is Failure.DENIED
    resolved: tuple[Fate, Fate] = ((0, [address]), (0.0, Failure.NO_NAME))
    if ":" not in address:
        resolved = ((0.0, Failure.NO_NAME), (0, [address]))
    named = Bench(everywhere, *resolved)
    assert named.result() is Failure.DENIED
    assert not bench.kernel.dialled
    assert not named.kernel.dialled


def test_of_a_name_only_the_forbidden_addresses_are_left_out() -> None:
    bench = Bench({FOUR[0]: UP, "127.0.0.1": UP, "::1": UP}, (0, ["::1"]), (0, ["127.0.0.1", FOUR[0]]))
    assert text_of(bench.result()) == FOUR[0]
    assert bench.tried == [(0.0, FOUR[0])]


def test_what_the_box_publishes_it_may_dial() -> None:
    service = {"name": "web", "port": 443, "targets": ["[fd00:1::80]:443"]}
    bench = Bench({"203.0.113.2": UP}, config={"published": [service]})
    assert bench.dialer.routes.route(
        ip_address("203.0.113.2").packed, "", 444, CLIENT, OWN
    ) is Failure.DENIED  # fmt: skip
    # 192.31.196.3/32 is documentation space, which the well-known prefix does not carry.
    assert bench.result("203.0.113.2") is Failure.NON_GLOBAL
    other = {"published": [{**service, "address": "192.31.196.9"}]}
    bench = Bench({FOUR[0]: UP}, config=other, own=(FOUR[0], "192.31.196.9"))
    assert bench.result(FOUR[0]) is Failure.DENIED
    bench = Bench({"192.31.196.9": UP}, config=other, own=(FOUR[0], "192.31.196.9"))
    assert text_of(bench.result("192.31.196.9")) == "192.31.196.9"


# -- ways ---------------------------------------------------------------------------------------------

ISLANDS = {
    "translation": [
        {"prefix": "64:ff9b::/96", "sources": ["203.0.113.2", "203.0.113.3"]},
        {"prefix": "fd61::/96", "networks": ["10.0.0.0/24"], "interface": "island-a"},
        {
            "prefix": "fd62::/96",
            "networks": ["10.0.0.0/16"],
            "interface": "island-b",
            "domains": ["b.example"],
        },
    ]
}


@pytest.mark.parametrize(
    ("host", "interface"),
    [
        ("10.0.0.7", b"island-a"),  # the first that names it
        ("10.0.9.7", b"island-b"),
        ("fd61::10.0.0.7", b"island-a"),
        ("fd62::10.0.0.7", b"island-b"),  # a prefix says which island
        ("192.31.196.1", b""),
        ("www.b.example", b"island-b"),  # and so does a name
        ("b.example", b"island-b"),
        ("notb.example", b"island-a"),
    ],
)
def test_the_way_out(host: str, interface: bytes) -> None:
    resolved: Fate = (0, ["10.0.0.7"])
    bench = Bench({"10.0.0.7": UP, "10.0.9.7": UP, FOUR[0]: UP}, (0, Failure.NO_NAME), resolved, ISLANDS)
    assert isinstance(bench.result(host), Dialled)
    assert bench.kernel.dialled[0][3] == interface
    assert bool(bench.kernel.dialled[0][4]) == (interface == b"")


@pytest.mark.parametrize(
    ("host", "failure"),
    [
        ("192.168.7.7", Failure.NON_GLOBAL),
        ("64:ff9b::10.0.0.7", Failure.NON_GLOBAL),
        ("fd61::192.31.196.1", Failure.NO_ROUTE),
    ],
)
def test_no_way_out(host: str, failure: Failure) -> None:
    assert Bench({}, config=ISLANDS).result(host) is failure


def test_a_client_keeps_its_source() -> None:
    bench = Bench({FOUR[0]: UP}, config=ISLANDS)
    seen: dict[bytes, set[bytes]] = {}
    for number in range(64):
        client = CLIENT[:15] + bytes([number % 16])
        bench.dialer.dial(client, OWN, FOUR[0], 80, lambda _result: None)
        seen.setdefault(client, set()).add(bench.kernel.dialled[-1][4])
    assert all(len(sources) == 1 for sources in seen.values())
    assert len(set.union(*seen.values())) == 2


# -- names: RFC 8305 ------------------------------------------------------------------------------------


def test_ipv6_is_first_and_wins() -> None:
    bench = Bench({SIX[0]: UP, FOUR[0]: UP}, (0.01, SIX[:1]), (0.01, FOUR[:1]))
    assert text_of(bench.result()) == SIX[0]
    assert bench.tried == [(0.01, SIX[0])]


def test_a_black_hole_costs_a_quarter_of_a_second() -> None:
    bench = Bench({FOUR[0]: UP}, (0, SIX), (0, FOUR))
    assert text_of(bench.result()) == FOUR[0]
    assert bench.tried == [(0.0, SIX[0]), (0.25, FOUR[0])]
    assert bench.results[0][0] <= 0.4
    assert bench.kernel.resets == [SIX[0]]


def test_a_refusal_costs_nothing() -> None:
    bench = Bench({SIX[0]: REFUSED, FOUR[0]: UP}, (0, SIX), (0, FOUR))
    assert text_of(bench.result()) == FOUR[0]
    assert bench.tried == [(0.0, SIX[0]), (0.01, FOUR[0])]


def test_families_by_turns() -> None:
    bench = Bench({}, (0, SIX), (0, FOUR))
    assert bench.result() is Failure.TIMEOUT
    order = [SIX[0], FOUR[0], SIX[1], FOUR[1], SIX[2], FOUR[2]]
    assert bench.tried == [(0.25 * number, text) for number, text in enumerate(order)]
    assert bench.results[0][0] == 10.0
    assert sorted(bench.kernel.resets) == sorted(order)


def test_the_slower_one_may_win_yet() -> None:
    bench = Bench({SIX[0]: (0.4, 0), FOUR[0]: (3, 0)}, (0, SIX[:1]), (0, FOUR[:1]))
    assert text_of(bench.result()) == SIX[0]
    assert bench.results[0][0] == 0.4
    assert bench.kernel.resets == [FOUR[0]]


def test_a_waits_for_aaaa_and_no_longer_than_the_delay() -> None:
    bench = Bench({SIX[0]: UP, FOUR[0]: UP}, (0.04, SIX[:1]), (0, FOUR[:1]))
    assert text_of(bench.result()) == SIX[0]
    bench = Bench({SIX[0]: UP, FOUR[0]: UP}, (0.08, SIX[:1]), (0, FOUR[:1]))
    assert text_of(bench.result()) == FOUR[0]
    assert bench.tried == [(0.05, FOUR[0])]
    bench = Bench({FOUR[0]: UP}, (0.02, Failure.NO_NAME), (0, FOUR[:1]))
    assert text_of(bench.result()) == FOUR[0]
    assert bench.tried == [(0.02, FOUR[0])], "there is nothing to wait for"


def test_aaaa_waits_for_nobody() -> None:
    bench = Bench({SIX[0]: UP}, (0.01, SIX[:1]), (inf, []))
    assert text_of(bench.result()) == SIX[0]
    assert bench.results[0][0] == 0.02


def test_addresses_that_come_later_are_tried() -> None:
    bench = Bench({FOUR[0]: UP}, (0, SIX[:1]), (0.1, FOUR[:1]))
    assert text_of(bench.result()) == FOUR[0]
    assert bench.tried == [(0.0, SIX[0]), (0.25, FOUR[0])]
    bench = Bench({FOUR[0]: UP}, (0, SIX[:1]), (0.7, FOUR[:1]))
    assert text_of(bench.result()) == FOUR[0]
    assert bench.tried == [(0.0, SIX[0]), (0.7, FOUR[0])]
    bench = Bench({SIX[0]: REFUSED, FOUR[0]: UP}, (0, SIX[:1]), (0.7, FOUR[:1]))
    assert text_of(bench.result()) == FOUR[0]


def test_aaaa_in_a_prefix_of_ours_is_the_same_as_a() -> None:
    bench = Bench({}, (0, ["64:ff9b::192.31.196.1"]), (0, FOUR[:1]))
    assert bench.result() is Failure.TIMEOUT
    assert bench.tried == [(0.0, FOUR[0])]


def test_no_more_than_so_many_attempts() -> None:
    many = [f"2001:db8:9::{number:x}" for number in range(1, 17)]
    bench = Bench({}, (0, many), (0, []))
    bench.result()
    assert len(bench.tried) == module.MAX_ATTEMPTS
    bench = Bench(dict.fromkeys(many, REFUSED), (0, many), (0, []))
    assert bench.result() is Failure.REFUSED
    assert len(bench.tried) == module.MAX_ATTEMPTS


def test_no_route_for_ipv6_is_remembered() -> None:
    dead = dict.fromkeys(SIX, (0, errno.ENETUNREACH))
    bench = Bench({**dead, FOUR[0]: UP}, (inf, []), (0, FOUR[:1]))
    bench.dial(SIX[0])
    bench.world.run(0.001)
    assert bench.results.pop()[1] is Failure.NO_ROUTE
    bench.dial()
    assert bench.tried[-1][1] == FOUR[0], "without the delay"
    bench.world.run(module.UNROUTED_FOR)
    bench.dial()
    assert len(bench.tried) == 2, "asked again"


def test_without_a_route_for_ipv6_it_is_still_tried_last() -> None:
    hosts = {SIX[0]: (0.0, errno.ENETUNREACH), SIX[1]: UP, FOUR[0]: REFUSED}
    bench = Bench(hosts, (0.01, SIX[:2]), (0, FOUR[:1]))
    assert text_of(bench.result()) == SIX[1]
    assert [text for _when, text in bench.tried] == [SIX[0], FOUR[0], SIX[1]]


@pytest.mark.parametrize(
    ("six", "four", "failure"),
    [
        (Failure.NO_NAME, Failure.NO_NAME, Failure.NO_NAME),
        (Failure.NO_NAME, Failure.NAME_FAILED, Failure.NAME_FAILED),
        (Failure.NAME_TIMEOUT, Failure.NAME_TIMEOUT, Failure.NAME_TIMEOUT),
        (["::1"], Failure.NO_NAME, Failure.DENIED),
        (["::1"], ["10.0.0.1"], Failure.DENIED),
        ([], ["10.0.0.1"], Failure.NON_GLOBAL),
    ],
)
@pytest.mark.parametrize("seconds", [0, 0.01])
def test_names_that_lead_nowhere(
    seconds: float, six: list[str] | Failure, four: list[str] | Failure, failure: Failure
) -> None:
    assert Bench({}, (seconds, six), (seconds, four)).result() is failure


def test_a_resolver_that_never_answers() -> None:
    bench = Bench({}, (inf, []), (inf, []), {"proxy": {"timers": {"dial": 3}}})
    assert bench.result() is Failure.NAME_TIMEOUT
    assert bench.results[0][0] == 3.0


# -- the end --------------------------------------------------------------------------------------------


def test_cancel_closes_everything_and_says_nothing() -> None:
    for seconds in (0.0, 0.02, 0.3):
        bench = Bench({}, (0.01, SIX), (0.01, FOUR))
        dial = bench.dial()
        bench.world.run(seconds)
        dial.cancel()
        dial.cancel()
        bench.world.run(60)
        assert not bench.results
        assert not bench.kernel.open
        assert len(bench.kernel.resets) == len(bench.tried)


def test_cancel_of_a_report_that_waits() -> None:
    bench = Bench({})
    bench.dial("127.0.0.1").cancel()
    bench.world.run(60)
    assert not bench.results


def test_cancel_after_the_report_takes_nothing_back() -> None:
    bench = Bench({FOUR[0]: UP})
    dial = bench.dial(FOUR[0])
    bench.world.run(1)
    dial.cancel()
    bench.world.run(1)
    assert bench.kernel.open


def test_without_memory_it_ends() -> None:
    bench = Bench({}, (0, SIX), (0, FOUR))
    dial = bench.dial()
    dial.abandon()
    assert [result for _when, result in bench.results] == [Failure.MEMORY]
    bench.world.run(60)
    assert not bench.kernel.open


def test_descriptors_are_left_for_others() -> None:
    bench = Bench({FOUR[0]: UP})
    bench.world.descriptor_limit = 500
    assert bench.result(FOUR[0]) is Failure.DESCRIPTORS


fates = st.sampled_from([UP, REFUSED, HOLE, (0, errno.ENETUNREACH), (0.3, 0), (0.6, errno.EHOSTUNREACH)])
times = st.sampled_from([0, 0.01, 0.04, 0.07, 0.4, inf])


def _answers(addresses: list[str]) -> st.SearchStrategy[Fate]:
    what = st.lists(st.sampled_from([*addresses, "::1", "64:ff9b::192.31.196.2"]), max_size=4, unique=True)
    return st.tuples(times, what | st.sampled_from([Failure.NO_NAME, Failure.NAME_FAILED]))


@given(st.lists(fates, min_size=6, max_size=6), _answers(SIX), _answers(FOUR), st.floats(0, 12))
def test_whatever_the_network_does(
    drawn: list[tuple[float, int]], six: Fate, four: Fate, cancelled: float
) -> None:
    """One report and one socket at most; nothing forbidden; 250 ms between attempts that have not failed."""
    bench = Bench(dict(zip(SIX + FOUR, drawn, strict=True)), six, four)
    dial = bench.dial()
    bench.world.run(cancelled)
    if not bench.results:
        dial.cancel()
        bench.world.run(30)
        assert not bench.results
        assert cancelled < 10
    bench.world.run(30)
    assert len(bench.kernel.open) == sum(isinstance(r, Dialled) for _when, r in bench.results)
    tried = bench.tried
    assert len(set(tried)) == len(tried)
    assert not {"::1", "127.0.0.1"} & {text for _when, text in tried}
    failed = set()
    for (before, text), (after, _next) in pairwise(tried):
        seconds, code = bench.kernel.hosts[ip_address(text).packed]
        if code:
            failed.add(round(before + seconds, 6))
        assert after - before >= 0.25 - 1e-6 or any(before <= end <= after for end in failed)
    # An address that answers at once is found, wherever it stands, unless the names were slow.
    good = {text for text, fate in zip(SIX + FOUR, drawn, strict=True) if fate == UP}
    known = {a for seconds, what in (six, four) if seconds <= 0.4 and isinstance(what, list) for a in what}
    if good & known and cancelled > 5:
        assert isinstance(bench.results[0][1], Dialled)


RULES = {
    "rule": [
        {
            "name": "no-video",
            "action": "deny",
            "destinations": ["192.31.196.1/32"],
            "content_types": ["video/*"],
        },
        {"name": "never-there", "action": "deny", "destinations": ["192.31.196.3/32"]},
    ]
}


@pytest.mark.parametrize("addresses", [FOUR[:2], [FOUR[0], FOUR[2]]])
def test_the_verdict_is_of_the_address_that_won(addresses: list[str]) -> None:
    """All of a name's addresses are judged before the first connects: the last one's verdict is not it."""
    bench = Bench(dict.fromkeys(addresses, UP), four=(0, addresses), config=RULES)
    request = Request("http", "tcp", CLIENT, 80, name="site.example", url="site.example/")
    judge = Judge(bench.world.arbiter, request)
    bench.dialer.dial(CLIENT, OWN, "site.example", 80, lambda what: bench.results.append((0.0, what)), judge)
    bench.world.run(1.0)
    ((_at, won),) = bench.results
    assert isinstance(won, Dialled) and won.text == FOUR[0]
    assert judge.verdict.pending
    assert not judge.allows_content("video/mp4", 10)
    assert judge.verdict.rule == "no-video"
