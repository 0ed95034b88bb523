"""The watchdog: told where systemd listens, and silent elsewhere."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance.control.watchdog import alive


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@isthmus-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if abstract else name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        alive()
        assert sock.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "vsock:2:1", "/nowhere/at/all"])
def test_nobody_asks(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    alive()
