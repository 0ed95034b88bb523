"""The short form, for make test: an update that is cut off on its way, and that is no good.

The new version panics as soon as its kernel runs: the old one comes back by itself, with its configuration.
What a cut has left is examined, and the last cut's disk started. What else there is to show takes hours:
make test-firmware.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from appliance.config import parse
from tests.firmware.conftest import ADDRESS, NAME, READY, Say, machine
from tests.firmware.cuts import SEED, Updating, moments, take
from tests.firmware.examine import examine
from tests.firmware.wares import NEW, OLD, kernel, take_apart
from tests.lab.box import BOOT_TIMEOUT

pytestmark = pytest.mark.image

CUTS = int(os.environ.get("SHORT_CUTS", "3"))
# From the request to the restart, emulated on two free cores.
SPAN = 40.0
FALL_BACK_TIMEOUT = 3 * BOOT_TIMEOUT


def test_cuts_and_a_fall_back(say: Say, bundles: Path, base: Path, tmp_path: Path) -> None:
    parts = take_apart()
    parts.pieces["kernel"] = kernel("rdinit=/usr/bin/false", "panic=1")
    parts = parts.fitted()
    parts.write(bundles / "panics.update")
    with machine(say, bundles, base) as box:
        box.see(READY, BOOT_TIMEOUT)
        update = Updating(box, f"{ADDRESS}/panics.update", rf"isthmus-update: {re.escape(NEW)} fell-back")
        cuts = take(box.lab.box, moments(CUTS, SPAN, 0), tmp_path, update, kill=False)
        deadline = time.monotonic() + FALL_BACK_TIMEOUT
        while not update():
            assert time.monotonic() < deadline, box.console[-3000:]
            time.sleep(0.5)
        assert len(re.findall(r"Linux version [0-9]", box.console)) <= 5  # the old, three tries, the old
        state = box.off()
        assert state["history"][-1]["result"] == "fell-back" and state["booted"] == OLD
    assert len(cuts) == CUTS
    with machine(say, bundles, cuts[-1].disk) as box:
        assert box.await_screen() == (NAME, OLD)
        box.first_session(say)
        box.lab.box.cut_power()
    for cut in cuts:
        version, text = examine(cut.disk, parts, tmp_path)
        assert version in (OLD, NEW) and parse(text).system.hostname == NAME
        say(f"cut (seed {SEED}) after {cut.moment:.1f} s: {version}")
