"""Who takes part: how each is started, and where a client finds the server through it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench.soak import FLOW_LIFETIME
from tests.bench.topology import CONTENDER_CORE, PORT, SERVER, Topology, descriptors, family
from tests.netns.conftest import BIN, CONFIG, wait_for

TCP = ("bulk-1", "bulk-8", "sessions", "ping-pong", "idle-memory")
UDP = ("udp", "udp-new")


@dataclass
class Contender:
    """``where`` are the load program's last words; ``pids`` the processes whose time and memory count."""

    name: str
    tests: tuple[str, ...]
    where: list[str]
    udp_where: list[str] | None = None
    pids: Callable[[], list[int]] = field(default=list)
    prepare: Callable[[str], None] = field(default=lambda test: None)  # before each run of a test


def _through(port: int) -> list[str]:
    return ["fd00:2::1", str(port)]


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def direct(_topology: Topology) -> Contender:
    """No proxy: the kernel routes. The limit of this machine."""
    return Contender("direct", (*TCP[:-1], *UDP), [SERVER, str(PORT)])


def isthmus(topology: Topology) -> Contender:
    """The box with one worker: honest TCP, and accepting first for the test `sessions`."""
    box = topology.box
    settings = "workers = 1\nmax_new_per_client = 1000000\nmax_sessions_per_client = 1000000\n"
    honest = CONFIG.replace("workers = 2\n", settings)
    # Short, so that a soak sees flows expire.
    honest = honest.replace("[proxy.timers]\n", f"[proxy.timers]\nudp = {FLOW_LIFETIME:.0f}\n")
    box.config.write_text(honest)
    box.start_control()
    proxy = topology.pinned(
        "isthmus", box.box, CONTENDER_CORE, BIN / "isthmus-proxy", "--config", box.config,
        "--runtime", box.runtime, "--log", box.sessions_log,
    )  # fmt: skip
    wait_for((box.runtime / "proxy" / "proxy.sock").exists, "the proxy")

    last = [""]

    def prepare(test: str) -> None:
        wanted = honest.replace("workers = 1\n", "workers = 1\naccept_first = true\n")
        wanted = wanted if test == "sessions" else honest
        if box.config.read_text() != wanted:
            box.config.write_text(wanted)
            box.processes["control"].send_signal(signal.SIGHUP)
            wait_for(lambda: (test == "sessions") == ("goto first_0" in _rules(topology)), "the firewall")
            time.sleep(0.3)  # the proxy is told after the firewall
        if last[0] == "udp-new" or test in ("udp-new", "idle-memory"):
            # A worker without the flows of before: they live for minutes, and hold descriptors.
            worker = family(proxy.pid)[-1]
            os.kill(worker, signal.SIGKILL)
            wait_for(lambda: family(proxy.pid)[-1] not in (worker, proxy.pid), "a new worker")
            time.sleep(0.5)
        last[0] = test

    where = ["64:ff9b::c01f:c450", str(PORT)]
    tests = (*TCP, "sessions-honest", *UDP)
    return Contender("isthmus", tests, where, where, lambda: family(proxy.pid), prepare)


def _rules(topology: Topology) -> str:
    return topology.box.box.run("nft", "-s", "list", "table", "inet", "isthmus").stdout


_HAPROXY = """\
global
  nbthread 1
  maxconn 9300
  maxpipes 500
{tuning}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
{options}
listen bench
  bind [fd00:2::1]:{port}
  server origin {server}
"""


def _haproxy(topology: Topology, name: str, port: int, tuning: str, options: str) -> Contender:
    text = _HAPROXY.format(tuning=tuning, options=options, port=port, server=f"{SERVER}:{PORT}")
    path = _write(topology.folder, f"{name}.cfg", text)
    process = topology.pinned(name, topology.rivals, CONTENDER_CORE, "haproxy", "-db", "-f", path)
    return Contender(name, TCP, _through(port), pids=lambda: family(process.pid))


def haproxy(topology: Topology) -> Contender:
    """As Debian installs it, but for one thread."""
    return _haproxy(topology, "haproxy", 8001, "", "")


def haproxy_tuned(topology: Topology) -> Contender:
    """64 KiB buffers, 256 KiB pipes, splicing on."""
    tuning = "  tune.bufsize 65536\n  tune.pipesize 262144"
    return _haproxy(topology, "haproxy-tuned", 8002, tuning, "  option splice-auto")


