"""Limits by client, user and device: sessions, new ones, octets of a day, bandwidth."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.control.client import call
from tests.lab.netns import stop
from tests.netns.conftest import BIN, CONFIG, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, serving, udp_socket
from tests.netns.test_lifecycle import replaced, workers

pytestmark = [pytest.mark.netns, needs_root]

FEW, FAST, HUNGRY, SLOW, DEVICE = (f"fd00:1::{last}" for last in ("10", "11", "12", "13", "14"))
TRICKLE = "fd00:1::20"
DATAGRAMS = "fd00:1::21"
TOGETHER = [f"fd00:1::3{last}" for last in range(4)]
CARD = "02:00:5e:10:00:14"
MEBIBYTE = 1 << 20

LIMITS = f"""
[[device]]
name = "tablet"
macs = ["{CARD}"]
[[limit]]
name = "few"
sources = ["{FEW}/128"]
sessions = 5
[[limit]]
name = "rarely"
sources = ["{FAST}/128"]
new_per_second = 3
[[limit]]
name = "a-day"
sources = ["{HUNGRY}/128"]
mib_per_day = 4
[[limit]]
name = "slow"
sources = ["{SLOW}/128"]
kbit_per_second = 8000
[[limit]]
name = "together"
sources = ["{TOGETHER[0]}/128", "{TOGETHER[1]}/128", "{TOGETHER[2]}/128", "{TOGETHER[3]}/128"]
each = "all"
new_per_second = 6
[[limit]]
name = "trickle"
sources = ["{TRICKLE}/128"]
kbit_per_second = 800
[[limit]]
name = "datagrams"
sources = ["{DATAGRAMS}/128"]
mib_per_day = 100
[[limit]]
name = "device"
devices = ["tablet"]
sessions = 2
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box of two workers, with a limit for each of some clients."""
    with Box(tmp_path_factory.mktemp("quotas")) as box:
        box.config.write_text(CONFIG + LIMITS)
        for address in (FEW, FAST, HUNGRY, SLOW, TRICKLE, DATAGRAMS, *TOGETHER):
            box.client.run("ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad", "preferred_lft", "0")
        # The device has a card of its own, and two addresses.
        box.client.run(
            *("ip", "link", "add", "link", "eth0", "name", "card0", "address", CARD, "type", "macvlan"),
        )
        box.client.run("ip", "link", "set", "card0", "up")
        box.start_control()
        box.start_proxy()
        with serving(box):
            yield box


def rows(box: Box) -> list[dict[str, object]]:
    """The log."""
    path = Path(box.sessions_log)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ask_for(box: Box, size: int, source: str) -> socket.socket:
    """A connection to the server that sends so many octets."""
    sock = connect(box, 7003, SERVER6, source=source)
    sock.sendall(struct.pack("!Q", size))
    return sock


def read(sock: socket.socket, size: int) -> int:
    """How many of so many octets come."""
    found = 0
    with contextlib.suppress(ConnectionResetError):
        while found < size and (data := sock.recv(1 << 16)):
            found += len(data)
    return found


def test_sessions(own: Box) -> None:
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connect(own, 7004, source=FEW)) for _ in range(5)]
        with pytest.raises(ConnectionRefusedError):
            connect(own, 7004, source=FEW)
        stack.enter_context(connect(own, 7004, source="fd00:1::2"))
        kept.pop().close()

        def room() -> bool:
            with contextlib.suppress(ConnectionRefusedError):
                stack.enter_context(connect(own, 7004, source=FEW))
                return True
            return False

        wait_for(room, "room after one has ended", 5)
    wait_for(lambda: any(row.get("rule") == "few" for row in rows(own)), "the log to name the limit", 5)


def test_new_sessions_in_a_second(own: Box) -> None:
    refused = 0
    begun = time.monotonic()
    for _ in range(30):
        try:
            connect(own, 7004, source=FAST).close()
        except ConnectionRefusedError:
            refused += 1
    seconds = time.monotonic() - begun + 1
    assert 30 - refused <= 3 * (int(seconds) + 1)
    assert refused > 0


def test_new_sessions_of_several_clients_are_counted_over_all_workers(own: Box) -> None:
    """One client may have all of it, though it is one worker's; all of them together have no more."""
    for _ in range(6):
        connect(own, 7004, source=TOGETHER[0]).close()
    accepted = 0
    begun = time.monotonic()
    for number in range(60):
        with contextlib.suppress(ConnectionRefusedError):
            connect(own, 7004, source=TOGETHER[number % 4]).close()
            accepted += 1
    assert accepted <= 6 * (int(time.monotonic() - begun) + 2)
    wait_for(
        lambda: {row["worker"] for row in rows(own) if row.get("client") in TOGETHER} == {0, 1},
        "both workers to have had some",
        5,
    )


def test_bandwidth_of_datagrams(own: Box) -> None:
    """800 kbit/s are 100 kB a second, and as much at once; what is more is lost, each way by itself."""
    with udp_socket(own, TRICKLE) as sock:
        sock.settimeout(1)
        begun = time.monotonic()
        for _ in range(500):
            sock.sendto(bytes(1_000), (SERVER6, 7101))
        back = 0
        with contextlib.suppress(TimeoutError):
            while sock.recv(2_000):
                back += 1
        seconds = time.monotonic() - begun
        assert 20 <= back <= 100 + 100 * seconds
        assert back < 500
    with udp_socket(own, "fd00:1::2") as sock:
        sock.settimeout(1)
        sock.sendto(b"free", (SERVER6, 7101))
        assert sock.recv(2_000).endswith(b"free")


