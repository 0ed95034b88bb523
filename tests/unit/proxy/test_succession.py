"""Whether the program on disk may take over."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import pytest

from appliance.config.schema import Config
from appliance.proxy import succession, supervisor


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no such setting')"], "no such setting"),
        (["/nonexistent/isthmus-proxy"], "No such file"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "timed out"),
    ],
)
def test_one_that_cannot_leaves_this_one_be(
    program: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "orig_argv", program)
    monkeypatch.setattr(succession, "CHECK_TIMEOUT", 2.0)
    assert not succession.next_can_serve()
    said = capsys.readouterr().err
    assert said.startswith("the new program cannot serve; this one stays:\n")
    assert words in said


def test_one_that_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    checks = "import sys; sys.exit(sys.argv[1] != '--check')"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", checks])
    assert succession.next_can_serve()
    assert capsys.readouterr().err == ""


def test_one_that_is_gone_by_then_leaves_this_one_serving(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "next_can_serve", lambda: True)
    monkeypatch.setattr(sys, "orig_argv", ["/nonexistent/isthmus-proxy"])
    this = supervisor.Supervisor(tmp_path / "config.toml", Config(), 0, tmp_path, None, tmp_path)
    this._helper.start(lambda: None)
    helper = this._helper.process
    assert helper is not None
    this._poll.register(helper.pidfd, select.POLLIN)
    try:
        this._become_the_next()
        assert capsys.readouterr().err.startswith("the new program does not start; this one stays: ")
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(supervisor._SIGNALS)
        assert this._poll.poll(0) == []
        assert this._helper.process is None, "the next turn starts another"
        with pytest.raises(ProcessLookupError):
            os.kill(helper.pid, 0)
    finally:
        this._helper.end()
        this._denials.close()
        this._door.socket.close()


def test_nothing_is_inherited_from_nobody() -> None:
    assert succession.inherited() is None
