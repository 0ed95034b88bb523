"""The list of open sessions: pages of it, and what a search finds."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from appliance.proxy.listing import PLACE, Search, cursor_of, page, place_at, place_of
from appliance.session.record import Session


def _session(number: int, started: float, **more: str) -> Session:
    client, server = IPv6Address("fd00:1::7").packed, IPv6Address("64:ff9b::c000:250").packed
    ports = (40_000 + number).to_bytes(2, "big") + (443).to_bytes(2, "big")
    made = Session(number, "tcp", client + server + ports, "192.0.2.80", started)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def _table(count: int) -> dict[int, Session]:
    # Three at once each time: one turn of the loop takes in several at the same moment.
    return {number: _session(number, 100.0 + number // 3) for number in range(count)}


def test_pages_show_each_session_once_the_newest_first() -> None:
    sessions = _table(20)
    seen: list[str] = []
    cursor = ""
    while True:
        found = page(sessions, 0, 200.0, 7, "", place_at(cursor))
        assert found["total"] == 20
        if not found["sessions"]:
            break
        seen += [one["id"] for one in found["sessions"]]
        cursor = cursor_of(found["sessions"][-1][PLACE])
    assert seen == [f"0-{number}" for number in range(19, -1, -1)]


def test_sessions_that_came_and_went_meanwhile_leave_the_other_pages_as_they_are() -> None:
    sessions = _table(9)
    first = page(sessions, 0, 200.0, 3, "", None)["sessions"]
    sessions[9] = _session(9, 150.0)
    del sessions[5]
    second = page(sessions, 0, 200.0, 3, "", tuple(first[-1][PLACE]))["sessions"]
    assert [one["id"] for one in second] == ["0-4", "0-3", "0-2"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tcp", True), ("udp", False), ("443", True), ("444", False), ("192.0.2", True),
        ("64:ff9b::c0", True),
        ("fd00:1::", True), ("fd00:2::", False), ("example", True), ("ann", True), ("an", False),
        ("tablet", True), ("table", False), ("40001", False), ("1" * 40, False),
    ],
)  # fmt: skip
def test_a_search_finds_what_it_says(text: str, found: bool) -> None:
    session = _session(1, 100.0, name="www.example.org", user="ann", device="tablet")
    assert Search(text).matches(session) is found
    assert page({1: session}, 0, 200.0, 10, text, None)["total"] == int(found)


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "a-1", "1-²", "1-2-3", "9" * 41 + "-1"])
def test_what_is_no_cursor_begins_anew(text: str) -> None:
    assert place_at(text) is None


def test_a_cursor_comes_back_as_its_place() -> None:
    place = place_of(_session(3, 12.345678))
    assert place_at(cursor_of(place)) == place == (12_345_678, 3)
