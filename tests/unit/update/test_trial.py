"""How a version on trial is judged, and what is told of one that is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.update import machine, main, state, trial
from appliance.update.main import Updates
from appliance.update.state import State, Trial
from appliance.update.trial import NotHealthyError, wait


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A boot on trial; what systemd was asked for."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(machine, "is_trial", lambda: True)
    monkeypatch.setattr(main, "run_tool", lambda _tool, *words: asked.append(words))
    monkeypatch.setattr(trial, "_INTERVAL", 0.0)
    return asked


def _box(folder: Path) -> Updates:
    (folder / "run").mkdir()
    state.write(folder / "update", State(trial=Trial("2.0", "1.0", "a boot", 1.0)))
    return Updates(folder, folder / "run")


def test_each_problem_is_told_once_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that hangs is killed: what it has told is all that is known then."""
    problems = iter(["control", "control", "DNS64", ""])
    told: list[str] = []

    def check() -> None:
        if problem := next(problems):
            raise NotHealthyError(problem)

    monkeypatch.setattr(trial, "_INTERVAL", 0.0)
    assert wait(check, told.append, 60.0) == ""
    assert told == ["control", "DNS64"]


def test_one_that_is_not_well_in_time_is_given_up_with_its_reason(
    tmp_path: Path, ended: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ill(_client: object) -> None:
        raise NotHealthyError("DNS64 does not answer")

    monkeypatch.setattr(trial, "look", ill)
    monkeypatch.setattr(trial, "DEADLINE", 0.0)
    box = _box(tmp_path)
    with pytest.raises(NotHealthyError, match="DNS64"):
        box.health()
    assert ended == [("reboot", "--force")]
    assert state.read(tmp_path / "update").failure == "DNS64 does not answer"
    box.overdue()  # the unit's OnFailure: it knows no better
    assert state.read(tmp_path / "update").failure == "DNS64 does not answer"


def test_one_that_hangs_is_given_up_too(tmp_path: Path, ended: list[tuple[str, ...]]) -> None:
    _box(tmp_path).overdue()
    assert ended == [("reboot", "--force")]
    assert state.read(tmp_path / "update").failure == "It did not come up in time."
