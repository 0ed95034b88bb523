"""The log of sessions at a syslog server over TLS, by the daemons as they run on the box."""

from __future__ import annotations

import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlClient
from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import running
from tests.netns.hosts import Accepting, connect
from tests.netns.test_lifecycle import reload
from tests.netns.test_monitoring import start_history

pytestmark = [pytest.mark.netns, needs_root]

PORT = 6514


class Collector(Accepting):
    """A syslog server that keeps what it reads."""

    def __init__(self, box: Box, folder: Path) -> None:
        self.heard = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "web.crt", folder / "web.key")
        super().__init__(box, PORT)

    def serve(self, sock: socket.socket) -> None:
        with self._context.wrap_socket(sock, server_side=True) as secured:
            while data := secured.recv(65_536):
                self.heard += data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def own(folder: Path) -> Iterator[Box]:
    """A box with a history, which sends to a server that is not there yet."""
    log = f'[log]\nsyslog = "tls://{SERVER}:{PORT}"\nsyslog_authority = "{folder}/web.crt"\n'
    with running(folder, log) as box:
        start_history(box)
        yield box


def export(box: Box) -> dict[str, Any]:
    """What the history says of it."""
    found: list[dict[str, Any]] = ControlClient(box.runtime).history_status()["exports"]
    return next(one for one in found if one["kind"] == "syslog")


def change(box: Box, old: str, new: str) -> None:
    """Another configuration, in force everywhere."""
    text = box.config.read_text()
    assert old in text
    box.config.write_text(text.replace(old, new))
    before = (box.runtime / "config.toml").read_text()
    box.processes["control"].send_signal(signal.SIGHUP)
    wait_for(lambda: (box.runtime / "config.toml").read_text() != before, "control")
    assert reload(box) is None
    time.sleep(1.5)  # the history looks twice a second


def session(box: Box) -> int:
    """A session; its client's port."""
    with connect(box, 7004, SERVER6) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5)
        port: int = sock.getsockname()[1]
    return port


def test_lines_wait_for_the_server_whatever_else_changes(own: Box, folder: Path) -> None:
    first = session(own)
    wait_for(lambda: export(own)["waiting"] >= 1 and not export(own)["up"], "a line that waits")
    change(own, "[log]\n", "[log]\nsquid = true\n")
    change(own, "[wan]\n", '[system]\ntimezone = "Europe/Vienna"\n[wan]\n')
    server = Collector(own, folder)
    server.start()
    try:
        wait_for(lambda: f'"client_port":{first},'.encode() in server.heard, "what waited", 60)
        second = session(own)
        wait_for(lambda: f'"client_port":{second},'.encode() in server.heard, "what comes", 20)
        assert export(own)["up"] and not export(own)["dropped"]
        # The same, and nothing of where to.
        change(own, "[log]\n", '[policy]\nprivacy = "no-destinations"\n[log]\n')
        before = len(server.heard)
        third = session(own)
        wait_for(lambda: f'"client_port":{third},'.encode() in server.heard, "what comes", 20)
        assert SERVER.encode() not in server.heard[before:]
    finally:
        server.close()


def test_a_server_with_another_certificate_gets_nothing(own: Box, folder: Path) -> None:
    change(own, f"{folder}/web.crt", f"{folder}/authority.crt")
    server = Collector(own, folder)
    server.start()
    try:
        port = session(own)
        wait_for(lambda: "not trusted" in (export(own)["problem"] or ""), "the refusal", 60)
        assert f"{port}".encode() not in server.heard
    finally:
        server.close()
