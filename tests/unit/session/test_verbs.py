"""The history's socket: answers with the types of the interface file, and refusals in words."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlError, call
from appliance.session.keeper import Keeper
from appliance.session.verbs import MAX_QUESTION, Interface, Server
from tests.unit.session.rows import CARRIED, DENIED, line

BEGIN = 1_800_000_000
EXPORT = {
    "kind": "syslog", "target": "tls://a.example:6514", "up": False, "waiting": 3, "sent": 2, "dropped": 1,
    "problem": "gone",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The socket over a history of two sessions."""
    log = tmp_path / "sessions.jsonl"
    log.write_bytes(line(user="ann") + line(DENIED))
    keeper = Keeper(tmp_path, log)
    keeper.retention = 1e9
    keeper.turn(0.0, BEGIN + 10.0)
    with Server(tmp_path / "history.sock", Interface(keeper, lambda: [EXPORT])) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tmp_path / "history.sock"
        server.shutdown()
        thread.join()
    keeper.close()


def ask(path: Path, method: str, **parameters: Any) -> dict[str, Any]:
    return call(path, f"org.isthmus.history.{method}", parameters)


def test_a_search(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    page = ask(path, "Search", filters={}, cursor=None, limit=1)
    (newest,) = page["rows"]
    assert (newest["time"], newest["outcome"], newest["user"]) == (1_800_000_001.5, "denied", None)
    page = ask(path, "Search", filters={}, cursor=page["cursor"], limit=50)
    (oldest,) = page["rows"]
    assert page["cursor"] == ""
    for key in ("client", "server", "server_port", "origin", "name", "rule", "age", "bytes_to_wan", "time"):
        assert oldest[key] == CARRIED[key]
    assert ask(path, "Search", filters={"user": "ann", "since": BEGIN}, limit=5)["rows"] == [oldest]
    assert ask(path, "Search", filters={"user": None, "text": "no-ads"}, limit=5)["rows"] == [newest]


def test_sums(path: Path) -> None:
    (one,) = ask(path, "Top", by="user", since=BEGIN, until=BEGIN + 10, limit=5)["sums"]
    assert one == {"key": "ann", "sessions": 1, "refused": 0, "bytes_to_wan": 1_000, "bytes_to_lan": 20_000}
    found = ask(path, "Top", by="client", since=BEGIN, until=BEGIN + 10, measure="refused", limit=1)["sums"]
    assert [one["key"] for one in found] == ["fd00:1::3"]
    (point,) = ask(path, "Series", by=None, key=None, since=BEGIN, until=BEGIN + 1, step=3_600)["points"]
    assert (point["start"], point["sessions"], point["refused"]) == (BEGIN, 2, 1)
    (point,) = ask(path, "Series", by="rule", key="no-ads", since=BEGIN, until=BEGIN + 1, step=3_600)[
        "points"
    ]
    assert point["sessions"] == 1


def test_the_status(path: Path) -> None:
    status = ask(path, "GetStatus")["status"]
    assert (status["rows"], status["behind"], status["garbage"], status["problem"]) == (2, 0, 0, None)
    assert status["exports"] == [EXPORT]


def test_erasing(path: Path) -> None:
    assert ask(path, "Erase") == {}
    assert ask(path, "Search", filters={}, limit=5)["rows"] == []


@pytest.mark.parametrize(
    ("method", "parameters", "words"),
    [
        ("Search", {"filters": {"outcome": "well"}, "limit": 5}, "no outcome"),
        ("Search", {"filters": {}, "limit": 0}, "no page"),
        ("Search", {"filters": {}, "cursor": "x", "limit": 5}, "no cursor"),
        ("Top", {"by": "kind", "since": 0, "until": 1, "limit": 5}, "nothing to sum by"),
        ("Series", {"since": 0, "until": 1e12, "step": 3_600}, "no chart"),
    ],
)
def test_what_is_refused_is_said(path: Path, method: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ControlError, match=words) as refused:
        ask(path, method, **parameters)
    assert refused.value.code == "org.isthmus.history.Refused"
    assert refused.value.hint


def test_without_a_database(path: Path) -> None:
    (path.parent / "history.db").unlink()
    with pytest.raises(ControlError, match="cannot be read"):
        ask(path, "Search", filters={}, limit=5)


@pytest.mark.parametrize(
    "rubbish", [b"\0", b"[]\0", b"\xff\0", b"x" * (MAX_QUESTION + 1), b'{"method": 3}\0']
)
def test_rubbish_ends_the_connection_alone(path: Path, rubbish: bytes) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        try:
            sock.sendall(rubbish)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4_096):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert ask(path, "GetStatus")["status"]["rows"] == 2


def test_questions_while_rows_come(path: Path, tmp_path: Path) -> None:
    """Readers neither wait for the writer nor see half of what it does."""
    stop = threading.Event()
    keeper = Keeper(tmp_path, tmp_path / "other.jsonl")
    keeper.retention = 1e9
    (tmp_path / "other.jsonl").write_bytes(b"")

    def write() -> None:
        with (tmp_path / "other.jsonl").open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(line() * 10)
                keeper.turn(0.0, BEGIN + 10.0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = []
        for _ in range(30):
            (point,) = ask(path, "Series", since=BEGIN, until=BEGIN + 1, step=3_600)["points"]
            counts.append(point["sessions"])
    finally:
        stop.set()
        writer.join()
        keeper.close()
    assert counts == sorted(counts)
