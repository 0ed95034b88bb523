"""Where the bench runs: one client, one server, and between them Isthmus's box and the rivals' box.

    client  fd00:1::2 --- fd00:1::1 [ Isthmus ] 203.0.113.2 ---- 203.0.113.1   server
            fd00:2::2 --- fd00:2::1 [ rivals  ] 198.51.100.2 --- 198.51.100.1  192.31.196.80
            10.9.0.2  --- 10.9.0.1

Both boxes are wired alike. The rivals have one of their own because Isthmus's firewall forwards nothing:
the direct path and Tayga could not pass it. Contenders are pinned to one core, load and server to the
other; what the kernel forwards by itself runs on the sender's core.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.lab.netns import Namespace
from tests.netns.conftest import Box, wait_for

SERVER = "192.31.196.80"
PORT = 7000
CONTENDER_CORE, LOAD_CORE = "0", "1"

TICK = os.sysconf("SC_CLK_TCK")  # in a second
_KTHREADD = "2"  # the parent of all threads of the kernel

BUILD = Path(__file__).resolve().parents[2] / "build" / "bench"
LOAD = BUILD / "load"
SOURCE = Path(__file__).with_name("load.c")
TLS_SOURCE = Path(__file__).with_name("load_tls.c")

_SYSCTLS = (
    "net.ipv4.ip_local_port_range=1024 65535",
    "net.ipv4.ip_local_reserved_ports=6400-6463,1080,3128,3129,7000,8001-8011",
    "net.ipv4.tcp_tw_reuse=1",
    "net.core.somaxconn=16384",
    "net.ipv4.tcp_max_syn_backlog=16384",
)


def build_load() -> None:
    """Compile the load generator."""
    BUILD.mkdir(parents=True, exist_ok=True)
    sources = SOURCE, TLS_SOURCE, TLS_SOURCE.with_suffix(".h")
    if not LOAD.exists() or LOAD.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-DWITH_TLS", "-o", LOAD, SOURCE, TLS_SOURCE, "-lssl", "-lcrypto"],
            check=True,
        )


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A P-256 certificate and its key, the same for everybody who ends TLS."""
    certificate, key = folder / "bench.crt", folder / "bench.key"
    if not certificate.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", certificate, "-subj", "/CN=bench", "-days", "30"],
            check=True, capture_output=True,
        )  # fmt: skip
    return certificate, key


class Topology:
    """The namespaces; a context manager. ``box`` is Isthmus's, ``rivals`` the others'."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.box = Box(folder / "isthmus", ordered=False)
        self.client, self.server = self.box.client, self.box.server
        self.rivals = Namespace("rivals")
        self._stack = ExitStack()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Topology:
        self._stack.enter_context(self.box)
        self._stack.enter_context(self.rivals)
        for host in (self.client, self.server, self.box.box, self.rivals):
            host.run("sysctl", "-qw", *_SYSCTLS)
        self._wire()
        self.pinned("server", self.server, LOAD_CORE, LOAD, "server", SERVER, PORT)
        wait_for(lambda: "ready" in self.box.log("server"), "the server's side")
        return self

    def __exit__(self, *_: object) -> None:
        # Those that changed their user would outlive us: the kernel forgets who they were to die with.
        for process in self._started:
            for pid in family(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        self._stack.close()

    def later(self, action: Callable[[], object]) -> None:
        """What is to be done when everything has ended."""
        self._stack.callback(action)

    def _wire(self) -> None:
        rivals, client, server = self.rivals, self.client, self.server
        rivals.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        for inner, host in (("lan0", client), ("wan0", server)):
            subprocess.run(
                ["ip", "link", "add", inner, "netns", rivals.name, "type", "veth",
                 "peer", "eth1", "netns", host.name],
                check=True,
            )  # fmt: skip
            host.run("ip", "link", "set", "eth1", "up")
            rivals.run("ip", "link", "set", inner, "up")
        for host, address, device in (
            (rivals, "fd00:2::1/64", "lan0"),
            (rivals, "10.9.0.1/24", "lan0"),
            (rivals, "198.51.100.2/24", "wan0"),
            (client, "fd00:2::2/64", "eth1"),
            (client, "10.9.0.2/24", "eth1"),
            (server, "198.51.100.1/24", "eth1"),
        ):
            nodad = ["nodad"] if ":" in address else []
            host.run("ip", "addr", "add", address, "dev", device, *nodad)
        rivals.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        rivals.run("ip", "route", "add", "default", "via", "198.51.100.1")
        client.run("ip", "route", "add", "default", "via", "10.9.0.1")
        server.run("ip", "route", "add", "10.9.0.0/24", "via", "198.51.100.2")

    def pinned(
        self, name: str, where: Namespace, core: str, *words: str | Path | int
    ) -> subprocess.Popen[str]:
        """Start a program on one core; it ends with the topology."""
        tool = shutil.which("taskset")
        assert tool is not None
        limit = ["prlimit", f"--nofile={_nofile()}"]
        command = [*limit, tool, "-c", core, *(str(word) for word in words)]
        process = self.box.start(name, *command, where=where)
        self._started.append(process)
        return process


def _nofile() -> int:
    """The most descriptors that this machine gives a process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def ticks(pid: int) -> int:
    """User and system time of a process and of its children that have ended; none of a kernel's thread."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[1] == _KTHREADD else sum(int(field) for field in fields[11:15])


def cpu_seconds(pids: list[int]) -> float:
    """Processor time of the processes, those of their children that have ended included."""
    return sum(ticks(pid) for pid in pids) / TICK


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def descriptors(pids: list[int]) -> int:
    """Open descriptors of the processes."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


def private_memory(pids: list[int]) -> int:
    """Bytes of user-space memory, a page that several processes share counted once (Pss).

    "Private" would count a page twice when a worker writes to what it shared with its supervisor.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
