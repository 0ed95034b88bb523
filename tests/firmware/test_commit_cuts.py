"""The plug is pulled at random moments of a commit: the old or the new configuration is there, whole.

Booting for each cut would take a minute; so the machine is held at the moment, and its data partition
copied: that is what QEMU, killed then, would have left. Each copy is mended as the next boot mends it (the
file system's journal, then control's own repair), and looked at. The last cuts are real ones: QEMU is killed,
and the box boots. CUTS says how many are looked at, CUT_BOOTS how many boot; SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from appliance.config import parse
from appliance.config.transaction import Moment, Phase
from appliance.control.revisions import Revisions
from tests.firmware.examine import copy_data
from tests.image import conftest as image_conftest
from tests.image.console import Admin, certificate, post
from tests.lab.box import IMAGE
from tests.lab.lab import ClientView, Lab

pytestmark = [
    pytest.mark.firmware,
    pytest.mark.skipif("CUTS" not in os.environ, reason="takes a quarter of an hour: make test-firmware"),
]

say = image_conftest.say

CUTS = int(os.environ.get("CUTS", "20"))
CUT_BOOTS = int(os.environ.get("CUT_BOOTS", "2"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
PASSWORD = "a-sentence-is-a-good-one"
ZONES = ("UTC", "Europe/Vienna")


def mended(partition: Path, folder: Path) -> str:
    """The zone of the configuration that a start would find, after the repairs that a start makes."""
    done = subprocess.run(["e2fsck", "-fy", partition], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout
    folder.mkdir()
    script = f"rdump /lib/isthmus/revisions {folder}\ndump /lib/isthmus/config.toml {folder}/config.toml\n"
    subprocess.run(
        ["debugfs", "-f", "-", str(partition)], input=script, check=True, capture_output=True, text=True
    )
    revisions = Revisions(folder / "config.toml", folder / "revisions", lambda: Moment(1e9, 1.0, "next"))
    revisions.recover()
    text = (folder / "config.toml").read_text()
    assert revisions.ledger.phase is Phase.SETTLED
    assert revisions.text(revisions.ledger.active) == text
    return parse(text).system.timezone


class Bench:
    """The running box, and somebody who commits."""

    def __init__(self, lab: Lab, view: ClientView) -> None:
        self.admin = Admin(lab, view, PASSWORD)
        self.zone = ZONES[0]
        self.answers: list[str] = []

    def prepare(self, zone: str) -> None:
        """The candidate holds this zone."""
        assert self.admin.send("/system", "/system", **{"system.timezone": zone}) == "303"

    def commit(self) -> threading.Thread:
        """Send it off."""
        thread = threading.Thread(target=lambda: self.answers.append(self.admin.send("/changes", "/changes")))
        thread.start()
        return thread


def other(zone: str) -> str:
    return ZONES[1 - ZONES.index(zone)]


def test_cuts_during_commits(say: image_conftest.Say, tmp_path: Path) -> None:
    if not IMAGE.exists():
        pytest.skip(f"{IMAGE} is not built: make image")
    chance = random.Random(SEED)
    seen = {"old": 0, "new": 0}
    with Lab(say) as lab:
        lab.box.wait()
        view = lab.await_client()
        certificate(lab, view)  # the console is up
        assert post(lab, view, "/setup", password=PASSWORD, again=PASSWORD) == "303"
        bench = Bench(lab, view)
        span = 0.0
        for cut in range(CUTS + 1):
            wanted = other(bench.zone)
            bench.prepare(wanted)
            started = time.monotonic()
            thread = bench.commit()
            if cut == 0:  # how long one takes
                thread.join()
                span = time.monotonic() - started
                bench.zone = wanted
                continue
            moment = chance.uniform(0.2, 1.0) * span
            time.sleep(max(0.0, moment - (time.monotonic() - started)))
            partition, folder = tmp_path / f"{cut}.raw", tmp_path / str(cut)
            with lab.box.held() as disk:
                copy_data(disk, partition)
            found = mended(partition, folder)
            assert found in (bench.zone, wanted), f"cut {cut}, seed {SEED}"
            seen["new" if found == wanted else "old"] += 1
            partition.unlink()
            thread.join()
            assert bench.answers[-1] == "303"
            bench.zone = wanted
        say(f"{CUTS} cuts (seed {SEED}) within {span:.1f} s: {seen}")
        for _ in range(CUT_BOOTS):
            wanted = other(bench.zone)
            bench.prepare(wanted)
            thread = bench.commit()
            time.sleep(chance.uniform(0.2, 1.0) * span)
            lab.box.cut_power()
            thread.join()
            bench.admin.close()
            lab.box.start()
            lab.box.wait()
            again = lab.await_client()
            assert again.advertisement.prefixes == view.advertisement.prefixes
            certificate(lab, again)
            bench.admin = Admin(lab, again, PASSWORD)
            assert bench.admin.send("/changes", "/changes/discard") == "303"
            bench.zone = bench.admin.fields("/system", "/system")["system.timezone"]
            assert bench.zone in ZONES
        bench.admin.close()
    assert CUTS < 20 or all(seen.values()), f"the cuts missed the commit: {seen}, seed {SEED}"
