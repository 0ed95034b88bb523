"""RFC 6147 rule by rule, through the resolver with a scripted upstream and a clock of our own."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.addressing import TranslationPrefix
from appliance.config.codec import parse as parse_config
from appliance.dns64 import resolver as resolver_module
from appliance.dns64.cache import Cache, answer_of
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
        self.resolver.handle(packet, str(client), tcp, out.append)
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


def made(box: Bench, name: str) -> list[str]:
    """The addresses that a name gets."""
    return [row.split()[-1] for row in rows(box.get(name))]


def bench(config: str = "", **script: object) -> Bench:
    made = Bench(config)
    made.script = {key.replace("__", " ").replace("_", "."): told for key, told in script.items()}
    return made


V4 = "v4.example. 900 IN A 192.31.196.80"


@pytest.mark.parametrize("failed", [None, dns.rcode.SERVFAIL])
def test_where_aaaa_failed_and_there_is_no_a_nobody_says_that_there_is_none(failed: object) -> None:
    """The name may have AAAA alone: clients would take it for unreachable for as long as its SOA says."""
    box = bench(v6_example__AAAA=failed, v6_example__A=SOA.format(ttl=300, minimum=300))
    assert box.get("v6.example.").rcode() == dns.rcode.SERVFAIL
    box.script["v6.example AAAA"] = "v6.example. 60 IN AAAA 2001:db8::1"
    assert made(box, "v6.example.") == ["2001:db8::1"]


def test_more_addresses_than_fit_into_a_message() -> None:
    """2,400 A records do, as AAAA records they do not."""
    lines = [f"v4.example. 900 IN A 192.31.{number >> 8}.{number & 255}" for number in range(2_400)]
    box = bench(v4_example__A="\n".join(lines))
    assert box.get("v4.example.").rcode() == dns.rcode.SERVFAIL
    box = bench(v4_example__A="\n".join(lines[:2_000]))
    assert len(made(box, "v4.example.")) == 2_000


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


def test_one_prefix_for_an_address_but_never_the_well_known_one_for_a_private_address() -> None:
    box = bench(TWO_PREFIXES, v4_example__A=V4 + "\nv4.example. 900 IN A 10.0.0.1")
    assert made(box, "v4.example.") == ["2001:db8:64:a00:0:100::", "64:ff9b::c01f:c450"]
    soa = SOA.format(ttl=30, minimum=30)
    box = bench(v4_example__AAAA=soa, v4_example__A="v4.example. 900 IN A 10.0.0.1")
    answer = box.get("v4.example.")
    assert rows(answer) == []
    assert answer.authority


ISLANDS = """
[[translation]]
prefix = "64:ff9b::/96"
[[translation]]
prefix = "2001:db8:1::/96"
networks = ["10.0.0.0/8", "192.31.196.0/24"]
domains = ["corp.example"]
[[translation]]
prefix = "2001:db8:2::/96"
networks = ["10.0.0.0/8"]
domains = ["lab.corp.example"]
[[translation]]
prefix = "2001:db8:3::/96"
networks = ["10.2.0.0/16"]
[[translation]]
prefix = "2001:db8:4::/96"
networks = ["10.2.3.0/24"]
"""


@pytest.mark.parametrize(
    ("name", "ipv4", "expected"),
    [
        ("corp.example", "10.0.0.1", ["2001:db8:1::a00:1"]),
        ("a.CORP.example", "192.31.196.80", ["2001:db8:1::c01f:c450"]),
        ("corp.example", "192.0.43.8", ["64:ff9b::c000:2b08"]),  # outside its networks: the default one
        ("a.lab.corp.example", "10.0.0.1", ["2001:db8:2::a00:1"]),
        ("xcorp.example", "192.31.196.80", ["64:ff9b::c01f:c450"]),
        ("other.example", "10.2.0.1", ["2001:db8:3::a02:1"]),
        ("other.example", "10.2.3.4", ["2001:db8:4::a02:304"]),
        ("other.example", "10.9.0.1", []),
    ],
)
def test_the_prefix_is_chosen_by_the_name_then_by_the_network(
    name: str, ipv4: str, expected: list[str]
) -> None:
    box = Bench(ISLANDS)
    box.script[f"{name.lower()} A"] = f"{name}. 60 IN A {ipv4}"
    assert made(box, f"{name}.") == expected


def test_each_prefix_has_its_reverse_names() -> None:
    for address, target in (
        ("2001:db8:1::a00:1", "1.0.0.10"),
        ("2001:db8:2::a00:1", "1.0.0.10"),
        ("2001:db8:4::a02:304", "4.3.2.10"),
        ("2001:db8:4::a02:404", ""),  # not of its networks
        ("64:ff9b::a00:1", ""),
    ):
        box = Bench(ISLANDS)
        box.get(dns.reversename.from_address(address).to_text(), "PTR")
        asked = f"{target}.in-addr.arpa PTR"
        assert (asked in box.asked) is bool(target), address


def test_ipv4only_arpa_names_the_prefixes_that_serve_all_names() -> None:
    assert made(Bench(ISLANDS), "ipv4only.arpa.") == [
        f"{prefix}::{last}"
        for prefix in ("2001:db8:3", "2001:db8:4", "64:ff9b")
        for last in ("c000:aa", "c000:ab")
    ]


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


@pytest.mark.parametrize("length", [32, 40, 48, 56, 64, 96])
@pytest.mark.parametrize(
    ("told", "rcode", "last"),
    [
        ("{} 60 IN PTR v4.example.", 0, "PTR v4.example."),
        # A classless delegation (RFC 2317): in-addr.arpa itself goes on by CNAME.
        (
            "{} 60 IN CNAME 80.0-127.x.example.\n80.0-127.x.example. 60 IN PTR v4.example.",
            0,
            "PTR v4.example.",
        ),
        (3, 3, "CNAME 80.196.31.192.in-addr.arpa."),
        ("", 0, "CNAME 80.196.31.192.in-addr.arpa."),
    ],
)
def test_ptr_under_every_prefix_length(length: int, told: object, rcode: int, last: str) -> None:
    network = f"2001:db8::/{length}"
    address = TranslationPrefix.parse(network).embed(IPv4Address("192.31.196.80"))
    box = Bench(f'[[translation]]\nprefix = "{network}"\n')
    target = "80.196.31.192.in-addr.arpa."
    box.script[f"{target[:-1]} PTR"] = told.format(target) if isinstance(told, str) else told
    answer = box.get(dns.reversename.from_address(str(address)).to_text().upper(), "PTR")
    assert answer.rcode() == rcode
    assert not answer.flags & dns.flags.AD
    found = [line for rrset in answer.answer for line in rrset.to_text().splitlines()]
    assert found[0].endswith(f"CNAME {target}")
    assert found[-1].endswith(last)


def test_ptr_errors_and_validators() -> None:
    name = dns.reversename.from_address("64:ff9b::c01f:c450").to_text()
    box = bench()
    box.script["80.196.31.192.in-addr.arpa PTR"] = 2
    assert box.get(name, "PTR").rcode() == 2
    box.script["80.196.31.192.in-addr.arpa PTR"] = None
    assert box.get(name, "PTR").rcode() == 2
    # Section 5.5: a validator would find our CNAME bogus; it gets what ip6.arpa says.
    box.asked.clear()
    assert rows(box.get(name, "PTR", want_dnssec=True, flags=dns.flags.CD)) == []
    assert box.asked == [f"{name[:-1]} PTR"]


def test_the_a_answer_decides_where_aaaa_is_empty() -> None:
    """NXDOMAIN, an error or a time-out on A is what the client hears (section 5.1.6)."""
    for told, rcode in ((3, 3), (2, 2), (5, 5), (None, 2), ("", 0)):
        box = bench(v4_example__AAAA=SOA.format(ttl=30, minimum=30), v4_example__A=told)
        answer = box.get("v4.example.")
        assert (answer.rcode(), answer.answer) == (rcode, [])


def test_nxdomain_behind_a_cname_passes() -> None:
    box = bench(nx_example__AAAA="nx.example. 60 IN CNAME gone.example.", nx_example__A=V4)
    answer = box.get("nx.example.")
    assert answer.rcode() == 3
    assert rows(answer) == ["nx.example. 60 IN CNAME gone.example."]
    assert box.asked == ["nx.example AAAA"]


def test_several_addresses_each_with_its_ttl() -> None:
    box = bench(v4_example__A=V4 + "\nv4.example. 900 IN A 192.31.196.81")
    assert rows(box.get("v4.example.")) == [
        "v4.example. 600 IN AAAA 64:ff9b::c01f:c450",
        "v4.example. 600 IN AAAA 64:ff9b::c01f:c451",
    ]


@pytest.mark.parametrize("rtype", ["A", "ANY", "SVCB", "HTTPS", "MX", "TXT"])
def test_no_other_type_is_synthesised(rtype: str) -> None:
    box = bench(v4_example__A=V4, v4_example__ANY=V4)
    answer = box.get("v4.example.", rtype)
    assert rows(answer) == ([V4] if rtype in ("A", "ANY") else [])
    assert box.asked == [f"v4.example {rtype}"]


def test_edns_is_answered_in_kind() -> None:
    box = bench(v4_example__A=V4)
    answer = box.get("v4.example.", want_dnssec=True, payload=1400)
    assert answer.edns == 0 and answer.ednsflags & dns.flags.DO and answer.payload == wire.EDNS_SIZE
    assert not box.get("v4.example.", use_edns=0).ednsflags & dns.flags.DO
    # A client's options stay between it and us (RFC 6891 section 6.2.6).
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    assert not box.get("v4.example.", use_edns=0, options=[cookie]).options


def test_ds_of_ipv4only_arpa_is_the_parents() -> None:
    """A validator needs the proof that the zone is unsigned (RFC 8880 section 6.2)."""
    box = bench()
    box.get("ipv4only.arpa.", "DS", want_dnssec=True)
    assert box.asked == ["ipv4only.arpa DS"]


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


@pytest.mark.parametrize("spare", [0, 1])
def test_an_answer_of_exactly_the_clients_size_is_whole(spare: int) -> None:
    many = "\n".join(f"v4.example. 60 IN A 192.31.196.{i}" for i in range(20))
    box = bench(v4_example__A=many)
    query = dns.message.make_query("v4.example.", "AAAA", use_edns=0, payload=1232)
    (whole,) = box.raw(query.to_wire())
    assert 512 < len(whole) <= 1232
    query = dns.message.make_query("v4.example.", "AAAA", use_edns=0, payload=len(whole) - spare)
    for _ in range(2):  # from the upstream, then from the cache
        (reply,) = box.raw(query.to_wire(), tcp=False)
        answer = dns.message.from_wire(reply)
        assert len(reply) <= len(whole) - spare
        assert bool(answer.flags & dns.flags.TC) is bool(spare)
        assert sum(len(rrset) for rrset in answer.answer) == (0 if spare else 20)


def test_ad_stays_on_what_is_untouched_only() -> None:
    """The upstream sets AD on everything here."""
    box = bench(
        v6_example__AAAA="v6.example. 60 IN AAAA 2001:db8::1",
        part_example__AAAA="part.example. 60 IN AAAA 2001:db8::1\npart.example. 60 IN AAAA ::ffff:1.2.3.4",
        v4_example__A=V4,
        gone_example__A=3,
    )
    for name, kept in (("v6", True), ("part", False), ("v4", False), ("gone", False)):
        answer = box.get(f"{name}.example.", want_dnssec=True)
        assert bool(answer.flags & dns.flags.AD) is kept, name


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
    cache = Cache(entries=3)
    message = dns.message.make_response(dns.message.make_query("a.example.", "A"))
    message.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "A", "192.31.196.80"))
    answer = answer_of(wire.parse(message.to_wire()))
    for number in range(10):
        cache.put(bytes([number]), answer, answer.packet, 0)
    assert len(cache) == 3
    assert cache.get(b"\0", 0) is None and cache.get(b"\x09", 0) is not None
    small = Cache(octets=5 * (1 + len(answer.packet)))
    for number in range(10):
        small.put(bytes([number]), answer, answer.packet, 0)
        small.put(bytes([number]), answer, answer.packet, 0)
    assert len(small) == 5
    assert all(small.get(bytes([number]), 60) is None for number in range(10))
    for number in range(10):
        small.put(bytes([number]), answer, answer.packet, 60)
    assert len(small) == 5, "what has expired gives its room back"


def test_identical_questions_are_asked_once() -> None:
    box = bench(v4_example__A=V4)
    box.held = []
    query = dns.message.make_query("v4.example.", "AAAA").to_wire()
    first, second = box.raw(b"\0\1" + query[2:]), box.raw(b"\0\2" + query[2:])
    while box.held:
        box.held.pop()()
    assert [first[0][:2], second[0][:2]] == [b"\0\1", b"\0\2"]
    assert box.asked == ["v4.example AAAA", "v4.example A"]


def test_too_many_for_one_answer_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """By UDP they ask again; by TCP an answer is owed, or the connection would never be done."""
    monkeypatch.setattr(resolver_module, "MAX_WAITERS", 2)
    box = bench(v4_example__A=V4)
    box.held = []
    query = dns.message.make_query("v4.example.", "AAAA").to_wire()
    waiting = [box.raw(query), box.raw(query, tcp=False)]
    assert box.raw(query, tcp=False) == []
    (refused,) = box.raw(query)
    assert dns.message.from_wire(refused).rcode() == 2
    while box.held:
        box.held.pop()()
    assert all(dns.message.from_wire(replies[0]).answer for replies in waiting)
    assert box.resolver.counters.over_waiters == 2


def test_a_new_configuration_while_a_question_is_on_its_way() -> None:
    """It is answered by the rules that it was asked under, and that answer is not kept for the new ones."""
    box = bench(v4_example__AAAA=SOA.format(ttl=30, minimum=30), v4_example__A=V4)
    box.held = []
    query = dns.message.make_query("v4.example.", "AAAA").to_wire()
    first = box.raw(query)
    box.resolver.configure(Synthesis(parse_config('[[translation]]\nprefix = "2001:db8:64::/96"\n')))
    second = box.raw(query)
    while box.held:
        box.held.pop(0)()
    assert rows(dns.message.from_wire(first[0])) == ["v4.example. 30 IN AAAA 64:ff9b::c01f:c450"]
    assert rows(dns.message.from_wire(second[0])) == ["v4.example. 30 IN AAAA 2001:db8:64::c01f:c450"]
    box.held = None
    assert made(box, "v4.example.") == ["2001:db8:64::c01f:c450"]
    assert len(box.asked) == 4, "the last one came from the cache"


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
