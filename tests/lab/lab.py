"""The whole lab: both namespaces, the WAN's servers and the box, made together and removed together."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.lab.advertisement import Advertisement, solicit
from tests.lab.box import BUILD, IMAGE, REPOSITORY, VARIABLES, Box, BoxError, Firmware
from tests.lab.netns import Namespace, spawn, stop, sweep

WAN_ROUTER = "203.0.113.1"
WAN_RANGE = ("203.0.113.100", "203.0.113.150")
SERVER = "192.31.196.10"
# In the same block, and nobody's: the router answers “host unreachable”.
MISSING_SERVER = "192.31.196.99"
SERVER_NAME = "ipv4.example"
TIME_NAME = "time.ipv4.example"
LAN_INTERFACE = "lan0"
WAN_INTERFACE = "wan0"

# From the login prompt on, under emulation: the daemons' Python starts in some 10 s on two cores.
ADVERTISEMENT_TIMEOUT = 120.0
RESOLVER_TIMEOUT = 120.0
_SERVER_TIMEOUT = 10.0
_SLIRP_TIMEOUT = 10.0
_SLIRP_RESOLVER = "10.0.2.3"


@dataclass(frozen=True, slots=True)
class ClientView:
    """What the client knows, all of it from the router advertisement."""

    advertisement: Advertisement
    addresses: tuple[IPv6Address, ...]
    default_route: str

    @property
    def box(self) -> IPv6Address:
        """The box's own address on the LAN: its advertised resolver."""
        return self.advertisement.resolvers[0]


