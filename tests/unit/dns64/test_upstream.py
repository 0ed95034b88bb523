"""The upstream's and the clients' sockets, on loopback: who is believed, and who is turned away."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

import dns.message
import dns.rrset
import pytest

from appliance.config.codec import parse as parse_config
from appliance.dns64 import resolver as resolver_module
from appliance.dns64 import server as server_module
from appliance.dns64.counters import Counters
from appliance.dns64.loop import Loop
from appliance.dns64.resolver import Resolver
from appliance.dns64.server import Server
from appliance.dns64.synthesis import Synthesis
from appliance.dns64.upstream import RETRANSMIT, Upstream
from appliance.protocol import dns as wire

LOOPBACK = IPv4Address("127.0.0.1")
PATIENCE = 5.0


class Front:
    """A whole front in this process; ``peer`` is the upstream's socket."""

    def __init__(self) -> None:
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(PATIENCE)
        self.loop = Loop()
        self.counters = Counters()
        self.upstream = Upstream(self.loop, LOOPBACK, self.peer.getsockname()[1], self.counters)
        synthesis = Synthesis(parse_config(""))
        self.resolver = Resolver(synthesis, self.upstream.ask, lambda: int(self.loop.now), self.counters)
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            self.port: int = probe.getsockname()[1]
        self.server = Server(self.loop, self.resolver, IPv6Address("::1"), self.port, self.counters)
        self.thread = threading.Thread(target=self.loop.run)

    def close(self) -> None:
        self.loop.stop()
        self.thread.join()
        self.server.close()
        self.upstream.close()
        self.loop.close()
        self.peer.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("::1", self.port), PATIENCE)

    def asked(self) -> tuple[dns.message.Message, tuple[str, int]]:
        """The next question that reaches the upstream, and where it came from."""
        packet, address = self.peer.recvfrom(4096)
        return dns.message.from_wire(packet), address


@pytest.fixture
def front() -> Iterator[Front]:
    made = Front()
    made.thread.start()
    yield made
    made.close()


def answer(query: dns.message.Message, ipv4: str = "192.31.196.80") -> dns.message.Message:
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", ipv4))
    return response


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_the_true_answer_is_believed(front: Front) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("::1", front.port))
        client.send(dns.message.make_query("v4.example.", "A", id=7).to_wire())
        query, address = front.asked()
        false = answer(query, "192.31.196.66")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(false.to_wire(), address)  # right id and question, wrong sender
        false.id ^= 1
        front.peer.sendto(false.to_wire(), address)
        other = answer(dns.message.make_query("other.example.", "A", id=query.id), "192.31.196.66")
        front.peer.sendto(other.to_wire(), address)
        front.peer.sendto(query.to_wire(), address)  # no answer at all
        front.peer.sendto(answer(query).to_wire()[:-1], address)  # malformed
        front.peer.sendto(answer(query).to_wire(), address)
        found = dns.message.from_wire(client.recv(4096))
    assert found.id == 7
    assert found.answer[0].to_text() == "v4.example. 60 IN A 192.31.196.80"
    assert front.counters.mismatched == 4, "the stranger's never came as far as that"


def test_ids_cannot_be_guessed(front: Front) -> None:
    ids = []
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.connect(("::1", front.port))
        for number in range(200):
            client.send(dns.message.make_query(f"n{number}.example.", "A").to_wire())
            ids.append(front.asked()[0].id)
    assert len(set(ids)) > 190
    steps = [b - a for a, b in itertools.pairwise(ids)]
    assert len(set(steps)) > 190, "no counter"
    assert min(ids) < 16_384 and max(ids) > 49_152, "the whole range"


def test_an_unanswered_question_is_repeated_once(front: Front) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("::1", front.port))
        client.send(dns.message.make_query("v4.example.", "A").to_wire())
        began = time.monotonic()
        first, _address = front.asked()
        second, address = front.asked()
        assert second.to_wire() == first.to_wire()
        assert RETRANSMIT - 0.1 < time.monotonic() - began < RETRANSMIT + 0.5
        front.peer.sendto(answer(second).to_wire(), address)
        assert dns.message.from_wire(client.recv(4096)).answer


def test_one_clients_questions_leave_the_others_their_room(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "MAX_WAITING_PER_CLIENT", 10)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("::1", front.port))
        for number in range(12):
            client.send(dns.message.make_query(f"n{number}.example.", "A", id=number).to_wire())
        refused = [dns.message.from_wire(client.recv(4096)) for _ in range(2)]
        assert [(message.id, message.rcode()) for message in refused] == [(10, 2), (11, 2)]
        out: list[bytes] = []
        front.resolver.handle(
            dns.message.make_query("x.example.", "A").to_wire(), "fd00::9", False, out.append
        )
        assert out == [], "another client's question is on its way"
        for _ in range(10):
            query, address = front.asked()
            front.peer.sendto(answer(query).to_wire(), address)
        assert all(dns.message.from_wire(client.recv(4096)).answer for _ in range(10))
        client.send(dns.message.make_query("n11.example.", "A").to_wire())
        assert str(front.asked()[0].question[0].name) == "x.example."
        again = front.asked()[0].question[0].name
        assert str(again) == "n11.example.", "what was answered no longer counts"
    assert front.counters.over_share == 2


def test_one_clients_connections_leave_the_others_theirs(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_TCP_PER_CLIENT", 3)
    held = [front.connect() for _ in range(4)]
    assert held[3].recv(1) == b"", "the fourth is closed"
    wait_for(lambda: len(front.server.clients) == 3)
    for connection in held:
        connection.close()
    wait_for(lambda: not front.server.clients)
    with front.connect():
        wait_for(lambda: len(front.server.clients) == 1)
    assert front.counters.over_connections == 1


def test_single_octets_do_not_hold_a_connection(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TCP_IDLE", 0.5)
    with front.connect() as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + PATIENCE:
                connection.sendall(b"\0")
                time.sleep(0.1)
        assert time.monotonic() - began < 3


def test_a_question_of_absurd_length_ends_the_connection(front: Front) -> None:
    with front.connect() as connection:
        connection.sendall((wire.MAX_MESSAGE).to_bytes(2, "big") + b"x")
        assert connection.recv(1) == b""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("::1", front.port))
        client.send(dns.message.make_query("v4.example.", "A").to_wire() + bytes(8_000))
        assert client.recv(4096)[3] & 15 == wire.Rcode.FORMERR
