"""unbound's configuration as text: a resolver for the DNS64 front alone, on the loopback."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from appliance.dataplane import UNBOUND_PORT

ROOT_KEY = "/var/lib/unbound/root.key"


def configuration(upstreams: Sequence[IPv4Address], dnssec: bool, threads: int) -> str:
    """Forward to ``upstreams``, or recurse in full without any."""
    modules = "validator iterator" if dnssec else "iterator"
    anchor = f'  auto-trust-anchor-file: "{ROOT_KEY}"\n' if dnssec else ""
    forward = ""
    if upstreams:
        hosts = "".join(f"  forward-addr: {address}\n" for address in upstreams)
        forward = f'\nforward-zone:\n  name: "."\n{hosts}'
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
  # A server that says nothing is given up for another one after 200, then 400 ms (376 by default:
  # with a dead one first, a name could take over two seconds).
  unknown-server-time-limit: 200
  qname-minimisation: yes
  harden-glue: yes
  harden-dnssec-stripped: yes
  # Names of private networks are the operator's business, not the resolver's.
  local-zone: "168.192.in-addr.arpa." nodefault
  local-zone: "10.in-addr.arpa." nodefault

remote-control:
  control-enable: no
{forward}"""
