"""unbound's configuration as text: a resolver for the DNS64 front alone, on the loopback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from appliance.config.islands import PORT, Passage, passages
from appliance.config.schema import Translation
from appliance.dataplane import UNBOUND_PORT

ROOT_KEY = "/var/lib/unbound/root.key"


def _reverse_zones(network: IPv4Network) -> list[str]:
    """The zones under in-addr.arpa that a network fills; none for less than a /24."""
    octets = -(-network.prefixlen // 8)
    if not 1 <= octets <= 3:
        return []
    return [
        ".".join(reversed(str(block.network_address).split(".")[:octets])) + ".in-addr.arpa"
        for block in network.subnets(new_prefix=8 * octets)
    ]


def _islands(
    translation: Sequence[Translation], ways: Mapping[int, Sequence[Passage]]
) -> dict[str, list[str]]:
    """The zones that have resolvers of their own; those, or ``ways``, the passages to them.

    The first prefix that names a zone has it.
    """
    zones: dict[str, list[str]] = {}
    for place, entry in enumerate(translation):
        if entry.upstreams:
            direct = [str(address) for address in entry.upstreams]
            hosts = [f"{way.local}@{PORT}" for way in ways[place]] if place in ways else direct
            for zone in (*entry.domains, *(z for n in entry.networks for z in _reverse_zones(n))):
                zones.setdefault(zone, hosts)
    return zones


def _forward(zone: str, upstreams: Sequence[IPv4Address | str]) -> str:
    hosts = "".join(f"  forward-addr: {address}\n" for address in upstreams)
    return f'\nforward-zone:\n  name: "{zone}"\n{hosts}'


def _wpad(box: IPv6Address | None) -> str:
    """The name by which browsers look for a proxy's PAC file. DHCP's option 252 is IPv4's alone: an IPv6 host
    has nothing but this name to find it by.
    """
    if box is None:
        return ""
    return f'  local-zone: "wpad." static\n  local-data: "wpad. 300 IN AAAA {box}"\n'


def configuration(
    upstreams: Sequence[IPv4Address],
    dnssec: bool,
    threads: int,
    translation: Sequence[Translation] = (),
    wpad: IPv6Address | None = None,
) -> str:
    """Forward to ``upstreams``, or recurse in full without any; the zones of islands to theirs.

    ``wpad``: the box's own address, where the name of that kind leads to it.
    """
    modules = "validator iterator" if dnssec else "iterator"
    anchor = f'  auto-trust-anchor-file: "{ROOT_KEY}"\n' if dnssec else ""
    ways = passages(translation)
    zones = _islands(translation, ways)
    forward = _forward(".", upstreams) if upstreams else ""
    forward += "".join(_forward(f"{zone}.", hosts) for zone, hosts in zones.items())
    # Transparent: unbound's own empty zones (test., 16.172.in-addr.arpa. …) do not hide them. Insecure:
    # nobody outside signs for an island's names.
    private = "".join(
        f'  local-zone: "{zone}." transparent\n  domain-insecure: "{zone}."\n' for zone in zones
    )
    # Passages to resolvers stand on the loopback.
    loopback = "  do-not-query-localhost: no\n" if ways else ""
    return f"""\
# Written by isthmus-control; changes are lost.
server:
  interface: 127.0.0.1@{UNBOUND_PORT}
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  do-daemonize: no
  chroot: ""
  username: ""
  directory: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  verbosity: 0
  num-threads: {threads}
  so-reuseport: yes
  module-config: "{modules}"
{anchor}  msg-cache-size: 16m
  rrset-cache-size: 32m
  cache-max-negative-ttl: 300
  hide-identity: yes
  hide-version: yes
  minimal-responses: no
  # Of what the box itself asks on loopback nothing need be cut; others get the size that they ask for.
  max-udp-size: 65507
  # A server that says nothing is given up for another one after 200, then 400 ms (376 by default:
  # with a dead one first, a name could take over two seconds).
  unknown-server-time-limit: 200
  qname-minimisation: yes
  harden-glue: yes
  harden-dnssec-stripped: yes
  # Names of private networks are the operator's business, not the resolver's.
  local-zone: "168.192.in-addr.arpa." nodefault
  local-zone: "10.in-addr.arpa." nodefault
{loopback}{private}{_wpad(wpad)}
remote-control:
  control-enable: no
{forward}"""
