"""`isthmus log` and its siblings: times, lines, pages, what follows."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from appliance.cli import _parser
from appliance.monitor_cli import MAX_PAGE, TimeError, age, moment, run, size
from tests.unit.session.rows import DENIED, row

NOW = 1_800_000_000.0


class Client:
    """Stands in for ControlClient: a history with so many rows, the newest first."""

    def __init__(self, count: int = 0) -> None:
        self.rows = [plain(number) for number in range(count, 0, -1)]
        self.asked: list[dict[str, Any]] = []
        self.erased = False

    def search_history(
        self, filters: dict[str, Any], cursor: str = "", limit: int = 50
    ) -> tuple[list[dict[str, Any]], str, float]:
        self.asked.append(dict(filters))
        start = int(cursor or 0)
        page = self.rows[start : start + limit]
        return page, str(start + limit) if start + limit < len(self.rows) else "", 0.0

    def history_status(self) -> dict[str, Any]:
        return {"problem": "The disk is full."}

    def erase_history(self) -> None:
        self.erased = True

    def top_history(self, *arguments: Any) -> list[dict[str, Any]]:
        self.asked.append({"top": arguments})
        return [{"key": "ann", "sessions": 3, "refused": 1, "bytes_to_wan": 1_500, "bytes_to_lan": 2}]


def plain(number: int) -> dict[str, Any]:
    """The varlink type HistoryRow."""
    found = row(DENIED) if number % 3 == 0 else row(user="ann")
    made = {name: getattr(found, name) or None for name in found.__slots__}
    made.update(
        id=number, time=found.time / 1000, age=found.age / 1000, outcome=str(found.outcome),
        bytes_to_wan=found.to_wan, bytes_to_lan=found.to_lan, client_port=found.client_port,
        server_port=found.server_port, origin_port=found.origin_port,
    )  # fmt: skip
    return made


def ran(client: Client, *words: str) -> None:
    run(_parser().parse_args(words), client)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "ago"), [("90s", 90), ("30m", 1_800), ("1h", 3_600), ("2d", 172_800), ("1w", 604_800)]
)
def test_times_before_now(text: str, ago: int) -> None:
    assert moment(text, NOW) == NOW - ago


def test_times_of_the_calendar() -> None:
    assert moment("2027-01-15T08:00:00+00:00", NOW) == NOW
    assert moment("2027-01-15", NOW) == datetime(2027, 1, 15).timestamp()


@pytest.mark.parametrize("text", ["", "1", "h", "1y", "-1h", "yesterday", "2027-13-01", "9999999h"])
def test_no_time(text: str) -> None:
    with pytest.raises(TimeError, match="no time"):
        moment(text, NOW)


def test_the_newest_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    ran(Client(4), "log")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "fd00:1::2 ann → www.a.example:443  1.00 kB out, 20.00 kB in, 0:01 [default]" in lines[3]
    assert " DEN tcp  fd00:1::3 → ads.b.example:443  denied [no-ads]" in lines[2]


def test_more_than_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(2 * MAX_PAGE + 10)
    ran(client, "log", "--json", "--limit", str(2 * MAX_PAGE + 5))
    numbers = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert numbers == list(range(6, 2 * MAX_PAGE + 11))
    assert len(client.asked) == 3


def test_filters_are_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client()
    ran(
        client,
        "log",
        "--denied",
        "--client",
        "fd00::1",
        "--name",
        "*.a",
        "--since",
        "2027-01-15T08:00:00+00:00",
    )
    assert client.asked == [{"client": "fd00::1", "name": "*.a", "outcome": "denied", "since": NOW}]
    assert capsys.readouterr().out == "The disk is full.\n", "why there is nothing"


def test_squids_format(capsys: pytest.CaptureFixture[str]) -> None:
    ran(Client(1), "log", "--squid")
    assert capsys.readouterr().out == (
        "1800000000.250   1500 fd00:1::2 TCP_TUNNEL/200 20000 CONNECT www.a.example:443 ann "
        "HIER_DIRECT/192.31.196.80 -\n"
    )


def test_following_shows_each_row_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(2)
    rounds = iter(range(3))

    def sleep(_seconds: float) -> None:
        if next(rounds, None) is None:
            raise KeyboardInterrupt
        client.rows.insert(0, plain(len(client.rows) + 1))

    monkeypatch.setattr("time.sleep", sleep)
    ran(client, "log", "--follow", "--json")  # Ctrl-C is its way out, and no error
    numbers = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert numbers == [1, 2, 3, 4, 5]


def test_top_and_erase(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client()
    ran(client, "top", "users", "--measure", "sessions")
    (asked,) = client.asked
    assert (asked["top"][0], asked["top"][3:]) == ("user", ("sessions", 10))
    assert "1.50 kB" in capsys.readouterr().out
    ran(client, "log", "erase")
    assert client.erased


def test_words_for_people() -> None:
    assert (size(999), size(1_900_000_000), size(5e15)) == ("999 B", "1.90 GB", "5000.00 TB")
    assert (age(134), age(10_934)) == ("2:14", "3:02:14")
