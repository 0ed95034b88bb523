"""The status around the pages: at once where it is young, in the background where it is older."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from appliance.control.client import ControlError
from webui.glance import FRESH_SECONDS, STALE_SECONDS, Glance


class Box:
    """Counts how often it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 1_000.0
        self.down = False
        self.go = threading.Event()
        self.go.set()

    def ask(self) -> dict[str, Any]:
        assert self.go.wait(10)
        self.asked += 1
        if self.down:
            raise ControlError("unavailable", "down")
        return {"number": self.asked}


def settled(box: Box, count: int) -> None:
    deadline = time.monotonic() + 10
    while box.asked < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_young_one_is_shown_again() -> None:
    box = Box()
    glance = Glance(box.ask, lambda: box.now)
    assert glance.status() == {"number": 1}
    box.now += FRESH_SECONDS - 0.1
    assert glance.status() == {"number": 1}
    assert box.asked == 1


def test_an_older_one_is_shown_while_a_new_one_is_fetched_once() -> None:
    box = Box()
    glance = Glance(box.ask, lambda: box.now)
    glance.status()
    box.go.clear()
    box.now += FRESH_SECONDS
    assert [glance.status() for _ in range(5)] == [{"number": 1}] * 5
    box.go.set()
    settled(box, 2)
    deadline = time.monotonic() + 10
    while glance.status() != {"number": 2}:
        assert time.monotonic() < deadline
    assert box.asked == 2


def test_an_old_one_is_not_shown() -> None:
    box = Box()
    glance = Glance(box.ask, lambda: box.now)
    glance.status()
    box.now += STALE_SECONDS
    assert glance.status() == {"number": 2}
    box.down = True
    box.now += STALE_SECONDS
    with pytest.raises(ControlError):
        glance.status()


def test_control_that_is_down_for_a_moment_is_asked_again() -> None:
    box = Box()
    glance = Glance(box.ask, lambda: box.now)
    glance.status()
    box.down = True
    box.now += FRESH_SECONDS
    assert glance.status() == {"number": 1}
    settled(box, 2)
    box.down = False
    deadline = time.monotonic() + 10
    while glance.status() == {"number": 1}:
        assert time.monotonic() < deadline
        time.sleep(0.005)
