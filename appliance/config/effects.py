"""What a commit does, in words, and whether it may part the admin from the box. Pure.

The admin is on the LAN: what moves the LAN's address or port, or the console's, *cuts*. So does the WAN, by
which somebody's work may hang. All else leaves sessions and console alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Network

from appliance.config.schema import Config, Published, lan_address
from appliance.config.sides import place_of

HTTPS = 443
# What hosts are told by router advertisements and DHCPv6.
_TOLD = (
    "router_preference", "managed", "dhcpv6", "dns_servers", "search_domains", "ntp_servers",
    "pref64_lifetime",
)  # fmt: skip
# Seconds in which a commit that cuts is to be confirmed, where nobody says how many. Enough for a client to
# get its new address and for a person to find the console again; much more leaves a network cut off as long.
CONFIRM_SECONDS = 90
MIN_CONFIRM_SECONDS = 10
MAX_CONFIRM_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class Effect:
    """One of them; ``cut``: the commit has to be confirmed."""

    text: str
    cut: bool = False


def console_url(lan: str, port: int, generated: IPv6Network | None) -> str | None:
    """Where the console is, by lan.prefix and console.port; None where the prefix is yet to be generated."""
    prefix = generated if lan == "generated" else IPv6Network(lan)
    if prefix is None:
        return None
    return f"https://[{lan_address(prefix)}]{'' if port == HTTPS else f':{port}'}/"


def _url(config: Config, generated: IPv6Network | None) -> str | None:
    return console_url(str(config.lan.prefix), config.console.port, generated)


def effects(before: Config, after: Config, generated: IPv6Network | None) -> list[Effect]:
    """What putting ``after`` in the place of ``before`` does; ``generated``: the prefix that the box made."""
    found = [*_network(before, after, generated), *_services(before, after)]
    if not found and before != after:
        found.append(Effect("Reloads the proxy: sessions stay."))
    return found


def _network(before: Config, after: Config, generated: IPv6Network | None) -> Iterator[Effect]:
    if place_of(before.lan) != place_of(after.lan):
        yield Effect(f"Moves the LAN to {place_of(after.lan)}: cuts it until cables fit.", cut=True)
    yield from _lans(before, after)
    old, new = _url(before, generated), _url(after, generated)
    if before.lan.prefix != after.lan.prefix:
        yield Effect(
            "Changes the LAN's address: its devices get new ones, sessions of the old ones end, and the "
            f"console moves to {new or 'an address that is made then'}.",
            cut=True,
        )
    elif old != new:
        yield Effect(f"Moves the console to {new or f'port {after.console.port}'}.", cut=True)
    if place_of(before.wan) != place_of(after.wan):
        yield Effect(f"Moves the WAN to {place_of(after.wan)}: cuts it until cables fit.", cut=True)
    if before.wan.model_copy(update=after.wan.model_dump(include={"interface", "vlan"})) != after.wan:
        where = (
            "by DHCP" if after.wan.mode == "dhcp" else f"{after.wan.address} by way of {after.wan.gateway}"
        )
        yield Effect(f"Sets the WAN's address ({where}): sessions end that came from the old one.", cut=True)


def _lans(before: Config, after: Config) -> Iterator[Effect]:
    """Of the LANs beside the first one, and of what every LAN's hosts are told."""
    old, new = ({one.name: one for one in config.segment} for config in (before, after))
    for name, one in old.items():
        if name not in new:
            yield Effect(f"Ends LAN “{name}”: its hosts are cut off.", cut=True)
            continue
        now = new[name]
        if place_of(one) != place_of(now):
            yield Effect(f"Moves LAN “{name}” to {place_of(now)}: cuts it until cables fit.", cut=True)
        if one.prefix != now.prefix:
            yield Effect(f"Changes the address of LAN “{name}”: its devices get new ones.", cut=True)
        if one.console != now.console:
            # Whoever works from there may shut themselves out.
            yield Effect(
                f"{'Opens' if now.console else 'Closes'} the console to LAN “{name}”.", cut=one.console
            )
    for name, one in new.items():
        if name not in old:
            yield Effect(f"Begins LAN “{name}” on {place_of(one)}.")
    known = dict(before.lans())
    for name, lan in after.lans():
        if name in known and any(getattr(known[name], word) != getattr(lan, word) for word in _TOLD):
            words = "the LAN" if name == "lan" else f"LAN “{name}”"
            yield Effect(f"Tells the hosts of {words} what is new: they take it up within seconds.")
    if any(name in known and known[name].mtu != lan.mtu for name, lan in after.lans()):
        yield Effect("Changes how large a LAN's packets may be.", cut=True)
    if before.route != after.route:
        yield Effect("Changes routes: what is behind them may be cut off, an admin too.", cut=True)


def _services(before: Config, after: Config) -> Iterator[Effect]:
    if before.system.hostname != after.system.hostname:
        yield Effect(
            f"Names the box {after.system.hostname}: it gets a new certificate, which browsers ask about "
            "where they do not trust the box's authority."
        )
    prefixes = [{entry.prefix for entry in config.translation} for config in (before, after)]
    for prefix in sorted(prefixes[0] - prefixes[1], key=str):
        yield Effect(f"Translates {prefix} no more: its sessions end.")
    if before.translation != after.translation or before.dns != after.dns or before.lan != after.lan:
        yield Effect("Reloads DNS64 and the resolver: what they have cached is asked for anew.")
    yield from _doors(
        "listener",
        {one.name: (one.port, one) for one in before.explicit.listeners},
        {one.name: (one.port, one) for one in after.explicit.listeners},
    )
    yield from _doors("published service", _published(before.published), _published(after.published))
    if any(
        getattr(before, name) != getattr(after, name) for name in ("policy", "rule", "schedule", "device")
    ):
        yield Effect("Rules hold for new sessions and requests at once; open sessions stay.")
    if before.name_list != after.name_list:
        yield Effect(
            "Fetches lists that are new or have a new address; until then their last good copy holds."
        )
    if before.limit != after.limit:
        yield Effect("Limits hold at once, for what is open too.")
    if before.user != after.user or before.group != after.group:
        yield Effect("Users and groups hold at once; sessions that are open stay.")
    if before.log != after.log:
        yield Effect("The log of sessions goes to its new places at once.")
    if before.proxy.workers != after.proxy.workers:
        yield Effect("Starts or ends workers of the proxy: sessions stay with those they have.")
    elif before.proxy != after.proxy:
        yield Effect("Reloads the proxy: sessions stay.")


def _published(services: Iterable[Published]) -> dict[str, tuple[int, object]]:
    return {one.name: (one.port, one) for one in services}


def _doors(
    kind: str, before: dict[str, tuple[int, object]], after: dict[str, tuple[int, object]]
) -> Iterator[Effect]:
    for name, (port, door) in before.items():
        if name not in after:
            yield Effect(f"Closes the {kind} “{name}” (port {port}): new clients are refused, sessions stay.")
        elif after[name][0] != port:
            yield Effect(f"Moves the {kind} “{name}” from port {port} to {after[name][0]}: sessions stay.")
        elif after[name][1] != door:
            yield Effect(f"Reloads the {kind} “{name}”: sessions stay.")
    for name, (port, _door) in after.items():
        if name not in before:
            yield Effect(f"Opens the {kind} “{name}” on port {port}.")
