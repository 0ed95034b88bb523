"""A list's table whatever its server does: the last good copy stays in use, and the reason is in words."""

from __future__ import annotations

import gzip
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from appliance.config.rules import NameList
from appliance.lists import keeper as keeper_module
from appliance.lists.fetch import Waits
from appliance.lists.keeper import FILE_LOOK, FIRST_RETRY, MAX_RETRY, Folders, Keeper
from appliance.policy import name_table
from appliance.session.tables import Tables
from tests.unit.lists.servers import Handler, Server, answer, serving

GOOD = b"ads.example\ntrack.example\n"
WAITS = Waits(connect=5, silence=0.3, whole=1.0)
NOW = 1_795_000_000.0


class Kept:
    """A keeper with its folders, and what workers see of it."""

    def __init__(self, folder: Path, source: str, **settings: Any) -> None:
        self.folders = Folders(folder / "served", folder / "kept")
        for path in (self.folders.served, self.folders.kept):
            path.mkdir(exist_ok=True)
        self.settings = NameList(name="ads", source=source, **settings)
        self.now = NOW
        self.keeper = Keeper(self.settings, self.folders, WAITS)

    def restart(self) -> None:
        """As after a reboot: the served table was in memory."""
        for path in self.folders.served.iterdir():
            path.unlink()
        self.keeper = Keeper(self.settings, self.folders, WAITS)

    def refresh(self) -> dict[str, Any]:
        self.now += 10
        self.keeper.refresh(self.now)
        return self.keeper.status()

    def has(self, name: str) -> bool:
        tables = Tables(self.folders.served)
        tables.refresh(0.0)
        return "ads" in tables and bool(tables["ads"].find(name))


def silent(connection: socket.socket, _request: bytes) -> None:
    connection.recv(1)


def dripping(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"a.example\n")
        connection.settimeout(0.1)
        try:
            if not connection.recv(1):
                return
        except TimeoutError:
            pass


def redirecting(connection: socket.socket, request: bytes) -> None:
    path = request.split()[1].decode()
    connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {path}x\r\nContent-Length: 0\r\n\r\n".encode())


def vanishing(connection: socket.socket, _request: bytes) -> None:
    connection.close()


BOMB = gzip.compress(b"ads.example\n" * 500_000)


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (answer(b"ads.example\n" * 100_000), "the list is larger than 1 MiB (max_mib)"),
        (answer(BOMB, "Content-Encoding: gzip"), "the list is larger than 1 MiB (max_mib)"),
        (answer(gzip.compress(GOOD)[:-9], "Content-Encoding: gzip"), "the list cannot be unpacked: its end"),
        (answer(b"\x1f\x8b" + bytes(30)), "the list cannot be unpacked: this is no sound gzip"),
        (answer(GOOD, "Content-Encoding: br"), "the server sends it as “br”"),
        (answer(b"<html><body>Log in to the hotel's network</body></html>"), "the list is a web page"),
        (answer(b"\x00\x01\x02\n" * 50 + GOOD, status="200 OK"), "the list is mostly lines that are not"),
        (answer(b""), "the list has no name in it"),
        (answer(b"gone", status="404 Not Found"), "the server answers 404 Not Found"),
        (answer(b"", status="304 Not Modified"), "the server says that nothing has changed, which"),
        (answer(GOOD, length=len(GOOD) + 1), "the server broke off"),
        (answer(b"", "Location: ftp://a.example/", status="301 Moved"), "is no address of the web"),
        (
            answer(b"", "Location: http://[bad/", status="301 Moved"),
            "redirects to “http://[bad/”, which is no",
        ),
        (silent, "the server says nothing"),
        (dripping, "the server needs more than 1 s for the list"),
        (redirecting, "the server redirects more than 5 times"),
        (vanishing, "the server broke off"),
        (lambda connection, _: connection.sendall(b"SSH-2.0-server\r\n"), "the server speaks no HTTP"),
        (lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nA" + b": b" * 99_999), "no HTTP"),
    ],
)
def test_a_bad_server_leaves_the_last_good_copy(tmp_path: Path, handler: Handler, words: str) -> None:
    with serving(answer(GOOD)) as server:
        kept = Kept(tmp_path, server.url, max_mib=1)
        status = kept.refresh()
        assert (status["state"], status["problem"], status["names"]) == ("good", "", 2)
        server.handler = handler
        status = kept.refresh()
        assert words in status["problem"]
        assert status["problem"].endswith("; the copy of 2026-11-18 11:06 UTC stays in use")
        assert status["state"] == "old" and kept.has("www.ads.example")
        kept.restart()
        assert kept.has("track.example")
        server.handler = answer(b"new.example\n")
        status = kept.refresh()
        assert (status["state"], status["problem"]) == ("good", "")
        assert kept.has("new.example") and not kept.has("ads.example")


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    with serving(answer(GOOD)) as server:
        kept = Kept(tmp_path, server.url)
        kept.refresh()
        server.close()
        assert "the server refuses the connection; the copy of" in kept.refresh()["problem"]
        assert kept.has("ads.example")


