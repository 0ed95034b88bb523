"""The health check that a version must pass to be kept: what the box is for, tried for real.

    socket with a worker's mark ──► TUN ──► worker: policy, dial ──► veth ──► answerer in a namespace

The session goes the way of a LAN client's: held in the worker's TUN until the origin has answered, then
accepted. Neither cable matters: an update must not be given up because a port is unplugged.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from appliance.addressing import TranslationPrefix
from appliance.control.client import ControlClient, ControlError
from appliance.control.crossing import crossing
from appliance.errors import IsthmusError
from appliance.network.apply import run_tool

# From the daemons' start on, on the slowest box (or an emulated one). Too short gives good versions up; too
# long keeps the network down for as long three times.
DEADLINE = 240.0
_INTERVAL = 2.0
_WAIT = 5.0
NAMESPACE = "isthmus-trial"
# Of a block that is global, and routed to relays that are no more (RFC 7450): no session needs them.
BOX_SIDE, ANSWERER = "192.52.193.200", "192.52.193.201"
PORT = 7
_WORDS = b"isthmus trial\n"
# What a version is kept for; the rest of the checks are the world's (cables, leases, upstream servers).
_OWN_CHECKS = frozenset({"configuration", "network", "proxy", "dns64", "resolver"})


class NotHealthyError(IsthmusError):
    """What does not work yet."""

    code = "not-healthy"


def answer() -> None:
    """Inside the namespace: say what comes to whoever connects, until the input ends."""
    with socket.create_server((ANSWERER, PORT)) as listener:
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_WAIT)
                connection.sendall(connection.recv(len(_WORDS)))


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """An IPv4 host that answers, behind a pair of interfaces of its own; ApplyError."""
    _remove()
    run_tool("ip", "netns", "add", NAMESPACE)
    try:
        inside = ("ip", "-n", NAMESPACE)
        run_tool(
            *["ip", "link", "add", "trial0", "type", "veth", "peer", "name", "trial1", "netns"], NAMESPACE
        )
        run_tool("ip", "address", "add", BOX_SIDE, "peer", f"{ANSWERER}/32", "dev", "trial0")
        run_tool("ip", "link", "set", "trial0", "up")
        run_tool(*inside, "address", "add", ANSWERER, "peer", f"{BOX_SIDE}/32", "dev", "trial1")
        run_tool(*inside, "link", "set", "trial1", "up")
        run_tool(*inside, "route", "add", "default", "dev", "trial1")
        words = ("ip", "netns", "exec", NAMESPACE, sys.executable, "-m", __name__)
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                yield
            finally:
                process.kill()
    finally:
        _remove()


def _remove() -> None:
    """Also what a check that was cut off left; the interfaces go with the namespace."""
    for words in (("ip", "link", "delete", "trial0"), ("ip", "netns", "delete", NAMESPACE)):
        with contextlib.suppress(IsthmusError):
            run_tool(*words)


def session(lan_address: str, prefix: TranslationPrefix) -> None:
    """One TCP session from the box's LAN side to the answerer; OSError where it does not come about."""
    with crossing(lan_address, str(prefix.embed(IPv4Address(ANSWERER))), PORT) as client:
        client.sendall(_WORDS)
        if client.recv(len(_WORDS)) != _WORDS:
            raise ConnectionAbortedError("the session ended without an answer")


def console(address: str, port: int) -> None:
    """The console answers over TLS; OSError. Whose certificate it is does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), _WAIT) as plain,
        context.wrap_socket(plain) as link,
    ):
        link.sendall(f"GET / HTTP/1.1\r\nHost: [{address}]\r\nConnection: close\r\n\r\n".encode())
        if not link.recv(16).startswith(b"HTTP/1.1 "):
            raise ConnectionAbortedError("it speaks no HTTP")


def look(client: ControlClient) -> None:
    """NotHealthyError with the first thing that does not work."""
    try:
        status = client.status()
    except ControlError:
        raise NotHealthyError("isthmus-control does not answer") from None
    for check in status["checks"]:
        if check["id"] in _OWN_CHECKS and check["state"] == "bad":
            # An unplugged or missing port fails the network's plan; it would fail the old version's too.
            if check["id"] in ("network", "dns64") and status["lan_address"] is None:
                continue
            raise NotHealthyError(f"{check['title']}: {check['detail']}")
    address = status["lan_address"]
    if address is None:
        return
    try:
        console(address, status["console_port"])
    except OSError as error:
        raise NotHealthyError(f"The console does not answer: {error}") from None
    _try_session(client, address, TranslationPrefix.parse(status["translation"][0]))


def _try_session(client: ControlClient, address: str, prefix: TranslationPrefix) -> None:
    try:
        with answering():
            session(address, prefix)
    except ConnectionRefusedError:
        # A policy that denies it is in force, which is as good.
        told = client.explain(address, None, f"{ANSWERER}:{PORT}")
        if told["allow"]:
            raise NotHealthyError("A session between the two sides was refused") from None
    except (OSError, IsthmusError) as error:
        raise NotHealthyError(f"No session crosses the box: {error}") from None


def wait(check: Callable[[], None], tell: Callable[[str], None], deadline: float) -> str:
    """Try until it is well; "" then, and after ``deadline`` seconds in words what is not.

    ``tell`` is given each problem as it comes: a check that hangs is ended from outside, and says no more.
    """
    end = time.monotonic() + deadline
    told = ""
    while True:
        try:
            check()
        except NotHealthyError as error:
            if error.message != told:
                told = error.message
                tell(told)
            if time.monotonic() > end:
                return told
            time.sleep(_INTERVAL)
        else:
            return ""


if __name__ == "__main__":
    answer()
