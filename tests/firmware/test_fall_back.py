"""New versions that are no good: back on the old one within three boots, by itself, and it says why.

Those that are given up by a timer have one try left here, as if two were used: each takes minutes, and what
the loader does with three is seen with those that end at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.firmware.conftest import NAME, Machine
from tests.firmware.wares import NEW, OLD, kernel, mtools, take_apart
from tests.lab.box import BOOT_TIMEOUT
from tests.lab.rows import Rows

pytestmark = pytest.mark.firmware

TRIES = 3


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


def _leave(box: Machine, tries: int) -> None:
    """Switched on again with that many tries left of the new version's."""
    box.lab.box.shut_down()
    counted = (f"::/EFI/Linux/isthmus_{NEW}+{left}.efi" for left in (TRIES, f"{tries}-{TRIES - tries}"))
    mtools(box.lab.box.disk, "mren", *counted)
    box.lab.box.start()


@pytest.mark.parametrize(
    ("spoil", "reason", "tries"),
    (
        (_is_not_healthy, "DNS64 does not answer", 1),
        (_panics, "did not start", TRIES),
        (_has_a_corrupt_root, "did not start", TRIES),
        (_hangs, "did not come up in time", 1),
    ),
    ids=("unhealthy", "panic", "corrupt", "hang"),
)
def test_back_on_the_old_version(
    box: Machine, bundles: Path, spoil: Callable[[dict[str, bytes]], None], reason: str, tries: int
) -> None:
    parts = take_apart()
    spoil(parts.pieces)
    parts.write(bundles / "bad.update")
    assert "is ready" in box.install("bad.update")
    before = len(box.console)
    started = time.monotonic()
    if tries == TRIES:
        box.restart()
    else:
        _leave(box, tries)
        before = 0  # a console of its own
    box.await_version(OLD, (tries + 1) * 2 * BOOT_TIMEOUT, before)
    print(f"\nback on the old version after {time.monotonic() - started:.0f} s")
    box.see(rf"isthmus-update: {re.escape(NEW)} fell-back", BOOT_TIMEOUT, before)
    boots = len(re.findall(r"Linux version [0-9]", box.console[before:]))
    assert boots <= tries + 1
    box.see("was given up", BOOT_TIMEOUT, before)  # on the screen's health line
    view = box.lab.await_client()
    box.lab.await_resolver(view)
    Rows(box.lab, view).http()
    state = box.off()
    last = state["history"][-1]
    assert (last["result"], last["version"]) == ("fell-back", NEW)
    assert reason in last["reason"]
    assert state["booted"] == OLD and state["floor"] == OLD
    assert NAME in box.lab.box.read_state("/lib/isthmus/config.toml")