def test_a_name_that_is_none(tmp_path: Path) -> None:
    status = Kept(tmp_path, "http://" + "a" * 70 + ".example/").refresh()
    assert status["problem"].endswith("there is no earlier copy, so that no name is in it")
    assert status["state"] == "none"


def test_a_failed_fetch_is_tried_again_later_and_later(tmp_path: Path) -> None:
    with serving(vanishing) as server:
        kept = Kept(tmp_path, server.url)
        waits = []
        for _ in range(12):
            kept.refresh()
            waits.append(kept.keeper.due - kept.now)
        assert waits[:3] == [FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY] and waits[-1] == MAX_RETRY
        server.handler = answer(GOOD)
        kept.refresh()
        assert kept.keeper.due == kept.now + 24 * 3_600
        assert not kept.keeper.is_due(kept.now) and kept.keeper.is_due(kept.keeper.due)
        assert kept.keeper.is_due(0.0)  # the clock was wrong then


def test_it_is_fetched_anew_when_its_hours_are_over(tmp_path: Path) -> None:
    """Other hours hold from what was fetched last; a clock that is set back holds nothing up."""
    with serving(answer(GOOD)) as server:
        kept = Kept(tmp_path, server.url, refresh_hours=6)
        assert kept.keeper.is_due(kept.now)
        kept.refresh()
        fetched = kept.now
        assert not kept.keeper.is_due(fetched + 6 * 3_600 - 1)
        assert kept.keeper.is_due(fetched + 6 * 3_600)
        for hours in (24, 1):
            kept.keeper.configure(kept.settings.model_copy(update={"refresh_hours": hours}))
            assert not kept.keeper.is_due(fetched + hours * 3_600 - 1)
            assert kept.keeper.is_due(fetched + hours * 3_600)
        assert kept.keeper.is_due(fetched - 30 * 86_400)
        kept.restart()
        assert not kept.keeper.is_due(fetched + 6 * 3_600 - 1)
        assert kept.keeper.is_due(fetched + 6 * 3_600)
    assert len(server.heads) == 1


def test_nothing_is_sent_twice(tmp_path: Path) -> None:
    with serving(answer(GOOD, 'ETag: "one"', "Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT")) as server:
        kept = Kept(tmp_path, server.url)
        kept.refresh()
        assert "if-none-match" not in server.heads[0].lower()
        server.handler = answer(b"", status="304 Not Modified")
        kept.restart()
        status = kept.refresh()
        assert 'If-None-Match: "one"\r\n' in server.heads[1]
        assert "If-Modified-Since: Mon, 02 Nov 2026 10:00:00 GMT\r\n" in server.heads[1]
        assert (status["state"], status["problem"], status["fetched"]) == ("good", "", kept.now)
        # By other rules the same octets are another list.
        server.handler = answer(GOOD)
        kept.keeper.configure(kept.settings.model_copy(update={"format": "domains"}))
        assert kept.keeper.is_due(kept.now)
        kept.refresh()
        assert "if-none-match" not in server.heads[2].lower()


def test_redirects_are_followed(tmp_path: Path) -> None:
    with serving(answer(GOOD)) as server, serving(vanishing) as front:
        front.handler = answer(b"", f"Location: {server.url}", status="301 Moved")
        assert Kept(tmp_path, front.url).refresh()["state"] == "good"


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/liste-é.txt?ü=%C3%BC&b=%20", "/liste-%C3%A9.txt?%C3%BC=%C3%BC&b=%20"),  # octets of UTF-8
        ("/a list/100%.txt#top", "/a%20list/100%.txt"),
        ("?list=~a,(b);c:1", "/list?list=~a,(b);c:1"),
    ],
)
def test_a_redirect_is_quoted_as_browsers_do(tmp_path: Path, location: str, asked: str) -> None:
    def handler(connection: socket.socket, request: bytes) -> None:
        moved = answer(b"", f"Location: {location}", status="302 Found")
        (moved if request.startswith(b"GET /list HTTP") else answer(GOOD))(connection, request)

    with serving(handler) as server:
        assert Kept(tmp_path, server.url).refresh()["problem"] == ""
        assert server.heads[-1].startswith(f"GET {asked} HTTP/1.1\r\n")


def test_a_fault_of_ours_is_a_problem_with_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: Any) -> None:
        raise KeyError("not seen coming")

    monkeypatch.setattr(keeper_module, "fetch", fault)
    kept = Kept(tmp_path, "http://a.example/")
    assert kept.refresh()["problem"].startswith("a fault in the keeper of lists (KeyError); ")
    assert kept.keeper.due == kept.now + FIRST_RETRY
    kept.refresh()
    assert kept.keeper.due == kept.now + 2 * FIRST_RETRY
    assert "KeyError: 'not seen coming'" in capsys.readouterr().err


