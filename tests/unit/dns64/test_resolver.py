"""RFC 6147 rule by rule, through the resolver with a scripted upstream and a clock of our own."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.codec import parse as parse_config
from appliance.dns64.cache import Cache
from appliance.dns64.resolver import Resolver
from appliance.dns64.synthesis import Synthesis
from appliance.protocol import dns as wire

CLIENT = IPv6Address("fd00::2")
SOA = "example. {ttl} IN SOA ns.example. root.example. 1 2 3 4 {minimum}"
TWO_PREFIXES = '[[translation]]\nprefix = "64:ff9b::/96"\n[[translation]]\nprefix = "2001:db8:64::/48"\n'

Answered = Callable[[wire.Message | None], None]


class Bench:
    """``script`` maps (name, type) to zone lines, an RCODE, or None for a time-out."""

    def __init__(self, config: str = "", **script: object) -> None:
        self.script: dict[str, object] = {}
        self.now = 1000
        self.asked: list[str] = []
        self.held: list[Callable[[], None]] | None = None
        self.resolver = Resolver(Synthesis(parse_config(config)), self.ask, lambda: self.now)

    def ask(self, packet: bytes, timeout: float, answered: Answered) -> None:
        query = dns.message.from_wire(packet)
        question = query.question[0]
        key = f"{question.name.to_text(True).lower()} {dns.rdatatype.to_text(question.rdtype)}"
        self.asked.append(key)
        told = self.script.get(key, "")
        if told is None:
            reply = None
        else:
            response = dns.message.make_response(query)
            response.flags |= dns.flags.RA | dns.flags.AD
            if isinstance(told, int):
                response.set_rcode(dns.rcode.Rcode(told))
            else:
                for line in str(told).splitlines():
                    name, ttl, _, rtype, data = line.split(None, 4)
                    where = response.authority if rtype == "SOA" else response.answer
                    rrset = dns.rrset.from_text(name.rstrip(".") + ".", int(ttl), "IN", rtype, data)
                    if line.startswith("nx."):
                        response.set_rcode(dns.rcode.NXDOMAIN)
                    where.append(rrset)
            reply = wire.parse(response.to_wire(max_size=65_535))
        if self.held is None:
            answered(reply)
        else:
            self.held.append(lambda: answered(reply))

    def raw(self, packet: bytes, *, tcp: bool = True, client: IPv6Address = CLIENT) -> list[bytes]:
        out: list[bytes] = []
        self.resolver.handle(packet, client, tcp, out.append)
        return out

    def get(
        self,
        name: str,
        rtype: str = "AAAA",
        *,
        tcp: bool = True,
        client: IPv6Address = CLIENT,
        flags: int = 0,
        **edns: Any,
    ) -> dns.message.Message:
        query = dns.message.make_query(name, rtype, **edns)
        query.flags |= flags
        (reply,) = self.raw(query.to_wire(), tcp=tcp, client=client)
        answer = dns.message.from_wire(reply)
        assert answer.id == query.id
        assert answer.question == query.question
        assert bool(answer.edns >= 0) == bool(query.edns >= 0)
        return answer


def rows(answer: dns.message.Message) -> list[str]:
    return sorted(line for rrset in answer.answer for line in rrset.to_text().splitlines())


def bench(config: str = "", **script: object) -> Bench:
    made = Bench(config)
    made.script = {key.replace("__", " ").replace("_", "."): told for key, told in script.items()}
    return made


V4 = "v4.example. 900 IN A 192.31.196.80"


def test_real_aaaa_is_untouched() -> None:
    box = bench(v6_example__AAAA="v6.example. 60 IN AAAA 2001:db8::1", v6_example__A=V4)
    assert rows(box.get("v6.example.")) == ["v6.example. 60 IN AAAA 2001:db8::1"]
    assert box.asked == ["v6.example AAAA"]


def test_nxdomain_passes() -> None:
    box = bench(nx_example__AAAA=3, nx_example__A=V4)
    assert box.get("nx.example.").rcode() == 3
    assert box.asked == ["nx.example AAAA"]


@pytest.mark.parametrize("told", [1, 2, 4, 5, None, ""])
def test_any_other_rcode_or_a_timeout_counts_as_empty(told: object) -> None:
    box = bench(v4_example__AAAA=told, v4_example__A=V4)
    assert rows(box.get("v4.example.")) == ["v4.example. 600 IN AAAA 64:ff9b::c01f:c450"]


@pytest.mark.parametrize(
    ("ttl", "minimum", "a", "expected"), [(300, 200, 900, 200), (100, 200, 900, 100), (300, 300, 50, 50)]
)
def test_ttl_is_the_least_of_a_and_soa(ttl: int, minimum: int, a: int, expected: int) -> None:
    box = bench(
        v4_example__AAAA=SOA.format(ttl=ttl, minimum=minimum),
        v4_example__A=f"v4.example. {a} IN A 192.31.196.80",
    )
    assert box.get("v4.example.").answer[0].ttl == expected


def test_mapped_and_configured_ranges_count_as_no_aaaa() -> None:
    config = '[dns]\nexclude_prefixes = ["2001:db8:bad::/48"]\n'
    bad = "v4.example. 60 IN AAAA ::ffff:1.2.3.4\nv4.example. 60 IN AAAA 2001:db8:bad::1"
    box = bench(config, v4_example__AAAA=bad, v4_example__A=V4)
    assert rows(box.get("v4.example.")) == ["v4.example. 600 IN AAAA 64:ff9b::c01f:c450"]
    box = bench(config, v4_example__AAAA=bad + "\nv4.example. 60 IN AAAA 2001:db8::1", v4_example__A=V4)
    assert rows(box.get("v4.example.")) == ["v4.example. 60 IN AAAA 2001:db8::1"]
    box = bench(config, v4_example__AAAA=bad)
    assert rows(box.get("v4.example.")) == []


def test_cname_and_dname_chains_are_kept() -> None:
    chain = (
        "example. 70 IN DNAME example.net.\na.example. 70 IN CNAME a.example.net.\n"
        "a.example.net. 80 IN CNAME host.test.\n"
    )
    box = bench(a_example__AAAA=chain, a_example__A=chain + "host.test. 90 IN A 192.31.196.80")
    assert rows(box.get("a.example.")) == [
        "a.example. 70 IN CNAME a.example.net.",
        "a.example.net. 80 IN CNAME host.test.",
        "example. 70 IN DNAME example.net.",
        "host.test. 90 IN AAAA 64:ff9b::c01f:c450",
    ]


def test_every_prefix_but_never_a_private_address_in_the_well_known_one() -> None:
    box = bench(TWO_PREFIXES, v4_example__A=V4 + "\nv4.example. 900 IN A 10.0.0.1")
    assert [r.split()[-1] for r in rows(box.get("v4.example."))] == [
        "2001:db8:64:a00:0:100::",
        "2001:db8:64:c01f:c4:5000::",
        "64:ff9b::c01f:c450",
    ]
    soa = SOA.format(ttl=30, minimum=30)
    box = bench(v4_example__AAAA=soa, v4_example__A="v4.example. 900 IN A 10.0.0.1")
    answer = box.get("v4.example.")
    assert rows(answer) == []
    assert answer.authority


def test_exclusions_by_ipv4_client_and_name() -> None:
    box = bench('[dns]\nexclude_ipv4 = ["192.31.196.0/24"]\n', v4_example__A=V4)
    assert rows(box.get("v4.example.")) == []
    box = bench('[dns]\nexclude_clients = ["fd00::2/128"]\n', v4_example__A=V4)
    assert rows(box.get("v4.example.")) == []
    assert rows(box.get("v4.example.", client=IPv6Address("fd00::3")))
    box = bench('[dns]\nexclude_names = ["example"]\n', v4_example__A=V4, v4_xexample__A=V4)
    assert rows(box.get("v4.EXAMPLE.")) == []
    assert rows(box.get("v4.xexample."))


def test_do_and_cd_together_forbid_synthesis() -> None:
    box = bench(v4_example__A=V4)
    assert rows(box.get("v4.example.", want_dnssec=True, flags=dns.flags.CD)) == []
    answer = box.get("v4.example.", want_dnssec=True)
    assert rows(answer)
    assert not answer.flags & dns.flags.AD
    assert rows(box.get("v4.example.", flags=dns.flags.CD))


def test_bogus_stays_servfail() -> None:
    box = bench(bad_example__AAAA=2, bad_example__A=2)
    assert box.get("bad.example.").rcode() == 2
    assert bench(bad_example__AAAA=None, bad_example__A=None).get("bad.example.").rcode() == 2


def test_https_hints_are_not_touched() -> None:
    record = 'v4.example. 60 IN HTTPS 1 . alpn="h2" ipv4hint="192.31.196.80"'
    box = bench(v4_example__HTTPS=record)
    assert rows(box.get("v4.example.", "HTTPS")) == [record]
    assert box.asked == ["v4.example HTTPS"]


def test_ptr_is_a_cname_and_what_it_leads_to() -> None:
    name = dns.reversename.from_address("64:ff9b::c01f:c450").to_text()
    box = bench()
    box.script["80.196.31.192.in-addr.arpa PTR"] = "80.196.31.192.in-addr.arpa. 60 IN PTR v4.example."
    assert rows(box.get(name, "PTR")) == [
        f"{name} 600 IN CNAME 80.196.31.192.in-addr.arpa.",
        "80.196.31.192.in-addr.arpa. 60 IN PTR v4.example.",
    ]
    other = dns.reversename.from_address("2001:db8::1").to_text()
    assert rows(box.get(other, "PTR")) == []
    assert box.asked[-1].endswith("ip6.arpa PTR")


def test_ipv4only_arpa_needs_no_upstream() -> None:
    box = bench(TWO_PREFIXES)
    assert [r.split()[-1] for r in rows(box.get("ipv4only.arpa.", "A"))] == ["192.0.0.170", "192.0.0.171"]
    assert [r.split()[-1] for r in rows(box.get("IPv4only.arpa."))] == [
        "2001:db8:64:c000:0:aa00::",
        "2001:db8:64:c000:0:ab00::",
        "64:ff9b::c000:aa",
        "64:ff9b::c000:ab",
    ]
    empty = box.get("ipv4only.arpa.", "TXT")
    assert empty.rcode() == 0 and not empty.answer and empty.authority
    assert box.get("x.ipv4only.arpa.").rcode() == 3
    for address in ("192.0.0.170", "64:ff9b::c000:ab"):
        name = dns.reversename.from_address(address).to_text()
        assert rows(box.get(name, "PTR"))[0].endswith("PTR ipv4only.arpa.")
    assert box.asked == []


def test_large_answers_are_truncated_to_the_clients_size() -> None:
    many = "\n".join(f"v4.example. 60 IN A 192.31.196.{i}" for i in range(100))
    box = bench(v4_example__A=many)
    for size, tcp in ((0, False), (900, False), (4096, False), (900, True)):
        edns: dict[str, Any] = {"use_edns": 0, "payload": size} if size else {}
        answer = box.get("v4.example.", tcp=tcp, **edns)
        assert bool(answer.flags & dns.flags.TC) is not tcp
        assert sum(len(rrset) for rrset in answer.answer) == (100 if tcp else 0)


def test_cache_ages_and_forgets() -> None:
    box = bench(v4_example__AAAA=SOA.format(ttl=100, minimum=100), v4_example__A=V4)
    assert box.get("v4.example.").answer[0].ttl == 100
    box.now += 30
    assert box.get("v4.example.").answer[0].ttl == 70
    assert len(box.asked) == 2
    box.now += 70
    assert box.get("v4.example.").answer[0].ttl == 100
    assert len(box.asked) == 4


def test_cache_is_bounded() -> None:
    cache = Cache(limit=3)
    message = dns.message.make_response(dns.message.make_query("a.example.", "A"))
    message.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "A", "192.31.196.80"))
    answer = wire.parse(message.to_wire())
    for number in range(10):
        cache.put(bytes([number]), answer, 512, answer.packet, 0)
    assert len(cache) == 3
    assert cache.get(b"\0", 0) is None and cache.get(b"\x09", 0) is not None


def test_identical_questions_are_asked_once() -> None:
    box = bench(v4_example__A=V4)
    box.held = []
    query = dns.message.make_query("v4.example.", "AAAA").to_wire()
    first, second = box.raw(b"\0\1" + query[2:]), box.raw(b"\0\2" + query[2:])
    while box.held:
        box.held.pop()()
    assert [first[0][:2], second[0][:2]] == [b"\0\1", b"\0\2"]
    assert box.asked == ["v4.example AAAA", "v4.example A"]


def test_malformed_and_foreign_packets() -> None:
    box = bench()
    query = dns.message.make_query("v4.example.", "AAAA", use_edns=0).to_wire()
    assert box.raw(query[:-1])[0][3] & 15 == 1
    assert box.raw(query[:2]) == []
    assert box.raw(query[:2] + b"\x80" + query[3:]) == []
    assert box.raw(query[:2] + b"\x28" + query[3:])[0][3] & 15 == 4
    version1 = bytearray(query)
    version1[-5] = 1
    assert dns.message.from_wire(box.raw(bytes(version1))[0]).rcode() == 16


@given(st.binary(max_size=200))
def test_no_packet_raises(packet: bytes) -> None:
    for reply in bench().raw(packet):
        assert reply[:2] == packet[:2]


def test_chaos_class_is_passed_on() -> None:
    box = bench()
    packet = dns.message.make_query("version.bind.", "AAAA", rdclass="CH").to_wire()
    assert box.raw(packet)
    assert box.asked == ["version.bind AAAA"]
