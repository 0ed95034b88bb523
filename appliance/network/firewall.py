"""The nftables ruleset as text: default drop on the WAN, the way into the workers, nothing else forwarded."""

from __future__ import annotations

from appliance.config.schema import Config
from appliance.dataplane import MARK_LOCAL, MARK_TUN_BASE, MARK_WAN, listener_port, tun_name

TABLE = "isthmus"
# Any constant does: it only has to be the same for every packet of a client.
_HASH_SEED = 0x1575
# RFC 4443 errors and the echo: what may go to a worker beside UDP.
_ICMPV6_TO_WORKER = (
    "{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request }"
)


def _own_ports(config: Config) -> list[int]:
    """TCP ports of the box's own on the LAN: the console's and the explicit proxy's."""
    explicit = config.explicit
    found = {config.console.port, *(listener.port for listener in explicit.listeners)}
    return sorted(found | ({explicit.pac_port} if explicit.pac_port else set()))


def ruleset(config: Config, lan: str, wan: str, workers: int, has_tun: bool = True) -> str:
    """One nft transaction that replaces the table ``inet isthmus`` whole.

    Without TUN devices SYNs go to the workers' listeners at once, and UDP and ping are refused.
    """
    prefix_set = ", ".join(str(entry.prefix) for entry in config.translation)
    ports = ", ".join(str(port) for port in _own_ports(config))
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
    # Accept-first goes without TUN: the SYN reaches the listener of the client's worker at once.
    first = chains = ""
    if config.proxy.accept_first or not has_tun:
        goto = ", ".join(f"{worker} : goto first_{worker}" for worker in range(workers))
        first = (
            "    tcp flags & (fin | syn | rst | ack) == syn "
            f"jhash ip6 saddr mod {workers} seed {_HASH_SEED} vmap {{ {goto} }}\n"
        )
        chains = "".join(
            f"""
  chain first_{worker} {{
    meta l4proto tcp tproxy ip6 to [::1]:{listener_port(worker)} meta mark set {MARK_LOCAL} accept
  }}
"""
            for worker in range(workers)
        )
    tuns = range(workers if has_tun else 0)
    by_device = "".join(f', "{tun_name(worker)}" : goto from_worker_{worker}' for worker in tuns)
    devices = ", ".join(f'"{tun_name(worker)}"' for worker in tuns)
    between = (
        f"""
    iifname "{lan}" oifname {{ {devices} }} accept
    iifname {{ {devices} }} oifname "{lan}" accept"""
        if has_tun
        else ""
    )
    packets = (
        f"""
    tcp flags & (fin | syn | rst | ack) == syn {steer} accept
    meta l4proto {{ tcp, icmpv6 }} socket transparent 1 meta mark set {MARK_LOCAL} accept
    meta l4proto udp {steer} accept
    icmpv6 type {_ICMPV6_TO_WORKER} {steer} accept"""
        if has_tun
        else f"""
    meta l4proto {{ tcp, icmpv6 }} socket transparent 1 meta mark set {MARK_LOCAL} accept
    meta l4proto {{ udp, icmpv6 }} reject with icmpv6 admin-prohibited"""
    ).lstrip("\n")
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
    iifname vmap {{ "{lan}" : goto from_lan{by_device} }}
    meta l4proto tcp notrack accept
    meta l4proto udp socket mark {MARK_WAN} meta mark set {MARK_WAN} notrack
    iifname "lo" notrack
  }}

  chain output {{
    type filter hook output priority raw; policy accept
    meta l4proto tcp notrack accept
    meta l4proto udp meta mark {MARK_WAN} notrack
    oifname "lo" notrack
    ip6 saddr {untracked} notrack
  }}
{from_workers}{chains}
  chain from_lan {{
    ip6 daddr @prefixes goto to_prefix{divert_clients}
    meta l4proto tcp notrack
  }}

  chain to_prefix {{
    notrack
    # Every pure SYN waits in a worker's TUN, before any look for a socket: its four-tuple may be in
    # TIME_WAIT here, and the origin has to be asked again.
{first}{packets}
    meta l4proto tcp reject with tcp reset
    drop
  }}

  chain input {{
    type filter hook input priority filter; policy drop
    meta mark {MARK_LOCAL} accept
    # A segment for a socket that there is, one in TIME_WAIT included; and errors about what one sent.
    tcp flags & (syn | ack) != syn socket transparent 0 accept
    meta mark {MARK_WAN} accept
    icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} socket transparent 0 accept
    iifname "lo" accept
    ct state established,related accept
    iifname "{lan}" meta l4proto icmpv6 accept
    iifname "{lan}" meta l4proto {{ tcp, udp }} th dport 53 accept
    iifname "{lan}" tcp dport {{ {ports} }} accept
    iifname "{lan}" meta nfproto ipv6 meta l4proto tcp reject with tcp reset
{published}    iifname "{wan}" counter drop
  }}

  chain forward {{
    type filter hook forward priority filter; policy drop{between}
    iifname "{lan}" meta nfproto ipv6 reject with icmpv6 no-route
  }}
}}
"""
