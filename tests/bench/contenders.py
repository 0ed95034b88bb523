"""Who takes part: how each is started, and where a client finds the server through it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path

import tomli_w

from appliance.session.asked import FILE as NAMES
from appliance.session.asked import open_to_write
from tests.bench import policy
from tests.bench.soak import FLOW_LIFETIME
from tests.bench.topology import (
    CONTENDER_CORE,
    PORT,
    SERVER,
    Topology,
    descriptors,
    family,
    make_certificate,
)
from tests.netns.conftest import BIN, CONFIG, wait_for

TCP = ("bulk-1", "bulk-8", "sessions", "ping-pong", "idle-memory")
POLICY = ("sessions-bare", "sessions-ruled")
UDP = ("udp", "udp-new")
HTTP = ("http-kept", "http-new")
TLS = ("tls-handshake", "tls-resumed", "tls-bulk")
ORIGIN = f"{SERVER}:{PORT}"
ORIGIN6 = "64:ff9b::c01f:c450"
CLIENTS = ("fd00:1::2", "fd00:1::3")
RIVALS = "fd00:2::1"
RULES = 1_000  # of the test `sessions-ruled`


@dataclass
class Contender:
    """``where`` are the load program's last words; ``pids`` the processes whose time and memory count."""

    name: str
    tests: tuple[str, ...]
    where: list[str]
    elsewhere: dict[str, list[str]] = field(default_factory=dict)  # the words of tests that go another way
    pids: Callable[[], list[int]] = field(default=list)
    prepare: Callable[[str], None] = field(default=lambda test: None)  # before each run of a test


def _through(port: int) -> list[str]:
    return [RIVALS, str(port)]


def _by_get(tests: tuple[str, ...], address: str, port: int) -> dict[str, list[str]]:
    """The words of tests that ask for the origin's pages there."""
    return {test: ["-g", ORIGIN, address, str(port)] for test in tests}


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def direct(_topology: Topology) -> Contender:
    """No proxy: the kernel routes. The limit of this machine."""
    where = [SERVER, str(PORT)]
    return Contender("direct", (*TCP[:-1], *UDP, *HTTP), where, _by_get(HTTP, SERVER, PORT))


def isthmus(topology: Topology) -> Contender:
    """The box with one worker: honest TCP, and accepting first for the test `sessions`."""
    box = topology.box
    settings = "workers = 1\nmax_new_per_client = 1000000\nmax_sessions_per_client = 1000000\n"
    honest = CONFIG.replace("workers = 2\n", settings)
    # Short, so that a soak sees flows expire.
    honest = honest.replace("[proxy.timers]\n", f"[proxy.timers]\nudp = {FLOW_LIFETIME:.0f}\n")
    honest += f"[explicit]\nconnect_ports = [{PORT}]\n"
    box.config.write_text(honest)
    certificate, key = make_certificate(topology.folder)
    (box.state / "tls").mkdir(mode=0o755, exist_ok=True)
    shutil.copy(certificate, box.state / "tls" / "uploaded.crt")
    shutil.copy(key, box.state / "tls" / "uploaded.key")
    box.start_control()
    proxy = topology.pinned(
        "isthmus", box.box, CONTENDER_CORE, BIN / "isthmus-proxy", "--config", box.config,
        "--runtime", box.runtime, "--state", box.state, "--log", box.sessions_log,
    )  # fmt: skip
    wait_for((box.runtime / "proxy" / "proxy.sock").exists, "the proxy")

    last = [""]
    ruled = tomli_w.dumps({"rule": policy.rules(RULES)})
    # The clients have asked for the server's name.
    (box.runtime / "dns64").mkdir(exist_ok=True)
    asked = open_to_write(box.runtime / "dns64" / NAMES)
    for client in CLIENTS:
        at = int(time.monotonic())
        asked.store(IPv6Address(client).packed, IPv6Address(ORIGIN6).packed, b"web.example", at, at + 86_400)

    def prepare(test: str) -> None:
        first = test.startswith("sessions") and test != "sessions-honest"
        wanted = honest.replace("workers = 1\n", "workers = 1\naccept_first = true\n") if first else honest
        if test == "sessions-bare":
            wanted += '[policy]\nprivacy = "counters"\n'
        elif test == "sessions-ruled":
            wanted += ruled
        if box.config.read_text() != wanted:
            box.config.write_text(wanted)
            box.processes["control"].send_signal(signal.SIGHUP)
            wait_for(lambda: first == ("goto first_0" in _rules(topology)), "the firewall")
            time.sleep(0.3 if test != "sessions-ruled" else 1.0)  # the proxy is told after the firewall
        if last[0] == "udp-new" or test in ("udp-new", "idle-memory"):
            # A worker without the flows of before: they live for minutes, and hold descriptors.
            worker = family(proxy.pid)[-1]
            os.kill(worker, signal.SIGKILL)
            wait_for(lambda: family(proxy.pid)[-1] not in (worker, proxy.pid), "a new worker")
            time.sleep(0.5)
        last[0] = test

    where, own = [ORIGIN6, str(PORT)], "fd00:1::1"
    tests = (*TCP, "sessions-honest", *POLICY, *UDP, "connect", "socks", *HTTP, *TLS)
    elsewhere = {"connect": ["-c", ORIGIN, own, "3128"], "socks": ["-5", ORIGIN, own, "1080"]}
    elsewhere |= _by_get(HTTP, own, 3128) | _by_get(TLS, own, 3129)
    return Contender("isthmus", tests, where, elsewhere, lambda: family(proxy.pid), prepare)


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
listen tls
  mode http
  bind [fd00:2::1]:{tls_port} ssl crt {certificate} alpn http/1.1
  http-reuse always
  server origin {server}
