"""Several translation prefixes, each with its own way out; pools of source addresses; accept-first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv6Address, IPv6Network

import pytest

from tests.lab.netns import Namespace
from tests.netns.conftest import CONFIG, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, read_all, serving, status, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

# One prefix of each of RFC 6052's lengths beside the well-known one, and two islands of private
# addresses that use the same network.
PREFIXES = {
    32: "fd10::/32",
    40: "fd20:1::/40",
    48: "fd30:1:2::/48",
    56: "fd40:1:2::/56",
    64: "fd50:1:2:3::/64",
    96: "64:ff9b::/96",
}
ISLANDS = {"a": "fd61::/96", "b": "fd62::/96"}
HOSTS = {"a": "10.0.0.65", "b": "10.0.0.66"}  # of "host.NAME.test", which the island's resolver knows
ISLAND_SERVER = "10.0.0.1"
SOURCES = ("203.0.113.2", "203.0.113.12", "203.0.113.13", "203.0.113.14")
CLIENTS = [f"fd00:1::{number:x}" for number in range(0x20, 0x30)]

WHO = """\
import socket, sys, threading
name = sys.argv[1].encode()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("10.0.0.1", 7101))
tcp = socket.create_server(("10.0.0.1", 7001))
def datagrams():
    while True:
        data, peer = udp.recvfrom(2000)
        udp.sendto(name + b" " + data, peer)
threading.Thread(target=datagrams, daemon=True).start()
print("ready", flush=True)
while True:
    connection, peer = tcp.accept()
    connection.sendall(name)
    connection.close()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with two islands beside its WAN, and four addresses there."""
    folder = tmp_path_factory.mktemp("ways")
    with Box(folder) as box, ExitStack() as stack:
        settings = "".join(f'[[translation]]\nprefix = "{prefix}"\n' for prefix in PREFIXES.values())
        sources = ", ".join(f'"{address}"' for address in SOURCES)
        settings = settings.replace(
            f'prefix = "{PREFIXES[96]}"\n', f'prefix = "{PREFIXES[96]}"\nsources = [{sources}]\n'
        )
        for name, prefix in ISLANDS.items():
            settings += f'[[translation]]\nprefix = "{prefix}"\ninterface = "island-{name}"\n'
            settings += f'networks = ["10.0.0.0/24"]\ndomains = ["{name}.test"]\n'
            settings += f'upstreams = ["10.0.0.99", "{ISLAND_SERVER}"]\n'  # the first is dead
            island = stack.enter_context(Namespace(f"island{name}"))
            subprocess.run(
                ["ip", "link", "add", f"island-{name}", "netns", box.box.name, "type", "veth",
                 "peer", "eth0", "netns", island.name],
                check=True,
            )  # fmt: skip
            island.run("ip", "addr", "add", f"{ISLAND_SERVER}/24", "dev", "eth0")
            island.run("ip", "link", "set", "eth0", "up")
            box.box.run("ip", "addr", "add", "10.0.0.2/24", "dev", f"island-{name}")
            box.box.run("ip", "link", "set", f"island-{name}", "up")
            records = [f"--txt-record=long.{name}.test,{'x' * 250}" for _ in range(20)]
            box.start(
                f"resolver-{name}", "dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts",
                f"--listen-address={ISLAND_SERVER}", "--bind-interfaces", "--pid-file", "--local=/test/",
                f"--host-record=host.{name}.test,{HOSTS[name]}", *records, where=island,
            )  # fmt: skip
            box.start(f"island-{name}", sys.executable, "-c", WHO, name, where=island)
        for address in SOURCES[1:]:
            box.box.run("ip", "addr", "add", f"{address}/24", "dev", "wan0")
        for address in CLIENTS:
            box.client.run("ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        box.config.write_text(CONFIG + settings)
        box.start_control()
        box.start_dns64()
        box.start_proxy()
        for name in ISLANDS:
            wait_for(lambda name=name: "ready" in box.log(f"island-{name}"), f"island {name}")  # type: ignore[misc]
        with serving(box):
            yield box


@pytest.mark.parametrize(
    "server",
    [
        "fd10:0:c01f:c450::",
        "fd20:1:c0:1fc4:50::",
        "fd30:1:2:c01f:c4:5000::",
        "fd40:1:2:c0:1f:c450::",
        "fd50:1:2:3:c0:1fc4:5000:0",
        "64:ff9b::c01f:c450",
    ],
)
def test_every_prefix_length(own: Box, server: str) -> None:
    with connect(own, 7001, server) as sock:
        assert read_all(sock).decode() in SOURCES


@pytest.mark.parametrize("name", ["a", "b"])
def test_islands_with_the_same_addresses(own: Box, name: str) -> None:
    server = ISLANDS[name].removesuffix("/96") + ISLAND_SERVER
    with connect(own, 7001, server) as sock:
        assert read_all(sock).decode() == name
    done = own.client.run("ping", "-c", "1", "-W", "3", server, check=False)
    assert " 1 received" in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["a", "b"])
def test_islands_whose_resolvers_have_the_same_address(own: Box, name: str) -> None:
    """Names, and addresses for them, come by the island's interface; so do long answers, by TCP."""

    def ask(*words: str) -> list[str]:
        done = own.client.run("dig", "+short", "+time=3", "+tries=1", *words, check=False)
        return [line for line in done.stdout.splitlines() if not line.startswith(";")]

    wait_for(lambda: ask("A", f"host.{name}.test") == [HOSTS[name]], "the island's resolver")
    [found] = ask("AAAA", f"host.{name}.test")
    assert IPv6Address(found) in IPv6Network(ISLANDS[name])
    assert len(ask("TXT", f"long.{name}.test")) == 20
    with connect(own, 7001, f"{ISLANDS[name].removesuffix('/96')}{ISLAND_SERVER}") as sock:
        assert read_all(sock).decode() == name


