"""The nftables ruleset as text: default drop on the WAN, the way into the workers, nothing else forwarded."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.config.schema import Config
from appliance.dataplane import (
    MARK_LOCAL,
    MARK_TO_CLIENT,
    MARK_TUN_BASE,
    MARK_WAN,
    listener_port,
    tun_name,
    udp_ports,
)

TABLE = "isthmus"
# Any constant does: it only has to be the same for every packet of a client.
_HASH_SEED = 0x1575
# RFC 4443 errors and the echo: what may go to a worker beside UDP.
_ICMPV6_TO_WORKER = (
    "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request }"
)


def _own_ports(config: Config) -> list[int]:
    """TCP ports of the explicit proxy's, on every LAN."""
    explicit = config.explicit
    found = {listener.port for listener in explicit.listeners}
    return sorted(found | ({explicit.pac_port} if explicit.pac_port else set()))


def _named(devices: Sequence[str]) -> str:
    """What nft compares a device with: one name, or a set of them."""
    names = ", ".join(f'"{device}"' for device in devices)
    return names if len(devices) == 1 else f"{{ {names} }}"


def ruleset(config: Config, lans: Sequence[str], wan: str, workers: int, has_tun: bool = True) -> str:
    """One nft transaction that replaces the table ``inet isthmus`` whole.

    ``lans``: each LAN's device, in the order of ``Config.lans``. Without TUN devices SYNs go to the workers'
    listeners at once, and ping is refused.
    """
    lan = _named(lans)
    from_lans = "".join(f'"{device}" : goto from_lan, ' for device in lans)[:-2]
    console = _named(
        [lans[0], *(device for device, one in zip(lans[1:], config.segment, strict=True) if one.console)]
    )
    asking = [device for device, (_name, one) in zip(lans, config.lans(), strict=True) if one.dhcpv6]
    # DHCPv6, from the link alone (RFC 8415 section 7.2).
    asked = f"    iifname {_named(asking)} ip6 saddr fe80::/10 udp dport 547 accept\n" if asking else ""
    # With several LANs nobody passes for a host of another: what a rule says of it would hold for both.
    honest = "    ip6 daddr @prefixes fib saddr . iif oif missing drop\n" if len(lans) > 1 else ""
    prefix_set = ", ".join(str(entry.prefix) for entry in config.translation)
    ports = ", ".join(str(port) for port in _own_ports(config))
    own = f"    iifname {lan} tcp dport {{ {ports} }} accept\n" if ports else ""
    client_prefix = config.lan.client_prefix
    # Answers to sessions that are shown to servers with the client's own address inside this prefix.
    divert_clients = (
        ""
        if client_prefix is None
        else f"""
    ip6 daddr {client_prefix} notrack meta l4proto {{ tcp, udp, icmpv6 }} \
socket transparent 1 meta mark set {MARK_LOCAL} accept"""
    )
    untracked = "@prefixes" if client_prefix is None else f"{{ {prefix_set}, {client_prefix} }}"
    published = "".join(
        f'    iifname "{wan}" {f"ip daddr {service.address} " if service.address else ""}'
        f"{service.protocol} dport {service.port} accept\n"
        for service in config.published
    )
    steer = (
        f"meta mark set {MARK_TUN_BASE}"
        if workers == 1
        else f"meta mark set jhash ip6 saddr mod {workers} seed {_HASH_SEED} offset {MARK_TUN_BASE}"
    )
    # Without TUN, to a listener of the client's worker at once: datagrams, and, where clients are
    # accepted first, SYNs.
    syn, chains = f"{steer} accept", _listeners("udp", workers)
    if config.proxy.accept_first or not has_tun:
        syn, chains = _by_client("first", workers), chains + _listeners("first", workers)
    chains += _listeners("origins", workers)
    services = ", ".join(str(service.port) for service in config.published if service.protocol == "udp")
    not_ours = f"    udp dport {{ {services} }} notrack accept\n" if services else ""
    # One prefix is compared with; a set of them is looked up, at several times the price.
    prefixes = f"{config.translation[0].prefix}" if len(config.translation) == 1 else "@prefixes"
    tuns = range(workers if has_tun else 0)
    by_device = "".join(f', "{tun_name(worker)}" : goto from_worker_{worker}' for worker in tuns)
    devices = ", ".join(f'"{tun_name(worker)}"' for worker in tuns)
    between = (
        f"""
    iifname {lan} oifname {{ {devices} }} accept
    iifname {{ {devices} }} oifname {lan} accept"""
        if has_tun
        else ""
    )
    ping = (
        f"icmpv6 type {_ICMPV6_TO_WORKER} {steer} accept"
        if has_tun
        else "meta l4proto icmpv6 reject with icmpv6 admin-prohibited"
    )
    from_workers = "".join(
        f"""
  # A released SYN: to the listener of the worker that released it.
  chain from_worker_{worker} {{
    notrack
    ip6 daddr @prefixes meta l4proto tcp \
tproxy ip6 to [::1]:{listener_port(worker)} meta mark set {MARK_LOCAL} accept
  }}
"""
        for worker in tuns
    )
    return f"""\
add table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  set prefixes {{
    type ipv6_addr; flags interval
    elements = {{ {prefix_set} }}
  }}

  # The sockets are the state of TCP and of what the proxy sends: conntrack would keep it twice.
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept
    iifname vmap {{ {from_lans}{by_device} }}
    meta l4proto tcp notrack accept
    meta nfproto ipv4 meta l4proto udp goto from_origins
    iifname "lo" notrack
  }}

  # Datagrams of the IPv4 side: each worker has its part of the ports. What is for a connected socket of
  # the box (its resolver's, its clock's) TPROXY leaves alone, and conntrack lets in.
  chain from_origins {{
    ip daddr 127.0.0.0/8 notrack accept
{not_ours}    udp dport {_by_port(workers)}
  }}

  chain output {{
    type filter hook output priority raw; policy accept
    meta l4proto tcp notrack accept
    meta l4proto udp meta mark {MARK_WAN} notrack accept
    # A client that forged its address reaches by the answers neither the WAN nor the box itself.
    meta mark {MARK_TO_CLIENT} oifname {lan} notrack accept
    meta mark {MARK_TO_CLIENT} drop
    oifname "lo" notrack
    ip6 saddr {untracked} notrack
  }}
{from_workers}{chains}
  chain from_lan {{
{honest}    meta l4proto udp ip6 daddr {prefixes} notrack {_by_client("udp", workers)}
    ip6 daddr {prefixes} goto to_prefix{divert_clients}
    meta l4proto tcp notrack
  }}

  chain to_prefix {{
    notrack
    # Every pure SYN waits in a worker's TUN, before any look for a socket: its four-tuple may be in
    # TIME_WAIT here, and the origin has to be asked again.
    tcp flags & (fin | syn | rst | ack) == syn {syn}
    meta l4proto {{ tcp, icmpv6 }} socket transparent 1 meta mark set {MARK_LOCAL} accept
    {ping}
    meta l4proto tcp reject with tcp reset
    drop
  }}

  chain input {{
    type filter hook input priority filter; policy drop
    meta mark {MARK_LOCAL} accept
    # A segment for a socket that there is, one in TIME_WAIT included; and errors about what one sent.
    tcp flags & (syn | ack) != syn socket transparent 0 accept
    icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} socket transparent 0 accept
    # The same about datagrams of the workers, which have no sockets: it quotes UDP (17).
    icmp type {{ destination-unreachable, time-exceeded }} @th,136,8 17 accept
    iifname "lo" accept
    ct state established,related accept
    iifname {lan} meta l4proto icmpv6 accept
    iifname {lan} meta l4proto {{ tcp, udp }} th dport 53 accept
    iifname {console} tcp dport {config.console.port} accept
{own}{asked}    iifname {lan} meta l4proto udp socket mark {MARK_WAN} accept
    iifname {lan} meta nfproto ipv6 meta l4proto tcp reject with tcp reset
{published}    iifname "{wan}" counter drop
  }}

  chain forward {{
    type filter hook forward priority filter; policy drop{between}
    iifname {lan} meta nfproto ipv6 reject with icmpv6 no-route
  }}
}}
"""


