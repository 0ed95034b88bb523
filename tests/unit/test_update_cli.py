"""`isthmus update`: what it asks of control, and what it says."""

from __future__ import annotations

import argparse
from typing import Any, cast

import pytest

from appliance import update_cli
from appliance.control.client import ControlClient

IDLE: dict[str, Any] = {
    "phase": "idle", "version": "", "done": 0, "total": 0, "code": "", "message": "", "hint": "",
    "running": "1.0.0", "trial": None, "available": None, "checked": None, "check_problem": None,
    "history": [],
}  # fmt: skip


class Control:
    """Answers with one status after the other, and stays at the last."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = [IDLE | answer for answer in answers]
        self.asked: list[object] = []

    def update(self) -> dict[str, Any]:
        """The next."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def install_update(self, source: str, restart: bool) -> None:
        """Noted."""
        self.asked.append((source, restart))

    def restart(self) -> None:
        """Noted."""
        self.asked.append("restart")

    def factory_reset(self) -> None:
        """Noted."""
        self.asked.append("reset")


def run(control: Control, *words: str) -> None:
    parser = argparse.ArgumentParser()
    update_cli.add_parsers(parser.add_subparsers(dest="command"))
    update_cli.run(parser.parse_args(words), cast(ControlClient, control))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_cli, "_POLL", 0)


def test_an_installation_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    writing = {"phase": "writing", "version": "1.1.0", "total": 1000}
    control = Control(
        {"phase": "starting"},
        writing | {"done": 500},
        writing | {"done": 501},
        writing | {"done": 1000},
        {"phase": "ready", "version": "1.1.0"},
    )
    run(control, "update", "install", "https://updates.example/x.update", "--restart")
    assert control.asked == [("https://updates.example/x.update", True)]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "50 %" in lines[0] and "1.1.0 is ready" in lines[2]


def test_a_file_gets_its_whole_path() -> None:
    control = Control({"phase": "ready", "version": "1.1.0"})
    run(control, "update", "install", "x.update")
    ((source, restart),) = cast(list[tuple[str, bool]], control.asked)
    assert source.startswith("/") and source.endswith("/x.update") and not restart


def test_a_refusal_is_an_error() -> None:
    control = Control({"phase": "failed", "message": "The update is older.", "hint": "Get another."})
    with pytest.raises(update_cli.UpdateFailedError, match="older"):
        run(control, "update", "install", "/x.update")


def test_status(capsys: pytest.CaptureFixture[str]) -> None:
    fell = {"time": 0.0, "version": "1.1.0", "before": "1.0.0", "result": "fell-back", "reason": "No DNS."}
    run(Control({"history": [fell], "available": "1.2.0", "checked": 60.0}), "update", "status")
    said = capsys.readouterr().out
    assert "running      1.0.0" in said and "1.2.0 is there" in said
    assert "1.0.0 → 1.1.0 was given up No DNS." in said


def test_nothing_is_erased_without_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control({})
    monkeypatch.setattr("builtins.input", lambda _question: "no")
    for words in ("restart", "factory-reset"):
        with pytest.raises(update_cli.UpdateFailedError):
            run(control, words)
    assert not control.asked
    run(control, "factory-reset", "--yes")
    run(control, "restart", "--yes")
    assert control.asked == ["reset", "restart"]
