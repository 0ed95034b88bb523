"""A data partition that cannot be mounted: the box runs in memory, says so, and makes it anew when asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.firmware.conftest import NAME, READY, Say, machine
from tests.firmware.wares import OLD
from tests.lab.box import BOOT_TIMEOUT

pytestmark = pytest.mark.firmware

SECTOR = 512
CHUNK = 1 << 20


def _broken(base: Path, disk: Path) -> None:
    """A copy of the disk on whose data partition no superblock is left, nor a copy of one."""
    subprocess.run(["cp", "--sparse=always", base, disk], check=True)
    told = subprocess.run(["sfdisk", "--json", disk], check=True, capture_output=True, text=True)
    parts = json.loads(told.stdout)["partitiontable"]["partitions"]
    (part,) = [part for part in parts if part.get("name") == "isthmus-data"]
    start, size = part["start"] * SECTOR, part["size"] * SECTOR
    where = ("--offset", str(start), "--length", str(size))
    subprocess.run(["fallocate", "--punch-hole", *where, disk], check=True)
    with disk.open("r+b") as stream:
        stream.seek(start)
        stream.write(os.urandom(CHUNK))


def test_it_serves_from_memory_and_a_factory_reset_mends_it(
    say: Say, bundles: Path, base: Path, tmp_path: Path
) -> None:
    _broken(base, disk := tmp_path / "broken.raw")
    with machine(say, bundles, disk) as box:
        box.see(READY, BOOT_TIMEOUT)
        assert f"isthmus, Isthmus {OLD}\n" in box.console and f"{NAME}, " not in box.console
        box.see("health .*data partition", BOOT_TIMEOUT)
        box.carry()
        before = len(box.console)
        box.ask("4", "nothing: back", 60)
        box.lab.box.type("erase")
        box.see(r"Linux version[\s\S]*" + READY, 2 * BOOT_TIMEOUT, before)
        assert "going on in memory" not in box.console[before:]
        box.lab.await_resolver(box.lab.await_client())
        box.lab.box.shut_down()
        kept = box.lab.box.read_state("/lib/isthmus-machine/machine-id")
        assert re.fullmatch(r"[0-9a-f]{32}\n", kept)
