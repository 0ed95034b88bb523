"""The box by hand, in namespaces: the daemons from the environment, no image, no systemd.

    client (IPv6 only) --- lan0 [ box ] wan0 --- server (IPv4 only)
    fd00:1::2, fd00:1::3         fd00:1::1       203.0.113.2     203.0.113.1
                                                 192.31.196.80 is the server's own address

192.31.196.0/24 is nobody's hosts but globally reachable by IANA's registry, as the well-known prefix
demands of what it carries; 203.0.113.0/24 is documentation space.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab.netns import Namespace, stop, unguarded

_numbers = itertools.count()
BIN = Path(sys.executable).parent
SERVER = "192.31.196.80"
SERVER6 = "64:ff9b::c01f:c450"
GATEWAY = "203.0.113.1"
START_TIMEOUT = 15.0

CONFIG = """\
schema_version = 1
[wan]
interface = "wan0"
mode = "static"
address = "203.0.113.2/24"
gateway = "203.0.113.1"
[lan]
interface = "lan0"
prefix = "fd00:1:0:0::/64"
[dns]
upstreams = ["203.0.113.1"]
[proxy]
workers = 2
[proxy.timers]
dial = 4
"""

# Two thousand sessions in one test: a user's soft limit of 1,024 files is for other programs. Inherited
# by what the tests start.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def wait_for(condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """Wait until the condition holds, or fail naming what was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.05)


def keep_order(namespace: Namespace, link: str) -> None:
    """Have each flow's packets received by one core, as a network card has (Linux's RPS).

    A veth's are by the core that sends them: a handshake's last ACK and the first data are then now and
    then received at once, and a kernel that finds no socket yet answers the data with RST.
    """
    every = f"{(1 << (os.cpu_count() or 1)) - 1:x}"
    namespace.run("sh", "-c", f"echo {every} > /sys/class/net/{link}/queues/rx-0/rps_cpus")


class Box:
    """The namespaces, the folders and the running daemons.

    ``ordered`` as ``keep_order`` says, which costs a third of the processor time that a packet takes: the
    bench goes without, like its rivals.
    """

    def __init__(self, folder: Path, *, ordered: bool = True) -> None:
        # The lab of the image tests may run in this process too: the names differ from its own.
        number = next(_numbers)
        self.client = Namespace(f"hand{number}client")
        self.box = Namespace(f"hand{number}box")
        self.server = Namespace(f"hand{number}server")
        self.runtime = folder / "run"
        self.state = folder / "state"
        self.config = folder / "config.toml"
        self.sessions_log = folder / "sessions.jsonl"
        self.logs = folder / "logs"
        self._ordered = ordered
        self.server_certificate: Path | None = None
        self._stack = ExitStack()
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Box:
        for path in (self.runtime, self.state, self.logs):
            path.mkdir(parents=True)
        self.config.write_text(CONFIG)
        for namespace in (self.client, self.box, self.server):
            self._stack.enter_context(namespace)
        self._wire()
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes.values()):
            stop(process)
        self._stack.close()
        # A fault costs one session alone, so that a test may not have noticed.
        for name in {"proxy", "dns64"} & self.processes.keys():
            assert "Traceback" not in self.log(name), self.log(name)

    def _wire(self) -> None:
        # While a link-local address is being checked, no neighbour is looked for: two slow seconds.
        for host in (self.client, self.box):
            host.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        ip = ["ip", "link", "add"]
        for inner, outer, host in (("lan0", "eth0", self.client), ("wan0", "eth0", self.server)):
            subprocess.run(
                [*ip, inner, "netns", self.box.name, "type", "veth", "peer", outer, "netns", host.name],
                check=True,
            )
            for namespace, link in ((host, outer), (self.box, inner)):
                namespace.run("ip", "link", "set", link, "up")
                if self._ordered:
                    keep_order(namespace, link)
        for address in ("fd00:1::2/64", "fd00:1::3/64"):
            self.client.run("ip", "addr", "add", address, "dev", "eth0", "nodad")
        self.client.run("ip", "-6", "route", "add", "default", "via", "fd00:1::1")
        self.client.set_resolver(["fd00:1::1"])
        self.box.run("ip", "addr", "add", "203.0.113.2/24", "dev", "wan0")
        self.box.run("ip", "route", "add", "default", "via", GATEWAY)
        self.box.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
        self.server.run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "eth0")
        self.server.run("ip", "addr", "add", f"{SERVER}/24", "dev", "lo")
        self.server.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def start(self, name: str, *words: str | Path, where: Namespace | None = None) -> subprocess.Popen[str]:
        """Start a program in the box (or elsewhere) that ends with the fixture."""
        log = (self.logs / f"{name}.log").open("a")
        process = (where or self.box).spawn(*words, log=log)
        log.close()
        self.processes[name] = process
        self._stack.callback(stop, process)  # also where another one takes its name meanwhile
        return process

    def log(self, name: str) -> str:
        """What a started program has printed."""
        return (self.logs / f"{name}.log").read_text()

    def sessions_logged(self) -> list[dict[str, Any]]:
        """The lines of the proxy's log."""
        return [json.loads(line) for line in self.sessions_log.read_text().splitlines()]

    def start_web(self) -> None:
        """isthmus-web, until its console answers the client."""
        self.start(
            "web", BIN / "isthmus-web", "--config", self.config,
            "--runtime", self.runtime, "--state", self.state,
        )  # fmt: skip
        ask = ("curl", "-sk", "--max-time", "2", "-o", "/dev/null", "https://[fd00:1::1]/setup")
        wait_for(lambda: self.client.run(*ask, check=False).returncode == 0, f"the console {self.log('web')}")

    def start_control(self) -> None:
        """isthmus-control: routes, devices, firewall, unbound's configuration."""
        self.start(
            "control", BIN / "isthmus-control", "--config", self.config,
            "--runtime", self.runtime, "--state", self.state,
        )  # fmt: skip
        wait_for((self.runtime / "control.sock").exists, f"control's socket\n{self.log('control')}")

    def start_proxy(self) -> None:
        """isthmus-proxy with its session log."""
        self.start(
            "proxy", BIN / "isthmus-proxy", "--config", self.config,
            "--runtime", self.runtime, "--state", self.state, "--log", self.sessions_log,
        )  # fmt: skip
        wait_for((self.runtime / "proxy" / "proxy.sock").exists, f"proxy's socket\n{self.log('proxy')}")

    def start_dns64(self) -> None:
        """unbound as control configured it, and the front before it."""
        self.start("unbound", unguarded("unbound", self.state), "-d", "-c", self.runtime / "unbound.conf")
        self.start("dns64", BIN / "isthmus-dns64", "--config", self.config, "--runtime", self.runtime)


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A running box with its two hosts, for the whole session."""
    with Box(tmp_path_factory.mktemp("box")) as running:
        running.start_control()
        running.start_proxy()
        yield running


@pytest.fixture(scope="session")
def explicit_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A running box with the explicit proxy's listeners and servers (tests/netns/explicit.py)."""
    from tests.netns.explicit import running  # which is built on this module

    with running(tmp_path_factory.mktemp("explicit")) as box:
        yield box