class Lab:
    """A context manager. Entering makes the hosts and switches the box on; it does not wait for it."""

    def __init__(
        self,
        say: Callable[[str], None],
        internet: bool = False,
        firmware: Firmware = "",
        image: Path = IMAGE,
        disk: Path | None = None,
    ) -> None:
        """say: progress lines for a person; internet: give the WAN the host's IPv4, if it can be had.

        firmware, image: as Box has them; disk: one to go on with, of which a copy is used, as of the
        firmware's variables beside it.
        """
        self._firmware: Firmware = firmware
        self._image = image
        self._disk = disk
        self._say = say
        self._internet = internet
        self._stack = ExitStack()
        self.client = Namespace("client")
        self.wan = Namespace("wan")
        self.has_internet = False

    def __enter__(self) -> Lab:
        sweep(BUILD)
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix=f"lab-{os.getpid()}-", dir=BUILD))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(self._keep_logs)
            stack.enter_context(self.client)
            stack.enter_context(self.wan)
            taps = {"wan": self.wan.open_tap(WAN_INTERFACE), "lan": self.client.open_tap(LAN_INTERFACE)}
            self._set_up_wan(stack)
            self._set_up_client()
            self.box = Box(self.folder, taps, self._say, self._firmware, self._image)
            if self._disk is not None:
                copy_machine(self._disk, self.box.disk)
            stack.callback(self.box.cut_power)
            self.box.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _keep_logs(self) -> None:
        """The last lab's logs stay in build/lab-logs, for whoever asks why a row failed."""
        kept = BUILD / "lab-logs"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for log in self.folder.glob("*.log"):
            shutil.copy(log, kept)

    # --- the WAN ---------------------------------------------------------------------------------

    def _log(self, stack: ExitStack, name: str) -> IO[str]:
        return stack.enter_context((self.folder / f"{name}.log").open("w"))

    def _serve(self, stack: ExitStack, name: str, *command: str | Path, cwd: Path | None = None) -> None:
        process = self.wan.spawn(*command, log=self._log(stack, name), cwd=cwd)
        stack.callback(stop, process)

    def _set_up_wan(self, stack: ExitStack) -> None:
        run = self.wan.run
        # IPv6 is left on for its link-local address only: tests knock on the box's WAN port with it.
        run("ip", "address", "add", f"{WAN_ROUTER}/24", "dev", WAN_INTERFACE)
        run("ip", "link", "set", WAN_INTERFACE, "up")
        run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
        # A router that says so when a host is not there: 3/1 in its own block, 3/0 elsewhere.
        run("ip", "route", "add", "unreachable", "192.31.196.0/25")
        run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        if self._internet:
            self._connect_internet(stack)
        upstream = f"--server={_SLIRP_RESOLVER}" if self.has_internet else "--local=/#/"
        self._serve(
            stack,
            "dnsmasq",
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"),
            *("--user=root", "--log-facility=-", "--log-queries", "--bind-interfaces", "--pid-file="),
            *(f"--interface={WAN_INTERFACE}", f"--dhcp-range={WAN_RANGE[0]},{WAN_RANGE[1]},1h"),
            *(f"--dhcp-option=3,{WAN_ROUTER}", f"--dhcp-option=6,{WAN_ROUTER}", "--dhcp-authoritative"),
            *(f"--dhcp-leasefile={self.folder}/leases", "--no-ping", "--local=/example/", upstream),
            *(f"--host-record={SERVER_NAME},{SERVER}", f"--host-record={TIME_NAME},{SERVER}"),
        )
        # Settings as arguments, the pid in chrony's own folder: AppArmor, where it guards chronyd,
        # lets it have nothing of ours. The folder is missing where chrony's service never ran.
        Path("/run/chrony").mkdir(mode=0o750, exist_ok=True)
        self._serve(
            stack,
            "chronyd",
            *("chronyd", "-x", "-d", "-u", "root", f"bindaddress {SERVER}", "local stratum 3", "allow all"),
            *("cmdport 0", "bindcmdaddress /", f"pidfile /run/chrony/{self.wan.name}.pid"),
        )
        stack.callback(Path(f"/run/chrony/{self.wan.name}.pid").unlink, missing_ok=True)
        certificate, key = self._make_certificate()
        python = REPOSITORY / ".venv/bin/python"
        self._serve(stack, "web", python, "-m", "tests.lab.servers", SERVER, certificate, key, cwd=REPOSITORY)
        self._await_web()

    def _make_certificate(self) -> tuple[Path, Path]:
        """The server's certificate, its own authority; the client is given it to trust."""
        certificate, key = self.folder / "server.crt", self.folder / "server.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
                *("-subj", f"/CN={SERVER_NAME}", "-addext", f"subjectAltName=DNS:{SERVER_NAME}"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        return certificate, key

    def _await_web(self) -> None:
        deadline = time.monotonic() + _SERVER_TIMEOUT
        probe = ("curl", "-sf", "--max-time", "2", f"http://{SERVER}/")
        while self.wan.run(*probe, check=False).returncode:
            if time.monotonic() > deadline:
                raise BoxError(
                    f"the lab's web server does not answer: {(self.folder / 'web.log').read_text()}"
                )
            time.sleep(0.2)

    def _connect_internet(self, stack: ExitStack) -> None:
        """IPv4 internet for the WAN through slirp: user-mode, so the host's network is not changed."""
        routes = subprocess.run(["ip", "-4", "route", "show", "default"], capture_output=True, text=True)
        if not routes.stdout.strip() or shutil.which("slirp4netns") is None:
            self._say("no IPv4 internet here: the client reaches the lab's own server only")
            return
        self._serve_host(
            stack,
            "slirp",
            *("slirp4netns", "--configure", "--disable-host-loopback", "--netns-type=path"),
            *(f"/run/netns/{self.wan.name}", "inet0"),
        )
        deadline = time.monotonic() + _SLIRP_TIMEOUT
        while not self.wan.run("ip", "-4", "route", "show", "default").stdout.strip():
            if time.monotonic() > deadline:
                self._say("slirp4netns does not start here: no internet for the client")
                return
            time.sleep(0.2)
        for rule in (
            "add table ip isthmus_lab",
            "add chain ip isthmus_lab out { type nat hook postrouting priority srcnat; }",
            "add rule ip isthmus_lab out oifname inet0 masquerade",
        ):
            self.wan.run("nft", rule)
        self.has_internet = True

    def _serve_host(self, stack: ExitStack, name: str, *command: str) -> None:
        stack.callback(stop, spawn(command, self._log(stack, name)))

    def wan_address(self) -> str:
        """The box's address on the WAN, from the DHCP server's leases; "" before it has one."""
        leases = self.folder / "leases"
        lines = [line.split() for line in leases.read_text().splitlines()] if leases.exists() else []
        granted = [(int(words[0]), words[2]) for words in lines if len(words) > 2 and words[0].isdecimal()]
        return max(granted, default=(0, ""))[1]

    # --- the client ------------------------------------------------------------------------------

    def _set_up_client(self) -> None:
        # Nothing but the interface is switched on: address, route and DNS must come by themselves.
        self.client.run("ip", "link", "set", LAN_INTERFACE, "up")

    def await_client(self) -> ClientView:
        """Wait until the client has all that the box advertises, and give it its DNS servers."""
        found = self.client.call(lambda: solicit(LAN_INTERFACE, ADVERTISEMENT_TIMEOUT))
        if found is None:
            raise BoxError(f"no router advertisement in {ADVERTISEMENT_TIMEOUT:.0f} s")
        deadline = time.monotonic() + ADVERTISEMENT_TIMEOUT
        while not (view := self._view(found)).addresses or not view.default_route:
            if time.monotonic() > deadline:
                raise BoxError(f"the client made itself no address from {found}")
            time.sleep(0.2)
        if not found.resolvers:
            raise BoxError(f"the advertisement names no DNS server: {found}")
        self.client.set_resolver([str(server) for server in found.resolvers])
        return view

    def _view(self, advertisement: Advertisement) -> ClientView:
        show = self.client.run("ip", "-6", "-o", "address", "show", "dev", LAN_INTERFACE, "scope", "global")
        words = [line.split() for line in show.stdout.splitlines() if "tentative" not in line]
        route = self.client.run("ip", "-6", "route", "show", "default").stdout.strip()
        return ClientView(advertisement, tuple(IPv6Address(w[3].split("/")[0]) for w in words), route)

    def await_resolver(self, view: ClientView) -> IPv6Address:
        """Wait until the box's DNS64 answers for the IPv4-only server; its translated address."""
        deadline = time.monotonic() + RESOLVER_TIMEOUT
        question = ("dig", "+short", "+time=2", "+tries=1", "AAAA", SERVER_NAME)
        while True:
            answer = self.client.run(*question, check=False).stdout.strip()
            try:
                return IPv6Address(answer.splitlines()[-1] if answer else "")
            except ValueError:
                pass
            if time.monotonic() > deadline:
                raise BoxError(
                    f"{view.box} gives no address for {SERVER_NAME}; dig said: {answer or 'nothing'}"
                )
            time.sleep(0.5)


def copy_machine(disk: Path, target: Path) -> None:
    """A disk, and what the firmware of its machine keeps beside it where there is that."""
    subprocess.run(["cp", "--sparse=always", disk, target], check=True)
    if (variables := disk.with_name(VARIABLES)).exists():
        shutil.copy(variables, target.with_name(VARIABLES))


def translated(prefix: IPv6Network, server: str) -> IPv6Address:
    """The server's address under a /96 prefix (RFC 6052 section 2.2)."""
    return prefix[int(IPv4Address(server))]
