"""A new configuration, a new program, more and fewer workers: under traffic, and nothing is lost."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from appliance.control.client import ControlError, call
from tests.netns.conftest import CONFIG, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, serving, sessions, status, udp_socket

pytestmark = [pytest.mark.netns, needs_root]

RELOADS = 100
UPGRADES = 5
PATIENCE = 40  # seconds for a SYN that is held over an upgrade
SLOW = 4.0  # seconds, of which the program's start takes half
LOST = 5.0  # seconds after which a datagram is; a hand-over on a busy machine makes one wait
CLIENTS = ("fd00:1::2", "fd00:1::3", "fd00:1::4", "fd00:1::5")
QUIET = "fd00:1::6"  # has no traffic but what a test says


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that no other test shares: its configuration changes."""
    with Box(tmp_path_factory.mktemp("lifecycle")) as box:
        for address in (*CLIENTS[2:], QUIET):
            box.client.run("ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        box.start_control()
        box.start_proxy()
        with serving(box):
            yield box


def reload(box: Box) -> str | None:
    """The proxy's word on the configuration file: None, or what is wrong with it."""
    found = call(box.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)
    problem: str | None = found["problem"]
    return problem


class Traffic:
    """Clients that open sessions all the time, and some that keep theirs."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._ending = threading.Event()
        self.problems: list[str] = []
        self.made = itertools.count()
        self.done = 0

    def _short(self, source: str) -> None:
        while not self._ending.is_set():
            place: object = "no port yet"
            try:
                with socket.create_connection((SERVER6, 7004), 10, (source, 0)) as sock:
                    place = sock.getsockname()[1]
                    sock.sendall(b"short")
                    if sock.recv(5) != b"short":
                        raise OSError("ended early")
                self.done += 1
            except OSError as error:
                self.problems.append(f"a new session from {source}, {place}: {error}")

    def _long(self, source: str) -> None:
        try:
            with socket.create_connection((SERVER6, 7004), 10, (source, 0)) as sock:
                while not self._ending.is_set():
                    sock.sendall(b"x" * 9000)
                    left = 9000
                    while left:
                        data = sock.recv(left)
                        if not data:
                            raise OSError("ended early")
                        left -= len(data)
        except OSError as error:
            self.problems.append(f"the kept session of {source}: {error}")

    def _datagrams(self, source: str) -> None:
        seen = set()
        lost = 0
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.settimeout(LOST)
            while not self._ending.is_set():
                sock.sendto(b"ping", (SERVER6, 7101))
                try:
                    seen.add(sock.recv(100).split(b" ")[1])
                except TimeoutError:
                    lost += 1
                time.sleep(0.002)
        if len(seen) != 1:
            self.problems.append(f"the server saw UDP ports {seen} of one client port")
        if lost:
            self.problems.append(f"{lost} datagrams of {source} were lost")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Traffic while the body runs; afterwards nothing may have gone wrong."""
        kinds = (self._short, self._long, self._datagrams)
        work = [partial(kind, client) for kind in kinds for client in CLIENTS]
        threads = [threading.Thread(target=self._box.client.call, args=[one]) for one in work]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.5)
            yield
            time.sleep(0.5)
        finally:
            self._ending.set()
            for thread in threads:
                thread.join(30)
        assert not self.problems, (self.problems[:5], self._odd_ends()[-5:])
        assert self.done > 100

    def _odd_ends(self) -> list[str]:
        """The log's lines of what did not end by both sides' word."""
        lines = self._box.sessions_log.read_text().splitlines()
        return [line for line in lines if '"end":"closed"' not in line and '"kind":"udp"' not in line]


def test_a_hundred_reloads_under_traffic_lose_nothing(own: Box) -> None:
    traffic = Traffic(own)
    with traffic.running():
        for number in range(RELOADS):
            own.config.write_text(CONFIG.replace("dial = 4", f"dial = {4 + number % 3}"))
            assert reload(own) is None
    own.config.write_text(CONFIG)
    assert reload(own) is None