def test_octets_of_a_day_end_what_there_is_and_refuse_what_comes(own: Box) -> None:
    with ask_for(own, 64 * MEBIBYTE, HUNGRY) as sock:
        # A quota is looked at once a second: read no faster than that it can be seen.
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while got < 64 * MEBIBYTE and (data := sock.recv(1 << 16)):
                got += len(data)
                time.sleep(0.01)
    assert 4 * MEBIBYTE <= got < 48 * MEBIBYTE
    with pytest.raises(ConnectionRefusedError):
        connect(own, 7004, source=HUNGRY)
    wait_for(lambda: any(row.get("end") == "quota" for row in rows(own)), "the log to say so", 5)


def test_what_was_counted_outlives_the_proxy(own: Box) -> None:
    stop(own.processes.pop("proxy"))
    wait_for(lambda: not (own.runtime / "proxy" / "proxy.sock").exists(), "the proxy's end")
    own.start_proxy()
    with pytest.raises(ConnectionRefusedError):
        connect(own, 7004, source=HUNGRY)
    connect(own, 7004, source="fd00:1::2").close()


def test_what_is_used_is_shown_and_begun_anew(own: Box) -> None:
    command: list[str | Path] = [BIN / "isthmus", "--runtime", own.runtime, "limits"]

    def shown() -> dict[tuple[str, str], dict[str, int]]:
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
        return {(one["limit"], one["subject"]): one for one in json.loads(done.stdout)}

    assert shown()["a-day", HUNGRY]["day"] >= 4 * MEBIBYTE
    subprocess.run([*command, "--reset", "a-day", HUNGRY], check=True)
    assert shown()["a-day", HUNGRY]["day"] == 0
    connect(own, 7004, source=HUNGRY).close()
    done = subprocess.run(
        [*command, "--reset", "a-day", "nobody"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Nothing is counted for “nobody”" in done.stderr


def test_a_new_configuration_counts_nothing_twice(own: Box) -> None:
    command: list[str | Path] = [BIN / "isthmus", "--runtime", own.runtime, "limits", "--json"]

    def used() -> int:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = {(one["limit"], one["subject"]): one["day"] for one in json.loads(done.stdout)}
        return int(found.get(("a-day", HUNGRY), 0))

    before = used()
    with ask_for(own, MEBIBYTE, HUNGRY) as sock:
        assert read(sock, MEBIBYTE) == MEBIBYTE
        wait_for(lambda: used() >= before + MEBIBYTE, "the octets to be counted", 5)
        counted = used()
        assert (
            call(own.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)["problem"] is None
        )
        time.sleep(2.5)
        assert used() == counted


def test_a_new_program_counts_nothing_twice(own: Box) -> None:
    """A flow goes on at a new worker, which is told what it has moved."""
    command: list[str | Path] = [BIN / "isthmus", "--runtime", own.runtime, "limits", "--json"]

    def used() -> int:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return sum(one["day"] for one in json.loads(done.stdout) if one["subject"] == DATAGRAMS)

    with udp_socket(own, DATAGRAMS) as sock:
        for _ in range(100):
            sock.sendto(bytes(1_000), (SERVER6, 7101))
            sock.recv(2_000)
        old = {worker["pid"] for worker in workers(own)}
        own.processes["proxy"].send_signal(signal.SIGUSR2)
        wait_for(lambda: replaced(own, old), "new workers")
        time.sleep(2.5)
        counted = used()
        assert 200_000 <= counted < 210_000
        sock.sendto(bytes(1_000), (SERVER6, 7101))
        sock.recv(2_000)
        wait_for(lambda: used() > counted, "what came after it", 5)
        assert 2_000 <= used() - counted < 2_100


def test_bandwidth(own: Box) -> None:
    """8,000 kbit/s are 1 MB a second; two sessions share them."""
    size = MEBIBYTE
    with ask_for(own, size, SLOW) as one, ask_for(own, size, SLOW) as two:
        time.sleep(2.5)  # for the first look at who is there
        begun = time.monotonic()
        assert read(one, size) == size
        assert read(two, size) == size
        assert time.monotonic() - begun < 20
    with ask_for(own, 6 * size, SLOW) as sock:
        assert read(sock, size) >= size
        time.sleep(1.5)
        begun = time.monotonic()
        assert read(sock, 4 * size) >= 4 * size
        # What the sockets' buffers held came at once.
        assert time.monotonic() - begun > 1.0


def test_a_device_is_known_by_its_card_whatever_its_addresses(own: Box) -> None:
    for address in (DEVICE, "fd00:1::15"):
        own.client.run("ip", "addr", "add", f"{address}/64", "dev", "card0", "nodad", "preferred_lft", "0")
        own.client.run("ip", "-6", "rule", "add", "from", f"{address}/128", "table", "77")
    own.client.run("ip", "-6", "route", "add", "fd00:1::/64", "dev", "card0", "table", "77")
    own.client.run("ip", "-6", "route", "add", "default", "via", "fd00:1::1", "dev", "card0", "table", "77")
    with connect(own, 7004, source=DEVICE), connect(own, 7004, source="fd00:1::15"):
        time.sleep(2.5)  # the addresses may be two workers': each says once a second what it has
        for address in (DEVICE, "fd00:1::15"):
            with pytest.raises(ConnectionRefusedError):
                connect(own, 7004, source=address)
