"""How exposed each unit is that hears of the network, by systemd's own measure."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

OVERLAY = Path(__file__).parents[2] / "rootfs-overlay"
# Tenths. 0 is shut in entirely; systemd calls what is below 2.0 safe.
MAX_EXPOSURE = 20
# They read what strangers sent. Control reads what these say, over a socket: it is root, and not among them.
FACING = ("dns64", "history", "lan", "lists", "proxy", "unbound", "web")
# Root, for what they write: networks, disks, namespaces. Above the measure, but no further above it.
PRIVILEGED = {
    "control": 48,
    "first-settings": 40,
    "health-check": 62,
    "update": 45,
    "update-begin": 34,
    "update-check": 45,
    "update-settle": 43,
}
# The first that judges a unit's file without running it.
OFFLINE_SINCE = 250


def _analyze(*words: str) -> str:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def _exposure(name: str) -> tuple[int, str]:
    """In tenths, and the account of it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    version = int(re.findall(r"systemd (\d+)", _analyze("--version"))[0])
    if version < OFFLINE_SINCE:
        pytest.skip(f"systemd {version} cannot judge a unit that is not running")
    unit = f"isthmus-{name}.service"
    judged = _analyze("security", "--offline=yes", f"--root={OVERLAY}", "--no-pager", unit)
    found = re.search(r"exposure level for \S+: (\d+)\.(\d)", judged)
    assert found is not None, judged
    return int(found[1]) * 10 + int(found[2]), judged


@pytest.mark.parametrize("name", FACING)
def test_a_unit_that_faces_the_network_is_shut_in(name: str) -> None:
    exposure, account = _exposure(name)
    assert exposure <= MAX_EXPOSURE, account


@pytest.mark.parametrize("name", PRIVILEGED)
def test_a_privileged_unit_gets_no_worse(name: str) -> None:
    exposure, account = _exposure(name)
    assert exposure <= PRIVILEGED[name], account


def test_every_daemon_is_judged_or_known_to_face_nobody() -> None:
    services = {path.stem.removeprefix("isthmus-") for path in OVERLAY.rglob("isthmus-*.service")}
    assert services == {*FACING, *PRIVILEGED, "console@", "renew-data", "trial-overdue"}
