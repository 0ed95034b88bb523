"""The box as control keeps it: the configuration in force, the network made from it, its status."""

from __future__ import annotations

import contextlib
import grp
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.config import Config, dump, load
from appliance.config.ground import Ground, check
from appliance.config.schema import lan_address, resolved, without_passwords
from appliance.config.sides import device_name
from appliance.control.client import ControlError, call
from appliance.control.ports import Ports
from appliance.control.sides import Sides, absent, lan_states, role_of, vlans
from appliance.control.updates import Updates
from appliance.dataplane import worker_count
from appliance.errors import ConfigError, IsthmusError, Problem
from appliance.files import GROUP_READABLE, PRIVATE, put
from appliance.host import device_index
from appliance.network import observe
from appliance.network.apply import Applier, run_tool, write_atomically
from appliance.network.plan import Facts, Step, plan, route_device
from appliance.system import certificates, health
from appliance.system.principals import Principals
from appliance.update.first import PROBLEM as FIRST_SETTINGS_PROBLEM

# Who alone reads the users' hashes, beside root.
PROXY_GROUP = "isthmus-proxy"
# For the proxy's answer. A proxy that hangs must be shown as down, so this and the DNS checks stay
# well under the client's own CALL_TIMEOUT; a busy one asks each worker for up to a second.
PROXY_TIMEOUT = 6.0
# For the history's: it answers between two batches.
HISTORY_TIMEOUT = 2.0
# How often the routers of routes are looked for. Rarer, and one that fails shows late; a neighbour that does
# not answer is asked three times by each.
ROUTER_INTERVAL = 15.0
# How often the certificate's dates are looked at, by the wall clock: one that jumps is a reason to look.
CERTIFICATE_INTERVAL = 3_600.0
_NEVER = float("-inf")
_NO_COUNTERS = {
    "tcp": 0, "udp": 0, "icmp": 0, "half_open": 0, "opened": 0, "refused": 0, "unreachable": 0,
    "denied": 0, "limited": 0, "bytes_to_wan": 0, "bytes_to_lan": 0, "dial_ms_median": None,
}  # fmt: skip

_NO_PASSWORDS = {"right": 0, "wrong": 0, "locked": 0, "busy": 0, "failed": 0}


# Of a LAN's devices: nothing of an earlier configuration stays.
NOTHING: Mapping[str, object] = {}


