"""What the supervisor takes for a worker's answer."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from socket import AF_UNIX, SOCK_STREAM, socket, socketpair
from typing import Any

import pytest

from appliance.proxy.seat import Process


@pytest.fixture
def ends() -> Iterator[tuple[Process, socket]]:
    """A process (this one), and its end of the line."""
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    process = Process(0, os.getpid(), ours, 0.0)
    with theirs:
        yield process, theirs
        process.close()


def asked(line: socket) -> int:
    """The number of the next question."""
    return int(json.loads(line.recv(4096).splitlines()[-1])["asked"])


def answer(number: int | None, **said: Any) -> bytes:
    named = {} if number is None else {"answers": number}
    return b"\n" + json.dumps({**said, **named}).encode() + b"\n"


def test_a_late_answer_is_dropped(ends: tuple[Process, socket]) -> None:
    process, line = ends
    assert process.tell({"ask": "status"})
    assert process.hear(0.01) is None
    late = asked(line)
    assert process.tell({"ask": "sessions"})
    line.sendall(answer(late, old=True) + answer(asked(line), new=True))
    assert process.hear() == {"new": True}


def test_one_that_was_broken_off_is_dropped(ends: tuple[Process, socket]) -> None:
    process, line = ends
    assert process.tell({"ask": "status"})
    line.sendall(answer(1, list=["x"] * 9)[:20])
    assert process.hear(0.01) is None
    assert process.tell({"ask": "status"})
    line.sendall(answer(asked(line), whole=True))
    assert process.hear() == {"whole": True}


@pytest.mark.parametrize("garbage", [b"12\n", b"[]\n", b'"x"\n', b"\xff\xfe\n", b"\n\n\n"])
def test_what_is_no_answer_is_dropped(ends: tuple[Process, socket], garbage: bytes) -> None:
    process, line = ends
    assert process.tell({"ask": "status"})
    line.sendall(garbage + answer(asked(line), yes=1))
    assert process.hear() == {"yes": 1}


def test_a_worker_of_the_program_before_says_no_number(ends: tuple[Process, socket]) -> None:
    process, line = ends
    assert process.tell({"ask": "status"})
    line.sendall(answer(None, plain=True)[1:])
    assert process.hear() == {"plain": True}


def test_it_comes_in_pieces(ends: tuple[Process, socket]) -> None:
    process, line = ends
    assert process.tell({"ask": "sessions"})
    whole = answer(asked(line), sessions=["x" * 1_000] * 2_000)

    def pieces() -> None:
        for at in range(0, len(whole), 300_000):
            line.sendall(whole[at : at + 300_000])
            time.sleep(0.01)

    sender = threading.Thread(target=pieces)
    sender.start()
    found = process.hear()
    sender.join()
    assert found is not None and len(found["sessions"]) == 2_000


def test_the_end_of_the_line_is_no_answer(ends: tuple[Process, socket]) -> None:
    process, line = ends
    assert process.tell({"ask": "status"})
    line.close()
    assert process.hear() is None
    assert not process.tell({"ask": "status"})
