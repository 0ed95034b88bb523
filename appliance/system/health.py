"""Health checks: each looks at one thing and says in words what is, what it means, what to do."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.dataplane import UNBOUND_PORT
from appliance.errors import SHORTAGES, WIRE, Failure, Problem

# A resolver on the loopback that is well answers in under a millisecond.
DNS_TIMEOUT = 0.5
DISK_WARN, DISK_BAD = 0.85, 0.97
# No clock of a running box is before the code it runs.
EARLIEST_TIME = 1_793_491_200  # 2026-11-01
_QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01"
# isthmus-lan writes its status every ten seconds. Shorter calls a busy box dead; longer hides it for as long.
LAN_SILENT = 45.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. state: ok, warn or bad."""

    id: str
    state: str
    title: str
    detail: str = ""
    fix: str = ""

    def plain(self) -> dict[str, Any]:
        """As the varlink type."""
        return asdict(self)


def port(role: str, name: str, present: bool, carrier: bool) -> Check:
    """A port that is missing or has no cable."""
    side = "LAN" if role == "lan" else "WAN"
    if not present:
        what = f"No wired port is left for the {side}" if name == "auto" else f"There is no port “{name}”"
        return Check(
            f"port-{role}",
            "bad",
            f"The {side} port is missing",
            f"{what}. Nothing crosses the box.",
            f"Put the network card back, or name another port in {role}.interface.",
        )
    if not carrier:
        return Check(
            f"port-{role}",
            "bad",
            f"No cable on the {side} port",
            f"“{name}” has no link.",
            "Plug the cable in, or look at the far end.",
        )
    return Check(f"port-{role}", "ok", f"{side} port is up", name)


def segment(name: str, device: str, present: bool, carrier: bool) -> Check:
    """A further LAN's port."""
    if not present:
        return Check(
            f"port-{name}",
            "bad",
            f"The port of LAN “{name}” is missing",
            f"There is no “{device}”. Its hosts reach nothing.",
            "Put the network card back, or give that LAN another port.",
        )
    if not carrier:
        return Check(
            f"port-{name}",
            "warn",
            f"No cable on the port of LAN “{name}”",
            f"“{device}” has no link.",
            "Plug the cable in, or look at the far end.",
        )
    return Check(f"port-{name}", "ok", f"LAN “{name}” is up", device)


def routers(silent: list[tuple[str, str, str]]) -> list[Check]:
    """Routers that the configuration counts on and that do not answer: (what it is, address, device)."""
    return [
        Check(
            f"router-{address}",
            "warn",
            f"The router {address} does not answer",
            f"It stands for {what}, on “{device}”. What is behind it cannot be reached.",
            "Look at the router and its cable, or name another one.",
        )
        for what, address, device in silent
    ]


def lan_daemon(path: Path, expected: bool, now: float) -> list[Check]:
    """Whether isthmus-lan is alive, by the age of what it writes every ten seconds (``now``: since 1970).

    Nothing where it is well, or where it is not expected and was never there.
    """
    try:
        age = now - path.stat().st_mtime
    except OSError:
        if not expected:
            return []
        age = float("inf")
    if age < LAN_SILENT:
        return []
    return [
        Check(
            "lan-daemon",
            "warn",
            "The LANs' listener does not run",
            "Hosts that ask by DHCPv6 for names and time get no answer, and other routers that advertise "
            "themselves are not noticed.",
            "`systemctl status isthmus-lan` says why; it is started again by itself.",
        )
    ]


