"""Commits with a real network: the LAN's address moves, and comes back when nobody confirms."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlClient, ControlError
from tests.lab.netns import Namespace, stop
from tests.netns.conftest import needs_root, wait_for
from tests.netns.test_control import Bare

pytestmark = [pytest.mark.netns, needs_root]

OLD, NEW = "fd00:1::1/64", "fd00:2::1/64"


class Live(Bare):
    """isthmus-control alone in a namespace, started anew as often as a test wants."""

    def __init__(self, folder: Path, namespace: Namespace) -> None:
        super().__init__(folder, namespace)
        self.words = self.command(1)
        self.client = ControlClient(self.runtime)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Until it answers."""
        self.process = self.namespace.spawn(*self.words, log=subprocess.DEVNULL)
        wait_for(self.answers, "control's answer", 20)

    def answers(self) -> bool:
        """Whether control does."""
        try:
            return bool(self.client.active()["revision"])
        except ControlError:
            return False

    def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def addresses(self, deprecated: bool = False) -> list[str]:
        """The global ones of the LAN's port, that new sessions are to begin from, or are not."""
        found = json.loads(self.tell("ip", "-j", "-6", "addr", "show", "dev", "lan0", "scope", "global"))
        known = [one for port in found for one in port.get("addr_info", ()) if "local" in one]
        return [
            f"{one['local']}/{one['prefixlen']}" for one in known if bool(one.get("deprecated")) is deprecated
        ]

    def put(self, author: str, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Change the author's candidate."""
        candidate = self.client.candidate(author)
        change(candidate["config"])
        return self.client.put_candidate(
            author, candidate["config"], candidate["based_on"], candidate["version"]
        )

    def move(self, confirm: int) -> dict[str, Any]:
        """Commit another LAN prefix."""
        candidate = self.put("ann", lambda config: config["lan"].update(prefix="fd00:2::/64"))
        assert candidate["needs_confirmation"]
        return self.client.commit("ann", "move", candidate["based_on"], None, confirm)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A running control with OLD on its LAN."""
    with Namespace("live") as namespace:
        running = Live(tmp_path, namespace)
        running.start()
        try:
            yield running
        finally:
            if running.process is not None and running.process.poll() is None:
                stop(running.process)


def test_the_lan_moves_and_stays_where_it_is_confirmed(live: Live) -> None:
    assert live.addresses() == [OLD]
    done = live.move(60)
    assert live.addresses() == [NEW] and live.addresses(deprecated=True) == [OLD]
    pending = done["pending"]
    assert 50 < pending["remaining"] <= 60 and pending["new_console"] == "https://[fd00:2::1]/"
    assert live.client.confirm("ann", done["revision"]) == done["revision"]
    assert live.client.pending() is None
    wait_for(lambda: live.addresses(deprecated=True) == [], "the old address to go", 20)
    assert live.addresses() == [NEW]
    live.kill()
    live.start()
    assert live.addresses() == [NEW]
    assert [one["state"] for one in live.client.revisions()[0]] == ["active", "replaced"]


def test_the_lan_comes_back_by_itself(live: Live) -> None:
    live.move(10)
    assert live.addresses() == [NEW] and live.addresses(deprecated=True) == [OLD]
    wait_for(lambda: live.addresses() == [OLD], "the old address", 20)
    assert live.addresses(deprecated=True) == []
    [undone, active] = live.client.revisions()[0]
    assert (undone["state"], active["state"]) == ("rolled-back", "active")
    assert "Nobody confirmed" in undone["ended"]


def test_control_is_killed_while_a_commit_waits(live: Live) -> None:
    live.move(10)
    live.kill()
    live.start()
    pending = live.client.pending()
    assert pending is not None
    assert live.addresses() == [NEW] and live.addresses(deprecated=True) == [OLD]
    wait_for(lambda: live.addresses() == [OLD], "the old address", 20)


def test_control_is_dead_when_the_deadline_comes(live: Live) -> None:
    done = live.move(10)
    live.kill()
    ledger = live.state / "revisions" / "ledger.json"
    plain = json.loads(ledger.read_text())
    plain["pending"]["deadline"]["uptime"] -= 3_600  # an hour goes by
    ledger.write_text(json.dumps(plain))
    live.start()
    assert live.addresses() == [OLD] and live.client.pending() is None
    assert live.client.revision(done["revision"])["revision"]["state"] == "rolled-back"


def test_a_port_that_is_not_there_is_refused_and_nothing_stays(live: Live) -> None:
    before = live.config.read_text()
    candidate = live.put("ann", lambda config: config["lan"].update(interface="eth9"))
    with pytest.raises(ControlError, match="no port “eth9”") as refused:
        live.client.commit("ann", "", candidate["based_on"])
    assert refused.value.code.endswith(".Refused")
    assert live.config.read_text() == before and live.addresses() == [OLD]
    assert live.made() == (1, 2, True, True)


def test_all_ports_in_one_role_are_refused_before(live: Live) -> None:
    candidate = live.put("ann", lambda config: config["lan"].update(interface="wan0"))
    assert [problem["path"] for problem in candidate["problems"]] == ["lan.interface"]
    with pytest.raises(ControlError) as refused:
        live.client.commit("ann", "", candidate["based_on"])
    assert refused.value.code.endswith(".Invalid")
    assert refused.value.details["problems"] == candidate["problems"]


def test_two_admins_and_a_hand_at_the_file(live: Live) -> None:
    live.put("ann", lambda config: config["policy"].update(default="deny"))
    live.put("bob", lambda config: config["policy"].update(default="deny", ech="block"))
    live.put("eve", lambda config: config["policy"].update(ech="allow", privacy="counters"))
    live.config.write_text(live.config.read_text() + "[console]\nport = 8443\n")
    assert live.process is not None
    live.process.send_signal(1)  # SIGHUP
    wait_for(lambda: live.client.active()["config"]["console"]["port"] == 8443, "the file", 10)
    assert live.client.revisions()[0][0]["author"] == "file"
    for author in ("ann", "bob", "eve"):
        candidate = live.client.candidate(author)
        assert candidate["stale"] and candidate["conflicts"] == []
        live.client.commit(author, "", candidate["based_on"])
    policy = live.client.active()["config"]["policy"]
    assert (policy["default"], policy["ech"], policy["privacy"]) == ("deny", "block", "counters")
    assert [one["author"] for one in live.client.revisions()[0]] == ["eve", "bob", "ann", "file", "file"]
    live.client.add_group("staff", "ann")
    assert live.client.revisions(1)[0][0]["comment"] == "Add group staff"
