"""Ports that the box chose, "auto", and cards that come and go: nothing moves but by a commit.

[ wan0 === far-wan0 ]  [ lan0 === far-lan0 ]  [ new0 === far-new0 ], all of it in one namespace

A veth is no card. What control takes for /sys/class/net is a folder of ours, in which they are.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlClient
from appliance.control.ports import SETTLED_SECONDS
from tests.lab.netns import Namespace, stop
from tests.netns.conftest import BIN, needs_root, wait_for

pytestmark = [pytest.mark.netns, needs_root]

CONFIG = """\
[wan]
mode = "static"
address = "203.0.113.2/24"
gateway = "203.0.113.1"
[proxy]
workers = 1
"""
# new0 comes last, and its slot is the first.
SLOTS = {"new0": 1, "wan0": 2, "lan0": 3}


class Cards:
    """A box by default, where isthmus-control runs alone."""

    def __init__(self, folder: Path, namespace: Namespace) -> None:
        self.namespace = namespace
        self.folder = folder
        self.runtime, self.state, self.seen = folder / "run", folder / "state", folder / "net"
        for path in (self.runtime, self.state, self.seen):
            path.mkdir()
        (folder / "config.toml").write_text(CONFIG)
        self.process: subprocess.Popen[str] | None = None

    def plug(self, name: str) -> None:
        self.namespace.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
        for link in (name, f"far-{name}"):
            self.namespace.run("ip", "link", "set", link, "up")
        slot = self.folder / f"slot-{SLOTS[name]}"
        slot.mkdir(exist_ok=True)
        (self.seen / name).mkdir()
        (self.seen / name / "device").symlink_to(slot)

    def pull(self, name: str) -> None:
        (self.seen / name / "device").unlink()
        (self.seen / name).rmdir()
        self.namespace.run("ip", "link", "del", name)

    def start(self) -> None:
        """Control, anew."""
        self.stop()
        self.process = self.namespace.spawn(
            "sh", "-c", 'mount --bind "$0" /sys/class/net && exec "$@"', self.seen,
            BIN / "isthmus-control", "--config", self.folder / "config.toml", "--runtime", self.runtime,
            "--state", self.state, "--no-networkd", log=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for((self.runtime / "control.sock").exists, "control's socket")

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process)

    @property
    def control(self) -> ControlClient:
        return ControlClient(self.runtime)

    def sides(self) -> tuple[str, str]:
        """WAN and LAN as control has them; the LAN's address is where it says."""
        status = self.control.status()
        wan, lan = str(status["wan_interface"]), str(status["lan_interface"])
        if lan != "auto":
            found = self.namespace.run("ip", "-6", "addr", "show", "to", status["lan_address"], check=False)
            assert f"{lan}@" in found.stdout, found.stdout
        return wan, lan

    def checks(self) -> dict[str, dict[str, Any]]:
        return {check["id"]: check for check in self.control.status()["checks"]}

    def looks(self) -> None:
        """Control has looked at the ports since: it does so before each apply, and a commit has one."""
        candidate = self.control.candidate("ann")
        candidate["config"]["policy"]["retention_days"] += 1
        put = self.control.put_candidate(
            "ann", candidate["config"], candidate["based_on"], candidate["version"]
        )
        self.control.commit("ann", "", put["based_on"], None, None)


@pytest.fixture
def cards(tmp_path: Path) -> Iterator[Cards]:
    """It, with no card yet."""
    with Namespace("cards") as namespace:
        made = Cards(tmp_path, namespace)
        try:
            yield made
        finally:
            made.stop()


def test_cards_come_and_go_and_nothing_moves(cards: Cards) -> None:
    cards.plug("lan0")
    cards.start()
    assert "no wired port is left" in cards.checks()["network"]["detail"]
    cards.plug("wan0")  # late, as at a start, and yet the first
    wait_for(lambda: cards.sides() == ("wan0", "lan0"), "both ports in use", 10)
    wait_for((cards.state / "ports").exists, "the choice kept", SETTLED_SECONDS + 10)

    cards.plug("new0")
    cards.looks()
    assert cards.sides() == ("wan0", "lan0")
    cards.start()
    assert cards.sides() == ("wan0", "lan0")

    cards.pull("wan0")
    wait_for(lambda: cards.checks()["port-wan"]["state"] == "bad", "the missing WAN", 10)
    assert "wan.interface: there is no port “wan0”" in cards.checks()["network"]["detail"]
    cards.looks()
    assert cards.sides() == ("wan0", "lan0")

    candidate = cards.control.candidate("ann")
    candidate["config"]["wan"]["interface"] = "new0"
    candidate["config"]["segment"] = [{"name": "guests", "interface": "lan0"}]
    put = cards.control.put_candidate("ann", candidate["config"], candidate["based_on"], candidate["version"])
    assert [problem["path"] for problem in put["problems"]] == ["segment[0].interface"]
    candidate["config"]["segment"] = []
    put = cards.control.put_candidate("ann", candidate["config"], put["based_on"], None)
    cards.control.commit("ann", "", put["based_on"], None, 60)
    assert cards.sides() == ("new0", "lan0")
    cards.control.rollback("ann", None)
    assert cards.sides() == ("wan0", "lan0")