def strangers(path: Path) -> list[Check]:
    """Other routers that advertise themselves on a LAN, as isthmus-lan saw them; none where it saw none."""
    try:
        seen = json.loads(path.read_text())["strangers"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [
        Check(
            f"stranger-{one['lan']}-{one['router']}",
            "warn",
            f"Another router advertises itself on LAN “{one['lan']}”",
            f"{one['router']} (network card {one['mac'] or 'unknown'}) offers "
            f"{', '.join(one['prefixes']) or 'no prefix'}. The box takes nothing from it, but hosts may send "
            "their traffic there, past the box.",
            "Switch its router advertisements off, or take it off this network. Where it belongs there, give "
            "this LAN a high router preference.",
        )
        for one in seen
    ]


def wan_address(address: str | None, gateway: str | None) -> Check:
    """An address and a way out on the WAN."""
    if address is None:
        return Check(
            "wan-address",
            "bad",
            "No address on the WAN",
            "No DHCP server has answered. Nothing reaches IPv4.",
            "Look at the cable and the router, or set a static address.",
        )
    if gateway is None:
        return Check(
            "wan-address",
            "warn",
            "No gateway on the WAN",
            f"The box has {address}, but no way further.",
            "Let DHCP name a router, or set one.",
        )
    return Check("wan-address", "ok", "WAN has an address", f"{address} by {gateway}")


def _answers(family: int, address: str, port_number: int) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DNS_TIMEOUT)
        try:
            sock.sendto(_QUERY, (address, port_number))
            return sock.recv(512)[:2] == _QUERY[:2]
        except OSError:
            return False


def resolver() -> Check:
    """unbound, asked for real."""
    if _answers(socket.AF_INET, "127.0.0.1", UNBOUND_PORT):
        return Check("resolver", "ok", "Resolver answers", "unbound")
    return Check(
        "resolver",
        "bad",
        "The resolver does not answer",
        "unbound is down or does not start. Names outside the cache fail.",
        "It is started again by itself; if this stays, look at its log.",
    )


def dns64(address: str | None) -> Check:
    """The DNS64 front, asked for real."""
    if address is not None and (
        _answers(socket.AF_INET6, address, 53) or _answers(socket.AF_INET6, "::1", 53)
    ):
        return Check("dns64", "ok", "DNS64 answers", f"[{address}]:53")
    return Check(
        "dns64",
        "bad",
        "DNS64 does not answer",
        "Hosts get no addresses for IPv4 names.",
        "It is started again by itself; if this stays, look at its log.",
    )


def upstreams(servers: list[str]) -> Check:
    """How many resolvers stand behind ours."""
    if len(servers) == 1:
        return Check(
            "dns-upstreams",
            "warn",
            "One DNS server upstream",
            "If it fails, names fail.",
            "Add a second one.",
        )
    if not servers:
        return Check(
            "dns-upstreams", "ok", "The box resolves names itself", "No DNS server upstream is named."
        )
    return Check("dns-upstreams", "ok", f"{len(servers)} DNS servers upstream", ", ".join(servers))


def proxy(status: dict[str, Any] | None) -> Check:
    """The proxy and its workers."""
    if status is None:
        return Check(
            "proxy",
            "bad",
            "The proxy does not answer",
            "No session crosses the box.",
            "It is started again by itself; if this stays, look at its log.",
        )
    down = [str(worker["index"]) for worker in status["workers"] if not worker["pid"]]
    if down or status["warnings"]:
        detail = " ".join([*(f"Worker {index} is down." for index in down), *status["warnings"]])
        return Check(
            "proxy", "warn", "A worker of the proxy is not well", detail, "It is replaced by itself."
        )
    return Check("proxy", "ok", "Proxy is up", f"{len(status['workers'])} workers")


def devices(has_tun: bool) -> list[Check]:
    """Without TUN devices clients are accepted first, and only TCP is carried; nothing to say with them."""
    if has_tun:
        return []
    return [
        Check(
            "devices",
            "warn",
            "The kernel has no TUN devices",
            "TCP and UDP go on, but a closed port looks open at first. Ping is refused.",
            "Load the kernel's tun module and restart the box.",
        )
    ]


