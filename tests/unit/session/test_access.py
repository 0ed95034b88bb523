"""Requests for access: one for each client and host, bounded, forgotten in time, kept whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from appliance.session.access import (
    EXPIRES,
    MAX_PER_CLIENT,
    MAX_REQUESTS,
    AccessRequest,
    AccessRequests,
    Taken,
)

NOW = 1.8e9


def request(number: int, client: str = "fd00::2", user: str = "", now: float = NOW) -> AccessRequest:
    return AccessRequest(f"R{number}", client, user, "", f"h{number}.example", 80, "r", "a note", now)


@pytest.fixture
def requests(tmp_path: Path) -> AccessRequests:
    return AccessRequests(tmp_path / "proxy" / "requests.json")


def test_kept_and_removed(requests: AccessRequests) -> None:
    assert requests.add(request(1)) is Taken.YES
    assert requests.add(request(2)) is Taken.YES
    assert [one.id for one in requests.all(NOW)] == ["R1", "R2"]
    assert requests.remove("R1", NOW)
    assert not requests.remove("R1", NOW)
    assert requests.plain(NOW)[0]["note"] == "a note"


def test_one_for_each_client_and_host(requests: AccessRequests) -> None:
    assert requests.add(request(1)) is Taken.YES
    assert requests.add(request(1)) is Taken.ALREADY
    assert requests.add(request(1, client="fd00::3")) is Taken.YES
    assert requests.add(request(1, client="fd00::4", user="ann")) is Taken.YES
    assert requests.add(request(1, client="fd00::5", user="ann")) is Taken.ALREADY, "a user is one everywhere"


def test_bounds(requests: AccessRequests) -> None:
    for number in range(MAX_PER_CLIENT):
        assert requests.add(request(number)) is Taken.YES
    assert requests.add(request(MAX_PER_CLIENT)) is Taken.FULL
    for number in range(MAX_REQUESTS - MAX_PER_CLIENT):
        assert requests.add(request(number, client=f"fd00::1:{number:x}")) is Taken.YES
    assert requests.add(request(0, client="fd00::9")) is Taken.FULL
    assert requests.add(request(0, client="fd00::9", now=NOW + EXPIRES + 1)) is Taken.YES, "the old are gone"
    assert len(requests.all(NOW + EXPIRES + 1)) == 1


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", '[{"id": "x"}]', "\0"])
def test_a_file_of_somebody_elses_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "requests.json"
    path.write_text(text)
    requests = AccessRequests(path)
    assert requests.all(NOW) == []
    assert requests.add(request(1)) is Taken.YES


def test_those_that_have_expired_leave_the_file(requests: AccessRequests, tmp_path: Path) -> None:
    requests.add(request(1))
    requests.add(request(2, now=NOW + 10))
    path = tmp_path / "proxy" / "requests.json"
    before = path.stat().st_ino
    requests.drop_expired(NOW + EXPIRES - 1)
    assert path.stat().st_ino == before, "nothing is written where nothing is over"
    requests.drop_expired(NOW + EXPIRES + 1)
    assert "h1.example" not in path.read_text()
    assert [one.id for one in requests.all(NOW + EXPIRES + 1)] == ["R2"]


def test_what_the_disk_refuses_changes_nothing(
    requests: AccessRequests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    requests.add(request(1))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        requests.add(request(2))
    assert [one.id for one in requests.all(NOW)] == ["R1"]
    assert [path.name for path in (tmp_path / "proxy").iterdir() if "new" in path.name] == []
