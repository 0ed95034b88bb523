"""Taking the steps of a plan. Each can be taken again without harm; the firewall is one transaction.

Where a step fails, what the steps before it made is taken back, so that nothing is half-applied.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import re
import struct
import subprocess
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from socket import AF_INET6, if_nametoindex
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from appliance.dataplane import MARK_TUN_BASE, MAX_WORKERS, TUN_MTU, tun_table
from appliance.errors import IsthmusError
from appliance.files import whole
from appliance.network.plan import (
    FILE_PREFIX,
    AddAddress,
    AddRoute,
    Firewall,
    KeepOnly,
    LocalDelivery,
    MakeTun,
    MakeVlan,
    SetHostname,
    Step,
    WriteFile,
)

NETWORKD_FOLDER = Path("/run/systemd/network")
PROXY_USER = "isthmus-proxy"
TOOL_TIMEOUT = 30.0

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_IFF_TUN_NO_PI = 0x1001
_RULE_PRIORITY = 1_000
_IFA_F_DEPRECATED = 0x20
_KERNEL_SETTINGS = {
    # The way from the LAN into a TUN is forwarding.
    Path("/proc/sys/net/ipv6/conf/all/forwarding"): "1",
    # Early demux would tie a SYN whose four-tuple is in TIME_WAIT here to that socket, and the kernel
    # forwards no packet that has one: the client's new session would hang for a minute.
    Path("/proc/sys/net/ipv4/tcp_early_demux"): "0",
}
# Root may write it without CAP_SYS_ADMIN, which sethostname() would need.
_HOSTNAME = Path("/proc/sys/kernel/hostname")


class ApplyError(IsthmusError):
    """A step could not be taken."""

    code = "apply-failed"


def write_atomically(path: Path, text: str, mode: int = 0o644, group: int = -1) -> bool:
    """Write a file whole or not at all; False when it holds the text already, for the same to read."""
    with contextlib.suppress(OSError):
        if path.read_text() == text and path.stat().st_mode & 0o777 == mode:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, mode, group) as out:
        out.write(text.encode())
    return True


def run_tool(*words: str, text: str | None = None) -> str:
    """A tool's output; ApplyError with what it said when it fails."""
    try:
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=TOOL_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ApplyError(f"{words[0]} did not run: {error}") from None
    if done.returncode:
        raise ApplyError(f"{' '.join(words)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def check_firewall(text: str) -> None:
    """Let nft read the ruleset without taking it; ApplyError with its complaint."""
    run_tool("nft", "-c", "-f", "-", text=text)


class Applier:
    """Takes steps; remembers what changed, so that only that is told to others."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime
        self.changed: set[str] = set()

    def apply(self, steps: Iterable[Step]) -> None:
        """Take every step, or none: ApplyError with what failed, and what was made before it is gone.

        The firewall's text is checked before the first step is taken.
        """
        steps = list(steps)
        for step in steps:
            if isinstance(step, Firewall):
                check_firewall(step.text)
        self.changed.clear()
        try:
            with IPRoute() as route, ExitStack() as undo:
                reloaded: list[bool] = []
                # Booked first, so done last: networkd then reads the files as they were before.
                _later(undo, lambda: run_tool("networkctl", "reload") if reloaded else None)
                for step in steps:
                    if isinstance(step, Firewall) and "networkd" in self.changed:
                        reloaded.append(True)
                        run_tool("networkctl", "reload")
                    self._take(route, step, undo)
                undo.pop_all()
            self._remove_old(steps)
        except (OSError, NetlinkError) as error:
            raise ApplyError(f"the network could not be changed: {error}") from None

    def _take(self, route: IPRoute, step: Step, undo: ExitStack) -> None:
        match step:
            case SetHostname(name=name):
                _set_kernel(_HOSTNAME, name, undo)
            case WriteFile(where="networkd", name=name, text=text):
                if self._write(NETWORKD_FOLDER / name, text, undo):
                    self.changed.add("networkd")
            case WriteFile(name=name, text=text):
                if self._write(self._runtime / name, text, undo):
                    self.changed.add(name)
            case KeepOnly(names=names):
                for path in sorted(NETWORKD_FOLDER.glob(f"{FILE_PREFIX}*")):
                    if path.name not in names:
                        self._remove(path, undo)
            case MakeVlan(name=name, port=port, vlan=vlan):
                self._vlan(route, name, port, vlan, undo)
            case AddAddress(interface=interface, address=address, leaving=leaving):
                if _has_address(route, interface, address) is not leaving:
                    self._address(route, interface, address, leaving, undo)
            case AddRoute():
                if not _has_route(step):
                    run_tool("ip", *_route_words(step, "replace"))
                    _later(undo, run_tool, "ip", *_route_words(step, "del"))
            case LocalDelivery(mark=mark, table=table):
                self._rule(route, mark, table, undo)
                run_tool("ip", "-6", "route", "replace", "local", "::/0", "dev", "lo", "table", str(table))
            case MakeTun(name=name, mark=mark, table=table):
                self._tun(route, name, undo)
                self._rule(route, mark, table, undo)
                run_tool("ip", "-6", "route", "replace", "default", "dev", name, "table", str(table))
            case Firewall(text=text):
                for path, value in _KERNEL_SETTINGS.items():  # on the box sysctl.d has set them already
                    with contextlib.suppress(OSError):
                        _set_kernel(path, value, undo)
                run_tool("nft", "-f", "-", text=text)

    def _remove_old(self, steps: Iterable[Step]) -> None:
        """What was made here, also by a run before this one, and what no step makes any more."""
        made: dict[str, list[tuple[str, ...]]] = {"routes": [], "addresses": [], "vlans": []}
        for step in steps:
            match step:
                case AddAddress(interface=interface, address=address):
                    made["addresses"].append((address, interface))
                case AddRoute(to=to, via=via, interface=interface, metric=metric):
                    made["routes"].append((to, via, str(metric), interface))
                case MakeVlan(name=name):
                    made["vlans"].append((name,))
        for kind, now in made.items():
            path = self._runtime / kind
            before = [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []
            for old in before:
                if old not in [tuple(word for word in one if word) for one in now]:
                    with contextlib.suppress(ApplyError):  # the port is gone, and what was on it too
                        run_tool("ip", *_removal(kind, old))
            if now or before:
                write_atomically(path, "".join(f"{' '.join(one).rstrip()}\n" for one in now))

    def _remove(self, path: Path, undo: ExitStack) -> None:
        text = path.read_text()
        path.unlink()
        self.changed.add("networkd")
        _later(undo, write_atomically, path, text)

    @staticmethod
    def _address(route: IPRoute, interface: str, address: str, leaving: bool, undo: ExitStack) -> None:
        before = _has_address(route, interface, address)
        words = ("ip", "addr", "replace", address, "dev", interface, "nodad", "preferred_lft")
        run_tool(*words, "0" if leaving else "forever")
        if before is None:
            _later(undo, run_tool, "ip", "addr", "del", address, "dev", interface)
        else:
            _later(undo, run_tool, *words, "0" if before else "forever")

    @staticmethod
    def _vlan(route: IPRoute, name: str, port: str, vlan: int, undo: ExitStack) -> None:
        parent = if_nametoindex(port)
        present = route.link_lookup(ifname=name)
        if present:
            (link,) = route.get_links(present[0])
            info = link.get_attr("IFLA_LINKINFO")
            if info is None or info.get_attr("IFLA_INFO_KIND") != "vlan":
                raise ApplyError(f"there is a port “{name}” that is no VLAN", "Take another VLAN or port.")
            if link.get_attr("IFLA_LINK") != parent:  # the port was pulled, and is another one now
                route.link("del", index=present[0])
                present = []
        if not present:
            run_tool("ip", "link", "set", port, "up")
            run_tool("ip", "link", "add", "link", port, "name", name, "type", "vlan", "id", str(vlan))
            _later(undo, run_tool, "ip", "link", "del", name)
        run_tool("ip", "link", "set", name, "up")

    @staticmethod
    def _write(path: Path, text: str, undo: ExitStack) -> bool:
        before = path.read_text() if path.exists() else None
        if not write_atomically(path, text):
            return False
        if before is None:
            _later(undo, path.unlink)
        else:
            _later(undo, write_atomically, path, before)
        return True

    @staticmethod
    def _rule(route: IPRoute, mark: int, table: int, undo: ExitStack) -> None:
        """The mark's rule. Without it the table's route is harmless, so an undo leaves the route."""
        for rule in route.get_rules(family=AF_INET6):
            if rule.get_attr("FRA_FWMARK") == mark and rule.get_attr("FRA_TABLE") == table:
                return
        words = {"family": AF_INET6, "fwmark": mark, "table": table, "priority": _RULE_PRIORITY}
        route.rule("add", **words)
        _later(undo, route.rule, "del", **words)

    @staticmethod
    def _tun(route: IPRoute, name: str, undo: ExitStack) -> None:
        if not route.link_lookup(ifname=name):
            _make_tun(name)
            _later(undo, run_tool, "ip", "link", "del", name)
        (index,) = route.link_lookup(ifname=name)
        route.link("set", index=index, mtu=TUN_MTU, state="up")

    @staticmethod
    def remove_surplus(workers: int) -> None:
        """Devices and rules of workers that there are no more; their routes go with the device.

        To be done once the proxy has left them.
        """
        with contextlib.suppress(NetlinkError, OSError), IPRoute() as route:
            Applier._remove_surplus(route, workers)

    @staticmethod
    def _remove_surplus(route: IPRoute, workers: int) -> None:
        gone = range(MARK_TUN_BASE + workers, MARK_TUN_BASE + MAX_WORKERS)
        for rule in route.get_rules(family=AF_INET6):
            mark, table = rule.get_attr("FRA_FWMARK"), rule.get_attr("FRA_TABLE")
            if mark in gone and table == tun_table(mark - MARK_TUN_BASE):
                with contextlib.suppress(NetlinkError):
                    route.rule("del", family=AF_INET6, fwmark=mark, table=table, priority=_RULE_PRIORITY)
        for link in route.get_links():
            found = re.fullmatch(r"isth(\d+)", link.get_attr("IFLA_IFNAME"))
            if found and workers <= int(found[1]) < MAX_WORKERS:
                with contextlib.suppress(NetlinkError):
                    route.link("del", index=link["index"])


def _make_tun(name: str) -> None:
    """A persistent TUN that the proxy's user may open."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ApplyError(f"/dev/net/tun: {error.strerror}", "Load the kernel's tun module.") from None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22s", name.encode(), _IFF_TUN_NO_PI, b""))
        with contextlib.suppress(KeyError):  # by hand, in a namespace, everything is root's
            fcntl.ioctl(fd, _TUNSETOWNER, pwd.getpwnam(PROXY_USER).pw_uid)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    except OSError as error:
        raise ApplyError(f"the device {name} cannot be made: {error.strerror}") from None
    finally:
        os.close(fd)