def published(targets: list[dict[str, Any]]) -> list[Check]:
    """Published services whose servers do not answer; nothing to say where there are none."""
    found = []
    for name in dict.fromkeys(target["service"] for target in targets):
        of_it = [target for target in targets if target["service"] == name]
        down = [target["target"] for target in of_it if not target["up"]]
        if len(down) == len(of_it):
            found.append(
                Check(
                    f"published-{name}",
                    "bad",
                    f"No server of “{name}” answers",
                    f"{', '.join(down)}. Its clients are reset.",
                    "Look at the server, and whether its port is open to the box.",
                )
            )
        elif down:
            found.append(
                Check(
                    f"published-{name}",
                    "warn",
                    f"A server of “{name}” does not answer",
                    f"{', '.join(down)}. The others serve.",
                    "Look at the server, and whether its port is open to the box.",
                )
            )
    return found


def limits(found: list[dict[str, Any]]) -> list[Check]:
    """Limits that refused sessions in the last minute; nothing to say where there was none."""
    recent = [(Failure(one["reason"]), one["count"]) for one in found if one["recent"]]
    if not recent:
        return []
    words = ", ".join(f"{WIRE[failure].log} ({count} since the start)" for failure, count in recent)
    short = any(failure in SHORTAGES for failure, _ in recent)
    return [
        Check(
            "limits",
            "warn",
            "Sessions were refused at a limit in the last minute",
            f"{words[0].upper()}{words[1:]}. Sessions that run go on.",
            "More workers or source addresses give more room."
            if short
            else "Look at the sessions for a client that opens too many; the limits are under [proxy].",
        )
    ]


def lists(status: Path, names: list[str]) -> list[Check]:
    """Lists of names that could not be renewed; ``names``: those that are configured."""
    if not names:
        return []
    try:
        found = json.loads(status.read_text())["lists"]
    except (OSError, ValueError, KeyError):
        words = "Lists of names are not renewed; the copies that are in use stay."
        return [Check("lists", "warn", "The lists' daemon does not run", words, "It is started by itself.")]
    checks = []
    for one in found:
        name, problem = one["name"], one["problem"]
        if name in names and problem:
            lost = one["state"] == "none"
            title = f"List “{name}” could not be {'fetched' if lost else 'renewed'}"
            if one["state"] == "good":
                title = f"List “{name}” would not outlive a restart"
            words = f"{problem[0].upper()}{problem[1:]}."
            remedy = "It is tried again by itself. If this stays, look at its source."
            checks.append(Check(f"list-{name}", "bad" if lost else "warn", title, words, remedy))
    return checks


def history(status: dict[str, Any] | None, expected: bool) -> list[Check]:
    """The history of sessions and where its lines go; nothing where all is well, or none is ``expected``."""
    if status is None:
        if not expected:
            return []
        words = (
            "isthmus-history does not answer. Sessions go on; what becomes of them is in the log meanwhile."
        )
        return [Check("history", "warn", "The history is not kept", words, "It is started again by itself.")]
    found = []
    if status.get("problem"):
        fix = "Make room on the disk, or replace it; what is missing is read from the log then."
        found.append(Check("history", "warn", "The history is not written", status["problem"], fix))
    for export in status["exports"]:
        if export.get("problem"):
            missing = f"{export['waiting']} lines wait, {export['dropped']} could not be sent."
            title = f"The log does not reach {export['target']}"
            found.append(
                Check(
                    f"export-{export['kind']}",
                    "warn",
                    title,
                    f"{export['problem']} {missing}",
                    "Look at the server, and at [log] in the configuration. It is tried again by itself.",
                )
            )
    return found


def certificates(problems: list[Problem]) -> list[Check]:
    """Certificates that were put on the box and cannot be used; nothing to say where there are none."""
    found = []
    for problem in problems:
        soon = problem.code == "ends-soon"
        clients = problem.path.startswith("explicit.")
        whose = "authority of clients' certificates" if clients else "uploaded certificate"
        detail = f"{problem.path}: {problem.message}"
        if not soon:
            detail += " Clients cannot sign in by theirs." if clients else " The box's own serves."
        found.append(
            Check(
                "certificate-clients" if clients else "certificate-uploaded",
                "warn",
                f"The {whose} {'ends soon' if soon else 'cannot be used'}",
                detail,
                f"{problem.hint} Then reload isthmus-control.",
            )
        )
    return found


