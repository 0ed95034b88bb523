"""The set-up: four steps, each of which can be skipped, and what each keeps."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl
from tests.unit.webui.test_pages import well_made

NETWORK = {
    "lan.interface": "lan0", "lan.prefix": "fd00:7::/64", "wan.interface": "wan0", "wan.mode": "static",
    "wan.address": "203.0.113.9/24", "wan.gateway": "203.0.113.1",
}  # fmt: skip
POLICY = {
    "policy.default": "deny", "policy.privacy": "counters", "policy.retention_days": "7",
    "system.timezone": "Europe/Paris",
}  # fmt: skip


@pytest.fixture
def admin(client: FlaskClient, control: FakeControl) -> FlaskClient:
    """Who has just chosen a password."""
    signed_in(client, control)
    return client


@pytest.mark.parametrize("page", ["/setup/network", "/setup/policy", "/setup/test"])
def test_each_step_is_well_made_and_can_be_skipped(admin: FlaskClient, page: str) -> None:
    text = get(admin, page).text
    well_made(text)
    assert 'aria-current="step"' in text
    assert '<a class="btn small" href="/">Skip the set-up</a>' in text


def test_the_first_step_comes_before_there_is_a_session(client: FlaskClient, control: FakeControl) -> None:
    text = get(client, "/setup").text
    well_made(text)
    assert "Skip the set-up" not in text
    assert get(client, "/setup/network").location == "/setup"


def test_the_whole_way(admin: FlaskClient, control: FakeControl) -> None:
    sent = post(admin, "/setup/network", "/setup/network", **NETWORK)
    assert (sent.status_code, sent.location) == (303, "/setup/policy")
    sent = post(admin, "/setup/policy", "/setup/policy", **POLICY)
    assert (sent.status_code, sent.location) == (303, "/setup/test")
    assert control.plain["lan"]["prefix"] == "generated"  # nothing is in force before the last step
    text = get(admin, "/setup/test").text
    well_made(text)
    assert "Apply what you chose" in text
    assert "203.0.113.9/24" in text
    assert 'name="seconds"' not in text  # nothing cuts: nobody has to come back and keep it
    version = str(control.candidate("admin")["version"])
    sent = post(admin, "/setup/test", "/changes", version=version, comment="Set-up")
    assert (sent.status_code, sent.location) == (303, "/setup/test")
    assert control.plain["lan"]["prefix"] == "fd00:7::/64"
    assert control.plain["wan"]["gateway"] == "203.0.113.1"
    assert control.plain["policy"]["privacy"] == "counters"
    assert control.plain["system"]["timezone"] == "Europe/Paris"
    assert "Does it work?" in get(admin, "/setup/test").text
    crossed = post(admin, "/setup/test", "/setup/test", where="www.example.org")
    assert crossed.status_code == 200
    assert "It crosses" in crossed.text
    assert "HTTP/1.1 200 &lt;OK&gt;" in crossed.text
    well_made(crossed.text)
    done = post(admin, "/setup/test", "/setup/finish")
    assert done.location == "/"
    assert "The box is set up." in get(admin, "/").text


def test_a_commit_that_waits_leads_back_into_the_set_up(admin: FlaskClient, control: FakeControl) -> None:
    control.cuts = True
    post(admin, "/setup/policy", "/setup/policy", **POLICY)
    version = str(control.candidate("admin")["version"])
    sent = post(admin, "/setup/test", "/changes", version=version, comment="Set-up", seconds="90")
    assert sent.location == "/changes/confirm"
    kept = post(admin, "/setup/test", "/changes/confirm", answer="keep", revision=str(control.number))
    assert kept.location == "/setup/test"


def test_who_goes_to_the_dashboard_has_left_it(admin: FlaskClient, control: FakeControl) -> None:
    get(admin, "/setup/policy")
    get(admin, "/")
    post(admin, "/policy", "/policy/act", name="time", act="toggle")
    version = str(control.candidate("admin")["version"])
    sent = post(admin, "/changes", "/changes", version=version, comment="")
    assert sent.location == "/history"


@pytest.mark.parametrize(
    ("page", "fields", "words"),
    [
        ("network", {**NETWORK, "lan.prefix": "fd00::/48"}, "fd00::/48"),
        ("network", {**NETWORK, "wan.address": ""}, 'role="alert"'),
        ("policy", {**POLICY, "policy.retention_days": "-1"}, "aria-invalid"),
    ],
)
def test_a_mistake_stands_at_its_field_and_nothing_is_kept(
    admin: FlaskClient, control: FakeControl, page: str, fields: dict[str, str], words: str
) -> None:
    sent = post(admin, f"/setup/{page}", f"/setup/{page}", **fields)
    assert sent.status_code == 422
    assert words in sent.text
    assert control.candidate("admin")["changes"] == []


def test_a_session_that_does_not_cross_says_why(admin: FlaskClient, control: FakeControl) -> None:
    refused = post(admin, "/setup/test", "/setup/test", where="denied.example")
    assert "It does not cross" in refused.text
    assert "The rule is “no-trackers”." in refused.text
    wrong = post(admin, "/setup/test", "/setup/test", where="nothing")
    assert wrong.status_code == 422
    assert "That is no address and no name." in wrong.text
    well_made(wrong.text)
