"""The daemon: what it serves and says, how it follows its configuration, a disk that is really full."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.session.tables import Tables
from tests.unit.lists.servers import answer, serving

PATIENCE = 30.0  # seconds; a test that is well waits for none of them


class Daemon:
    """isthmus-lists with its folders."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config.toml"
        self.runtime = folder / "run"
        self.state = folder / "state"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, **sources: str) -> None:
        lists = [f'[[name_list]]\nname = "{name}"\nsource = "{source}"\n' for name, source in sources.items()]
        self.config.write_text("schema_version = 1\n" + "".join(lists))

    def start(self, most: int = resource.RLIM_INFINITY) -> None:
        """``most``: octets that a file may have."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "appliance.lists.main", "--config", self.config,
                    "--runtime", self.runtime, "--state", self.state,
                ],
                stderr=log,
                preexec_fn=limit,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def status(self) -> dict[str, dict[str, Any]]:
        try:
            lists = json.loads((self.runtime / "lists" / "status.json").read_text())["lists"]
        except FileNotFoundError:
            return {}
        return {one["name"]: one for one in lists}

    def wait(self, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds(self.status()):
            assert time.monotonic() < deadline, (self.status(), self.log.read_text())
            time.sleep(0.02)

    def has(self, name: str) -> bool:
        tables = Tables(self.runtime / "lists" / "tables")
        tables.refresh(0.0)
        return any(table.find(name) for table in tables.values())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_lists_are_fetched_followed_and_dropped(daemon: Daemon) -> None:
    with serving(answer(b"ads.example\n")) as server:
        daemon.configure(ads=server.url)
        daemon.start()
        daemon.wait(lambda lists: lists["ads"]["state"] == "good" if lists else False)
        assert daemon.has("ads.example") and daemon.status()["ads"]["names"] == 1
        for path in (daemon.runtime / "lists").rglob("*.*"):
            assert path.stat().st_mode & 0o777 == 0o640, path
        server.handler = answer(b"new.example\n")
        daemon.signal(signal.SIGUSR1)
        daemon.wait(lambda _: daemon.has("new.example"))
        own = daemon.config.with_name("own.txt")
        own.write_text("own.example\n")
        daemon.configure(own=str(own))
        daemon.signal(signal.SIGHUP)
        daemon.wait(lambda lists: lists.keys() == {"own"} and lists["own"]["state"] == "good")
        assert daemon.has("own.example") and not daemon.has("new.example")
        assert not (daemon.state / "ads.table").exists()
        daemon.config.write_text("nonsense")
        daemon.signal(signal.SIGHUP)
        daemon.wait(lambda _: "the old configuration stays" in daemon.log.read_text())
        assert daemon.stop() == 0 and daemon.has("own.example")


def test_the_kept_copy_serves_where_nothing_can_be_fetched(daemon: Daemon) -> None:
    with serving(answer(b"ads.example\n")) as server:
        daemon.configure(ads=server.url)
        daemon.start()
        daemon.wait(lambda lists: lists["ads"]["state"] == "good" if lists else False)
        daemon.stop()
    for path in (daemon.runtime / "lists" / "tables").iterdir():
        path.unlink()
    daemon.start()
    daemon.wait(lambda lists: bool(lists) and daemon.has("ads.example"))


def test_a_full_disk_leaves_the_last_good_copy(daemon: Daemon) -> None:
    with serving(answer(b"ads.example\n")) as server:
        daemon.configure(ads=server.url)
        daemon.start(most=100_000)
        daemon.wait(lambda lists: lists["ads"]["state"] == "good" if lists else False)
        many = b"".join(b"n%d.example\n" % number for number in range(20_000))
        server.handler = answer(many)
        daemon.signal(signal.SIGUSR1)
        daemon.wait(lambda lists: bool(lists["ads"]["problem"]))
        assert (
            "the new copy cannot be stored: File too large; the copy of " in daemon.status()["ads"]["problem"]
        )
        assert daemon.has("ads.example") and daemon.status()["ads"]["state"] == "old"
        assert "isthmus-lists: ads: the new copy cannot be stored" in daemon.log.read_text()
        assert not list(daemon.runtime.rglob("*.new"))


def silent(connection: socket.socket, _request: bytes) -> None:
    connection.recv(1)


def test_a_slow_server_holds_no_other_list_up(daemon: Daemon) -> None:
    with serving(silent) as slow, serving(answer(b"a.example\n")) as fast:
        daemon.configure(slow=slow.url, fast=fast.url)
        daemon.start()
        daemon.wait(lambda lists: lists["fast"]["state"] == "good" if lists else False)
        assert daemon.status()["slow"]["busy"] and daemon.status()["slow"]["state"] == "none"
        assert daemon.stop() == 0  # though a fetch is on its way


def test_what_is_wrong_at_the_start_is_said(daemon: Daemon) -> None:
    daemon.config.write_text("nonsense")
    daemon.start()
    assert daemon.process is not None and daemon.process.wait(PATIENCE) == 2
    daemon.configure()
    daemon.state.write_text("a file where the folder should be")
    daemon.start()
    assert daemon.process.wait(PATIENCE) == 3
    assert f"isthmus-lists: {daemon.state} cannot be used" in daemon.log.read_text()
    assert os.path.isfile(daemon.state)
