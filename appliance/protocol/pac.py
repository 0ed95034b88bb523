"""The proxy auto-configuration file (PAC), which tells browsers what to reach through the box."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

CONTENT_TYPE = "application/x-ns-proxy-autoconfig"


class Speaks(Enum):
    """A listener's protocol, as PAC files call it."""

    HTTPS = "HTTPS"  # HTTP proxy over TLS
    HTTP = "PROXY"
    SOCKS5 = "SOCKS5"


class Listener(NamedTuple):
    """Where a proxy listens. A name rather than an address where its certificate has to match."""

    speaks: Speaks
    host: str | IPv4Address | IPv6Address
    port: int


def pac_file(
    listeners: Sequence[Listener],
    *,
    direct_names: Sequence[str] = (),
    direct_networks: Sequence[IPv4Network | IPv6Network] = (),
    else_direct: bool = False,
) -> str:
    """The file's text. Browsers try the listeners in this order.

    ``direct_names`` are reached without the proxy, with all below them; so are ``direct_networks`` where an
    address is typed in (names are never looked up for it: that would stall browsers and tell the DNS).
    ``else_direct``: go round the proxy where it does not answer.
    """
    ways = [f"{way.speaks.value} {_authority(way.host, way.port)}" for way in listeners]
    if else_direct or not ways:
        ways.append("DIRECT")
    names = [name.strip(".").lower() for name in direct_names]
    return _TEXT % (
        _js(names),
        _js([str(network) for network in direct_networks]),
        _js("; ".join(ways)),
    )


def _authority(host: str | IPv4Address | IPv6Address, port: int) -> str:
    return f"[{host}]:{port}" if isinstance(host, IPv6Address) else f"{host}:{port}"


def _js(value: str | list[str]) -> str:
    """A JavaScript literal: JSON in ASCII is one."""
    return json.dumps(value)


# ES3: the oldest engines that read PAC files know no more. isInNetEx and friends are not everywhere.
_TEXT = """\
// Made by Isthmus from its configuration.
var directNames = %s;
var directNetworks = %s;
var proxy = %s;

function FindProxyForURL(url, host) {
  var i, name;
  host = host.toLowerCase().replace(/^\\[|\\]$/g, "").replace(/\\.$/, "");
  if (host === "localhost" || host === "::1" || /^127\\./.test(host)) return "DIRECT";
  if (host.indexOf(".") < 0 && host.indexOf(":") < 0) return "DIRECT";
  for (i = 0; i < directNames.length; i++) {
    name = directNames[i];
    if (host === name || host.slice(-name.length - 1) === "." + name) return "DIRECT";
  }
  if (typeof isInNetEx === "function" && (host.indexOf(":") >= 0 || /^[0-9.]+$/.test(host))) {
    for (i = 0; i < directNetworks.length; i++) {
      if (isInNetEx(host, directNetworks[i])) return "DIRECT";
    }
  }
  return proxy;
}
"""
