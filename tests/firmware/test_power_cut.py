"""The plug is pulled at random moments: of an update, of the first boot, of a factory reset.

CUTS and FIRST_CUTS say how often; cuts.py says how. After a cut of an update the disk is examined, and then
started: BOOT_EVERY=5 starts each fifth only, where a boot is dear.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.config import parse
from tests.firmware.conftest import ADDRESS, NAME, READY, Machine, Say, machine
from tests.firmware.cuts import MAX_COPIES, SEED, Cut, Updating, moments, take
from tests.firmware.examine import examine, read
from tests.firmware.wares import FIRMWARE, NEW, OLD, OLD_IMAGE, Parts, take_apart, write_to
from tests.lab.box import BOOT_TIMEOUT
from tests.lab.lab import Lab

pytestmark = pytest.mark.firmware

CUTS = int(os.environ.get("CUTS", "50"))
FIRST_CUTS = int(os.environ.get("FIRST_CUTS", "20"))
BOOT_EVERY = int(os.environ.get("BOOT_EVERY", "1"))
# Cuts are spread over all of it, in boots, for how long one takes hangs on the machine and its load: from the
# request for an update to the end of the new version's health check; from the word that erases to a screen.
UPDATE_SPAN = 2.6
RESET_SPAN = 1.2
# Seconds, where no boot has been seen yet.
BOOT_TIME = 60.0
KEPT_TIMEOUT = 180.0


@pytest.fixture(scope="module")
def parts() -> Parts:
    """The good bundle's."""
    return take_apart()


def _look_at_all(say: Say, cuts: list[Cut], salt: int, look: Callable[[Cut], str]) -> None:
    """Each is looked at, whatever the others were; a disk that is not right is kept in build/firmware."""
    seen: Counter[str] = Counter()
    wrong = []
    for cut in cuts:
        started = time.monotonic()
        try:
            found = look(cut)
        except AssertionError as error:
            kept = FIRMWARE / f"cut-{SEED}-{salt}-{cut.moment:.1f}.raw"
            shutil.move(cut.disk, kept)
            found = "wrong"
            wrong.append(f"{kept.name}: {error}")
        seen[found] += 1
        how = "killed" if cut.killed else "copied"
        took = time.monotonic() - started
        say(f"cut (seed {SEED}, run {salt}) after {cut.moment:.1f} s, {how}: {found} ({took:.0f} s)")
        shutil.rmtree(cut.disk.parent)
    say(f"seed {SEED}, run {salt}: {len(cuts)} cuts, {dict(seen)}")
    assert not wrong, "\n\n".join(wrong)


# How long the boots of this run took.
_seen = [BOOT_TIME]


def _up(box: Machine) -> float:
    """Wait until it is; the seconds that it took."""
    started = time.monotonic()
    box.see(READY, BOOT_TIMEOUT)
    _seen.append(time.monotonic() - started)
    return _seen[-1]


def _boots(say: Say, bundles: Path, cut: Cut) -> str:
    """The version that comes up, with the configuration; a new one is kept."""
    with machine(say, bundles, cut.disk) as box:
        name, version = box.await_screen()
        assert name == NAME
        if version == NEW:
            # one that was kept before the cut has nothing more to say
            box.see(rf"isthmus-update: {NEW} kept|isthmus-update-settle.service: Skipped", KEPT_TIMEOUT)
        box.lab.box.cut_power()
        state = json.loads(read(box.lab.box.disk, "/lib/isthmus/update/state.json") or "{}")
        assert version == OLD or (state["trial"] is None and state["floor"] == NEW), state
        return version


@pytest.mark.parametrize("run", range(-(-CUTS // MAX_COPIES)))
def test_during_an_update(
    run: int, say: Say, bundles: Path, base: Path, parts: Parts, tmp_path: Path
) -> None:
    """Exactly the old or the new version is there, with its configuration; the old one takes updates then."""
    with machine(say, bundles, base) as box:
        took = _up(box)
        at = moments(min(MAX_COPIES, CUTS - run * MAX_COPIES), UPDATE_SPAN * took, run)
        update = Updating(box, f"{ADDRESS}/isthmus.update", rf"isthmus-update: {NEW} kept")
        cuts = take(box.lab.box, at, tmp_path, update)
    assert cuts

    def look(cut: Cut) -> str:
        # The boot has a copy of its own; the update changes this one.
        booted = _boots(say, bundles, cut) if cuts.index(cut) % BOOT_EVERY == 0 else ""
        version, text = examine(cut.disk, parts, tmp_path)
        assert version == booted or not booted
        assert parse(text).system.hostname == NAME
        if version == OLD:
            write_to(cut.disk, parts, tmp_path)
        return f"{version}{', booted' * bool(booted)}"

    _look_at_all(say, cuts, run, look)


def _as_new(say: Say, cut: Cut) -> str:
    """The next boot ends what was begun: a box as new; or it was not begun, and nothing has changed."""
    with Lab(say, firmware="uefi", disk=cut.disk) as lab:
        box = Machine(lab, cut.disk.parent)
        name, version = box.await_screen()
        assert version == OLD
        lab.await_resolver(lab.await_client())
        lab.box.cut_power()
        assert not read(lab.box.disk, "/.factory-reset")
        assert (NAME in read(lab.box.disk, "/lib/isthmus/config.toml")) == (name == NAME)
        return "not begun" if name == NAME else "as new"


def test_during_the_first_boot(say: Say, tmp_path: Path) -> None:
    at = moments(-(-FIRST_CUTS // 2), _seen[-1], 100)
    with Lab(say, firmware="uefi", image=OLD_IMAGE) as lab:
        cuts = take(lab.box, at, tmp_path, lambda: False)
    _look_at_all(say, cuts, 100, lambda cut: _as_new(say, cut))


def test_during_a_factory_reset(say: Say, base: Path, bundles: Path, tmp_path: Path) -> None:
    with machine(say, bundles, base) as box:
        at = moments(FIRST_CUTS // 2, RESET_SPAN * _up(box), 200)
        box.ask("4", "nothing: back", 60)
        box.lab.box.type("erase")
        cuts = take(box.lab.box, at, tmp_path, lambda: False)
    _look_at_all(say, cuts, 200, lambda cut: _as_new(say, cut))
