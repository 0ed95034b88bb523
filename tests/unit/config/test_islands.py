"""Which resolvers are asked by an island's own way, and what unbound is told of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network

from appliance.config.islands import PORT, Passage, passages
from appliance.config.schema import Translation
from appliance.network.unbound import configuration

RESOLVERS = (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))


def island(number: int, *, interface: str | None = None, source: str = "") -> Translation:
    return Translation(
        prefix=IPv6Network(f"fd61:{number:x}::/96"),
        domains=(f"island{number}.test",),
        upstreams=RESOLVERS,
        interface=interface,
        sources=(IPv4Address(source),) if source else (),
    )


PLAIN, BOUND, FROM = island(0), island(1, interface="port3"), island(2, source="10.0.0.7")


def test_what_has_a_way_of_its_own_has_passages() -> None:
    assert passages([PLAIN, Translation(interface="port3")]) == {}
    assert passages([PLAIN, BOUND, FROM]) == {
        1: (
            Passage(IPv4Address("127.0.2.1"), RESOLVERS[0], "port3", None),
            Passage(IPv4Address("127.0.2.2"), RESOLVERS[1], "port3", None),
        ),
        2: (
            Passage(IPv4Address("127.0.3.1"), RESOLVERS[0], None, IPv4Address("10.0.0.7")),
            Passage(IPv4Address("127.0.3.2"), RESOLVERS[1], None, IPv4Address("10.0.0.7")),
        ),
    }


def test_no_two_passages_share_an_address() -> None:
    many = [
        Translation(
            prefix=IPv6Network(f"fd61:{number:x}::/96"),
            domains=(f"island{number}.test",),
            upstreams=tuple(IPv4Address("10.0.0.1") + count for count in range(16)),
            interface="port3",
        )
        for number in range(64)
    ]
    local = [one.local for found in passages(many).values() for one in found]
    assert len(set(local)) == len(local) == 64 * 16
    assert all(address.is_loopback for address in local)


def test_unbound_asks_the_passages() -> None:
    text = configuration((), False, 1, [PLAIN, BOUND])
    assert 'name: "island0.test."\n  forward-addr: 10.0.0.1\n  forward-addr: 10.0.0.2\n' in text
    ways = f"  forward-addr: 127.0.2.1@{PORT}\n  forward-addr: 127.0.2.2@{PORT}\n"
    assert f'name: "island1.test."\n{ways}' in text
    assert "do-not-query-localhost: no\n" in text
    assert "do-not-query-localhost" not in configuration((), False, 1, [PLAIN])