def test_what_a_reload_brings_is_in_force(own: Box) -> None:
    own.config.write_text(CONFIG.replace("[proxy]", "[proxy]\nmax_sessions_per_client = 3"))
    assert reload(own) is None
    before = status(own)["counters"]["limited"]
    try:
        kept = [connect(own, 7004, source=QUIET) for _ in range(3)]
        with pytest.raises(ConnectionRefusedError):
            connect(own, 7004, source=QUIET)
        assert status(own)["counters"]["limited"] == before + 1
        for sock in kept:
            sock.close()
    finally:
        own.config.write_text(CONFIG)
        assert reload(own) is None
    connect(own, 7004).close()


def test_a_bad_configuration_is_refused_and_the_old_one_stays(own: Box) -> None:
    own.config.write_text(CONFIG.replace("workers = 2", "workers = 2000\nworker = 1"))
    try:
        problem = reload(own)
        assert problem is not None
        assert "proxy.workers" in problem
        assert "proxy.worker:" in problem
        connect(own, 7004).close()
    finally:
        own.config.write_text(CONFIG)


def workers(box: Box) -> list[dict[str, int]]:
    """The proxy's own list."""
    found: list[dict[str, int]] = call(
        box.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.GetStatus", {}, 10
    )["workers"]
    return found


def replaced(box: Box, old: set[int]) -> bool:
    """None of the ``old`` processes takes anything new up."""
    try:
        return not old & {worker["pid"] for worker in workers(box) if not worker["draining"]}
    except ControlError:
        return False  # a question in the moment of the exec is cut off


def test_a_worker_that_is_slow_at_a_reload_stays_and_one_that_hangs_does_not(own: Box) -> None:
    before = {worker["pid"] for worker in workers(own)}
    slow, hung = sorted(before)[:2]
    for pid in (slow, hung):
        os.kill(pid, signal.SIGSTOP)
    threading.Timer(2.0, os.kill, (slow, signal.SIGCONT)).start()
    assert reload(own) is None
    wait_for(lambda: replaced(own, {hung}) and len(workers(own)) == len(before), "an heir")
    assert before - {hung} < {worker["pid"] for worker in workers(own)}


def test_a_late_answer_is_not_taken_for_the_next_one(own: Box) -> None:
    """A worker that was busy when it was asked for its state answers that before it lists its sessions."""
    pids = [worker["pid"] for worker in workers(own)]
    with connect(own, 7004, source=QUIET) as sock:
        for _ in range(3):
            os.kill(pids[0], signal.SIGSTOP)
            try:
                workers(own)
            finally:
                os.kill(pids[0], signal.SIGCONT)
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            assert QUIET in [one["client"] for one in sessions(own)["sessions"]]
    assert [worker["pid"] for worker in workers(own)] == pids


@pytest.mark.slow
def test_a_new_program_takes_over_without_losing_a_session(own: Box) -> None:
    """Held SYNs, relays and UDP bindings outlive the exec of the supervisor and all its workers."""
    proxy = own.processes["proxy"]
    # A SYN that is held meanwhile: its server's way opens only after the first hand-over, and that takes a
    # busy machine some seconds.
    own.config.write_text(CONFIG.replace("dial = 4", f"dial = {PATIENCE}"))
    assert reload(own) is None
    own.server.run("ip", "route", "add", "blackhole", "192.31.200.9")
    slow: list[socket.socket] = []
    dialling = threading.Thread(
        target=lambda: own.client.call(
            lambda: slow.append(socket.create_connection(("64:ff9b::192.31.200.9", 7001), PATIENCE))
        )
    )
    dialling.start()
    traffic = Traffic(own)
    with traffic.running():
        for number in range(UPGRADES):
            old = {worker["pid"] for worker in workers(own)}
            proxy.send_signal(signal.SIGUSR2)
            wait_for(partial(replaced, own, old), "new workers")
            if number == 0:
                own.server.run("ip", "route", "del", "blackhole", "192.31.200.9")
                own.server.run("ip", "addr", "add", "192.31.200.9/32", "dev", "lo")
    dialling.join(PATIENCE)
    own.config.write_text(CONFIG)
    assert reload(own) is None
    assert slow, own.log("proxy")
    slow[0].close()
    assert proxy.poll() is None
    wait_for(lambda: not any(worker["draining"] for worker in workers(own)), "the old workers' end", 5)
    assert len(workers(own)) == 2


