"""The WAN on a VLAN of its port: its address, its router and its servers are behind tagged frames."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.firmware.conftest import NAME, READY, Say, machine
from tests.lab.box import BOOT_TIMEOUT, REPOSITORY
from tests.lab.lab import SERVER, WAN_INTERFACE, translated
from tests.lab.netns import Namespace, stop
from tests.lab.rows import WELL_KNOWN
from tests.lab.vlan import Tagged

pytestmark = pytest.mark.firmware

VLAN = 30
BOX, ROUTER = "198.51.100.2", "198.51.100.1"
SAID = "by the VLAN"
PATIENCE = 60.0  # emulated: the screen may be there before the workers
CONFIG = f"""
[system]
hostname = "{NAME}"
[wan]
mode = "static"
address = "{BOX}/24"
gateway = "{ROUTER}"
vlan = {VLAN}
[dns]
upstreams = ["{ROUTER}"]
"""


def test_sessions_leave_by_tagged_frames(say: Say, bundles: Path, base: Path, tmp_path: Path) -> None:
    """The server behind them answers, and sees the VLAN's address; the untagged side hears of nothing."""
    (tmp_path / "index.html").write_text(SAID)
    log = tmp_path / "server.log"
    with machine(say, bundles, base) as box:
        lab = box.lab
        lab.box.cut_power()
        lab.box.write_state("/lib/isthmus/config.toml", CONFIG)
        with Namespace("provider") as provider, Tagged(lab.wan, WAN_INTERFACE, provider, VLAN):
            provider.run("ip", "address", "add", f"{ROUTER}/24", "dev", "eth0")
            provider.run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
            words = ("-m", "http.server", "80", "--bind", SERVER, "--directory", tmp_path)
            with log.open("w") as out:
                server = provider.spawn(REPOSITORY / ".venv/bin/python", "-u", *words, log=out)
            try:
                lab.box.start()
                box.see(READY, BOOT_TIMEOUT)
                lab.await_client()
                address = translated(WELL_KNOWN, SERVER)
                deadline = time.monotonic() + PATIENCE
                while True:
                    got = lab.client.run(
                        "curl", "-sS", "--max-time", "30", f"http://[{address}]/", check=False, timeout=60
                    )
                    if got.returncode == 0 or time.monotonic() > deadline:
                        break
                    time.sleep(1)
                assert got.stdout == SAID, got.stdout + box.console[-2000:]
                assert f"{BOX} - - " in log.read_text()
            finally:
                stop(server)
