"""A box with the explicit proxy's listeners, and what the tests ask it by: curl, or octets of their own.

client --- [ box: http 3128, https 3129, socks 1080, auto 8080, ... ] --- web.example, files.example
                                                                          (192.31.196.80 and .81)
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argon2 import PasswordHasher

from tests.lab.netns import unguarded
from tests.netns.conftest import CONFIG, SERVER, SERVER6, Box, wait_for

BOX = "[fd00:1::1]"
NAME = "web.example"
FILES = "files.example"
FILES_ADDRESS = "192.31.196.81"
# What the server's router says is unreachable, and what it swallows.
UNREACHABLE, BLACK_HOLE = "192.31.202.1", "192.31.201.1"
ALICE = "alice:open sesame 1"
REJECT = f"""\
table ip tests {{
  chain refuse {{
    type filter hook prerouting priority 0;
    ip daddr {UNREACHABLE} reject with icmp host-unreachable
  }}
}}
"""
DNSMASQ = f"""\
no-resolv
no-hosts
listen-address=203.0.113.1
bind-interfaces
host-record={NAME},{SERVER}
address=/{NAME}/{SERVER}
host-record={FILES},{FILES_ADDRESS}
host-record=tracker.blocked.example,{SERVER}
cname=veil.example,tracker.blocked.example
cname=alias.example,{NAME}
local-ttl=60
local=/example/
"""
SETTINGS = """
[[group]]
name = "staff"

[[user]]
name = "alice"
groups = ["staff"]
password = "{password}"

[explicit]
listeners = [
  {{ name = "http", port = 3128, mode = "http" }},
  {{ name = "https", port = 3129, mode = "http", tls = true }},
  {{ name = "socks", port = 1080, mode = "socks" }},
  {{ name = "auto", port = 8080 }},
  {{ name = "users", port = 3130, tls = true, authentication = ["password"] }},
  {{ name = "certificates", port = 3132, tls = true, authentication = ["certificate"] }},
  {{ name = "plain", port = 3131, authentication = ["password"], plaintext_passwords = true }},
]
connect_ports = [443, 22, 81, 7002, 8001]
client_authority = "{authority}"
"""
_ALICE = ALICE.replace(" ", "%20")
SCHEMES = {
    "http": f"http://{BOX}:3128",
    "https": f"https://{BOX}:3129",
    "socks4": f"socks4://{BOX}:1080",
    "socks4a": f"socks4a://{BOX}:1080",
    "socks5": f"socks5://{BOX}:1080",
    "socks5h": f"socks5h://{BOX}:1080",
    "auto-http": f"http://{BOX}:8080",
    "auto-https": f"https://{BOX}:8080",
    "auto-socks4a": f"socks4a://{BOX}:8080",
    "auto-socks5h": f"socks5h://{BOX}:8080",
    "user-https": f"https://{_ALICE}@{BOX}:3130",
    "user-http": f"http://{_ALICE}@{BOX}:3131",
    "user-socks5": f"socks5://{_ALICE}@{BOX}:3131",
    "user-socks5h": f"socks5h://{_ALICE}@{BOX}:3131",
}


@contextmanager
def running(folder: Path, settings: str = "", proxy: str = "") -> Iterator[Box]:
    """A box with listeners of each kind, a web server, a file server and a DNS server on its WAN.

    The file server shows ``folder``/www. ``settings`` go behind those of the explicit proxy, ``proxy`` into
    the section of that name.
    """
    (folder / "dnsmasq.conf").write_text(DNSMASQ)
    (folder / "www").mkdir()
    hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
    with Box(folder / "box") as box:
        password = hasher.hash(ALICE.partition(":")[2])
        for name in ("alice", "mallory"):
            client_certificate(folder, name)
        text = SETTINGS.format(password=password, authority=folder / "authority.crt")
        box.config.write_text(CONFIG.replace("workers = 2\n", f"workers = 2\n{proxy}") + text + settings)
        certificate, key = folder / "web.crt", folder / "web.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", certificate, "-subj", f"/CN={NAME}",
             "-addext", f"subjectAltName=DNS:{NAME},DNS:{FILES},IP:{SERVER},IP:{SERVER6}", "-days", "2"],
            check=True, capture_output=True,
        )  # fmt: skip
        box.server_certificate = certificate
        box.server.run("ip", "addr", "add", f"{FILES_ADDRESS}/32", "dev", "lo")
        box.server.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0")  # a router that tells each client
        box.server.run("ip", "route", "add", "blackhole", BLACK_HOLE)
        box.server.run("nft", REJECT)  # a route of this kind would answer once in a second
        box.start("dnsmasq", "dnsmasq", "-k", "--pid-file", "-C", folder / "dnsmasq.conf", where=box.server)
        python = (sys.executable, "-m")
        box.start("web", *python, "tests.lab.servers", SERVER, certificate, key, where=box.server)
        box.start(
            "files", *python, "tests.netns.files", FILES_ADDRESS, folder / "www", certificate, key,
            where=box.server,
        )  # fmt: skip
        box.start("peers", *python, "tests.netns.peers", where=box.server)
        box.start_control()
        box.start("unbound", unguarded("unbound", box.state), "-d", "-c", box.runtime / "unbound.conf")
        wait_for((box.state / "tls" / "console.key").exists, "the box's certificate")
        box.start_proxy()
        for name in (NAME, FILES):
            ask = ("-x", SCHEMES["http"], "--fail", f"http://{name}/")
            wait_for(lambda ask=ask: curl(box, *ask).returncode == 0, "the proxy")  # type: ignore[misc]
        yield box


def client_certificate(folder: Path, name: str) -> None:
    """NAME.pem, key and certificate, signed by authority.crt, which is made where it is not there."""
    authority = folder / "authority"
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    if not authority.with_suffix(".crt").exists():
        subprocess.run(
            [*new, "-x509", "-subj", "/CN=test", "-keyout", f"{authority}.key", "-out", f"{authority}.crt"],
            check=True, capture_output=True,
        )  # fmt: skip
    signed = ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key"]
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run(
        [*new, "-x509", *signed, "-subj", f"/CN={name}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / f"{name}.pem").write_bytes(key.read_bytes() + certificate.read_bytes())


def curl(box: Box, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """curl inside the client; the origin's certificate is known, the box's need not be."""
    known = ("--cacert", str(box.server_certificate), "--proxy-insecure")
    return box.client.run("curl", "-sS", "--max-time", "20", *known, *words, check=False)


def box_certificate(box: Box) -> Path:
    """What a client has to trust to believe the box's TLS listeners."""
    return box.state / "tls" / "authority.crt"


def run(box: Box, *words: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A program inside the client, with nothing of our own environment that could lead it elsewhere."""
    given = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **settings}
    variables = [f"{name}={value}" for name, value in given.items()]
    return box.client.run("env", "-i", *variables, *words, check=False, timeout=40)


def raw(box: Box, port: int, data: bytes, *, end: bool = True, tls: bool = False) -> bytes:
    """What the proxy answers to octets of the client's choice, up to its end."""

    def ask() -> bytes:
        sock = socket.create_connection(("fd00:1::1", port), 10)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        with sock, contextlib.suppress(ConnectionResetError):
            sock.sendall(data)
            if end and not tls:
                sock.shutdown(socket.SHUT_WR)
            out = b""
            while got := sock.recv(65_536):
                out += got
            return out
        return out

    return box.client.call(ask)
