"""A kernel that hangs, and a disk that gives back another octet than was written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.update.slots import Disk, slots
from tests.firmware.conftest import Machine, Say, see
from tests.firmware.wares import OLD_IMAGE
from tests.lab.box import BOOT_TIMEOUT, Box, in_tools

pytestmark = pytest.mark.firmware

# The watchdog has 60 s, which QEMU's chip counts twice.
WATCHDOG_TIMEOUT = 240.0
# Nothing reads it until somebody pings from the screen.
PROGRAM = "/usr/bin/ping"


def test_a_kernel_that_hangs_is_restarted_by_the_watchdog(say: Say, tmp_path: Path) -> None:
    """It panics and, other than on a box, is told to stay so."""
    box = Box(tmp_path, {}, say, firmware="uefi", image=OLD_IMAGE)
    box.kernel_words += " panic=0 sysrq_always_enabled"
    box.start()
    try:
        box.wait()
        see(box, "Using hardware watchdog", BOOT_TIMEOUT)
        before = len(box.console())
        box.break_with("c")
        see(box, "end Kernel panic", 60, before)
        see(box, r"Linux version [0-9]", WATCHDOG_TIMEOUT, before)
    finally:
        box.cut_power()


def _place_of(program: str, disk: Path) -> int:
    """The octet of the disk in the middle of what the running root has of the program."""
    with Disk(disk) as opened:
        root = slots(opened.table())[0].root
    told = in_tools("usr/bin/dump.erofs", f"--offset={root.start}", f"--path={program}", "-e", disk)
    extent = re.search(r"^\s*0:.*:\s*(\d+)\.\.\s*(\d+)\s*\|", told, re.MULTILINE)
    assert extent is not None, told
    return root.start + (int(extent[1]) + int(extent[2])) // 2


def test_a_flipped_octet_in_the_running_root_is_not_run(box: Machine) -> None:
    """The box stops where it is read, at whatever time: it panics, and starts anew."""
    disk = box.lab.box.disk
    place = _place_of(PROGRAM, disk)
    with disk.open("r+b") as stream:
        stream.seek(place)
        was = stream.read(1)
        stream.seek(place)
        stream.write(bytes([was[0] ^ 1]))
    before = len(box.console)
    box.ask("2", "nothing: back", 60)
    box.lab.box.type("192.0.2.1")
    said = box.see(r"Linux version [0-9]", 120, before)
    assert "is corrupted" in said and "Kernel panic" in said, said[-3000:]
    assert "PING 192.0.2.1" not in said
