"""The load program: right answers count, a single wrong octet fails the run."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.topology import SOURCE

MODES = {
    "sessions": ("sessions", "-n", "2"),
    "pingpong": ("pingpong", "-n", "2", "-s", "1024"),
    "udp": ("udp", "-n", "2"),
    "udpnew": ("udpnew", "-n", "2"),
}
TCP_MODES = ("sessions", "pingpong")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled."""
    program = tmp_path_factory.mktemp("load") / "load"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True)
    return program


def run(load: Path, port: int, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit status and figures of a short run."""
    done = subprocess.run(
        [load, *words, "-t", "0.3", "127.0.0.1", str(port)],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def port(load: Path) -> Iterator[int]:
    """The load program's own server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    words = [str(load), "server", "127.0.0.1", str(number)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield number
        server.terminate()


@pytest.mark.parametrize("mode", MODES)
def test_right_answers(load: Path, port: int, mode: str) -> None:
    status, found = run(load, port, *MODES[mode])
    assert status == 0
    assert found["rounds"] > 10
    assert (found["wrong"], found["errors"]) == (0, 0)


def test_a_stream(load: Path, port: int) -> None:
    status, found = run(load, port, "bulk", "-n", "2")
    assert (status, found["wrong"], found["errors"]) == (0, 0, 0)
    assert found["bytes"] > 10_000_000


def bend(answer: bytes) -> bytes:
    """One octet of it, changed."""
    return answer[:-1] + b"y"


def swap(answer: bytes) -> bytes:
    """An answer to somebody else's question."""
    return answer[:1] + b"zzzzzzz" + answer[8:]


def rude(kind: int, spoil: Callable[[bytes], bytes]) -> socket.socket:
    """A server that spoils each answer, in a thread that ends soon after its socket."""
    server = socket.socket(socket.AF_INET, kind)
    server.settimeout(2)
    server.bind(("127.0.0.1", 0))

    def streams() -> None:
        while True:
            peer, _ = server.accept()
            with peer:
                peer.sendall(spoil(peer.recv(65_536)))
                peer.recv(65_536)

    def datagrams() -> None:
        while True:
            data, peer = server.recvfrom(2048)
            server.sendto(spoil(data), peer)

    def serve() -> None:
        try:
            streams() if kind == socket.SOCK_STREAM else datagrams()
        except OSError:
            pass

    if kind == socket.SOCK_STREAM:
        server.listen(8)
    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.mark.parametrize("spoil", [bend, swap])
@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_answer_fails_the_run(load: Path, mode: str, spoil: Callable[[bytes], bytes]) -> None:
    with rude(socket.SOCK_STREAM if mode in TCP_MODES else socket.SOCK_DGRAM, spoil) as server:
        status, found = run(load, server.getsockname()[1], *MODES[mode])
    assert (status, found["rounds"]) == (1, 0)
    assert found["wrong"] >= 1


def test_a_spoilt_stream_fails_the_run(load: Path) -> None:
    with rude(socket.SOCK_STREAM, lambda _: b"x" * 50_000 + b"y") as server:
        status, found = run(load, server.getsockname()[1], "bulk", "-n", "1")
    assert (status, found["wrong"]) == (1, 1)


HTTP_MODES = {"sessions": ("sessions", "-n", "2"), "pingpong": ("pingpong", "-n", "2")}
GET = ("-s", "1024", "-g", "192.0.2.1:7000")


@pytest.mark.parametrize("mode", HTTP_MODES)
def test_right_answers_by_http(load: Path, port: int, mode: str) -> None:
    status, found = run(load, port, *HTTP_MODES[mode], *GET)
    assert status == 0
    assert found["rounds"] > 10
    assert found["bytes"] >= found["rounds"] * 1024
    assert (found["wrong"], found["errors"]) == (0, 0)


def test_a_stream_by_http(load: Path, port: int) -> None:
    status, found = run(load, port, "bulk", "-n", "2", *GET)
    assert (status, found["wrong"], found["errors"]) == (0, 0, 0)
    assert found["bytes"] > 10_000_000


def answered(length: int, body: Callable[[bytes], bytes], status: int = 200) -> Callable[[bytes], bytes]:
    """An answer to GET, its body made of the stamp that was asked for."""

    def answer(request: bytes) -> bytes:
        stamp = request.partition(b" HTTP/")[0][-8:]
        head = f"HTTP/1.1 {status} OK\r\ncontent-length: {length}\r\n\r\n"
        return head.encode() + body(stamp + b"x" * 1016)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        answered(1024, bend),
        answered(1024, swap),
        answered(1025, bytes),
        answered(1024, lambda body: body + b"x"),
        answered(1024, bytes, 502),
    ],
    ids=["an octet", "another's", "length", "too much", "status"],
)
def test_a_wrong_answer_by_http_fails_the_run(load: Path, answer: Callable[[bytes], bytes]) -> None:
    with rude(socket.SOCK_STREAM, answer) as server:
        status, found = run(load, server.getsockname()[1], "sessions", "-n", "1", *GET)
    assert (status, found["rounds"]) == (1, 0)
    assert found["wrong"] >= 1
