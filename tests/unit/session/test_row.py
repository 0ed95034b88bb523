"""Lines of the log: what they mean, and that whatever is none is told from one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.session.record import Session
from appliance.session.row import MAX_LINE, MAX_NUMBER, MAX_TEXT, NoRowError, Outcome, Row, outcome_of, parse
from tests.unit.session.rows import CARRIED, DENIED, line, row


def test_a_session_that_was_carried() -> None:
    found = row()
    assert (found.time, found.age) == (1_800_000_000_250, 1_500)
    assert (found.client, found.client_port, found.server_port) == ("fd00:1::2", 40_000, 443)
    assert (found.name, found.named_by, found.service, found.user) == ("www.a.example", "sni", "", "")
    assert (found.to_wan, found.to_lan) == (1_000, 20_000)
    assert (found.outcome, found.reason) == (Outcome.CARRIED, "closed")


def test_a_session_that_was_denied() -> None:
    found = row(DENIED)
    assert (found.outcome, found.rule, found.origin, found.server) == (
        "denied",
        "no-ads",
        "192.31.196.81",
        "",
    )


def test_what_was_refused_before_it_had_an_address() -> None:
    by_name = row(DENIED, origin="ads.b.example", name=None)
    assert (by_name.name, by_name.named_by, by_name.origin) == ("ads.b.example", "asked", "")
    by_door = row(DENIED, origin="service shop", name=None, refused="rate")
    assert (by_door.service, by_door.name, by_door.origin) == ("shop", "", "")
    for address in ("192.31.196.80", "2001:db8::80"):
        assert row(DENIED, origin=address, name=None).origin == address


def test_what_a_worker_writes_is_read() -> None:
    endpoints = bytes(15) + b"\1" + bytes(15) + b"\2" + b"\x9c\x40\x01\xbb"
    session = Session(1, "tcp", endpoints, "192.31.196.80", 10.0)
    session.name, session.named_by, session.user, session.service = "a.example", "asked", "ann", "http"
    session.to_lan = 7
    found = parse(session.log_line(3, 12.25, 1_800_000_000.5, "closed").encode())
    assert (found.name, found.user, found.service, found.to_lan) == ("a.example", "ann", "http", 7)
    assert (found.age, found.time) == (2_250, 1_800_000_000_500)


@pytest.mark.parametrize(
    ("reason", "came_about", "octets", "outcome"),
    [
        ("closed", True, 0, "carried"),
        ("idle", True, 9, "carried"),
        ("reset", True, 0, "carried"),
        ("killed", True, 0, "carried"),
        ("refused", True, 0, "refused"),  # a dial of the explicit proxy
        ("refused", True, 9, "carried"),  # a published UDP target that went
        ("timeout", True, 0, "failed"),
        ("denied", True, 9, "denied"),  # by what the origin sent
        ("denied", False, 0, "denied"),
        ("non-global", False, 0, "denied"),
        ("port-unreachable", False, 0, "refused"),
        ("rate", False, 0, "limited"),
        ("descriptors", False, 0, "limited"),
        ("no-name", False, 0, "failed"),
        ("a word of a later version", False, 0, "failed"),
    ],
)
def test_outcomes(reason: str, came_about: bool, octets: int, outcome: str) -> None:
    assert outcome_of(reason, came_about, octets) == outcome


@pytest.mark.parametrize(
    "changes",
    [
        {"client": None},
        {"client": "fd00:1::2\x1b[2J"},
        {"name": "two\nlines"},
        {"name": "\ud800"},
        {"name": "a" * (MAX_TEXT + 1)},
        {"name": 7},
        {"kind": ""},
        {"end": None},
        {"bytes_to_lan": -1},
        {"bytes_to_lan": MAX_NUMBER + 1},
        {"bytes_to_lan": 1.5},
        {"bytes_to_lan": True},
        {"client_port": 65_536},
        {"time": float("nan")},
        {"time": float("inf")},
        {"time": -1},
        {"time": "now"},
    ],
)
def test_a_line_with_something_odd_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(NoRowError):
        row(CARRIED, **changes)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b"[" * 4_000, b" " * (MAX_LINE + 1)]
)
def test_no_line(data: bytes) -> None:
    with pytest.raises(NoRowError):
        parse(data)


@given(st.binary(max_size=200))
def test_rubbish_never_fails_otherwise(data: bytes) -> None:
    with pytest.raises(NoRowError):
        parse(data)


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers())
)


@given(st.sampled_from([CARRIED, DENIED]), st.dictionaries(st.sampled_from(sorted(CARRIED)), _VALUES))
def test_what_is_taken_is_within_bounds(base: dict[str, Any], changes: dict[str, Any]) -> None:
    data = json.dumps({**base, **changes}).encode()
    try:
        found = parse(data)
    except NoRowError:
        return
    for value in (getattr(found, name) for name in Row.__slots__):
        if isinstance(value, int):
            assert 0 <= value <= MAX_NUMBER * 2
        else:
            assert str(value).isprintable()


def test_half_a_line_is_none() -> None:
    whole = line().rstrip()
    for end in range(len(whole)):
        with pytest.raises(NoRowError):
            parse(whole[:end])