def test_a_worker_that_is_slow_to_hand_over_keeps_its_sessions(own: Box) -> None:
    """It stands still for as long as a busy one that has thousands of flows to hand over."""
    proxy = own.processes["proxy"]
    with connect(own, 7004, source=QUIET) as kept:
        old = [worker["pid"] for worker in workers(own)]
        for pid in old:
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(SLOW, os.kill, (pid, signal.SIGCONT)).start()
        proxy.send_signal(signal.SIGUSR2)
        wait_for(lambda: replaced(own, set(old)), "new workers")
        kept.sendall(b"alive")
        assert kept.recv(5) == b"alive", own.log("proxy")
    wait_for(lambda: not any(worker["draining"] for worker in workers(own)), "the old workers' end", 5)


def test_a_program_that_cannot_serve_does_not_take_over(own: Box) -> None:
    before = workers(own)
    own.config.write_text("schema_version = 7")
    try:
        own.processes["proxy"].send_signal(signal.SIGUSR2)
        wait_for(lambda: "cannot serve" in own.log("proxy"), "the refusal")
        assert [w["pid"] for w in workers(own)] == [w["pid"] for w in before]
    finally:
        own.config.write_text(CONFIG)


def test_draining_ends_at_its_deadline(own: Box) -> None:
    own.config.write_text(CONFIG + "drain = 1\n")
    assert reload(own) is None
    try:
        with connect(own, 7004) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            own.processes["proxy"].send_signal(signal.SIGUSR2)
            sock.settimeout(6)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
    finally:
        own.config.write_text(CONFIG)
        assert reload(own) is None


def test_a_session_of_a_worker_that_drains_is_killed_and_no_other(own: Box) -> None:
    """Its successor has the same index, and counts from one again."""

    def listed() -> set[str]:
        return {one["id"] for one in sessions(own, "--search", "7004")["sessions"]}

    old = {worker["pid"] for worker in workers(own)}
    with connect(own, 7004) as before:
        before.sendall(b"x")
        assert before.recv(1) == b"x"
        own.processes["proxy"].send_signal(signal.SIGUSR2)
        wait_for(partial(replaced, own, old), "new workers")
        (first,) = listed()
        with connect(own, 7004) as after:
            after.sendall(b"x")
            assert after.recv(1) == b"x"
            (second,) = listed() - {first}
            killed = call(own.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Kill", {"id": first}, 10)
            assert killed == {"killed": True}
            before.settimeout(5)
            with pytest.raises(ConnectionResetError):
                before.recv(1)
            assert listed() == {second}
            after.sendall(b"y")
            assert after.recv(1) == b"y"


def test_fewer_and_more_workers(own: Box) -> None:
    """Control builds the devices, the proxy follows; sessions of a worker that goes are not cut."""
    own_control = own.processes["control"]
    kept = [connect(own, 7004, source=source) for source in CLIENTS]
    for count in (1, 3, 2):
        own.config.write_text(CONFIG.replace("workers = 2", f"workers = {count}"))
        own_control.send_signal(signal.SIGHUP)
        wait_for(
            partial(lambda count: len([w for w in workers(own) if not w["draining"]]) == count, count),
            f"{count} workers",
        )
        for source in CLIENTS:
            with connect(own, 7004, source=source) as sock:
                sock.sendall(b"new")
                assert sock.recv(3) == b"new"
        for sock in kept:
            sock.sendall(b"kept")
            assert sock.recv(4) == b"kept"
    assert sessions(own, "--search", "7004")["total"] >= len(kept)
    for sock in kept:
        sock.close()
    wait_for(
        lambda: "isth2" not in own.box.run("ip", "-o", "link").stdout, "the third worker's device to go", 5
    )
    with udp_socket(own) as sock:
        sock.sendto(b"still", (SERVER6, 7101))
        assert sock.recv(100).endswith(b"still")
