"""The screen at the box, by its serial line: what it shows, and what is done there."""

from __future__ import annotations

import re
import time

import pytest

from tests.image.console import CONSOLE_TIMEOUT, post, shown_certificate
from tests.lab.box import BOOT_TIMEOUT
from tests.lab.lab import ClientView, Lab
from tests.lab.rows import Rows

pytestmark = pytest.mark.image

# Emulated, and with the box's journal on the same line.
ANSWER_TIMEOUT = 60.0
LOOKS = 3
PASSWORD = "a-new-sentence-for-the-box"


def ask(lab: Lab, line: str, expected: str, timeout: float = ANSWER_TIMEOUT) -> str:
    """Type the line; what came on the screen after it, once it matches the expected pattern."""
    before = len(lab.box.console())
    lab.box.type(line)
    deadline = time.monotonic() + timeout
    while not re.search(expected, said := lab.box.console()[before:]):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    return said


@pytest.fixture
def now(lab: Lab) -> ClientView:
    """What the client learns now: earlier tests may have erased the box."""
    found = lab.await_client()
    lab.await_resolver(found)
    return found


def test_it_shows_where_the_box_is(lab: Lab, now: ClientView) -> None:
    """Both addresses, the console's, and the fingerprint that a browser would show."""
    fingerprint = shown_certificate(lab, now, "-fingerprint", "-sha256").strip().partition("=")[2]
    wanted = (
        ", Isthmus ",  # the name is what an earlier test gave it
        f"WAN       {lab.wan_address()}",
        "gateway   203.0.113.1",
        f"LAN       {now.box}",
        f"console   https://[{now.box}]/",
        fingerprint[:47],
        fingerprint[48:],
        "health    One DNS server upstream\n",  # the lab's only fault
    )
    # An emulated serial line under load doubles a character now and then: a screen may need another look.
    for _ in range(LOOKS):
        said = ask(lab, "1", r"6\) power off")
        if not (missing := [words for words in wanted if words not in said]):
            break
    assert not missing, said
    assert "login:" not in lab.box.console()


def test_ping(lab: Lab) -> None:
    """Without a capability of any kind."""
    ask(lab, "2", "Address to ping")
    assert " 0% packet loss" in ask(lab, "203.0.113.1", "packet loss")
    ask(lab, "", "1 to 7:")


def test_a_lost_password(lab: Lab, now: ClientView) -> None:
    """A new one is set without the old one, and only with one that is good enough."""
    for password, answer in (("short", "at least 10"), (PASSWORD, "has the new password")):
        ask(lab, "3", "not shown")
        ask(lab, password, "Once more")
        assert PASSWORD not in ask(lab, password, answer)
        ask(lab, "", "1 to 7:")
    deadline = time.monotonic() + CONSOLE_TIMEOUT  # it starts again, which ends its sessions
    while post(lab, now, "/signin", password=PASSWORD) != "303":
        assert time.monotonic() < deadline
        time.sleep(1)


def test_factory_reset_makes_it_a_new_box(lab: Lab, now: ClientView) -> None:
    """Another prefix and another key; no password; and it carries traffic again."""
    key = shown_certificate(lab, now, "-pubkey")
    assert "Nothing was done" in ask(lab, "4", "Type erase") + ask(lab, "yes", "Enter: back")
    ask(lab, "", "1 to 7:")
    ask(lab, "4", "Type erase")
    lab.box.type("erase")
    lab.box.await_off()
    lab.box.start()
    lab.box.wait(timeout=BOOT_TIMEOUT)
    assert "factory reset: erasing all state" in lab.box.console()
    again = lab.await_client()
    lab.await_resolver(again)
    assert again.advertisement.prefixes != now.advertisement.prefixes
    assert shown_certificate(lab, again, "-pubkey") != key
    assert post(lab, again, "/setup", password=PASSWORD, again=PASSWORD) == "303"
    Rows(lab, again).http()
