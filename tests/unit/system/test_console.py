"""The screen at the box: what it shows, what its dialogue does, and the program on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.system.console import (
    ERASE_WORD,
    Action,
    Dialogue,
    Do,
    Ping,
    Port,
    Say,
    Seen,
    SetPassword,
    State,
    health_line,
    render,
)

PORTS = (Port("wan0", ("203.0.113.2",)), Port("lan0", (), ("fd00:1::1",)))
FINGERPRINT = ":".join(f"{n:02X}" for n in range(32))


def status(*troubles: str) -> dict[str, Any]:
    """The part of control's answer that the screen uses."""
    return {
        "wan_interface": "wan0",
        "lan_interface": "lan0",
        "lan_address": "fd00:1::1",
        "console_port": 443,
        "checks": [
            {"title": "Disk has room", "state": "ok"},
            *({"title": title, "state": "bad"} for title in troubles),
        ],
    }


def seen(answer: dict[str, Any] | None) -> Seen:
    """A box with two ports."""
    return Seen("0.1.0", "crossing", PORTS, "203.0.113.1", FINGERPRINT, answer)


def test_the_screen() -> None:
    text = render(seen(status()))
    for line in (
        "crossing, Isthmus 0.1.0",
        "  WAN       203.0.113.2 (wan0)",
        "  gateway   203.0.113.1",
        "  LAN       fd00:1::1 (lan0)",
        "  console   https://[fd00:1::1]/",
        "  health    all well",
    ):
        assert line in text.splitlines()
    assert f"  SHA-256   {FINGERPRINT[:47]}\n            {FINGERPRINT[48:]}\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_without_control_the_addresses_are_there_all_the_same() -> None:
    text = render(seen(None))
    assert "203.0.113.2" in text and "fd00:1::1" in text
    assert "does not answer" in text


def test_a_box_with_nothing_yet() -> None:
    answer = status() | {"lan_address": None, "wan_interface": "auto"}
    text = render(Seen("0.1.0", "isthmus", (), None, None, answer))
    assert "no address (auto)" in text and "no address yet" in text and "SHA-256" not in text


def test_many_troubles_are_counted() -> None:
    assert health_line(status("A", "B", "C", "D", "E")) == "A; B; C; 2 more"
    worse = status("A", "B", "C", "D")
    for check in worse["checks"][1:-1]:
        check["state"] = "warn"
    assert health_line(worse) == "D; A; B; 1 more"


def answers(*lines: str) -> list[Action]:
    """What a dialogue makes of the lines."""
    dialogue = Dialogue()
    return [action for line in lines if (action := dialogue.take(line)) is not None]


@pytest.mark.parametrize(
    ("lines", "actions"),
    [
        (("1",), [Do.REFRESH]),
        (("",), [Do.REFRESH]),
        (("9",), [Do.REFRESH]),
        (("2", "203.0.113.1"), [Ping("203.0.113.1")]),
        (("2", "fe80::1%lan0"), [Ping("fe80::1%lan0")]),
        (("2", ""), [Do.REFRESH]),
        (("3", "one password", "one password"), [SetPassword("one password")]),
        (("3", " spaces are meant ", " spaces are meant "), [SetPassword(" spaces are meant ")]),
        (("3", ""), [Do.REFRESH]),
        (("4", ERASE_WORD), [Do.FACTORY_RESET]),
        (("4", ""), [Do.REFRESH]),
        (("5", "yes"), [Do.RESTART]),
        (("6", "yes"), [Do.POWER_OFF]),
    ],
)
def test_the_dialogue(lines: tuple[str, ...], actions: list[Action]) -> None:
    assert answers(*lines) == actions


@pytest.mark.parametrize(
    "lines",
    [
        ("2", "-f"),
        ("2", "example.org"),
        ("3", "one password", "another"),
        ("4", "yes"),
        ("5", "y"),
        ("6", "1"),
    ],
)
def test_what_is_not_meant_so_is_not_done(lines: tuple[str, ...]) -> None:
    (action,) = answers(*lines)
    assert isinstance(action, Say)


@given(st.lists(st.sampled_from(["", "1", "2", "3", "4", "5", "6", "x", "yes", "long enough"]), max_size=12))
def test_two_lines_of_nothing_always_lead_back(lines: list[str]) -> None:
    dialogue = Dialogue()
    for line in [*lines, "", ""]:
        dialogue.take(line)
    assert dialogue.state is State.CHOICE
    assert "long enough" not in repr(vars(dialogue))


def test_nothing_is_erased_or_switched_off_without_its_word() -> None:
    for choice in "456":
        assert set(answers(choice, "", choice, "no", "", choice, choice)) & {*Do} <= {Do.REFRESH}


class Person:
    """Somebody at the terminal of a running isthmus-console."""

    def __init__(self, folder: Path) -> None:
        self.keys, line = pty.openpty()
        program = Path(sys.executable).with_name("isthmus-console")
        self.process = subprocess.Popen(
            [program, "--runtime", folder, "--state", folder], stdin=line, stdout=line, start_new_session=True
        )
        os.close(line)

    def reads(self, text: str, timeout: float = 20) -> str:
        """All that came until the text did."""
        found, deadline = "", time.monotonic() + timeout
        while text not in found:
            assert time.monotonic() < deadline, found
            if select.select([self.keys], [], [], 0.1)[0]:
                found += os.read(self.keys, 65_536).decode()
        return found

    def types(self, keys: str) -> None:
        """Press the keys."""
        os.write(self.keys, keys.encode())


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """At a box where nothing answers."""
    made = Person(tmp_path)
    yield made
    os.close(made.keys)
    made.process.kill()
    made.process.wait()


def test_on_a_terminal(person: Person) -> None:
    """Control is not there: the screen says so, and pings all the same. Ctrl-C and Ctrl-D end nothing."""
    assert "does not answer" in person.reads("1 to 7: ")
    person.types("\x03\x04\x1a")
    person.types("2\n")
    person.reads("Address to ping")
    person.types("127.0.0.1\n")
    assert " 0% packet loss" in person.reads("Enter: back")
    person.types("\n")
    person.reads("1 to 7: ")
    person.types("3\n")
    person.reads("not shown")
    person.types("a secret of mine\n")
    shown = person.reads("Once more")
    person.types("a secret of mine\n")
    shown += person.reads("Enter: back")
    assert "secret" not in shown
    assert "It failed" in shown and "does not answer" in shown
    person.types("\n")
    person.reads("1 to 7: ")
    person.types("2\n")
    assert "2" in person.reads("Address to ping")
    assert person.process.poll() is None


def test_where_there_is_no_terminal_it_says_so(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("isthmus-console")
    done = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 3
    assert "no terminal" in done.stderr
