"""The plug is pulled at random moments: of an update, of the first boot, of a factory reset.

CUTS and FIRST_CUTS say how often. QEMU is killed: what the guest has written is there, in its order; what a
disk's own cache would lose is not simulated. SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.firmware.conftest import ADDRESS, NAME, READY, SCREEN, Machine, Say, machine
from tests.firmware.wares import NEW, OLD, OLD_IMAGE
from tests.lab.box import BOOT_TIMEOUT
from tests.lab.lab import Lab

pytestmark = pytest.mark.firmware

CUTS = int(os.environ.get("CUTS", "50"))
FIRST_CUTS = int(os.environ.get("FIRST_CUTS", "20"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
# From the request to the end of the new version's first boot, emulated; the cuts are spread over all of it.
UPDATE_SPAN = 150.0
FIRST_SPAN = 45.0


def _boots(box: Machine) -> str:
    """Switch on; the version whose screen comes, with the name that was configured."""
    box.lab.box.start()
    said = box.see(rf"{NAME}, Isthmus [0-9.]+[\s\S]*{SCREEN}", 2 * BOOT_TIMEOUT)
    found = [version for version in (OLD, NEW) if f"{NAME}, Isthmus {version}\r" in said]
    assert len(found) == 1, said[-2000:]
    return found[0]


@pytest.mark.parametrize("cut", range(CUTS))
def test_during_an_update(cut: int, say: Say, bundles: Path, base: Path) -> None:
    """Exactly the old or the new version boots, with its configuration, and takes the update then."""
    moment = random.Random(SEED + cut).uniform(0, UPDATE_SPAN)
    with machine(say, bundles, base) as box:
        box.see(READY, BOOT_TIMEOUT)
        box.ask("7", "nothing: back", 60)
        box.lab.box.type(f"{ADDRESS}/isthmus.update")
        started = time.monotonic()
        while time.monotonic() - started < moment:
            if "is ready: it starts" in box.console and "reboot" not in box.console[-4000:]:
                box.ask("", SCREEN, 60)
                box.restart()
                break
            time.sleep(0.1)
        time.sleep(max(0.0, moment - (time.monotonic() - started)))
        box.lab.box.cut_power()
        version = _boots(box)
        if version == OLD:
            assert "is ready" in box.install()
        say(f"cut {cut} (seed {SEED}) after {moment:.0f} s: {version}")


@pytest.mark.parametrize("cut", range(FIRST_CUTS))
def test_during_the_first_boot_or_a_factory_reset(cut: int, say: Say, base: Path, bundles: Path) -> None:
    """The next boot ends it: a box as new."""
    generator = random.Random(SEED + cut)
    moment = generator.uniform(5, FIRST_SPAN)
    reset = cut % 2 == 1
    with Lab(say, firmware="uefi", image=OLD_IMAGE, disk=base if reset else None) as lab:
        box = Machine(lab, bundles)
        if reset:
            box.see(READY, BOOT_TIMEOUT)
            box.ask("4", "nothing: back", 60)
            lab.box.type("erase")
        time.sleep(moment)
        lab.box.cut_power()
        lab.box.start()
        said = box.see(rf", Isthmus [0-9.]+[\s\S]*{SCREEN}", 2 * BOOT_TIMEOUT)
        assert f"isthmus, Isthmus {OLD}\r" in said, said[-2000:]
        lab.await_resolver(lab.await_client())
        say(f"{'factory reset' if reset else 'first boot'} cut after {moment:.0f} s: as new")
