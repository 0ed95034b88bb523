"""Caps that are the box's hold over its workers, whichever of them a client is steered to."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.netns.conftest import CONFIG, SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import serving, status

pytestmark = [pytest.mark.netns, needs_root]

MOST = 16
NEW = 24
CLIENTS = [f"fd00:1::a:{number:x}" for number in range(40)]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box of two workers, and many clients."""
    with Box(tmp_path_factory.mktemp("in-all")) as box:
        box.config.write_text(CONFIG.replace("workers = 2", f"workers = 2\nmax_sessions = {MOST}"))
        box.start_control()
        box.start_proxy()
        for address in CLIENTS:
            box.client.run("ip", "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
        with serving(box):
            yield box


def session_from(box: Box, address: str) -> socket.socket | None:
    """A session of that client's; None where it is refused."""

    def connected() -> socket.socket | None:
        sock = socket.socket(socket.AF_INET6)
        sock.settimeout(5)
        sock.bind((address, 0))
        try:
            sock.connect((SERVER6, 7004))
        except OSError:
            sock.close()
            return None
        return sock

    return box.client.call(connected)


def test_sessions_in_all(own: Box) -> None:
    with contextlib.ExitStack() as stack:
        held = [sock for address in CLIENTS if (sock := session_from(own, address)) is not None]
        for sock in held:
            stack.enter_context(sock)
        # The health check's own session may be among them for a moment.
        assert MOST - 1 <= len(held) <= MOST
        workers = [one["sessions"] for one in status(own)["workers"]]
        assert all(workers), f"all came to one worker: {workers}"
        for sock in held:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
    wait_for(lambda: sum(one["sessions"] for one in status(own)["workers"]) == 0, "the ends", 10)
    again = session_from(own, CLIENTS[-1])
    assert again is not None
    again.close()


def test_new_sessions_in_a_second_in_all(own: Box) -> None:
    own.config.write_text(CONFIG.replace("workers = 2", f"workers = 2\nmax_new = {NEW}"))
    own.processes["control"].send_signal(1)
    time.sleep(1.5)
    # From the beginning of a second on, so that all of them fall into one.
    time.sleep(1.05 - time.monotonic() % 1)
    begun = int(time.monotonic())
    found = [session_from(own, address) for address in CLIENTS]
    ended = int(time.monotonic())
    came = [sock for sock in found if sock is not None]
    for sock in came:
        sock.close()
    assert NEW / 2 <= len(came) <= NEW * (1 + ended - begun)
    if begun == ended:
        assert len(came) < len(CLIENTS)
