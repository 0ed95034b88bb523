"""What the network is like now: ports, addresses, the lease."""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from socket import AF_INET, if_nameindex

from pyroute2 import IPRoute

from appliance.errors import IsthmusError

_TUNGETFEATURES = 0x800454CF
SYS_NET = Path("/sys/class/net")
LEASES = Path("/run/systemd/netif/leases")
SYSTEMD = Path("/run/systemd/system")


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


def roles(wan: str, lan: str) -> tuple[str, str]:
    """The two interfaces' names, "auto" resolved: the first wired ports, WAN before LAN."""
    present = {name for _index, name in if_nameindex()}
    for role, name in (("wan", wan), ("lan", lan)):
        if name != "auto" and name not in present:
            names = ", ".join(sorted(present - {"lo"})) or "none"
            raise PortError(f"{role}.interface: there is no port “{name}”", f"Ports here: {names}.")
    free = [name for name in wired_ports() if name not in (wan, lan)]
    chosen = []
    for role, name in (("wan", wan), ("lan", lan)):
        if name == "auto":
            if not free:
                raise PortError(f"{role}.interface: no wired port is left for it", "The box needs two.")
            name = free.pop(0)
        chosen.append(name)
    return chosen[0], chosen[1]


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
