"""New versions that are no good: back on the old one within three boots, by itself, and it says why.

Those that are given up by a timer have one try left here, as if two were used: each takes minutes, and what
the loader does with three is seen with those that end at once.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from appliance.update.kernels import TRIES
from appliance.update.state import State, Trial
from tests.firmware.conftest import NAME, Say, machine
from tests.firmware.wares import NEW, OLD, Parts, kernel, mtools, take_apart, write_to
from tests.lab.box import BOOT_TIMEOUT, write_state
from tests.lab.lab import copy_machine

pytestmark = pytest.mark.firmware


def _panics(pieces: dict[str, bytes]) -> None:
    pieces["kernel"] = kernel("rdinit=/usr/bin/false")


def _is_not_healthy(pieces: dict[str, bytes]) -> None:
    pieces["kernel"] = kernel("systemd.mask=isthmus-dns64.service")


def _hangs(pieces: dict[str, bytes]) -> None:
    """Nothing of the box's own is started: only the overdue timer is left."""
    pieces["kernel"] = kernel("systemd.unit=sysinit.target")


def _has_a_corrupt_root(pieces: dict[str, bytes]) -> None:
    """In each MiB, as the manifest says, but not as the signed root hash does."""
    root = bytearray(pieces["root"])
    for place in range(len(root) // 4, len(root), 1 << 20):
        root[place] ^= 1
    pieces["root"] = bytes(root)


def _on_trial(base: Path, folder: Path, parts: Parts, tries: int) -> Path:
    """A disk with that version in its other slot, on trial with that many tries left."""
    disk = folder / "disk.raw"
    copy_machine(base, disk)
    write_to(disk, parts.fitted(), folder)
    if tries != TRIES:
        counted = (f"::/EFI/Linux/isthmus_{NEW}+{left}.efi" for left in (TRIES, f"{tries}-{TRIES - tries}"))
        mtools(disk, "mren", *counted)
    found = State(floor=OLD, booted=OLD, trial=Trial(NEW, OLD, "an earlier boot", time.time()))
    write_state(disk, "/lib/isthmus/update/state.json", json.dumps(asdict(found)))
    return disk


@pytest.mark.parametrize(
    ("spoil", "reason", "tries"),
    (
        (_panics, "did not start", TRIES),
        (_has_a_corrupt_root, "did not start", TRIES),
        (_is_not_healthy, "DNS64 does not answer", 1),
        (_hangs, "did not come up in time", 1),
    ),
    ids=("panic", "corrupt", "unhealthy", "hang"),
)
def test_back_on_the_old_version(
    say: Say, bundles: Path, base: Path, tmp_path: Path,
    spoil: Callable[[dict[str, bytes]], None], reason: str, tries: int,
) -> None:  # fmt: skip
    parts = take_apart()
    spoil(parts.pieces)
    disk = _on_trial(base, tmp_path, parts, tries)
    with machine(say, bundles, disk) as box:
        started = time.monotonic()
        box.await_version(OLD, (tries + 1) * 2 * BOOT_TIMEOUT)
        took = time.monotonic() - started
        boots = len(re.findall(r"Linux version [0-9]", box.console))
        say(f"back on the old version after {took:.0f} s, {boots - 1} tries of the new one")
        assert 1 < boots <= tries + 1
        box.see(rf"isthmus-update: {re.escape(NEW)} fell-back", BOOT_TIMEOUT)
        box.see("was given up", BOOT_TIMEOUT)  # on the screen's health line
        box.carry()
        state = box.off()
        last = state["history"][-1]
        assert (last["result"], last["version"]) == ("fell-back", NEW)
        assert reason in last["reason"]
        assert state["booted"] == OLD and state["floor"] == OLD
        assert NAME in box.lab.box.read_state("/lib/isthmus/config.toml")
