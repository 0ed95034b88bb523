"""The health check's own session: from the box's LAN side to an origin in a namespace, through a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

from appliance.addressing import TranslationPrefix
from appliance.control.client import ControlClient, ControlError
from appliance.errors import IsthmusError
from appliance.update.trial import ANSWERER, NAMESPACE, answering, session
from tests.lab.netns import stop
from tests.netns.conftest import SERVER, SERVER6, Box, wait_for

pytestmark = pytest.mark.netns

LAN = "fd00:1::1"
PREFIX = TranslationPrefix.parse("64:ff9b::/96")


def attempt(with_origin: bool) -> str:
    """Inside the box: "" where the session came about, else what was wrong."""
    try:
        if with_origin:
            with answering():
                session(LAN, PREFIX)
        else:
            session(LAN, PREFIX)
    except (OSError, IsthmusError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_a_session_between_the_two_sides(box: Box) -> None:
    assert box.box.call(lambda: attempt(with_origin=True)) == ""
    wait_for(lambda: f'"{ANSWERER}"' in box.sessions_log.read_text(), "the session's line")
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert NAMESPACE not in listed


def test_without_the_origin_it_is_told(box: Box) -> None:
    """No route leads there: an ICMPv6 error, not a hang."""
    assert box.box.call(lambda: attempt(with_origin=False)) != ""


def test_control_lets_a_session_of_its_own_cross(box: Box) -> None:
    control = ControlClient(box.runtime)
    server = box.start(
        "crossed", sys.executable, "-m", "http.server", "8099", "--bind", SERVER, where=box.server
    )
    try:
        wait_for(lambda: bool(control.cross(SERVER, 8099)["ok"]), "a session that crosses")
        found = control.cross(SERVER, 8099)
        assert (found["origin"], found["address"], found["client"]) == (SERVER, SERVER6, LAN)
        assert found["said"] == "HTTP/1.0 200 OK"
    finally:
        stop(server)
    closed = control.cross(SERVER, 7999)
    assert not closed["ok"]
    assert "refused" in closed["problem"]
    for target, words in (
        ("10.0.0.1", "No translation prefix carries"),
        ("fd00::1", "IPv6"),
        ("-x", "no name"),
    ):
        with pytest.raises(ControlError, match=words):
            control.cross(target)
