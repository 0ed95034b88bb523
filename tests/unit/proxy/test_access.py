"""Forms that ask for access: by a reference that this client was told of, and not too often."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.proxy import access
from appliance.proxy.access import MAX_ASKED, MAX_REFERENCES, Access, Answer, new_reference
from appliance.session.access import MAX_NOTE, AccessRequests

CLIENT, OTHER = bytes(15) + b"\2", bytes(15) + b"\3"


@pytest.fixture
def requests(tmp_path: Path) -> AccessRequests:
    return AccessRequests(tmp_path / "requests.json")


def told(made: Access, host: str = "a.example") -> str:
    return made.denied(CLIENT, "ann", "tv", host, 80, "no-a")


def test_a_form_with_its_note(requests: AccessRequests) -> None:
    made = Access(requests)
    form = f"reference={told(made)}&note=For+school%0A%00{'%C3%A4' * MAX_NOTE}".encode()
    assert made.ask(CLIENT, "ann", "a.example", form) is Answer.TAKEN
    (kept,) = requests.all(0.0)
    assert (kept.client, kept.user, kept.device, kept.host) == ("::2", "ann", "tv", "a.example")
    assert kept.note.startswith("For school  ä") and len(kept.note.encode()) <= MAX_NOTE


@pytest.mark.parametrize(
    ("client", "user", "host"),
    [(OTHER, "ann", "a.example"), (CLIENT, "", "a.example"), (CLIENT, "ann", "b.example")],
)
def test_by_anothers_reference(requests: AccessRequests, client: bytes, user: str, host: str) -> None:
    made = Access(requests)
    assert made.ask(client, user, host, f"reference={told(made)}".encode()) is Answer.UNKNOWN
    assert requests.all(0.0) == []


def test_nothing_is_kept_where_nobody_may_ask(requests: AccessRequests) -> None:
    made = Access(requests)
    before = told(made)
    made.asks = False
    for reference in (before, told(made)):
        assert made.ask(CLIENT, "ann", "a.example", f"reference={reference}".encode()) is Answer.UNKNOWN
    assert requests.all(0.0) == []


def test_all_are_erased(requests: AccessRequests) -> None:
    made = Access(requests)
    assert made.ask(CLIENT, "ann", "a.example", f"reference={told(made)}".encode()) is Answer.TAKEN
    requests.erase()
    requests.erase()
    assert requests.all(0.0) == []


def test_the_oldest_reference_goes_first(requests: AccessRequests) -> None:
    made = Access(requests)
    first, second = told(made), told(made)
    for _ in range(MAX_REFERENCES - 1):
        told(made)
    assert made.ask(CLIENT, "ann", "a.example", f"reference={first}".encode()) is Answer.UNKNOWN
    assert made.ask(CLIENT, "ann", "a.example", f"reference={second}".encode()) is Answer.TAKEN


def test_too_often_too_late_and_a_disk_that_refuses(requests: AccessRequests) -> None:
    made = Access(requests)
    form = f"reference={told(made)}".encode()
    with mock.patch.object(AccessRequests, "add", side_effect=OSError(28, "full")):
        for _ in range(MAX_ASKED):
            assert made.ask(CLIENT, "ann", "a.example", form) is Answer.BROKEN
    assert made.ask(CLIENT, "ann", "a.example", form) is Answer.TOO_OFTEN
    with mock.patch.object(access, "GOOD_FOR", -1.0):
        assert made.ask(CLIENT, "ann", "a.example", form) is Answer.UNKNOWN


@given(st.binary(max_size=200))
def test_any_octets_are_answered(form: bytes) -> None:
    made = Access(AccessRequests(Path("/nonexistent/requests.json")))
    assert made.ask(CLIENT, "", "a.example", form) is Answer.UNKNOWN


def test_references_can_be_read_out() -> None:
    found = {new_reference() for _ in range(1_000)}
    assert len(found) == 1_000
    assert all(len(one) == 9 and one[4] == "-" and not set(one) & set("ILOU") for one in found)
