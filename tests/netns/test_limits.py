"""Floods and caps: what is too much is refused with a reason, and costs the others nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from appliance.protocol import packet
from tests.netns.conftest import BIN, CONFIG, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, serving, status, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

FLOOD_RATE = 10_000  # SYNs a second, of one client
FLOOD_SECONDS = 4.0
BLACK_HOLE = "64:ff9b::192.31.201.1"
FLOODER = "fd00:1::3"
DESCRIPTORS = 300
PORTS = 32
MOST_SESSIONS = 8_000

SETTINGS = """\
max_new_per_client = 2000
max_half_open_per_client = 64
max_sessions_per_client = 100
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box of one worker with tight caps."""
    with Box(tmp_path_factory.mktemp("limits")) as box:
        box.config.write_text(CONFIG.replace("workers = 2", "workers = 1\n" + SETTINGS))
        box.start_control()
        box.start_proxy()
        with serving(box):
            box.server.run("ip", "route", "add", "blackhole", "192.31.201.0/24")
            yield box


def syn(source: str, server: str, port: int) -> bytes:
    """A SYN as a whole packet; ``port`` is the client's."""
    addresses = IPv6Address(source).packed, IPv6Address(server).packed
    bare = port.to_bytes(2, "big") + (80).to_bytes(2, "big") + os.urandom(4) + bytes(4)
    bare += bytes((5 << 4, 2)) + b"\xff\xff\0\0\0\0"
    total = packet.checksum(*addresses, packet.TCP, bare)
    return packet.header(*addresses, packet.TCP, len(bare)) + bare[:16] + total.to_bytes(2, "big") + bare[18:]


@contextlib.contextmanager
def flood(box: Box) -> Iterator[list[int]]:
    """FLOOD_RATE SYNs a second meanwhile; yields a list whose one entry is how many were sent."""
    ending = threading.Event()
    sent = [0]
    packets = [syn(FLOODER, BLACK_HOLE, port) for port in range(1024, 65_000)]

    def pour() -> None:
        raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with raw:
            begun = time.monotonic()
            while not ending.is_set():
                due = int((time.monotonic() - begun) * FLOOD_RATE)
                while sent[0] < due:
                    raw.sendto(packets[sent[0] % len(packets)], (BLACK_HOLE, 0))
                    sent[0] += 1
                time.sleep(0.001)

    thread = threading.Thread(target=lambda: box.client.call(pour))
    thread.start()
    try:
        yield sent
    finally:
        ending.set()
        thread.join()


def session_times(box: Box, seconds: float) -> list[float]:
    """How long sessions of another client take, one after the other: connect, a word there and back."""
    times = []
    ending = time.monotonic() + seconds
    while time.monotonic() < ending:
        begun = time.monotonic()
        with connect(box, 7004, timeout=5) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        times.append(time.monotonic() - begun)
        time.sleep(0.005)
    return times


@pytest.mark.slow
def test_a_syn_flood_costs_others_nothing(own: Box) -> None:
    """The medians are compared with a wide margin: it is the collapse that would fail, not the noise."""
    calm = statistics.median(session_times(own, 1.0))
    before = status(own)["counters"]["limited"]
    with flood(own) as sent:
        time.sleep(0.5)
        times = session_times(own, FLOOD_SECONDS)
        half_open = status(own)["counters"]["half_open"]
    assert sent[0] > FLOOD_RATE * FLOOD_SECONDS / 2, "the flood itself was too slow"
    assert half_open <= 64 + 1
    assert statistics.median(times) < max(5 * calm, 0.02), (calm, statistics.median(times))
    assert status(own)["counters"]["limited"] - before > sent[0] / 2


