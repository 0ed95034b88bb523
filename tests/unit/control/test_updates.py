"""Updates as control has them: requests handed on, one at a time; uploads in order; the factory reset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.control.updates import UNIT, UPLOAD, Updates
from appliance.system import health
from appliance.update import state
from appliance.update.state import Outcome, State, Trial
from appliance.update.versions import UpdateError


class Systemd:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.state = "inactive"

    def __call__(self, *words: str) -> str:
        """One command."""
        if "show" in words:
            return f"{self.state}\n"
        self.asked.append(words[1:])
        return ""


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def updates(tmp_path: Path, systemd: Systemd) -> Iterator[Updates]:
    (tmp_path / "run").mkdir()
    (tmp_path / "box/update").mkdir(parents=True)
    yield Updates(tmp_path / "box", tmp_path / "run", systemd, "1.0.0")


def test_a_request_is_handed_to_the_unit(updates: Updates, systemd: Systemd, tmp_path: Path) -> None:
    updates.start("https://updates.example/isthmus.update", restart=True)
    request = json.loads((tmp_path / "run/update" / state.REQUEST).read_text())
    assert request == {"source": "https://updates.example/isthmus.update", "restart": True}
    assert systemd.asked == [("--no-block", "start", UNIT)]
    systemd.state = "activating"
    with pytest.raises(UpdateError) as caught:
        updates.start(None, restart=False)
    assert caught.value.code == "busy"
    with pytest.raises(UpdateError):
        updates.upload(0, b"x")


def test_a_unit_that_died_keeps_nobody_waiting(updates: Updates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.control.updates._STARTING", 0)
    updates.start("/tmp/one.update", restart=False)
    assert updates.status()["code"] == "interrupted"
    updates.start("/tmp/two.update", restart=False)


@pytest.mark.parametrize("source", ("one.update", "ftp://updates.example/x", ""))
def test_no_source(updates: Updates, systemd: Systemd, source: str) -> None:
    with pytest.raises(UpdateError):
        updates.start(source, restart=False)
    assert not systemd.asked


def test_not_the_image(tmp_path: Path, systemd: Systemd) -> None:
    with pytest.raises(UpdateError, match="not the image"):
        Updates(tmp_path, tmp_path, systemd, "").start("/tmp/one.update", restart=False)


def test_an_upload_comes_in_order(updates: Updates, tmp_path: Path) -> None:
    assert updates.upload(0, b"one ") == 4
    assert updates.upload(4, b"two") == 7
    for offset in (3, 8):
        with pytest.raises(UpdateError, match="is at 7"):
            updates.upload(offset, b"x")
    assert (tmp_path / "box/update" / UPLOAD).read_bytes() == b"one two"
    assert updates.upload(0, b"anew") == 4
    assert (tmp_path / "box/update" / UPLOAD).stat().st_mode & 0o777 == 0o600


def test_factory_reset(updates: Updates, systemd: Systemd, tmp_path: Path) -> None:
    updates.factory_reset()
    assert (tmp_path / "box/factory-reset").exists()
    assert systemd.asked == [("--no-block", "reboot")]


def test_what_is_shown(updates: Updates, tmp_path: Path) -> None:
    """Health: nothing at first; a version that waits; one that was given up, with the reason."""
    folder = tmp_path / "box/update"
    assert updates.status()["phase"] == "idle"
    assert health.update(updates.status()) == []
    trial = Trial("1.1.0", "1.0.0", "boot", 1.0)
    state.write(folder, State(trial=trial))
    assert "waits for a restart" in health.update(updates.status())[0].title
    ended = State(trial=trial).ended(Outcome(2.0, "1.1.0", "1.0.0", "fell-back", "DNS64 does not answer."))
    state.write(folder, ended)
    (check,) = health.update(updates.status())
    assert "1.1.0 was given up" in check.title and "DNS64 does not answer" in check.detail
    state.write(folder, replace(State(), available="1.2.0"))
    assert "1.2.0 is there" in health.update(updates.status())[0].title
    state.write(folder, replace(State(), problem="no server"))
    assert health.update(updates.status())[0].detail == "no server"


def test_a_damaged_status_is_none(updates: Updates, tmp_path: Path) -> None:
    (tmp_path / "run/update").mkdir()
    for text in ("", "[]", "{"):
        (tmp_path / "run/update" / state.STATUS).write_text(text)
        assert updates.status()["phase"] == "idle"


def test_the_data_in_memory() -> None:
    assert health.is_in_memory("isthmus-no-data /var tmpfs rw 0 0\n")
    assert not health.is_in_memory("/dev/vda8 /var ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n")