def test_no_redirect_to_plain_http_or_to_the_box_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.lists import fetch

    with pytest.raises(fetch.FetchError, match="from https to http"):
        fetch._next(fetch._parts("https://a.example/"), "http://a.example/")
    here = iter([False, True])
    monkeypatch.setattr(fetch, "_is_here", lambda _sock: next(here))
    with serving(answer(GOOD)) as server, serving(vanishing) as front:
        front.handler = answer(b"", f"Location: {server.url}", status="301 Moved")
        with pytest.raises(fetch.FetchError, match="an address of this box itself"):
            fetch.fetch(front.url, fetch.Validators(), lambda _: None, WAITS)


def test_gzip_and_chunks(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD)

    def chunked(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n")
        for at in range(0, len(packed), 7):
            piece = packed[at : at + 7]
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")

    with serving(chunked) as server:
        assert Kept(tmp_path, server.url).refresh()["names"] == 2


def test_a_file_is_followed(tmp_path: Path) -> None:
    source = tmp_path / "names.txt"
    kept = Kept(tmp_path, str(source))
    assert "the file cannot be read: No such file" in kept.refresh()["problem"]
    source.write_bytes(GOOD)
    assert kept.refresh()["state"] == "good" and kept.has("ads.example")
    assert kept.keeper.due == kept.now + FILE_LOOK
    before = (kept.folders.served / "ads.table").stat().st_ino
    kept.refresh()
    assert (kept.folders.served / "ads.table").stat().st_ino == before
    source.write_bytes(gzip.compress(b"new.example\n"))
    assert kept.refresh()["names"] == 1 and kept.has("new.example")
    source.unlink()
    status = kept.refresh()
    assert "the file cannot be read" in status["problem"] and kept.has("new.example")
    source.write_bytes(b"# nothing yet\n")
    assert kept.refresh()["problem"] == "" and not kept.has("new.example")


def test_a_source_that_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "the source is no file" in Kept(tmp_path, str(pipe)).refresh()["problem"]
    assert "the source is no file" in Kept(tmp_path, str(tmp_path)).refresh()["problem"]


class Disk:
    """A folder that can be full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full: set[Path] = set()
        replace = keeper_module._replace

        def sometimes(path: Path, *words: Any, **more: Any) -> None:
            if path.parent in self.full:
                raise OSError(28, "No space left on device")
            replace(path, *words, **more)

        monkeypatch.setattr(keeper_module, "_replace", sometimes)


def test_a_full_disk_costs_the_next_start_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    with serving(answer(GOOD, 'ETag: "one"')) as server:
        kept = Kept(tmp_path, server.url)
        kept.refresh()
        disk.full = {kept.folders.kept}
        server.handler = answer(b"new.example\n", 'ETag: "two"')
        status = kept.refresh()
        assert status["problem"] == (
            "it is in use, but cannot be kept for the next start: No space left on device"
        )
        assert status["state"] == "good" and kept.has("new.example")
        # Once there is room again it is kept, also where nothing has changed.
        disk.full = set()
        server.handler = answer(b"", status="304 Not Modified")
        assert kept.refresh()["problem"] == ""
        kept.restart()
        assert kept.has("new.example")
        disk.full = {kept.folders.served}
        server.handler = answer(GOOD)
        status = kept.refresh()
        assert "the new copy cannot be stored: No space left on device; the copy of" in status["problem"]
        assert kept.has("new.example")


def test_a_table_that_is_served_survives_a_broken_disk_and_a_restart(tmp_path: Path) -> None:
    with serving(answer(GOOD)) as server:
        kept = Kept(tmp_path, server.url)
        kept.refresh()
        (kept.folders.kept / "ads.json").write_bytes(b"\0broken")
        kept.keeper = Keeper(kept.settings, kept.folders, WAITS)
        assert kept.has("ads.example") and kept.keeper.is_due(kept.now)


def test_too_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_table, "MAX_NAMES", 1)
    with serving(answer(GOOD)) as server:
        assert Kept(tmp_path, server.url).refresh()["problem"].startswith("the list has more than 1 names; ")


def test_settings_that_change_during_a_fetch(tmp_path: Path) -> None:
    with serving(answer(GOOD)) as server:
        kept = Kept(tmp_path, server.url)
        other = kept.settings.model_copy(update={"source": server.url + "2"})

        def meanwhile(connection: socket.socket, request: bytes) -> None:
            kept.keeper.configure(other)
            answer(GOOD, 'ETag: "of the first"')(connection, request)

        server.handler = meanwhile
        assert kept.refresh()["state"] == "old"
        assert kept.keeper.is_due(kept.now)
        server.handler = answer(b"new.example\n")
        assert kept.refresh()["state"] == "good" and "If-None-Match" not in server.heads[-1]


def test_the_server_is_a_server() -> None:
    server = Server(answer(GOOD))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /list HTTP/1.1\r\n\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    server.close()