@pytest.mark.slow
def test_what_is_over_the_cap_is_reset_at_once(own: Box) -> None:
    """The caps of half-open dials and of sessions, each answered, each counted."""
    before = status(own)["counters"]["limited"]
    waiting = []
    for _ in range(64):
        sock = own.client.call(lambda: socket.socket(socket.AF_INET6))
        sock.bind((FLOODER, 0))
        sock.setblocking(False)
        sock.connect_ex((BLACK_HOLE, 80))
        waiting.append(sock)
    wait_for(lambda: status(own)["counters"]["half_open"] >= 64, "the held SYNs", 5)

    begun = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        connect(own, 80, BLACK_HOLE, source=FLOODER)
    assert time.monotonic() - begun < 1
    assert status(own)["counters"]["limited"] == before + 1
    for sock in waiting:
        sock.close()
    wait_for(lambda: status(own)["counters"]["half_open"] == 0, "the dials' deadline", 8)


def test_a_cap_on_sessions_of_a_client(own: Box) -> None:
    kept = []
    try:
        with pytest.raises(ConnectionRefusedError):
            for _ in range(101):
                kept.append(connect(own, 7004))
        # Not only TCP: a datagram's new session is told "prohibited".
        with udp_socket(own) as sock:
            sock.connect((SERVER6, 7101))
            sock.send(b"x")
            with pytest.raises(PermissionError):
                sock.recv(10)
    finally:
        for sock in kept:
            sock.close()

    def again() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            connect(own, 7004).close()
            return True
        return False

    wait_for(again, "room for a new session", 5)


def test_new_sessions_in_a_second(own: Box) -> None:
    """More than the cap in one second is reset, in the next second there is room again."""
    own.config.write_text(CONFIG.replace("workers = 2", "workers = 1\nmax_new_per_client = 20"))
    own.processes["control"].send_signal(1)
    time.sleep(1)
    refused = 0
    for _ in range(60):
        try:
            connect(own, 7004).close()
        except ConnectionRefusedError:
            refused += 1
    assert refused > 0
    time.sleep(1.1)
    connect(own, 7004).close()
    own.config.write_text(CONFIG.replace("workers = 2", "workers = 1\n" + SETTINGS))
    own.processes["control"].send_signal(1)
    time.sleep(1)


def limits(box: Box) -> dict[str, int]:
    """What `isthmus status` says of the limits that were hit in the last minute."""
    return {one["reason"]: one["count"] for one in status(box)["limits"] if one["recent"]}


@contextlib.contextmanager
def few_ports(box: Box) -> Iterator[None]:
    """The box has PORTS source ports meanwhile. TIME_WAIT as the image has it."""
    box.box.run("sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1")
    before = box.box.run("sysctl", "-n", "net.ipv4.ip_local_port_range").stdout.split()
    box.box.run("sysctl", "-qw", f"net.ipv4.ip_local_port_range=40000 {40000 + PORTS - 1}")
    try:
        yield
    finally:
        box.box.run("sysctl", "-qw", f"net.ipv4.ip_local_port_range={' '.join(before)}")


