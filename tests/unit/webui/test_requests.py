"""Requests for access in the console: granted for a time, refused, and what they and the figures lead to."""

from __future__ import annotations

from flask.testing import FlaskClient

from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl


def test_granted_for_a_time_that_is_offered(control: FakeControl, client: FlaskClient) -> None:
    signed_in(client, control)
    page = get(client, "/policy").get_data(as_text=True)
    assert "1 access request" in page and "7 hits today" in page
    assert 'href="/log?rule=no-trackers"' in page
    there = "/policy/requests"
    post(client, there, there, id="K7MQ-2XPA", act="grant", time="12345678")
    assert not [call for call in control.calls if call[0] == "grant"], "a time that nobody offered"
    post(client, there, there, id="K7MQ-2XPA", act="grant", time="14400")
    assert ("grant", "K7MQ-2XPA", 14_400, "admin") in control.calls
    assert "access-1" in get(client, "/policy/requests").get_data(as_text=True)
    assert "access request" not in get(client, "/policy").get_data(as_text=True)


def test_refused_once(control: FakeControl, client: FlaskClient) -> None:
    signed_in(client, control)
    for words in ("The request is forgotten", "No request “K7MQ-2XPA” waits"):
        # The page has a token also where nobody waits any more.
        post(client, "/policy", "/policy/requests", id="K7MQ-2XPA", act="refuse")
        assert words in get(client, "/policy/requests").get_data(as_text=True)
    assert control.requests == []


def test_a_figure_leads_to_its_rows(control: FakeControl, client: FlaskClient) -> None:
    signed_in(client, control)
    page = get(client, "/log?rule=no-trackers&outcome=nonsense").get_data(as_text=True)
    assert ("search", {"rule": "no-trackers"}) in control.calls
    assert "&lt;i&gt;.example" in page and "K7MQ-2XPA" in page
    assert "/log?rule=no-trackers&amp;cursor=5-5" in page
