"""`isthmus backup` and `isthmus restore`, against a served control socket."""

from __future__ import annotations

import getpass
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.control.test_server import server
from tests.unit.test_config_cli import Shell, shell

__all__ = ["server", "shell"]


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    answers: Iterator[str] = iter(lines)
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(answers))


def test_there_and_back(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(tmp_path / "box.backup")
    typed(monkeypatch, "correct horse", "correct horse")
    assert "Keep the passphrase elsewhere" in shell("backup", file)
    assert Path(file).stat().st_mode & 0o777 == 0o600
    assert "is there already" in shell("backup", file, status=1)
    shell("set", "policy.default", "deny")
    shell("commit")
    typed(monkeypatch, "a wrong one")
    assert "The passphrase is wrong" in shell("restore", file, status=1)
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    assert (
        shell("restore", file, "--stdin")
        == "1 change: `isthmus diff` shows, `isthmus commit` applies them.\n"
    )
    shell("commit")
    assert shell("show", "policy.default") == "allow\n"
    typed(monkeypatch, "correct horse")
    assert "are in force" in shell("restore", file, "--identity")


def test_what_is_refused(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(tmp_path / "box.backup")
    typed(monkeypatch, "correct horse", "another")
    assert "The two differ" in shell("backup", file, status=1)
    typed(monkeypatch, "short", "short")
    assert "at least 10" in shell("backup", file, status=1)
    assert "No such file" in shell("restore", file, status=1)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "ended without" in shell("backup", file, "--stdin", status=1)
    typed(monkeypatch, "correct horse", "correct horse")
    assert "No such file" in shell("backup", str(tmp_path / "nowhere" / "x"), status=1)
    (tmp_path / "box.backup").write_text("something else")
    typed(monkeypatch, "correct horse")
    assert "no backup" in shell("restore", file, status=1)
