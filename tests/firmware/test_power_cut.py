"""The plug is pulled at random moments: of an update, of the first boot, of a factory reset.

CUTS and FIRST_CUTS say how often; cuts.py says how.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.firmware.conftest import ADDRESS, NAME, READY, Machine, Say, machine
from tests.firmware.cuts import MAX_COPIES, SEED, Cut, Updating, moments, pull_and_mend, take
from tests.firmware.wares import FIRMWARE, NEW, OLD, OLD_IMAGE, Parts, slot_a, take_apart, write_to
from tests.lab.box import BOOT_TIMEOUT
from tests.lab.lab import Lab

pytestmark = pytest.mark.firmware

CUTS = int(os.environ.get("CUTS", "50"))
FIRST_CUTS = int(os.environ.get("FIRST_CUTS", "20"))
# From the request to the end of the new version's health check, emulated; cuts are spread over all of it.
UPDATE_SPAN = 200.0
# From the power button, or the word that erases, to a screen.
FIRST_SPAN = 60.0
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


def _after_an_update(say: Say, bundles: Path, cut: Cut, parts: Parts, scratch: Path) -> str:
    """Exactly one of the two versions, with the configuration; the old one can be updated then."""
    with machine(say, bundles, cut.disk) as box:
        name, version = box.await_screen()
        assert name == NAME
        if version == NEW:
            # one that was kept before the cut has nothing more to say
            box.see(rf"isthmus-update: {NEW} kept|isthmus-update-settle.service: Skipped", KEPT_TIMEOUT)
        pull_and_mend(box.lab.box)
        disk = box.lab.box.disk
        state = box.state()
        if version == NEW:
            assert state["trial"] is None and state["floor"] == NEW, state
        else:
            assert version == OLD and slot_a(disk) == slot_a(OLD_IMAGE)
            write_to(disk, parts, scratch)
        return version


@pytest.mark.parametrize("run", range(-(-CUTS // MAX_COPIES)))
def test_during_an_update(
    run: int, say: Say, bundles: Path, base: Path, parts: Parts, tmp_path: Path
) -> None:
    """Exactly the old or the new version boots, with its configuration."""
    at = moments(min(MAX_COPIES, CUTS - run * MAX_COPIES), UPDATE_SPAN, run)
    with machine(say, bundles, base) as box:
        box.see(READY, BOOT_TIMEOUT)
        update = Updating(box, f"{ADDRESS}/isthmus.update", rf"isthmus-update: {NEW} kept")
        cuts = take(box.lab.box, at, tmp_path, update)
    assert cuts
    _look_at_all(say, cuts, run, lambda cut: _after_an_update(say, bundles, cut, parts, tmp_path / "esp"))


def _as_new(say: Say, cut: Cut) -> str:
    """The next boot ends what was begun: a box as new; or it was not begun, and nothing has changed."""
    with Lab(say, firmware="uefi", disk=cut.disk) as lab:
        box = Machine(lab, cut.disk.parent)
        name, version = box.await_screen()
        assert version == OLD
        lab.await_resolver(lab.await_client())
        pull_and_mend(lab.box)
        assert not lab.box.read_state("/.factory-reset")
        assert (NAME in lab.box.read_state("/lib/isthmus/config.toml")) == (name == NAME)
        return "not begun" if name == NAME else "as new"


def test_during_the_first_boot(say: Say, tmp_path: Path) -> None:
    at = moments(-(-FIRST_CUTS // 2), FIRST_SPAN, 100)
    with Lab(say, firmware="uefi", image=OLD_IMAGE) as lab:
        cuts = take(lab.box, at, tmp_path, lambda: False)
    _look_at_all(say, cuts, 100, lambda cut: _as_new(say, cut))


def test_during_a_factory_reset(say: Say, base: Path, bundles: Path, tmp_path: Path) -> None:
    at = moments(FIRST_CUTS // 2, FIRST_SPAN, 200)
    with machine(say, bundles, base) as box:
        box.see(READY, BOOT_TIMEOUT)
        box.ask("4", "nothing: back", 60)
        box.lab.box.type("erase")
        cuts = take(box.lab.box, at, tmp_path, lambda: False)
    _look_at_all(say, cuts, 200, lambda cut: _as_new(say, cut))
