"""From the configuration to what will be done, as a list that can be printed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network

from appliance.config.schema import Config, lan_address
from appliance.dataplane import MARK_LOCAL, TABLE_LOCAL, tun_mark, tun_name, tun_table
from appliance.network import firewall, networkd, unbound

WPAD_PORT = 80


@dataclass(frozen=True, slots=True)
class Facts:
    """What the plan depends on beside the configuration."""

    lan: str  # interface names, "auto" resolved
    wan: str
    lan_prefix: IPv6Network  # "generated" resolved
    upstreams: tuple[IPv4Address, ...]  # of the configuration, else those DHCP named
    workers: int
    has_networkd: bool
    has_tun: bool = True  # the kernel makes TUN devices


@dataclass(frozen=True, slots=True)
class SetHostname:
    """The name that the box gives itself: in its log, to the DHCP server, on its console."""

    name: str

    def __str__(self) -> str:
        return f"host name {self.name}"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a file whole. ``where`` is "networkd" or "runtime"."""

    where: str
    name: str
    text: str

    def __str__(self) -> str:
        body = "".join(f"    {line}\n" for line in self.text.splitlines())
        return f"write {self.where} file {self.name}\n{body}".rstrip()


@dataclass(frozen=True, slots=True)
class MakeTun:
    """A worker's TUN device, with the rule and the route that lead into it."""

    name: str
    mark: int
    table: int

    def __str__(self) -> str:
        return f"make tun {self.name}: fwmark {self.mark:#x} → table {self.table} → default dev {self.name}"


@dataclass(frozen=True, slots=True)
class LocalDelivery:
    """Packets with the mark go to this box's transparent sockets."""

    mark: int
    table: int

    def __str__(self) -> str:
        return f"deliver locally: fwmark {self.mark:#x} → table {self.table} → local ::/0 dev lo"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """The LAN address, where networkd is not there to set it."""

    interface: str
    address: str

    def __str__(self) -> str:
        return f"address {self.address} on {self.interface}"


@dataclass(frozen=True, slots=True)
class Firewall:
    """The nftables ruleset, in one transaction."""

    text: str

    def __str__(self) -> str:
        return "firewall\n" + "".join(f"    {line}\n" for line in self.text.splitlines()).rstrip()


Step = SetHostname | WriteFile | MakeTun | LocalDelivery | AddAddress | Firewall


def plan(config: Config, facts: Facts) -> list[Step]:
    """The steps, in the order in which they are taken."""
    prefixes: Sequence[IPv6Network] = [entry.prefix for entry in config.translation]
    steps: list[Step] = []
    if facts.has_networkd:
        # By hand, in a namespace, the name is the machine's own. First, for networkd to ask DHCP with it.
        steps.append(SetHostname(config.system.hostname))
        steps.append(WriteFile("networkd", "10-isthmus-wan.network", networkd.wan_file(config, facts.wan)))
        text = networkd.lan_file(facts.lan, facts.lan_prefix, prefixes)
        steps.append(WriteFile("networkd", "10-isthmus-lan.network", text))
    else:
        steps.append(AddAddress(facts.lan, f"{facts.lan_prefix[1]}/64"))
    steps.append(LocalDelivery(MARK_LOCAL, TABLE_LOCAL))
    if facts.has_tun:
        steps += [MakeTun(tun_name(n), tun_mark(n), tun_table(n)) for n in range(facts.workers)]
    # Browsers fetch http://wpad/wpad.dat from port 80 and no other.
    wpad = lan_address(facts.lan_prefix) if config.explicit.pac_port == WPAD_PORT else None
    text = unbound.configuration(facts.upstreams, config.dns.dnssec, 1, config.translation, wpad)
    steps.append(WriteFile("runtime", "unbound.conf", text))
    # Last: nft takes it whole or not at all, so what fails before or in it can all be undone.
    steps.append(Firewall(firewall.ruleset(config, facts.lan, facts.wan, facts.workers, facts.has_tun)))
    return steps
