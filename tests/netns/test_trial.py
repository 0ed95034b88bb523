"""The health check's own session: from the box's LAN side to an origin in a namespace, through a worker."""

from __future__ import annotations

import subprocess

import pytest

from appliance.addressing import TranslationPrefix
from appliance.errors import IsthmusError
from appliance.update.trial import ANSWERER, NAMESPACE, answering, session
from tests.netns.conftest import Box, wait_for

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
