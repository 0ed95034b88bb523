"""Bandwidth by group: whoever is in it, by whatever way, and nobody else; shared over all workers.

alice, bob: staff, one rate for all     client fd00:1::2 --- worker 0 --- [ box ] --- files.example
dan, eve: pupils, a rate for each       client fd00:1::3 --- worker 1 ---
ann: of no group
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher

from tests.netns.conftest import SERVER, Box, needs_root
from tests.netns.explicit import BOX, FILES, box_certificate, curl, running
from tests.netns.hosts import connect
from tests.netns.test_policy import last_row

pytestmark = [pytest.mark.netns, needs_root]

ONE, OTHER = "fd00:1::2", "fd00:1::3"
RATE = 500_000  # octets a second
FILE = 1_500_000
# Seconds that the file takes, less what comes at once: the kernel's buffers, and the proxy's.
LEAST, MOST = 0.6 * FILE / RATE, 1.6 * FILE / RATE
# And that two take of one rate; in the first of them the other worker is not heard of yet.
SHARED = 1.33 * FILE / RATE
PASSWORD = "a good deal of room"
LIMITS = f"""
[[limit]]
name = "staff"
groups = ["staff"]
each = "all"
kbit_per_second = {RATE * 8 // 1000}
[[limit]]
name = "pupils"
groups = ["pupils"]
each = "user"
kbit_per_second = {RATE * 8 // 1000}
[[group]]
name = "pupils"
[[group]]
name = "guests"
"""
WAYS = {
    "http": ("http", 3131, "http"),
    "http-tls": ("https", 3130, "http"),
    "connect": ("http", 3131, "https"),
    "connect-tls": ("https", 3130, "https"),
    "socks": ("socks5h", 3131, "http"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box of two workers, with users."""
    folder = tmp_path_factory.mktemp("bandwidth")
    word = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(PASSWORD)
    users = "".join(
        f'[[user]]\nname = "{name}"\ngroups = {groups}\npassword = "{word}"\n'
        for name, groups in (
            ("bob", '["staff"]'),
            ("dan", '["pupils"]'),
            ("eve", '["pupils"]'),
            ("ann", '["guests"]'),
        )
    )
    with running(folder, LIMITS + users) as box:
        (folder / "www" / "file").write_bytes(bytes(FILE))
        for user in ("bob", "dan", "eve", "ann"):
            fetched(box, user, path="")  # a password is verified once
        yield box


def fetched(box: Box, user: str, way: str = "http", source: str = ONE, path: str = "file") -> float:
    """Seconds in which a user has the file."""
    scheme, port, origin = WAYS[way]
    proxy = f"{scheme}://{user}:{PASSWORD.replace(' ', '%20')}@{BOX}:{port}"
    words = ("--interface", source, "-o", "/dev/null", "--fail", "-k", "--proxy-cacert", box_certificate(box))
    done = curl(box, *words, "-w", "%{time_total}\n", "-x", proxy, f"{origin}://{FILES}/{path}")
    assert done.returncode == 0, done.stderr
    return sum(map(float, done.stdout.split()))


def together(*tasks: Callable[[], float]) -> list[float]:
    """The seconds of each, all at once."""
    with ThreadPoolExecutor() as pool:
        return [task.result() for task in [pool.submit(task) for task in tasks]]


def by_socks(box: Box, user: str, words: bytes) -> socket.socket:
    """A connection that SOCKS has granted ``words``, up to its port."""

    def make() -> socket.socket:
        sock = socket.create_connection(("fd00:1::1", 3131), 20, (ONE, 0))
        sock.sendall(b"\5\1\2")
        sock.recv(2)
        sock.sendall(bytes((1, len(user))) + user.encode() + bytes((len(PASSWORD),)) + PASSWORD.encode())
        assert sock.recv(2) == b"\1\0"
        sock.sendall(b"\5" + words)
        return sock

    return box.client.call(make)


@pytest.mark.parametrize("way", WAYS)
def test_one_of_the_group_has_all_of_it(own: Box, way: str) -> None:
    """Though there are two workers, and the other one's part is nobody's."""
    seconds = fetched(own, "bob", way)
    assert LEAST < seconds < MOST


def test_who_is_not_in_it_is_not_slowed_down(own: Box) -> None:
    slow, fast = together(lambda: fetched(own, "bob"), lambda: fetched(own, "ann"))
    assert fast < slow / 3


@pytest.mark.parametrize("way", ["http", "http-tls"])
def test_many_small_files_on_one_connection(own: Box, way: str) -> None:
    """Each is in the kernel's buffer as a whole when its exchange is over, and paced all the same."""
    part = own.config.parent.parent / "www" / "part"
    part.write_bytes(bytes(FILE // 10))
    assert LEAST < fetched(own, "bob", way, path="part?[1-10]") < MOST


def test_the_next_user_of_a_connection_has_no_rate_of_the_one_before(own: Box) -> None:
    def asked(sock: socket.socket, user: str) -> float:
        credentials = b64encode(f"{user}:{PASSWORD}".encode()).decode()
        begun = time.monotonic()
        sock.sendall(
            f"GET http://{FILES}/file HTTP/1.1\r\nHost: {FILES}\r\n"
            f"Proxy-Authorization: Basic {credentials}\r\n\r\n".encode()
        )
        with sock.makefile("rb") as answer:
            assert b" 200 " in answer.readline()
            while answer.readline().strip():
                pass
            assert len(answer.read(FILE)) == FILE
        return time.monotonic() - begun

    with connect(own, 3131, BOX.strip("[]")) as sock:
        assert asked(sock, "bob") > LEAST
        assert asked(sock, "ann") < LEAST / 3
        assert asked(sock, "bob") > LEAST


def test_two_of_the_group_share_it_over_the_workers(own: Box) -> None:
    seconds = together(lambda: fetched(own, "bob", source=ONE), lambda: fetched(own, "bob", source=OTHER))
    assert max(seconds) > SHARED
    rows = [last_row(own, user="bob", client=client) for client in (ONE, OTHER)]
    assert {row["worker"] for row in rows} == {0, 1}


def test_each_user_of_a_group_has_a_rate_of_its_own(own: Box) -> None:
    seconds = together(lambda: fetched(own, "dan"), lambda: fetched(own, "eve", source=OTHER))
    assert LEAST < min(seconds) <= max(seconds) < MOST


def test_a_user_at_two_workers_has_it_once(own: Box) -> None:
    seconds = together(lambda: fetched(own, "dan"), lambda: fetched(own, "dan", source=OTHER))
    assert max(seconds) > SHARED


def test_what_the_group_sends(own: Box) -> None:
    with by_socks(own, "bob", b"\1\0\1" + socket.inet_aton(SERVER) + struct.pack("!H", 7002)) as sock:
        assert sock.recv(10)[:2] == b"\5\0"
        begun = time.monotonic()
        sock.sendall(bytes(FILE))
        sock.shutdown(socket.SHUT_WR)
        assert len(sock.recv(64)) == 64, "the digest"
        assert time.monotonic() - begun > LEAST


def test_datagrams_of_the_group(own: Box) -> None:
    """What is more than the rate, and a second of it at once, is lost each way."""
    with (
        by_socks(own, "bob", b"\3\0\1" + bytes(6)) as control,
        own.client.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as sock,
    ):
        (port,) = struct.unpack("!H", control.recv(100)[20:22])
        sock.bind((ONE, 0))
        sock.settimeout(1)
        begun = time.monotonic()
        header = b"\0\0\0\1" + socket.inet_aton(SERVER) + struct.pack("!H", 7101)
        for _ in range(4):
            for _ in range(500):
                sock.sendto(header + bytes(1_000), ("fd00:1::1", port))
            time.sleep(0.02)  # for the sockets on the way
        back = 0
        with contextlib.suppress(TimeoutError):
            while sock.recv(2_000):
                back += 1
        seconds = time.monotonic() - begun
    assert 50 <= back <= (RATE + RATE * seconds) / 1_000
