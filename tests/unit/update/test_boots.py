"""Settings over a trial: kept for a way back, and brought back by it; and what became of the trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.update import boots, state
from appliance.update.boots import begin, judge, settle
from appliance.update.kernels import Kernels
from appliance.update.state import State, Trial

TRIAL = Trial("1.1.0", "1.0.0", "boot-1", 100.0)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A box's state folder."""
    (tmp_path / "revisions").mkdir()
    (tmp_path / "revisions/1.toml").write_text("old revision")
    (tmp_path / "config.toml").write_text("old")
    (tmp_path / "config.toml").chmod(0o600)
    (tmp_path / "ports").write_text("old")
    return tmp_path


def test_a_new_version_that_is_given_up(box: Path) -> None:
    """It converts the settings, is given up, and the old version finds its own."""
    folder = box / "update"
    assert begin(box, folder, "1.0.0") == ""
    state.write(folder, replace(state.read(folder), trial=TRIAL))
    assert "are kept" in begin(box, folder, "1.1.0")
    (box / "config.toml").write_text("converted")
    (box / "ports").write_text("as the new configuration has them")
    (box / "revisions/2.toml").write_text("converted")
    assert begin(box, folder, "1.1.0") == ""  # its second try keeps nothing converted
    assert "1.1.0 was given up" in begin(box, folder, "1.0.0")
    assert (box / "config.toml").read_text() == "old"
    assert (box / "config.toml").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (box / "revisions").iterdir()] == ["1.toml"]
    assert (box / "ports").read_text() == "old"
    assert not list(box.glob(".*.kept"))


def test_a_new_version_that_is_kept(box: Path) -> None:
    folder = box / "update"
    begin(box, folder, "1.0.0")
    state.write(folder, replace(state.read(folder), trial=TRIAL))
    begin(box, folder, "1.1.0")
    (box / "config.toml").write_text("converted")
    (box / "EFI/Linux").mkdir(parents=True)
    (box / "EFI/Linux/isthmus_1.1.0.efi").touch()
    outcome = settle(folder, "1.1.0", "boot-2", Kernels(box, "1.1.0"))
    assert outcome is not None and outcome.result == "kept"
    assert state.read(folder).floor == "1.1.0"
    assert not (folder / boots.KEPT).exists()
    assert (box / "config.toml").read_text() == "converted"


def test_a_keeping_that_a_power_cut_ends(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try starts over: it keeps the whole."""
    folder = box / "update"
    begin(box, folder, "1.0.0")
    state.write(folder, replace(state.read(folder), trial=TRIAL))

    def cut(*_: object) -> None:
        raise OSError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(boots, "sync_folder", cut)
        with pytest.raises(OSError, match="power"):
            begin(box, folder, "1.1.0")
    begin(box, folder, "1.1.0")
    assert (folder / boots.KEPT / "1.0.0/config.toml").read_text() == "old"
    assert (folder / boots.KEPT / "1.0.0/revisions/1.toml").exists()


@pytest.mark.parametrize(
    ("running", "boot", "left", "result", "reason"),
    (
        ("1.1.0", "boot-2", None, "kept", ""),
        ("1.1.0", "boot-2", 2, "", ""),  # not blessed
        ("1.0.0", "boot-1", 3, "", ""),  # written, not started yet
        ("1.0.0", "boot-2", 3, "", ""),  # chosen at the screen
        ("1.0.0", "boot-2", -1, "fell-back", "power"),
        ("1.0.0", "boot-4", 0, "fell-back", "by itself"),
    ),
)
def test_what_became_of_it(running: str, boot: str, left: int | None, result: str, reason: str) -> None:
    after = judge(State(trial=TRIAL, floor="1.0.0"), running, boot, left, 200.0)
    if not result:
        assert after is None
        return
    assert after is not None and after.trial is None
    assert after.history[-1].result == result
    assert reason in after.history[-1].reason
    assert after.floor == ("1.1.0" if result == "kept" else "1.0.0")


def test_a_failure_that_was_told_is_the_reason() -> None:
    found = State(trial=TRIAL, failure="The console does not answer")
    after = judge(found, "1.0.0", "boot-4", 0, 200.0)
    assert after is not None and after.history[-1].reason == "The console does not answer"


def test_settling_removes_the_kernel_that_failed(box: Path) -> None:
    folder = box / "update"
    state.write(folder, State(trial=TRIAL, booted="1.0.0"))
    (box / "EFI/Linux").mkdir(parents=True)
    for name in ("isthmus_1.0.0.efi", "isthmus_1.1.0+0-3.efi"):
        (box / "EFI/Linux" / name).touch()
    outcome = settle(folder, "1.0.0", "boot-4", Kernels(box, "1.0.0"))
    assert outcome is not None and outcome.result == "fell-back"
    assert [path.name for path in (box / "EFI/Linux").iterdir()] == ["isthmus_1.0.0.efi"]
    assert settle(folder, "1.0.0", "boot-4", Kernels(box, "1.0.0")) is None


def test_a_damaged_state_is_that_of_a_new_box(tmp_path: Path) -> None:
    for text in ("", "[]", '{"trial": {"x": 1}}', "{", '{"history": [1]}'):
        (tmp_path / state.STATE).write_text(text)
        assert state.read(tmp_path) == State()


def test_state_round_trip(tmp_path: Path) -> None:
    whole = State("1.0", "1.0", TRIAL, "no", "1.2", 5.0, "x").ended(state.Outcome(1.0, "1.1", "1.0", "kept"))
    state.write(tmp_path, whole)
    assert state.read(tmp_path) == whole