def _later(undo: ExitStack, action: Callable[..., object], *words: Any, **named: Any) -> None:
    """Book how a change is taken back. One that cannot be does not keep the others from it."""

    def take_back() -> None:
        with contextlib.suppress(ApplyError, NetlinkError, OSError):
            action(*words, **named)

    undo.callback(take_back)


def _has_address(route: IPRoute, interface: str, address: str) -> bool | None:
    """Whether the address is deprecated; None where the interface does not have it."""
    wanted = IPv6Interface(address)
    for message in route.get_addr(family=AF_INET6, index=if_nametoindex(interface)):
        same = IPv6Address(message.get_attr("IFA_ADDRESS")) == wanted.ip
        if same and message["prefixlen"] == wanted.network.prefixlen:
            return bool(message["flags"] & _IFA_F_DEPRECATED)
    return None


def _removal(kind: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """What ``ip`` is told to remove what the line of a file holds."""
    match kind, words:
        case "routes", (to, via, metric, *interface):
            return _route_words(AddRoute(to, via, "".join(interface), int(metric)), "del")
        case "addresses", (address, interface):
            return "addr", "del", address, "dev", interface
    return "link", "del", words[0]


def _route_words(step: AddRoute, verb: str) -> tuple[str, ...]:
    port = ("dev", step.interface) if step.interface else ()
    return ("route", verb, step.to, "via", step.via, *port, "metric", str(step.metric), "proto", "static")


def _has_route(step: AddRoute) -> bool:
    family = "-6" if ":" in step.to else "-4"
    found = json.loads(
        run_tool("ip", "-j", family, "route", "show", "exact", step.to, "proto", "static") or "[]"
    )
    return any(
        one.get("gateway") == step.via
        and one.get("metric") == step.metric
        and step.interface in ("", one.get("dev"))
        for one in found
    )


def _set_kernel(path: Path, value: str, undo: ExitStack) -> None:
    """One of the kernel's settings."""
    before = path.read_text().strip()
    if before != value:
        path.write_text(value)
        _later(undo, path.write_text, before)
