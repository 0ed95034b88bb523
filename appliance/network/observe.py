"""What the network is like now: ports, addresses, the lease."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from socket import AF_INET, if_nameindex, if_nametoindex

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from appliance.config.schema import Config
from appliance.config.sides import AUTO, Lan, Wan
from appliance.errors import IsthmusError

_TUNGETFEATURES = 0x800454CF
_NTF_USE = 0x01
_NUD_FAILED = 0x20
SYS_NET = Path("/sys/class/net")
LEASES = Path("/run/systemd/netif/leases")
SYSTEMD = Path("/run/systemd/system")
NOTHING: Mapping[str, str] = {}


class PortError(IsthmusError):
    """The ports that the configuration names, or needs, are not there."""

    code = "port-missing"


@dataclass(frozen=True, slots=True)
class PortState:
    """A network port as the kernel has it; ``addresses`` with their prefix lengths."""

    name: str
    index: int
    carrier: bool
    speed_mbit: int | None
    addresses: tuple[str, ...]


def has_networkd() -> bool:
    """True on a box that systemd runs; false in a bare namespace."""
    return SYSTEMD.is_dir()


def wired_ports() -> list[str]:
    """Physical wired ports in the order of their slots."""
    found = []
    for path in SYS_NET.iterdir() if SYS_NET.is_dir() else ():
        if (path / "device").exists() and not (path / "wireless").exists():
            found.append(((path / "device").resolve().as_posix(), path.name))
    return [name for _slot, name in sorted(found)]


@dataclass(frozen=True, slots=True)
class Roles:
    """The port of each side, "auto" resolved; ``lans`` as ``Config.lans``. ``missing``: (setting, port)."""

    wan: str
    lans: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]


def roles(config: Config, kept: Mapping[str, str] = NOTHING) -> Roles:
    """Which port is whose. ``kept``: the ports that "wan" and "lan" had, which "auto" means while it may.

    Where it may not, or nothing is kept: of those that are left, the first wired ones, WAN before LAN; and
    PortError where none is. A port that is named, or kept, and not there is in ``missing``.
    """
    present = {name for _index, name in if_nameindex()}
    mains: tuple[tuple[str, Wan | Lan], ...] = (("wan", config.wan), ("lan", config.lan))
    chosen = {side: one.interface for side, one in mains if one.interface != AUTO}
    taken = {(one.interface, one.vlan) for _side, one in mains}
    for side, one in mains:
        if side not in chosen and side in kept and (kept[side], one.vlan) not in taken:
            chosen[side] = kept[side]
            taken.add((kept[side], one.vlan))
    # Ports that only have another LAN's VLAN come last: the LAN may be on one, beside it.
    whole = {one.interface for one in config.segment if one.vlan is None}
    trunks = {one.interface for one in config.segment if one.vlan is not None}
    left = [name for name in wired_ports() if name not in whole and name not in chosen.values()]
    free = sorted(left, key=lambda name: name in trunks)
    for side, _one in mains:
        if side not in chosen:
            if not free:
                raise PortError(f"{side}.interface: no wired port is left for it", "The box needs two.")
            chosen[side] = free.pop(0)
    # The VLAN of a LAN without a port of its own is on the LAN's.
    ports = [chosen["lan"] if one.interface == AUTO else one.interface for one in config.segment]
    sides = [(side, chosen[side]) for side, _one in mains]
    sides += [(f"segment.{one.name}", one.interface) for one in config.segment if one.interface != AUTO]
    missing = tuple((f"{side}.interface", port) for side, port in sides if port not in present)
    return Roles(chosen["wan"], (chosen["lan"], *ports), missing)


def missing_ports(missing: tuple[tuple[str, str], ...]) -> PortError:
    """In words."""
    names = ", ".join(sorted(name for _index, name in if_nameindex() if name != "lo")) or "none"
    words = "; ".join(f"{setting}: there is no port “{port}”" for setting, port in missing)
    return PortError(words, f"Put its card in, or name another port. Ports here: {names}.")


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def snapshot() -> tuple[list[PortState], str | None]:
    """The ports, and the IPv4 default gateway."""
    with IPRoute() as route:
        return ports(route), default_gateway(route)


def ports(route: IPRoute) -> list[PortState]:
    """Every port but the loopback and the workers' devices."""
    addresses: dict[int, list[str]] = {}
    for message in route.get_addr():
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        addresses.setdefault(message["index"], []).append(f"{text}/{message['prefixlen']}")
    found = []
    for link in route.get_links():
        name = link.get_attr("IFLA_IFNAME")
        if name == "lo" or re.fullmatch(r"isth\d+", name):
            continue
        speed = _read_int(SYS_NET / name / "speed")
        found.append(
            PortState(
                name,
                link["index"],
                bool(link.get_attr("IFLA_CARRIER")),
                speed if speed and speed > 0 else None,
                tuple(addresses.get(link["index"], ())),
            )
        )
    return found


def default_gateway(route: IPRoute) -> str | None:
    """The IPv4 default route's gateway."""
    for message in route.get_default_routes(family=AF_INET):
        gateway = message.get_attr("RTA_GATEWAY")
        if gateway:
            return str(gateway)
    return None


def lease_dns(index: int) -> tuple[IPv4Address, ...]:
    """DNS servers of the interface's DHCP lease, as networkd has it; none without a lease."""
    try:
        text = (LEASES / str(index)).read_text()
    except OSError:
        return ()
    found = re.search(r"^DNS=(.*)$", text, re.MULTILINE)
    servers = found[1].split() if found else []
    return tuple(a for a in map(ip_address, servers) if isinstance(a, IPv4Address))


def has_tun() -> bool:
    """Whether the kernel makes TUN devices here."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def cpus() -> int:
    """CPUs that the workers may use."""
    return len(os.sched_getaffinity(0))


def ask_routers(routers: Sequence[tuple[str, str]]) -> None:
    """Have the kernel look for these neighbours (address, device) at once."""
    with contextlib.suppress(OSError, NetlinkError), IPRoute() as route:
        for via, device in routers:
            with contextlib.suppress(OSError, NetlinkError):
                index = if_nametoindex(device)
                route.neigh("replace", dst=via, ifindex=index, state=0, flags=_NTF_USE)


def silent_routers(routers: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those (what it is, address, device) that did not answer when they were looked for last."""
    if not routers:
        return []
    failed = set()
    with IPRoute() as route:
        for message in route.get_neighbours():
            if message["state"] & _NUD_FAILED:
                failed.add((message.get_attr("NDA_DST"), message["ifindex"]))
    found = []
    for what, via, device in routers:
        with contextlib.suppress(OSError):
            if (via, if_nametoindex(device)) in failed:
                found.append((what, via, device))
    return found