def test_without_ports_new_sessions_are_refused_and_old_ones_live(own: Box) -> None:
    """All ports to one origin are in use: RST, ICMPv6 for UDP, a reason, and room again within 5 s."""
    pid = status(own)["workers"][0]["pid"]
    before = limits(own).get("ports", 0)
    kept: list[socket.socket] = []
    with few_ports(own):
        refused = 0
        for _ in range(PORTS + 8):
            try:
                kept.append(connect(own, 7004, timeout=5))
            except ConnectionRefusedError:
                refused += 1
        assert refused >= 8 and len(kept) >= PORTS / 2
        wait_for(lambda: '"refused":"ports"' in own.sessions_log.read_text(), "the log's line", 3)
        # The same origin at another port has all of them still.
        connect(own, 7003, timeout=5).close()
        for sock in kept:
            sock.sendall(b"alive")
            assert sock.recv(5) == b"alive"
        wait_for(lambda: limits(own).get("ports", 0) >= before + refused, "the status to say so", 3)
        (check,) = [one for one in status(own)["checks"] if one["id"] == "limits"]
        assert check["state"] == "warn" and "ut of ports" in check["detail"]
        printed = own.box.run(BIN / "isthmus", "--runtime", own.runtime, "status").stdout
        assert "out of ports" in printed
        for sock in kept:
            sock.close()
        begun = time.monotonic()

        def again() -> bool:
            with contextlib.suppress(OSError):
                connect(own, 7004, timeout=2).close()
                return True
            return False

        wait_for(again, "recovery", 5)
        assert time.monotonic() - begun < 5
    assert status(own)["workers"][0]["pid"] == pid, "the worker lived on"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_without_descriptors_new_sessions_are_refused_and_old_ones_live(own: Box) -> None:
    """The process's descriptors run out: RST with a reason in the log, and room again within 5 s."""
    pid = status(own)["workers"][0]["pid"]
    own.config.write_text(CONFIG.replace("workers = 2", "workers = 1"))
    own.processes["control"].send_signal(1)
    time.sleep(1)
    kept: list[socket.socket] = []
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, limits[1]))
    time.sleep(1.1)  # the worker looks once a second
    try:
        refused = 0
        for _ in range(DESCRIPTORS):
            try:
                kept.append(connect(own, 7004, timeout=5))
            except OSError:
                refused += 1
        assert refused > DESCRIPTORS / 5
        assert len(kept) > DESCRIPTORS / 4
        before = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) - before < 0.5, "the worker spins"
        alive = 0
        for sock in kept:
            try:
                sock.sendall(b"alive")
                alive += sock.recv(5) == b"alive"
            except ConnectionResetError:
                pass  # its handshake was done when the last descriptor went: reset, not left hanging
        assert alive >= len(kept) - 2
        assert '"refused":"descriptors"' in own.sessions_log.read_text()
        for sock in kept:
            sock.close()
        kept.clear()
        begun = time.monotonic()

        def again() -> bool:
            with contextlib.suppress(OSError):
                connect(own, 7004, timeout=2).close()
                return True
            return False

        wait_for(again, "recovery", 5)
        assert time.monotonic() - begun < 5
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        for sock in kept:
            sock.close()
    assert status(own)["workers"][0]["pid"] == pid, "the worker lived on"


def address_space(pid: int) -> int:
    """Octets of it that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_without_memory_new_sessions_are_refused_and_the_worker_lives(own: Box) -> None:
    """The worker may not have one more octet: it refuses, says so, keeps what it has, and recovers."""
    pid = status(own)["workers"][0]["pid"]
    own.config.write_text(CONFIG.replace("workers = 2", "workers = 1\nmax_sessions_per_client = 100000"))
    own.processes["control"].send_signal(1)
    time.sleep(1)
    kept: list[socket.socket] = []
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (address_space(pid), before[1]))
    try:
        failed = 0
        for _ in range(MOST_SESSIONS):
            try:
                kept.append(connect(own, 7004, timeout=3))
            except OSError:
                failed += 1
                if failed >= 30:
                    break
        try:
            wait_for(lambda: limits(own).get("memory", 0) > 0, "the status to say so", 3)
        except AssertionError:
            print(own.log("proxy"))
            raise
        alive = 0
        for sock in kept:
            with contextlib.suppress(OSError):
                sock.settimeout(3)
                sock.sendall(b"alive")
                alive += sock.recv(5) == b"alive"
        assert alive >= len(kept) - failed - 5, (alive, len(kept), failed)
        for sock in kept[: len(kept) // 2]:
            sock.close()
        begun = time.monotonic()

        def again() -> bool:
            with contextlib.suppress(OSError):
                connect(own, 7004, timeout=2).close()
                return True
            return False

        wait_for(again, "recovery", 5)
        assert time.monotonic() - begun < 5
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, before)
        for sock in kept:
            sock.close()
    assert status(own)["workers"][0]["pid"] == pid, "the worker lived on"
