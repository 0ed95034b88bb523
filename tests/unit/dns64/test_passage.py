"""The passages to islands' resolvers, on loopback: what is taken for an answer, and every limit."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from appliance.config.islands import PORT, Passage
from appliance.dns64 import passage as module
from appliance.dns64.counters import Counters
from appliance.dns64.loop import Loop
from appliance.dns64.passage import Passages

PATIENCE = 5.0
LOCAL, RESOLVER = "127.0.77.1", "127.0.78.1"
ONE = Passage(IPv4Address(LOCAL), IPv4Address(RESOLVER), "lo", IPv4Address("127.0.79.1"))
QUESTION = b"\x12\x34" + bytes(10) + b"a question"


class Side:
    """The passages in a loop of their own, and the resolver's sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.resolver.bind((RESOLVER, 0))
        self.resolver.settimeout(PATIENCE)
        port = self.resolver.getsockname()[1]
        self.tcp = socket.create_server((RESOLVER, port))
        self.tcp.settimeout(PATIENCE)
        monkeypatch.setattr(module, "DNS_PORT", port)
        self.loop = Loop()
        self.counters = Counters()
        self.passages = Passages(self.loop, self.counters)
        self.thread = threading.Thread(target=self.loop.run)
        self.unbound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.unbound.settimeout(PATIENCE)

    def start(self, wanted: set[Passage]) -> None:
        self.passages.configure(wanted)
        self.thread.start()

    def ask(self, packet: bytes = QUESTION) -> None:
        self.unbound.sendto(packet, (LOCAL, PORT))

    def close(self) -> None:
        self.loop.stop()
        self.thread.join()
        self.passages.close()
        assert not self.loop._handlers  # nothing is left open
        self.loop.close()
        for sock in (self.resolver, self.tcp, self.unbound):
            sock.close()


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    made = Side(monkeypatch)
    yield made
    made.close()


def soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_answer_comes_back_and_a_forged_id_does_not(side: Side) -> None:
    side.start({ONE})
    side.ask()
    packet, where = side.resolver.recvfrom(4096)
    assert packet == QUESTION and where[0] == "127.0.79.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(QUESTION[:2] + b"from elsewhere", where)
    side.resolver.sendto(b"\x43\x21" + b"forged", where)
    side.resolver.sendto(QUESTION[:2] + b"the answer", where)
    assert side.unbound.recvfrom(4096) == (QUESTION[:2] + b"the answer", (LOCAL, PORT))
    soon(lambda: side.passages.questions == 0)


def test_each_question_has_a_port_of_its_own(side: Side) -> None:
    side.start({ONE})
    ports = set()
    for _ in range(20):
        side.ask()
        ports.add(side.resolver.recvfrom(4096)[1][1])
    assert len(ports) == 20


def test_silence_frees_the_socket(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    side.start({ONE})
    side.ask()
    side.resolver.recvfrom(4096)
    soon(lambda: side.passages.questions == 1)
    soon(lambda: side.passages.questions == 0)


def test_too_many_questions_are_counted(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUESTIONS", 3)
    side.start({ONE})
    for _ in range(5):
        side.ask()
    soon(lambda: side.counters.over_pending == 2)
    assert side.passages.questions == 3


def test_octets_go_both_ways_by_tcp(side: Side) -> None:
    side.start({ONE})
    long = bytes(range(256)) * 8_000  # more than sockets hold: the way back waits for its reader
    with socket.create_connection((LOCAL, PORT), PATIENCE) as asking:
        asking.sendall(QUESTION)
        answering, where = side.tcp.accept()
        assert where[0] == "127.0.79.1"
        with answering:
            answering.settimeout(PATIENCE)
            assert answering.recv(4096) == QUESTION
            sender = threading.Thread(target=answering.sendall, args=(long,))
            sender.start()
            time.sleep(0.2)
            got = b""
            while len(got) < len(long):
                got += asking.recv(65_536)
            sender.join()
        assert got == long
        assert asking.recv(1) == b""
    soon(lambda: side.passages.connections == 0)


def test_a_resolver_that_refuses_and_one_caller_too_many(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    side.start({ONE})
    with socket.create_connection((LOCAL, PORT), PATIENCE), side.tcp.accept()[0]:
        with socket.create_connection((LOCAL, PORT), PATIENCE) as second:
            assert second.recv(1) == b""
        assert side.counters.over_fetches == 1
    soon(lambda: side.passages.connections == 0)
    side.tcp.close()
    with socket.create_connection((LOCAL, PORT), PATIENCE) as refused:
        assert refused.recv(1) == b""


def test_an_idle_connection_is_closed(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TCP_IDLE", 0.2)
    side.start({ONE})
    with socket.create_connection((LOCAL, PORT), PATIENCE) as asking:
        assert asking.recv(1) == b""


def test_a_way_that_is_not_there_is_silence(side: Side) -> None:
    side.start({Passage(ONE.local, ONE.resolver, "nowhere0", None)})
    side.ask()
    with socket.create_connection((LOCAL, PORT), PATIENCE) as asking:
        assert asking.recv(1) == b""
    assert side.passages.questions == side.passages.connections == 0


def test_an_address_in_use_is_said_and_tried_again(
    side: Side, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind((LOCAL, PORT))
        side.start({ONE})
        assert f"{RESOLVER} cannot be asked" in capsys.readouterr().err
    soon(lambda: bool(side.passages._open))
    side.ask()
    assert side.resolver.recvfrom(4096)[0] == QUESTION