"""


def _haproxy(topology: Topology, name: str, port: int, tuning: str, options: str) -> Contender:
    certificate, key = make_certificate(topology.folder)
    both = _write(topology.folder, f"{name}.pem", certificate.read_text() + key.read_text())
    text = _HAPROXY.format(
        tuning=tuning, options=options, port=port, server=ORIGIN, tls_port=port + 8, certificate=both
    )
    path = _write(topology.folder, f"{name}.cfg", text)
    process = topology.pinned(name, topology.rivals, CONTENDER_CORE, "haproxy", "-db", "-f", path)
    elsewhere = _by_get(TLS, RIVALS, port + 8)
    return Contender(name, (*TCP, *TLS), _through(port), elsewhere, lambda: family(process.pid))


def haproxy(topology: Topology) -> Contender:
    """As Debian installs it, but for one thread."""
    return _haproxy(topology, "haproxy", 8001, "", "")


def haproxy_tuned(topology: Topology) -> Contender:
    """64 KiB buffers, 256 KiB pipes, splicing on."""
    tuning = "  tune.bufsize 65536\n  tune.pipesize 262144"
    return _haproxy(topology, "haproxy-tuned", 8002, tuning, "  option splice-auto")


def nginx(topology: Topology) -> Contender:
    """Its stream module, TCP and UDP; TLS by its http module."""
    folder = topology.folder
    certificate, key = make_certificate(folder)
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
http {{
  access_log off;
  upstream origin {{ server {SERVER}:{PORT}; keepalive 64; }}
  server {{
    listen [fd00:2::1]:8011 ssl backlog=16384;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_max_temp_file_size 0;
    }}
  }}
}}
""",
    )
    master = topology.pinned("nginx", topology.rivals, CONTENDER_CORE, "nginx", "-c", path)

    def prepare(test: str) -> None:
        if test == "idle-memory":
            # Its UDP flows hold connections of the same table for their proxy_timeout.
            wait_for(lambda: descriptors(family(master.pid)) < 200, "nginx without flows", 40)

    pids = partial(family, master.pid)
    tests = (*TCP, *UDP, *TLS)
    return Contender("nginx", tests, _through(8003), _by_get(TLS, RIVALS, 8011), pids, prepare)


def squid(topology: Topology) -> Contender:
    """CONNECT and HTTP, without a cache or a log."""
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
    where = ["-c", ORIGIN, *_through(8004)]
    tests = (*TCP, "connect", *HTTP)
    return Contender("squid", tests, where, _by_get(HTTP, RIVALS, 8004), lambda: family(process.pid))


def tinyproxy(topology: Topology) -> Contender:
    """CONNECT and HTTP; it keeps no connection, on either side."""
    path = _write(
        topology.folder,
        "tinyproxy.conf",
        """\
Listen fd00:2::1
Port 8006
MaxClients 1000
Timeout 600
LogLevel Critical
DisableViaHeader Yes
""",
    )
    process = topology.pinned("tinyproxy", topology.rivals, CONTENDER_CORE, "tinyproxy", "-d", "-c", path)
    where = ["-c", ORIGIN, *_through(8006)]
    elsewhere = _by_get(("http-new",), RIVALS, 8006)
    return Contender("tinyproxy", ("connect", "http-new"), where, elsewhere, lambda: family(process.pid))


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
    where = ["-5", ORIGIN, *_through(8005)]
    return Contender("dante", (*TCP[:-1], "socks"), where, pids=lambda: family(process.pid))


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
    return Contender("tayga", tests, where, pids=lambda: family(process.pid))


ALL: dict[str, Callable[[Topology], Contender]] = {
    "direct": direct,
    "isthmus": isthmus,
    "haproxy": haproxy,
    "haproxy-tuned": haproxy_tuned,
    "nginx": nginx,
    "squid": squid,
    "tinyproxy": tinyproxy,
    "dante": dante,
    "tayga": tayga,
}

PACKAGES = (
    "haproxy",
    "nginx-light",
    "libnginx-mod-stream",
    "squid",
    "tinyproxy",
    "dante-server",
    "tayga",
    "dnsperf",
    "gcc",
    "libssl-dev",
)


def missing_programs() -> list[str]:
    """What of the rivals is not installed."""
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *PACKAGES],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    there = {line.split()[0] for line in found.splitlines() if line.endswith(" installed")}
    return [name for name in PACKAGES if name not in there]