class Box:
    """Folders, the configuration in force, and what was made of it."""

    def __init__(self, config_path: Path, runtime: Path, state: Path, networkd: bool) -> None:
        self._began = time.monotonic()
        self.config_path = config_path
        self.runtime = runtime
        self.state = state
        self.networkd = networkd
        self.problems: list[str] = []
        self.certificate_problems: list[Problem] = []
        self.config = Config()
        self.facts: Facts | None = None
        self.roles: observe.Roles | None = None
        self.network_problem: str | None = None  # why the plan is not in force, in words
        self.principals = Principals(state / "console-users.json")
        self.updates = Updates(state, runtime)
        self.sides = Sides(state)
        self.ports = Ports(state)
        self._applier = Applier(runtime)
        self._applied: object = None
        self._missing: frozenset[tuple[str, str]] = frozenset()  # ports that it is known to do without
        self._told: Config | None = None  # what the proxy works by
        self._kept = False
        self._certificate_judged = _NEVER
        self._last_good = state / "config.last-good.toml"
        self._started = time.monotonic()
        self._routers_asked = -ROUTER_INTERVAL

    # -- configuration -------------------------------------------------------------------------

    def read(self) -> None:
        """Take up the file, or the last good one; ConfigError when there is neither."""
        self.state.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not self.config_path.exists():
            put(self.config_path, dump(Config()))
        try:
            config = load(self.config_path)
            check(config, self.ground(config))
            self.config = config
            self.problems = []
            self._kept = False  # also where nothing in it changes the network
        except ConfigError as error:
            self.problems = [str(problem) for problem in error.problems]
            if not self._last_good.exists():
                raise
            self.config = load(self._last_good)
            print(f"isthmus-control: {error}\nThe last good configuration stays in force.", file=sys.stderr)
        # The daemons read this one, so that all go by the same, also where the file was refused.
        # The users' hashes are for the proxy only.
        group = -1
        with contextlib.suppress(KeyError):  # by hand there is no such user
            group = grp.getgrnam(PROXY_GROUP).gr_gid
        whole = resolved(self.config, self.sides.prefixes(self.config))
        write_atomically(self.runtime / "proxy.toml", dump(whole), GROUP_READABLE, group)
        public = dump(without_passwords(whole))
        write_atomically(self.runtime / "config.toml", public, GROUP_READABLE)

    def generated_prefix(self) -> IPv6Network | None:
        """The LAN prefix that was made here; None where none was yet."""
        return self.sides.generated()

    def ground(self, config: Config) -> Ground:
        """What the box puts into this configuration, in force or not: ports and prefixes. Nothing is kept."""
        ports = {}
        with contextlib.suppress(observe.PortError):  # the network's health says so
            roles = self.ports.roles(config)
            names = ("wan", *(name for name, _lan in config.lans()))
            ports = dict(zip(names, (roles.wan, *roles.lans), strict=True))
        return Ground(ports, self.sides.foreseen(config))

    # -- the network ---------------------------------------------------------------------------

    def steps(self, leaving: Mapping[str, object] = NOTHING) -> list[Step]:
        """The plan for now; PortError when a port is missing that the box was to choose.

        ``leaving``: the prefixes of an unconfirmed commit's predecessor, by LAN: their addresses stay.
        """
        self.roles = roles = self.ports.look(self.config, time.monotonic())
        wan = device_name(roles.wan, self.config.wan.vlan)
        lans = self.sides.lans(self.config, roles, leaving, time.monotonic())
        self.facts = Facts(
            lans=lans,
            wan=wan,
            upstreams=self.config.dns.upstreams or self._lease_dns(wan),
            workers=worker_count(self.config.proxy.workers, observe.cpus()),
            has_networkd=self.networkd,
            has_tun=observe.has_tun(),
            vlans=vlans(self.config, roles),
            absent=absent(self.config, roles),
        )
        return plan(self.config, self.facts)

    @staticmethod
    def _lease_dns(wan: str) -> Any:
        return observe.lease_dns(device_index(wan))

    def apply(self, leaving: Mapping[str, object] = NOTHING, strict: bool = False) -> None:
        """Make the network what the configuration says; IsthmusError when that fails.

        Nothing is done where the plan is the one in force. A port that is named and not there keeps nothing
        else from being applied, and is an error afterwards; with ``strict``, unless it was missing before,
        it is one before anything is done.
        """
        steps = self.steps(leaving)
        assert self.facts is not None and self.roles is not None
        missing = frozenset(self.roles.missing)
        if strict and not missing <= self._missing:
            raise observe.missing_ports(self.roles.missing)
        self._missing = missing
        # A port that was pulled and put back has a new index, and has lost what was set on it.
        devices = sorted({self.facts.wan, *(lan.device for lan in self.facts.lans), *self.roles.lans})
        if (steps, [device_index(name) for name in devices]) != self._applied:
            self._applied = None
            self._applier.apply(steps)
            # VLANs are there only now.
            self._applied = steps, [device_index(name) for name in devices]
            self.sides.applied(self.config, self.facts, time.monotonic())
            self._kept = False
            if "unbound.conf" in self._applier.changed and self.networkd:
                # At the first boot it is not running yet, and starts with this file.
                with contextlib.suppress(IsthmusError):
                    run_tool("systemctl", "--no-block", "try-restart", "isthmus-unbound.service")
        if self.config != self._told:
            # A proxy that is not there reads the file when it starts.
            self.ask_proxy("Reload")
            if self.networkd:
                for unit in ("isthmus-dns64.service", "isthmus-lists.service"):
                    with contextlib.suppress(IsthmusError):
                        run_tool("systemctl", "--no-block", "try-reload-or-restart", unit)
            self._applier.remove_surplus(self.facts.workers)
            if self._told is not None and self.config.console != self._told.console:
                with contextlib.suppress(IsthmusError):  # it listens where it did when it was started
                    self.end_console_sessions()
            self._told = self.config
        if not self._kept:
            # After the network, and tried again by itself: traffic does not wait for a full disk.
            self._keep(self.facts)
            self._kept = True
        elif abs(time.time() - self._certificate_judged) > CERTIFICATE_INTERVAL:
            self._keep_certificate(self.facts)
        if not leaving:  # else a commit waits, and may be rolled back to other ports
            self.ports.keep(self.config, self.roles, time.monotonic())
        if missing:
            raise observe.missing_ports(self.roles.missing)
        self.network_problem = None

    def judge_certificates(self) -> None:
        """Have the next ``apply`` look at the certificates, whatever else there is to do."""
        self._certificate_judged = _NEVER

    @property
    def certificates_judged(self) -> bool:
        """Whether it has."""
        return self._certificate_judged != _NEVER

    def _keep(self, facts: Facts) -> None:
        """What outlives a reboot: the certificate, and the configuration that proved good; OSError."""
        self._keep_certificate(facts)
        if not self.problems:
            write_atomically(self._last_good, dump(self.config), PRIVATE)

    def _keep_certificate(self, facts: Facts) -> None:
        """The certificates fit the names and the time, and the proxy has what it is to serve."""
        own, *others = (lan_address(prefix) for lan in facts.lans for prefix in (lan.prefix, *lan.leaving))
        names = certificates.Names(self.config.system.hostname, own, tuple(others))
        now = time.time()
        moment = datetime.fromtimestamp(now, UTC)
        folder = self.state / "tls"
        for which in certificates.ensure(folder, names, moment):
            for_whom = f"{names.hostname}, {names.address}"
            print(f"isthmus-control: a new certificate ({which}) for {for_whom}", file=sys.stderr)
        changed, problems = certificates.choose(folder, moment)
        authority = self.config.explicit.client_authority
        if authority is not None:
            problem = certificates.judge_client_authority(Path(authority), moment)
            problems += [problem] if problem is not None else []
        self.certificate_problems = problems
        if changed:
            self.ask_proxy("Reload")
        self._certificate_judged = now

    def refresh(self, leaving: Mapping[str, object] = NOTHING, strict: bool = False) -> None:
        """Follow what changes by itself: the ports, the DHCP lease. What fails becomes a health issue.

        The arguments are those of ``apply``.
        """
        try:
            self.apply(leaving, strict)
        except (IsthmusError, OSError) as error:
            # OSError: the disk is full, or a port went between two looks at it
            words = (
                f"{error.message}. {error.hint}"
                if isinstance(error, IsthmusError)
                else f"The system refused: {error.strerror or error}."
            )
            problem = words.rstrip()
            if problem != self.network_problem:
                print(f"isthmus-control: {problem}", file=sys.stderr)
            self.network_problem = problem
        self._ask_routers()

    def _routers(self) -> list[tuple[str, str, str]]:
        """(what it is, address, device) of each router that the configuration counts on."""
        facts = self.facts
        if facts is None:
            return []
        found = [
            (f"route “{route.name}”", str(route.via), route_device(self.config, facts, route))
            for route in self.config.route
        ]
        if self.config.wan.gateway is not None:
            found.insert(0, ("the WAN", str(self.config.wan.gateway), facts.wan))
        return [one for one in found if one[2] and one[2] not in facts.absent]

    def _ask_routers(self) -> None:
        """Have the kernel look for them now and then: it only knows of those that something was sent to."""
        now = time.monotonic()
        if now - self._routers_asked > ROUTER_INTERVAL:
            self._routers_asked = now
            observe.ask_routers([(via, device) for _what, via, device in self._routers()])

    def end_console_sessions(self) -> None:
        """Sign everybody out of the console, whose sessions live as long as its process."""
        if self.networkd:
            run_tool("systemctl", "--no-block", "try-restart", "isthmus-web.service")

    # -- what others ask -----------------------------------------------------------------------

    def ask_proxy(self, method: str, **parameters: Any) -> dict[str, Any] | None:
        """One call of org.isthmus.proxy; None where it does not answer."""
        try:
            path = self.runtime / "proxy" / "proxy.sock"
            return call(path, f"org.isthmus.proxy.{method}", parameters, PROXY_TIMEOUT)
        except ControlError:
            return None

    def _history(self) -> dict[str, Any] | None:
        try:
            path = self.runtime / "history" / "history.sock"
            found: dict[str, Any] = call(path, "org.isthmus.history.GetStatus", {}, HISTORY_TIMEOUT)["status"]
            return found
        except ControlError:
            return None

    def sessions(self, limit: int, search: str | None, cursor: str | None = None) -> dict[str, Any]:
        """ListSessions: the proxy's answer, or none."""
        found = self.ask_proxy("ListSessions", limit=limit, search=search, cursor=cursor)
        return found if found is not None else {"sessions": [], "total": 0, "cursor": ""}

    def _expects_lan(self) -> bool:
        """Whether isthmus-lan has had the time to start: systemd starts it after control, on the image."""
        return self.networkd and time.monotonic() - self._began > health.LAN_SILENT

    def figures(self) -> dict[str, Any]:
        """GetFigures: of the status, what changes by the second."""
        return self._figures(self.ask_proxy("GetStatus"))

    @staticmethod
    def _figures(proxy: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "time": time.time(),
            "uptime": _uptime(),
            "workers": proxy["workers"] if proxy else [],
            "counters": proxy["counters"] if proxy else _NO_COUNTERS,
            "limits": proxy["limits"] if proxy else [],
            "passwords": proxy["passwords"] if proxy else _NO_PASSWORDS,
            "proxy_up": proxy is not None,
        }

    def status(self) -> dict[str, Any]:
        """GetStatus: everything that the dashboard shows."""
        proxy = self.ask_proxy("GetStatus")
        ports, gateway = observe.snapshot()
        by_name = {port.name: port for port in ports}
        facts = self.facts
        wan_name = facts.wan if facts else self.config.wan.interface
        lan_name = facts.lans[0].device if facts else self.config.lan.interface
        wan, lan = by_name.get(wan_name), by_name.get(lan_name)
        wan_address = next((a for a in wan.addresses if ":" not in a), None) if wan else None
        own = str(lan_address(facts.lans[0].prefix)) if facts else None
        lans = lan_states(self.config, facts)
        servers = [str(address) for address in (facts.upstreams if facts else ())]
        checks = [
            health.configuration(self.problems),
            health.network(self.network_problem),
            *health.certificates(self.certificate_problems),
            health.port("lan", lan_name, lan is not None, bool(lan and lan.carrier)),
            health.port("wan", wan_name, wan is not None, bool(wan and wan.carrier)),
            *(
                health.segment(
                    one["name"],
                    one["device"],
                    one["device"] in by_name,
                    one["device"] in by_name and by_name[one["device"]].carrier,
                )
                for one in lans[1:]
            ),
            *health.lan_daemon(self.runtime / "lan" / "status.json", self._expects_lan(), time.time()),
            *health.strangers(self.runtime / "lan" / "status.json"),
            *health.routers(observe.silent_routers(self._routers())),
            health.wan_address(wan_address, gateway),
            health.proxy(proxy),
            *health.devices(facts is None or facts.has_tun),
            *health.published(proxy["targets"] if proxy else []),
            *health.limits(proxy["limits"] if proxy else []),
            *health.history(self._history(), self.networkd),
            health.dns64(own),
            *health.lists(
                self.runtime / "lists" / "status.json", [one.name for one in self.config.name_list]
            ),
            health.resolver(),
            health.upstreams(servers),
            health.disk(self.state),
            *health.update(self.updates.status()),
            *health.first_settings(self.runtime / FIRST_SETTINGS_PROBLEM),
            health.clock(),
        ]
        return {
            "version": __version__,
            "hostname": self.config.system.hostname,
            **self._figures(proxy),
            "lan_interface": lan_name,
            "lan_prefix": str(facts.lans[0].prefix) if facts else None,
            "lan_address": own,
            "lans": lans,
            "wan_interface": wan_name,
            "wan_address": wan_address,
            "wan_gateway": gateway,
            "dns_upstreams": servers,
            "translation": [str(entry.prefix) for entry in self.config.translation],
            "ports": [
                {
                    "name": port.name,
                    "role": role_of(port.name, facts, self.roles),
                    "carrier": port.carrier,
                    "speed_mbit": port.speed_mbit,
                    "addresses": list(port.addresses),
                }
                for port in ports
            ],
            "published": _published(self.config, proxy["targets"] if proxy else []),
            "checks": [check.plain() for check in checks],
            "console_port": self.config.console.port,
        }


def _published(config: Config, targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The varlink type ``Service`` for each published service, with its targets' health."""
    return [
        {
            "name": service.name,
            "protocol": service.protocol,
            "port": service.port,
            "address": str(service.address) if service.address else None,
            "route": service.route,
            "targets": [
                {"target": found["target"], "up": found["up"]}
                for found in targets
                if found["service"] == service.name
            ],
        }
        for service in config.published
    ]


def _uptime() -> float:
    try:
        return float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_root() -> bool:
    """True where the network may be changed."""
    return os.geteuid() == 0