def is_in_memory(mounts: str) -> bool:
    """By /proc/mounts: whether the data partition could not be mounted (the initrd says so by this name)."""
    return any(line.split()[:2] == ["isthmus-no-data", "/var"] for line in mounts.splitlines())


def disk(folder: Path) -> Check:
    """Room on the data partition, and whether there is one."""
    if is_in_memory(Path("/proc/mounts").read_text()):
        return Check(
            "disk",
            "bad",
            "The data partition cannot be read",
            "The box runs with factory settings, in memory: nothing outlives a restart.",
            "Restart it. If this stays, a factory reset makes the partition anew; then restore a backup.",
        )
    usage = os.statvfs(folder)
    used = 1 - usage.f_bavail / max(usage.f_blocks, 1)
    words = f"{used:.0%} used"
    if used >= DISK_BAD:
        return Check(
            "disk", "bad", "The disk is full", f"{words}. Logs are lost; traffic goes on.", "Remove old logs."
        )
    if used >= DISK_WARN:
        return Check("disk", "warn", "The disk is filling up", words, "Remove old logs.")
    return Check("disk", "ok", "Disk has room", words)


def update(status: dict[str, Any]) -> list[Check]:
    """A version that was given up, one that waits, one that there is; ``status``: the varlink type Update."""
    history = status["history"]
    if status["trial"] is not None and status["trial"] != status["running"]:
        return [
            Check("update", "warn", f"Version {status['trial']} waits for a restart", "", "Restart the box.")
        ]
    if history and history[0]["result"] == "fell-back":
        last = history[0]
        words = f"{last['reason']} Version {status['running']} serves, with the settings that it had."
        title = f"Version {last['version']} was given up"
        return [Check("update", "warn", title, words, "Install another version.")]
    if status["available"]:
        title = f"Version {status['available']} is there"
        return [Check("update", "warn", title, "", "`isthmus update install`, or the page Updates.")]
    if status["check_problem"]:
        return [Check("update", "warn", "New versions are not found", status["check_problem"])]
    return []


def first_settings(problem: Path) -> list[Check]:
    """A file of settings that came with the box and was not taken; ``problem``: where that is said."""
    try:
        words = problem.read_text()
    except OSError:
        return []
    fix = "Set the box up here; or mend the file, and reset the box to factory settings."
    return [Check("first-settings", "warn", "The settings that came with the box were not taken", words, fix)]


def clock() -> Check:
    """A clock that cannot be right."""
    if time.time() < EARLIEST_TIME:
        return Check(
            "clock",
            "warn",
            "The clock is not set",
            "It stands before this software was made. Certificates look wrong until it is right.",
            "It sets itself once a time server answers on the WAN.",
        )
    return Check("clock", "ok", "Clock is plausible")


def configuration(problems: list[str]) -> Check:
    """A configuration file that was refused."""
    if not problems:
        return Check("configuration", "ok", "Configuration is in force")
    return Check(
        "configuration",
        "bad",
        "The configuration was refused",
        f"The last good one is in force. {problems[0]}"
        + (f" And {len(problems) - 1} more." * (len(problems) > 1)),
        "Correct the file and send isthmus-control SIGHUP, or restart the box.",
    )


def network(problem: str | None) -> Check:
    """Whether the plan is in force: addresses, the workers' devices, the firewall."""
    if problem is None:
        return Check("network", "ok", "Network is as configured")
    return Check(
        "network",
        "bad",
        "The network is not as configured",
        problem,
        "It is tried again every few seconds.",
    )
