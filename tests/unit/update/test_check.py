"""The automatic check: what [update] of the configuration makes of it, and when it restarts the box."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from appliance.update import install, state
from appliance.update.main import CHECK_INTERVAL, Updates
from appliance.update.state import Outcome, State, Trial
from tests.unit.lists.servers import serving
from tests.unit.update.test_install import Box, box, served
from tests.unit.update.wares import NEW, OLD, bundle

__all__ = ("box",)

ZONE = "Pacific/Auckland"


class Checked(Updates):
    """With a restart that is only counted."""

    def __init__(self, folder: Path, settings: str) -> None:
        (folder / "shown/update").mkdir(parents=True)
        (folder / "shown/config.toml").write_text(f'[system]\ntimezone = "{ZONE}"\n[update]\n{settings}')
        super().__init__(folder, folder / "shown")
        self.restarts = 0

    def restart(self) -> None:
        """It would end the machine that runs the tests."""
        self.restarts += 1


def at(monkeypatch: pytest.MonkeyPatch, hour: int) -> None:
    """It is this hour at the box."""
    now = datetime(2027, 1, 15, hour, 59, tzinfo=ZoneInfo(ZONE)).timestamp()
    monkeypatch.setattr(time, "time", lambda: now)


def found(box: Box) -> State:
    """What is kept of it."""
    return state.read(box.folder)


@pytest.mark.parametrize("settings", ["", 'automatic = "off"'])
def test_nothing_is_asked_where_it_is_off(box: Box, tmp_path: Path, settings: str) -> None:
    with serving(lambda connection, _head: served(connection, bundle())) as server:
        Checked(tmp_path, f'url = "{server.url}"\n{settings}').check()
        assert not server.heads
    assert found(box) == State()


def test_check_says_so_and_installs_nothing(box: Box, tmp_path: Path) -> None:
    with serving(lambda connection, _head: served(connection, bundle())) as server:
        checked = Checked(tmp_path, f'url = "{server.url}"\nautomatic = "check"\n')
        checked.check()
        assert (found(box).available, found(box).problem, found(box).trial) == (NEW, "", None)
        checked.check()
        assert len(server.heads) == 1, "asked again before its time"
        state.write(box.folder, State(checked=found(box).checked - CHECK_INTERVAL))
        checked.check()
        assert len(server.heads) == 2
    assert checked.restarts == 0


def test_a_failed_check_is_told(box: Box, tmp_path: Path) -> None:
    with serving(lambda connection, _head: served(connection, bundle(), 10)) as server:
        Checked(tmp_path, f'url = "{server.url}"\nautomatic = "install"\n').check()
    assert found(box).problem and not found(box).available and found(box).trial is None


def test_installed_and_restarted_at_once(box: Box, tmp_path: Path) -> None:
    with serving(lambda connection, _head: served(connection, bundle())) as server:
        checked = Checked(tmp_path, f'url = "{server.url}"\nautomatic = "install"\n')
        checked.check()
    trial = found(box).trial
    assert trial is not None and trial.version == NEW
    assert checked.restarts == 1


def test_the_restart_waits_for_its_hour(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the box's own time zone."""
    with serving(lambda connection, _head: served(connection, bundle())) as server:
        checked = Checked(tmp_path, f'url = "{server.url}"\nautomatic = "install"\nrestart_hour = 4\n')
        for hour, restarts in ((2, 0), (3, 0), (4, 1)):
            at(monkeypatch, hour)
            checked.check()
            assert checked.restarts == restarts, hour
        heads = len(server.heads)
    assert found(box).trial is not None
    assert heads == 2, "the head, and the whole of it"


def test_what_was_installed_by_hand_is_not_restarted_by_a_check(box: Box, tmp_path: Path) -> None:
    box.file.write_bytes(bundle().octets)
    checked = Checked(tmp_path, 'url = "http://192.0.2.1/"\nautomatic = "check"\n')
    install.Installer(box.folder, tmp_path / "shown/update").install(str(box.file))
    checked.check()
    assert checked.restarts == 0 and found(box).trial is not None


def test_an_update_that_was_begun_during_the_look_stays(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may take long: who installs meanwhile has a trial, which the look knows nothing of."""
    begun = Trial(NEW, OLD, "boot-1", 1.0)

    def look(*_words: object) -> str:
        state.write(box.folder, State(trial=begun, floor=OLD, booted=OLD))
        return NEW

    monkeypatch.setattr(install, "look", look)
    checked = Checked(tmp_path, 'url = "http://192.0.2.1/"\nautomatic = "install"\n')
    checked.check()
    assert (found(box).trial, found(box).booted, found(box).available) == (begun, OLD, NEW)
    assert checked.restarts == 0


def test_a_version_that_failed_here_is_not_taken_again(box: Box, tmp_path: Path) -> None:
    """Each night would end in another fall-back."""
    state.write(box.folder, State(history=(Outcome(1.0, NEW, OLD, "fell-back", "It panicked."),)))
    with serving(lambda connection, _head: served(connection, bundle())) as server:
        checked = Checked(tmp_path, f'url = "{server.url}"\nautomatic = "install"\n')
        checked.check()
    assert found(box).trial is None and checked.restarts == 0
    assert "given up" in found(box).problem
