"""An update as a person makes it, and bundles that no box takes."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.firmware.conftest import NAME, Machine, Say
from tests.firmware.wares import BUNDLE, NEW, OLD, OLD_IMAGE, slot_a, take_apart
from tests.lab.box import BOOT_TIMEOUT

pytestmark = pytest.mark.firmware


def _bad(folder: Path) -> dict[str, str]:
    """Bad bundles by file, with what the screen says of each."""
    good = take_apart()
    tampered = bytearray(BUNDLE.read_bytes())
    tampered[len(tampered) // 2] ^= 1
    (folder / "tampered.update").write_bytes(tampered)
    (folder / "truncated.update").write_bytes(tampered[: len(tampered) // 3])
    (folder / "page.update").write_text("<!doctype html><title>Not found</title>")
    small = dict.fromkeys(good.pieces, b"x" * 512)
    other = replace(good, pieces=small)
    other.write(folder / "wrong-key.update", Ed25519PrivateKey.generate())
    older = replace(other, manifest=replace(good.manifest, version="0.0.9"))
    older.write(folder / "older.update")
    replace(other, manifest=replace(good.manifest, product="isthmus-arm64")).write(folder / "product.update")
    replace(other, manifest=replace(good.manifest, least_version="0.1.9")).write(folder / "far.update")
    return {
        "tampered.update": "is not the one that was signed",
        "truncated.update": "ends too early",
        "page.update": "is no Isthmus update",
        "wrong-key.update": "signed by another key",
        "older.update": "is older than",
        "product.update": "is for “isthmus-arm64”",
        "far.update": "updates boxes from 0.1.9",
        "missing.update": "404",
    }


def test_bad_bundles_and_then_the_good_one(box: Machine, bundles: Path, say: Say) -> None:
    """Each bad one is refused by name; the good one boots, is kept, and has the configuration."""
    box.first_session(say)
    for name, words in _bad(bundles).items():
        said = box.install(name)
        flat = re.sub(r"\s+", " ", said)
        assert words in flat, (name, said)
    box.see("Using hardware watchdog", BOOT_TIMEOUT)
    assert "is ready" in box.install()
    before = len(box.console)
    box.restart()
    started = time.monotonic()
    box.await_version(NEW, 2 * BOOT_TIMEOUT, before)
    print(f"\nfrom the restart to the new version's screen: {time.monotonic() - started:.0f} s")
    box.see(rf"isthmus-update: {re.escape(NEW)} kept", BOOT_TIMEOUT, before)
    box.carry()
    state = box.off()
    assert slot_a(box.lab.box.disk) == slot_a(OLD_IMAGE)
    assert state["floor"] == state["booted"] == NEW and state["trial"] is None
    assert [one["result"] for one in state["history"]] == ["kept"]
    assert NAME in box.lab.box.read_state("/lib/isthmus/config.toml")
    assert OLD != NEW