def _by_client(name: str, workers: int) -> str:
    """To the chain ``name_N`` of the client's worker."""
    if workers == 1:
        return f"goto {name}_0"
    goto = ", ".join(f"{worker} : goto {name}_{worker}" for worker in range(workers))
    return f"jhash ip6 saddr mod {workers} seed {_HASH_SEED} vmap {{ {goto} }}"


def _listeners(name: str, workers: int) -> str:
    """The chains ``name_N``, each into a transparent socket of worker N."""
    protocol = "tcp" if name == "first" else "udp"
    to = "ip to 127.0.0.1" if name == "origins" else "ip6 to [::1]"
    tracking = "notrack " if name == "origins" else ""
    return "".join(
        f"""
  chain {name}_{worker} {{
    meta l4proto {protocol} tproxy {to}:{listener_port(worker)} {tracking}meta mark set {MARK_LOCAL} accept
  }}
"""
        for worker in range(workers)
    )


def _by_port(workers: int) -> str:
    """To the chain ``origins_N`` of the worker whose UDP port it is."""
    slices = [udp_ports(worker, workers) for worker in range(workers)]
    texts = [f"{ports.start}-{ports.stop - 1}" for ports in slices]
    if workers == 1:
        return f"{texts[0]} goto origins_0"
    goto = ", ".join(f"{text} : goto origins_{worker}" for worker, text in enumerate(texts))
    return f"vmap {{ {goto} }}"
