"""Taking the steps of a plan. Each can be taken again without harm; the firewall is one transaction."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from socket import AF_INET6

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from appliance.dataplane import MAX_WORKERS, TUN_MTU
from appliance.errors import IsthmusError
from appliance.network.plan import AddAddress, Firewall, LocalDelivery, MakeTun, Step, WriteFile

NETWORKD_FOLDER = Path("/run/systemd/network")
PROXY_USER = "isthmus-proxy"
TOOL_TIMEOUT = 30.0

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_IFF_TUN_NO_PI = 0x1001
_RULE_PRIORITY = 1_000


class ApplyError(IsthmusError):
    """A step could not be taken."""

    code = "apply-failed"


def write_atomically(path: Path, text: str, mode: int = 0o644) -> bool:
    """Write a file whole or not at all; False when it holds the text already."""
    with contextlib.suppress(OSError):
        if path.read_text() == text:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)
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
        """Take every step. The firewall's text is checked before the first one is taken."""
        steps = list(steps)
        for step in steps:
            if isinstance(step, Firewall):
                check_firewall(step.text)
        self.changed.clear()
        with IPRoute() as route:
            for step in steps:
                self._take(route, step)
            self._remove_surplus(route, sum(isinstance(step, MakeTun) for step in steps))
        if "networkd" in self.changed:
            run_tool("networkctl", "reload")

    def _take(self, route: IPRoute, step: Step) -> None:
        match step:
            case WriteFile(where="networkd", name=name, text=text):
                if write_atomically(NETWORKD_FOLDER / name, text):
                    self.changed.add("networkd")
            case WriteFile(name=name, text=text):
                if write_atomically(self._runtime / name, text):
                    self.changed.add(name)
            case AddAddress(interface=interface, address=address):
                run_tool("ip", "addr", "replace", address, "dev", interface, "nodad")
            case LocalDelivery(mark=mark, table=table):
                self._rule(route, mark, table)
                run_tool("ip", "-6", "route", "replace", "local", "::/0", "dev", "lo", "table", str(table))
            case MakeTun(name=name, mark=mark, table=table):
                self._tun(route, name)
                self._rule(route, mark, table)
                run_tool("ip", "-6", "route", "replace", "default", "dev", name, "table", str(table))
            case Firewall(text=text):
                _forwarding()
                run_tool("nft", "-f", "-", text=text)

    def _rule(self, route: IPRoute, mark: int, table: int) -> None:
        for rule in route.get_rules(family=AF_INET6):
            if rule.get_attr("FRA_FWMARK") == mark and rule.get_attr("FRA_TABLE") == table:
                return
        route.rule("add", family=AF_INET6, fwmark=mark, table=table, priority=_RULE_PRIORITY)

    def _tun(self, route: IPRoute, name: str) -> None:
        if not route.link_lookup(ifname=name):
            _make_tun(name)
        (index,) = route.link_lookup(ifname=name)
        route.link("set", index=index, mtu=TUN_MTU, state="up")

    def _remove_surplus(self, route: IPRoute, workers: int) -> None:
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


def _forwarding() -> None:
    """The way from the LAN into a TUN is forwarding; on the box sysctl.d has set it already."""
    path = Path("/proc/sys/net/ipv6/conf/all/forwarding")
    with contextlib.suppress(OSError):
        if path.read_text().strip() != "1":
            path.write_text("1")