def test_datagrams_find_an_interface_that_came_again(own: Box) -> None:
    """To the kernel it is another one: what was bound to the old one sends nowhere."""
    with udp_socket(own) as sock:
        sock.settimeout(0.5)

        def answered() -> bool:
            sock.sendto(b"hello", (f"fd61::{ISLAND_SERVER}", 7101))
            try:
                return sock.recv(100).endswith(b"hello")
            except OSError:
                return False

        wait_for(answered, "the island", 3)
        link = ("ip", "link", "add", "island-a", "type", "veth", "peer", "eth0", "netns")
        own.box.run("ip", "link", "del", "island-a")
        names = own.box.run("ip", "netns", "list").stdout.split()
        island = next(n for n in names if "islanda" in n and f"-{os.getpid()}-" in n)
        own.box.run(*link, island)
        for words in (("addr", "add", f"{ISLAND_SERVER}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            own.box.run("ip", "-n", island, *words)
        own.box.run("ip", "addr", "add", "10.0.0.2/24", "dev", "island-a")
        own.box.run("ip", "link", "set", "island-a", "up")
        wait_for(answered, "the island again", 10)


def test_one_socket_talks_to_both_islands(own: Box) -> None:
    """The same client port and the same IPv4 server behind two prefixes: two bindings, no mix-up."""
    with udp_socket(own) as sock:
        for _ in range(3):
            for name, prefix in ISLANDS.items():
                server = prefix.removesuffix("/96") + ISLAND_SERVER
                sock.sendto(b"hello", (server, 7101))
                answer, sender = sock.recvfrom(100)
                assert answer == name.encode() + b" hello"
                assert socket.inet_pton(socket.AF_INET6, sender[0]) == socket.inet_pton(
                    socket.AF_INET6, server
                )


def test_an_island_carries_its_networks_only(own: Box) -> None:
    with pytest.raises(OSError, match="Network is unreachable"):
        connect(own, 7001, "fd61::192.31.196.80")


@pytest.mark.parametrize("address", ["cb00:7102", "cb00:710c", "cb00:710e"])
def test_none_of_the_boxs_addresses_is_reached(own: Box, address: str) -> None:
    """Neither the first one of a network nor another."""
    with pytest.raises(PermissionError):
        connect(own, 5335, f"fd10:0:{address}::")


def test_a_client_keeps_its_source_and_clients_are_spread(own: Box) -> None:
    seen: dict[str, str] = {}
    for client in CLIENTS:
        for _ in range(3):
            with connect(own, 7001, SERVER6, source=client) as sock:
                source = read_all(sock).decode()
            assert seen.setdefault(client, source) == source
        with udp_socket(own, client) as udp:
            udp.sendto(b"x", (SERVER6, 7101))
            assert udp.recv(100).split(b" ")[0].decode() == seen[client]
    assert set(seen.values()) == set(SOURCES)


class TestAcceptFirst:
    """The other way of taking TCP sessions, switched on while the proxy runs."""

    @pytest.fixture(scope="class")
    def first(self, own: Box) -> Iterator[Box]:
        """The same box, accepting first."""
        before = own.config.read_text()
        own.config.write_text(before.replace("[proxy]\n", "[proxy]\naccept_first = true\n"))
        own.processes["control"].send_signal(1)
        wait_for(lambda: "goto first_1" in rules(own), "the firewall's change", 10)
        yield own
        own.config.write_text(before)
        own.processes["control"].send_signal(1)

    def test_sessions_of_all_workers(self, first: Box) -> None:
        for client in CLIENTS:
            with connect(first, 7004, SERVER6, source=client) as sock:
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"

    def test_a_closed_port_is_reset_after_the_accept(self, first: Box) -> None:
        before = status(first)["counters"]["refused"]
        with pytest.raises(ConnectionResetError), connect(first, 7999, SERVER6) as sock:
            sock.recv(1)
        assert status(first)["counters"]["refused"] == before + 1

    def test_what_may_not_be_reached_stays_so(self, first: Box) -> None:
        for server in ("64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "fd50:1:2:3:cb:71:200:0"):
            with pytest.raises(ConnectionResetError), connect(first, 443, server) as sock:
                sock.recv(1)


def rules(box: Box) -> str:
    """The firewall as nft lists it."""
    return box.box.run("nft", "-s", "list", "table", "inet", "isthmus").stdout