def nginx(topology: Topology) -> Contender:
    """Its stream module, TCP and UDP."""
    folder = topology.folder
    path = _write(
        folder,
        "nginx.conf",
        f"""\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 19000; }}
stream {{
  proxy_timeout 1h;
  server {{ listen [fd00:2::1]:8003 backlog=16384; proxy_pass {SERVER}:{PORT}; }}
  server {{ listen [fd00:2::1]:8003 udp; proxy_pass {SERVER}:{PORT}; proxy_timeout 20s; }}
}}
""",
    )
    master = topology.pinned("nginx", topology.rivals, CONTENDER_CORE, "nginx", "-c", path)

    def prepare(test: str) -> None:
        if test == "idle-memory":
            # Its UDP flows hold connections of the same table for their proxy_timeout.
            wait_for(lambda: descriptors(family(master.pid)) < 200, "nginx without flows", 40)

    pids = partial(family, master.pid)
    return Contender("nginx", (*TCP, *UDP), _through(8003), _through(8003), pids, prepare)


def squid(topology: Topology) -> Contender:
    """CONNECT, without a cache or a log."""
    folder = topology.folder
    path = _write(
        folder,
        "squid.conf",
        """\
http_port [fd00:2::1]:8004
http_access allow all
cache deny all
access_log none
cache_log /dev/null
pid_filename none
coredump_dir /tmp
pinger_enable off
max_filedescriptors 20000
shutdown_lifetime 1 second
""",
    )
    # A name of its own: segments that another user's squid left in /dev/shm would stop this one.
    name = f"bench{os.getpid()}"

    def tidy() -> None:
        for left in Path("/dev/shm").glob(f"{name}-*"):
            left.unlink()

    topology.later(tidy)
    process = topology.pinned("squid", topology.rivals, CONTENDER_CORE, "squid", "-N", "-n", name, "-f", path)
    where = ["-c", f"{SERVER}:{PORT}", *_through(8004)]
    return Contender("squid", TCP, where, pids=lambda: family(process.pid))


def dante(topology: Topology) -> Contender:
    """SOCKS5."""
    path = _write(
        topology.folder,
        "danted.conf",
        """\
logoutput: /dev/null
internal: fd00:2::1 port = 8005
external: wan0
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0/0 to: 0/0 }
socks pass { from: 0/0 to: 0/0 command: connect }
""",
    )
    process = topology.pinned("dante", topology.rivals, CONTENDER_CORE, "danted", "-f", path)
    where = ["-5", f"{SERVER}:{PORT}", *_through(8005)]
    return Contender("dante", TCP[:-1], where, pids=lambda: family(process.pid))


def tayga(topology: Topology) -> Contender:
    """NAT64 in user space, with a prefix of its own: it refuses some addresses under 64:ff9b::/96."""
    folder, rivals = topology.folder, topology.rivals
    path = _write(
        folder,
        "tayga.conf",
        f"""\
tun-device nat64
ipv4-addr 192.168.255.1
ipv6-addr fd00:2:0:1::1
prefix fd00:64::/96
dynamic-pool 192.168.255.0/24
data-dir {folder}
""",
    )
    rivals.run("tayga", "-c", path, "--mktun")
    rivals.run("ip", "link", "set", "nat64", "up")
    rivals.run("ip", "route", "add", "192.168.255.0/24", "dev", "nat64")
    rivals.run("ip", "-6", "route", "add", "fd00:64::/96", "dev", "nat64")
    topology.client.run("ip", "-6", "route", "add", "fd00:64::/96", "via", "fd00:2::1")
    topology.server.run("ip", "route", "add", "192.168.255.0/24", "via", "198.51.100.2")
    process = topology.pinned("tayga", rivals, CONTENDER_CORE, "tayga", "-d", "-c", path)
    where = ["fd00:64::c01f:c450", str(PORT)]
    tests = ("bulk-1", "bulk-8", "sessions", "ping-pong", *UDP)
    return Contender("tayga", tests, where, where, lambda: family(process.pid))


ALL: dict[str, Callable[[Topology], Contender]] = {
    "direct": direct,
    "isthmus": isthmus,
    "haproxy": haproxy,
    "haproxy-tuned": haproxy_tuned,
    "nginx": nginx,
    "squid": squid,
    "dante": dante,
    "tayga": tayga,
}

PACKAGES = (
    "haproxy",
    "nginx-light",
    "libnginx-mod-stream",
    "squid",
    "dante-server",
    "tayga",
    "dnsperf",
    "gcc",
)


def missing_programs() -> list[str]:
    """What of the rivals is not installed."""
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *PACKAGES],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    there = {line.split()[0] for line in found.splitlines() if line.endswith(" installed")}
    return [name for name in PACKAGES if name not in there]
