"""The bar, the review, applying, the count-down, clashes, the history; sections and users."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from appliance.control.client import ControlError
from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl
from webui.leaving import addresses
from webui.links import link_of
from webui.readable import readable


@pytest.fixture
def admin(client: FlaskClient, control: FakeControl) -> FlaskClient:
    """A browser that is signed in, with one change."""
    signed_in(client, control)
    post(client, "/policy", "/policy/act", name="time", act="toggle")
    return client


def version(control: FakeControl) -> str:
    return str(control.candidates["admin"]["version"])


def test_the_review_shows_what_changes_and_what_that_does(admin: FlaskClient, control: FakeControl) -> None:
    page = get(admin, "/changes").text
    assert "Rule “time”: On" in page
    assert "Reloads the proxy: sessions stay" in page
    assert "Time to keep them" not in page
    control.cuts = True
    page = get(admin, "/changes").text
    assert "The console moves to https://[fd00:2::1]/" in page
    assert "Time to keep them" in page


def test_applying(admin: FlaskClient, control: FakeControl) -> None:
    done = post(admin, "/changes", "/changes", version=version(control), comment=" quiet nights ")
    assert (done.status_code, done.location) == (303, "/history")
    assert control.calls == [("commit", "admin", "quiet nights", 1, None)]
    assert "Applied as revision 2." in get(admin, "/history").text
    assert "not applied yet" not in get(admin, "/policy").text


@pytest.mark.parametrize(
    ("typed", "seconds"), [("120", 120), ("1", 10), ("99999", 3_600), ("", None), ("-5", None), ("1e3", None)]
)
def test_the_time_to_keep_them(
    typed: str, seconds: int | None, admin: FlaskClient, control: FakeControl
) -> None:
    post(admin, "/changes", "/changes", version=version(control), seconds=typed)
    assert control.calls[0][-1] == seconds


def test_only_what_was_reviewed_is_applied(admin: FlaskClient, control: FakeControl) -> None:
    seen = version(control)
    post(admin, "/policy", "/policy/act", name="time", act="delete")
    done = post(admin, "/changes", "/changes", version=seen, comment="mine")
    assert done.status_code == 409
    assert "are others than those that you reviewed" in done.text
    assert 'value="mine"' in done.text
    assert control.calls == []


def test_a_commit_that_the_box_refuses_says_why(
    admin: FlaskClient, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ControlError("org.isthmus.control.Refused", "The network refused it.", "Look at the port.")

    monkeypatch.setattr(FakeControl, "commit", refuse)
    done = post(admin, "/changes", "/changes", version=version(control))
    assert done.status_code == 409
    assert "The network refused it. Look at the port." in done.text


@pytest.mark.parametrize(
    ("answer", "words"), [("keep", "Revision 2 stays."), ("back", "The settings of revision 1 are back.")]
)
def test_the_count_down(answer: str, words: str, admin: FlaskClient, control: FakeControl) -> None:
    control.cuts = True
    done = post(admin, "/changes", "/changes", version=version(control))
    assert done.location == "/changes/confirm"
    page = get(admin, "/changes/confirm").text
    assert 'data-countdown="72"' in page
    for address in ("https://[fd00:1::1]/", "https://[fd00:2::1]/"):
        assert f'href="{address}"' in page
    assert '<noscript><meta http-equiv="refresh"' in page
    done = post(admin, "/changes/confirm", "/changes/confirm", revision="2", answer=answer)
    assert done.location == "/history"
    assert control.waiting is None
    assert words in get(admin, "/history").text
    assert get(admin, "/changes/confirm").location == "/history"


def test_confirming_too_late_is_said(admin: FlaskClient, control: FakeControl) -> None:
    post(admin, "/history", "/changes/confirm", revision="2", answer="keep")
    page = get(admin, "/history").text
    assert "No commit waits to be confirmed." in page
    assert 'class="note bad" role="alert"' in page


def test_discarding_is_asked_and_done(admin: FlaskClient, control: FakeControl) -> None:
    assert "Discard 1 change<" in get(admin, "/changes?discard=1").text
    assert control.candidates
    post(admin, "/changes?discard=1", "/changes/discard")
    assert control.candidates == {}
    assert "1 change discarded." in get(admin, "/changes").text


def test_clashes_are_shown_with_both_values_and_settled(admin: FlaskClient, control: FakeControl) -> None:
    control.clashes = [
        {"path": "rule.time.action", "base": '"allow"', "mine": '"deny"', "theirs": None},
        {"path": "lan.prefix", "base": '"generated"', "mine": '"fd00:2::/64"', "theirs": '"fd00:3::/64"'},
    ]
    done = post(admin, "/changes", "/changes", version=version(control))
    assert done.status_code == 409
    page = get(admin, "/changes").text
    for words in ("fd00:2::/64", "fd00:3::/64", "LAN: Prefix given to hosts", "removed"):
        assert words in page
    assert re.search(r"<button[^>]*disabled>Apply 1 change", page)
    paths = ["rule.time.action", "lan.prefix"]
    choice = {"keep.0": "theirs", "keep.1": "mine"}
    post(admin, "/changes", "/changes/merge", path=paths[::-1], **choice)
    assert control.calls == [], "not what the page showed"
    post(admin, "/changes", "/changes/merge", path=paths, **choice)
    assert control.calls == [("merge", "admin", ["lan.prefix"])]


def test_problems_of_the_whole_are_links(admin: FlaskClient, control: FakeControl) -> None:
    config = control.candidate("admin")["config"]
    config["rule"][0]["lists"] = ["gone"]
    control.put_candidate("admin", config, 1)
    assert "1 problem" in get(admin, "/policy").text
    page = get(admin, "/changes").text
    assert '<a href="/policy/edit?name=no-trackers">Rule “no-trackers”: Lists</a>: there is no list' in page
    assert re.search(r"<button[^>]*disabled>Apply", page)


def test_history(admin: FlaskClient, control: FakeControl) -> None:
    control.number = 40
    page = get(admin, "/history").text
    assert "why 40" in page
    assert "2 hours ago" in page
    assert 'href="/history?before=11"' in page
    assert "why 10" in get(admin, "/history?before=11").text
    assert "Rule “time”: Then" in get(admin, "/history/39").text
    assert get(admin, "/history/99").status_code == 404
    done = post(admin, "/history/39", "/history/39/restore")
    assert done.location == "/changes"
    assert control.calls == [("restore", "admin", 39)]
    assert "Restore" not in get(admin, "/history/40").text, "it is in force"


# -- sections ------------------------------------------------------------------------------------------

NETWORK = {
    "lan.interface": "auto", "lan.prefix": "fd00:2::/64", "wan.interface": "auto", "wan.mode": "dhcp",
    "lan.router_preference": "medium", "lan.pref64_lifetime": "1800",
}  # fmt: skip


def of(page: str) -> str:
    found = re.search(r'name="of" value="([^"]*)"', page)
    assert found
    return found[1]


def test_sections_are_saved_and_show_what_runs(admin: FlaskClient, control: FakeControl) -> None:
    page = get(admin, "/network").text
    assert post(admin, "/network", "/network", of=of(page), **NETWORK).location == "/network"
    assert control.candidates["admin"]["config"]["lan"]["prefix"] == "fd00:2::/64"
    page = get(admin, "/network").text
    assert "Now running: generated" in page
    assert "Default: generated." in page


def test_what_dhcp_brings_is_not_sent_along(admin: FlaskClient, control: FakeControl) -> None:
    static = {**NETWORK, "wan.mode": "static", "wan.address": "192.0.2.2/24", "wan.gateway": "192.0.2.1"}
    post(admin, "/network", "/network", of=of(get(admin, "/network").text), **static)
    assert control.candidates["admin"]["config"]["wan"]["gateway"] == "192.0.2.1"
    static["wan.mode"] = "dhcp"
    post(admin, "/network", "/network", of=of(get(admin, "/network").text), **static)
    assert control.candidates["admin"]["config"]["wan"] == {"interface": "auto", "mode": "dhcp"}


def test_a_section_that_contradicts_itself(admin: FlaskClient, control: FakeControl) -> None:
    before = version(control)
    typed = {**NETWORK, "wan.mode": "static", "lan.prefix": "fd00::/48"}
    done = post(admin, "/network", "/network", of=of(get(admin, "/network").text), **typed)
    assert done.status_code == 422
    assert "A LAN prefix is a /64 (SLAAC needs it), not /48" in done.text
    assert "Static mode needs both address and gateway." in done.text
    assert version(control) == before


def test_a_stale_section(admin: FlaskClient, control: FakeControl) -> None:
    old = of(get(admin, "/network").text)
    post(admin, "/network", "/network", of=old, **NETWORK)
    done = post(admin, "/network", "/network", of=old, **{**NETWORK, "lan.prefix": "fd00:3::/64"})
    assert done.status_code == 409
    assert "fd00:2::/64" in done.text
    assert "fd00:3::/64" in done.text
    assert control.candidates["admin"]["config"]["lan"]["prefix"] == "fd00:2::/64"


# -- users ----------------------------------------------------------------------------------------------


def test_a_user_is_added_changed_and_removed(admin: FlaskClient, control: FakeControl) -> None:
    done = post(admin, "/users", "/users", name="bob", groups=["staff"], password="correct horse")
    assert done.location == "/users"
    assert control.calls == [("set_user", "bob", "admin")]
    assert "User “bob” added." in get(admin, "/users").text
    url = "/users/edit?name=bob"
    assert post(admin, url, url, groups=["staff"], password="short").status_code == 422
    assert post(admin, url, url, groups=["staff"], password="").location == "/users"
    assert post(admin, url, "/users/remove", name="bob").location == "/users"
    assert [user["name"] for user in control.plain["user"]] == ["ann@home.example"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "", "groups": ["staff"]}, "A user needs a name."),
        ({"name": "bob"}, "Choose at least one group"),
        ({"name": "bob", "groups": ["staff"], "password": "short"}, "This has 5 characters."),
        ({"name": "ann@home.example", "groups": ["staff"]}, "There is a user “ann@home.example” already."),
    ],
)
def test_a_user_that_is_not_taken(
    fields: dict[str, Any], words: str, admin: FlaskClient, control: FakeControl
) -> None:
    done = post(admin, "/users", "/users", **fields)
    assert done.status_code == 422
    assert words in done.text
    assert done.text.count("autofocus") == 1
    assert control.calls == []


def test_groups(admin: FlaskClient, control: FakeControl) -> None:
    assert post(admin, "/users/groups", "/users/groups", name="guests").location == "/users/groups"
    assert post(admin, "/users/groups", "/users/groups", name="").status_code == 422
    post(admin, "/users/groups", "/users/groups/remove", name="staff")
    assert "Group “staff” has users." in get(admin, "/users/groups").text
    post(admin, "/users/groups", "/users/groups/remove", name="guests")
    assert [group["name"] for group in control.plain["group"]] == ["staff"]


def test_users_are_searched(admin: FlaskClient, control: FakeControl) -> None:
    control.plain["user"] += [{"name": f"u{n}", "groups": ["staff"]} for n in range(300)]
    page = get(admin, "/users").text
    assert "200 of 301." in page
    page = get(admin, "/users?q=u29").text
    assert page.count('aria-label="Edit u29') == 11


# -- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "title", "url"),
    [
        ("lan.prefix", "LAN: Prefix given to hosts", "/network"),
        ("rule[1].ports[0]", "Rule “time”: Ports", "/policy/edit?name=time"),
        ("rule.gone", "Rule “gone”", "/policy"),
        ("rule", "Rules, their order", "/policy"),
        ("explicit.listeners.http.port", "Listener “http”: Port", "/network/listeners/edit?name=http"),
        ("explicit.connect_ports", "Explicit proxy: Ports for CONNECT", "/network/explicit"),
        ("proxy.timers.udp", "Sessions: UDP, idle", "/system/traffic"),
        ("policy.default", "Policy: Then", "/policy/default"),
        ('user."ann@home.example".groups', "User “ann@home.example”", "/users"),
        ("translation.64:ff9b::/96.networks", "Translation prefix “64:ff9b::/96”: IPv4 networks",
         "/network/translation/edit?name=64%3Aff9b%3A%3A%2F96"),
        ("(file)", "(file)", ""), ("colour", "colour", ""),
    ],
)  # fmt: skip
def test_where_a_setting_is_edited(path: str, title: str, url: str, control: FakeControl) -> None:
    assert link_of(path, control.plain) == type(link_of(path, {}))(title, url)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("true", "rule.a.enabled", "on"),
        ('["a", "b"]', "rule", "a, b"),
        ("[]", "dns.upstreams", "none"),
        ('"fd00::/64"', "lan.prefix", "fd00::/64"),
        ('name = "a", action = "deny", ports = ["53"]', "rule.a", "Deny: port 53"),
        ('name = "a", macs = ["02:00:5e:10:00:01"]', "device.a", "name: a; macs: 02:00:5e:10:00:01"),
        ('["a", "b…', "rule.a.domains", '["a", "b…'),
        ("(not shown)", "user.a.password", "(not shown)"),
    ],
)
def test_values_are_words(text: str, path: str, words: str) -> None:
    assert readable(text, path) == words


# -- the console's own address ----------------------------------------------------------------------------


def test_the_page_with_the_new_address_comes_before_the_commit(
    admin: FlaskClient, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    commit = FakeControl.commit

    def late(self: FakeControl, *what: Any, **how: Any) -> dict[str, Any]:
        assert go.wait(10)
        return commit(self, *what, **how)

    monkeypatch.setattr(FakeControl, "commit", late)
    monkeypatch.setattr("webui.leaving.LEAVE_SECONDS", 0)
    control.cuts = True
    post(admin, "/network", "/network", of=of(get(admin, "/network").text), **NETWORK)
    assert post(admin, "/changes", "/changes", version=version(control)).location == "/changes/confirm"
    page = get(admin, "/changes/confirm").text
    assert 'href="https://[fd00:2::1]/"' in page
    assert 'href="https://[fd00:1::1]/"' in page
    assert "data-leaving" in page
    assert get(admin, "/changes/state.json").get_json() == {"leaving": True}
    go.set()
    deadline = time.monotonic() + 10
    while get(admin, "/changes/state.json").get_json()["leaving"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "Keep the new settings?" in get(admin, "/changes/confirm").text


def test_a_move_that_the_box_refuses_is_told_afterwards(
    admin: FlaskClient, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ControlError("org.isthmus.control.Refused", "There is no such port.", "Look at the cables.")

    monkeypatch.setattr(FakeControl, "commit", refuse)
    monkeypatch.setattr("webui.leaving.LEAVE_SECONDS", 0)
    control.cuts = True
    post(admin, "/network", "/network", of=of(get(admin, "/network").text), **NETWORK)
    post(admin, "/changes", "/changes", version=version(control))
    deadline = time.monotonic() + 10
    while get(admin, "/changes/state.json").get_json()["leaving"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert get(admin, "/changes/confirm").location == "/changes"
    assert "There is no such port. Look at the cables." in get(admin, "/changes").text


@pytest.mark.parametrize(
    ("running", "wanted", "made", "old", "new"),
    [
        ("generated", "fd00:2::/64", "fd00:1::/64", "https://[fd00:1::1]/", "https://[fd00:2::1]/"),
        ("fd00:2::/64", "generated", "fd00:2::/64", "https://[fd00:2::1]/", None),
        ("generated", "fd00:2::/64", None, None, "https://[fd00:2::1]/"),
    ],
)
def test_both_addresses(
    running: str, wanted: str, made: str | None, old: str | None, new: str | None
) -> None:
    assert addresses({"lan": {"prefix": running}}, {"lan": {"prefix": wanted}}, made) == (old, new)
