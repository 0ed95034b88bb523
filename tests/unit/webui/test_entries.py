"""Rules and the other lists: added, changed, moved, copied, deleted; a stale tab; errors at their field."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl
from webui.layouts.policy import RULES
from webui.views.entries import PER_PAGE, copy_name


@pytest.fixture
def admin(client: FlaskClient, control: FakeControl) -> FlaskClient:
    """A browser that is signed in."""
    signed_in(client, control)
    return client


def kept(control: FakeControl) -> dict[str, Any]:
    """The admin's candidate."""
    found: dict[str, Any] = control.candidates["admin"]["config"]
    return found


def names(control: FakeControl) -> list[str]:
    return [rule["name"] for rule in kept(control)["rule"]]


def shown_token(page: str) -> str:
    """What a form says it was made from."""
    found = re.search(r'name="of" value="([^"]*)"', page)
    assert found
    return found[1]


RULE = {
    "name": "no-video", "action": "deny", "enabled": "1", "domains": ["video.example", ""],
    "ports": ["80, 443", "8000-8999"], "protocols": ["tcp"], "groups": ["staff"], "schedules": ["nights"],
    "until": "2027-12-24T18:00", "content_types": ["video/*"], "larger_than": "1000", "note": "Ask.",
}  # fmt: skip


def test_a_rule_is_added_with_all_that_was_typed(admin: FlaskClient, control: FakeControl) -> None:
    done = post(admin, "/policy/new", "/policy/new", of="", **RULE)
    assert (done.status_code, done.location) == (303, "/policy?at=no-video")
    rule = kept(control)["rule"][-1]
    assert rule == {
        "name": "no-video", "action": "deny", "enabled": True, "note": "Ask.", "users": [],
        "groups": ["staff"], "devices": [], "sources": [], "domains": ["video.example"], "lists": [],
        "destinations": [], "ports": ["80", "443", "8000-8999"], "protocols": ["tcp"], "ways": [],
        "schedules": ["nights"], "until": "2027-12-24T18:00:00+01:00", "urls": [],
        "content_types": ["video/*"], "larger_than": 1000,
    }  # fmt: skip
    assert control.candidate("admin")["problems"] == []
    page = get(admin, "/policy").text
    assert "New, not applied" in page
    assert "“no-video”: saved to the pending changes." in page


def test_errors_are_inline_and_the_first_has_the_focus(admin: FlaskClient, control: FakeControl) -> None:
    typed = {**RULE, "domains": ["fine.example", "not a/name"], "ports": ["99999"], "larger_than": "much"}
    done = post(admin, "/policy/new", "/policy/new", of="", **typed)
    assert done.status_code == 422
    assert control.candidates == {}
    page = done.text
    assert "“a/name” is no domain" in page
    assert "“99999” is no port and no range" in page
    assert "Larger than is to be a whole number." in page
    assert page.count("autofocus") == 1
    focused = re.search(r"<input[^>]* autofocus", page)
    assert focused
    assert 'value="a/name"' in focused[0]  # "not" is a name of its own
    assert 'value="much"' in page, "what was typed stays"
    assert re.search(r'<details class="more" open>', page), "the wrong one is not hidden"


def test_a_name_that_is_there_twice(admin: FlaskClient, control: FakeControl) -> None:
    done = post(admin, "/policy/new", "/policy/new", of="", **{**RULE, "name": "time"})
    assert done.status_code == 422
    assert "“time” is there twice." in done.text


def test_rows_are_added_and_removed_without_javascript(admin: FlaskClient, control: FakeControl) -> None:
    more = post(admin, "/policy/new", "/policy/new", of="", more="domains", **RULE)
    assert more.status_code == 200
    assert more.text.count('name="domains" value="') == 4
    fewer = post(admin, "/policy/new", "/policy/new", of="", drop="ports:0", **RULE)
    assert re.findall(r'name="ports" value="([^"]*)"', fewer.text) == ["8000-8999"]
    assert control.candidates == {}


@pytest.mark.parametrize(
    ("act", "name", "wanted"),
    [
        ("up", "time", ["time", "no-trackers", "nights-off"]),
        ("up", "no-trackers", ["no-trackers", "time", "nights-off"]),
        ("down", "no-trackers", ["time", "no-trackers", "nights-off"]),
        ("down", "nights-off", ["no-trackers", "time", "nights-off"]),
        ("duplicate", "time", ["no-trackers", "time", "time-2", "nights-off"]),
        ("delete", "time", ["no-trackers", "nights-off"]),
    ],
)
def test_what_is_done_to_a_rule(
    act: str, name: str, wanted: list[str], admin: FlaskClient, control: FakeControl
) -> None:
    assert post(admin, "/policy", "/policy/act", name=name, act=act).status_code == 303
    assert names(control) == wanted


@pytest.mark.parametrize(
    ("name", "before", "wanted"),
    [
        ("nights-off", "no-trackers", ["nights-off", "no-trackers", "time"]),
        ("no-trackers", "nights-off", ["time", "no-trackers", "nights-off"]),
        ("no-trackers", "", ["time", "nights-off", "no-trackers"]),
        ("time", "time", ["no-trackers", "time", "nights-off"]),
    ],
)
def test_a_rule_is_dropped_at_another_place(
    name: str, before: str, wanted: list[str], admin: FlaskClient, control: FakeControl
) -> None:
    post(admin, "/policy", "/policy/act", name=name, act="before", before=before)
    assert names(control) == wanted


def test_a_moved_rule_keeps_the_keyboards_place(admin: FlaskClient, control: FakeControl) -> None:
    done = post(admin, "/policy", "/policy/act", name="nights-off", act="up")
    focused = re.findall(r"<button[^>]* autofocus", get(admin, done.location).text)
    assert len(focused) == 1
    assert 'aria-label="Move up nights-off"' in focused[0]
    done = post(admin, "/policy", "/policy/act", name="nights-off", act="up")
    focused = re.findall(r"<button[^>]* autofocus", get(admin, done.location).text)
    assert 'aria-label="Move down nights-off"' in focused[0], "at the top only the other button works"


def test_a_rule_is_turned_off_and_on(admin: FlaskClient, control: FakeControl) -> None:
    post(admin, "/policy", "/policy/act", name="time", act="toggle")
    assert kept(control)["rule"][1]["enabled"] is False
    assert 'aria-label="Turn on time"' in get(admin, "/policy").text
    post(admin, "/policy", "/policy/act", name="time", act="toggle")
    assert kept(control)["rule"][1]["enabled"] is True


def test_a_stale_tab_overwrites_nothing(admin: FlaskClient, control: FakeControl) -> None:
    url = "/policy/edit?name=time"
    old = shown_token(get(admin, url).text)
    fields = {"name": "time", "action": "deny", "enabled": "1", "domains": "time.example.org"}
    assert post(admin, url, url, of=old, **fields).status_code == 303
    other = {**fields, "action": "allow", "domains": "clock.example.org"}
    stale = post(admin, url, url, of=old, **other)
    assert stale.status_code == 409
    assert "clock.example.org" in stale.text
    assert "time.example.org" in stale.text
    assert kept(control)["rule"][1]["domains"] == ["time.example.org"]
    # "Save mine" sends what was typed again, with the token of what is there now.
    again = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', stale.text)
    sent: dict[str, list[str]] = {}
    for name, value in again[again.index(("of", shown_token(stale.text))) :]:
        sent.setdefault(name, []).append(value)
    assert post(admin, url, url, **sent).status_code == 303
    assert kept(control)["rule"][1]["domains"] == ["clock.example.org"]


def test_another_rules_change_makes_no_tab_stale(admin: FlaskClient, control: FakeControl) -> None:
    url = "/policy/edit?name=time"
    old = shown_token(get(admin, url).text)
    post(admin, "/policy", "/policy/act", name="no-trackers", act="toggle")
    assert post(admin, url, url, of=old, name="time", action="deny").status_code == 303
    assert kept(control)["rule"][0]["enabled"] is False


def test_a_rule_that_is_gone(admin: FlaskClient, control: FakeControl) -> None:
    for done in (
        get(admin, "/policy/edit?name=gone"),
        post(admin, "/policy", "/policy/edit?name=gone", of=""),
        post(admin, "/policy", "/policy/act", name="gone", act="up"),
    ):
        assert (done.status_code, done.location) == (303, "/policy")
    assert "There is no rule “gone” any more." in get(admin, "/policy").text
    assert post(admin, "/policy", "/policy/act", name="time", act="no such act").status_code == 400
    assert control.candidates == {}


def test_what_others_speak_of_stays_and_is_renamed_everywhere(
    admin: FlaskClient, control: FakeControl
) -> None:
    post(admin, "/policy/lists", "/policy/lists/act", name="trackers", act="delete")
    assert control.candidates == {}
    assert "“trackers” stays: 1 entry speaks of it: rule “no-trackers”." in get(admin, "/policy/lists").text
    url = "/policy/lists/edit?name=trackers"
    of = shown_token(get(admin, url).text)
    fields = {"source": "https://a.example/l", "format": "auto", "refresh_hours": "24", "max_mib": "64"}
    assert post(admin, url, url, of=of, name="ads", **fields).status_code == 303
    assert kept(control)["rule"][0]["lists"] == ["ads"]
    assert control.candidate("admin")["problems"] == []


def test_the_last_translation_prefix_stays(admin: FlaskClient, control: FakeControl) -> None:
    post(
        admin, "/network/translation", "/network/translation/act", name="64:ff9b::/96", act="delete"
    )  # fmt: skip
    assert "One prefix has to stay" in get(admin, "/network/translation").text
    assert control.candidates == {}


def test_tables_in_a_table(admin: FlaskClient, control: FakeControl) -> None:
    fields = {
        "name": "shared", "protocol": "tcp", "port": "443", "route": "sni", "reveal": "nothing",
        "names.count": "2", "names.0.hosts": ["*.example.org"], "names.0.targets": ["[2001:db8::1]:443"],
        "names.1.hosts": ["a.example"], "names.1.targets": ["nowhere"],
    }  # fmt: skip
    url = "/network/published/new"
    wrong = post(admin, url, url, of="", **fields)
    assert wrong.status_code == 422
    assert "“nowhere” is no IPv6 endpoint" in wrong.text
    focused = re.findall(r"<input[^>]* autofocus", wrong.text)
    assert len(focused) == 1
    assert 'value="nowhere"' in focused[0]
    more = post(admin, url, url, of="", more="names", **fields)
    assert 'name="names.2.hosts"' in more.text
    fewer = post(admin, url, url, of="", drop="names:1", **fields)
    assert 'name="names.1.hosts"' not in fewer.text
    fields["names.1.targets"] = ["[2001:db8::2]:443"]
    assert post(admin, url, url, of="", **fields).status_code == 303
    assert [named["hosts"] for named in kept(control)["published"][0]["names"]] == [
        ["*.example.org"], ["a.example"],
    ]  # fmt: skip


def test_a_problem_of_the_whole_entry_is_said_above_its_fields(
    admin: FlaskClient, control: FakeControl
) -> None:
    done = post(admin, "/policy/limits/new", "/policy/limits/new", of="", name="nothing", each="client")
    assert done.status_code == 422
    assert "Limit “nothing” limits nothing." in done.text
    assert done.text.count("autofocus") == 1


def test_many_rules_are_paged_and_numbered_through(admin: FlaskClient, control: FakeControl) -> None:
    control.plain["rule"] = [{"name": f"r{n}", "action": "deny", "enabled": True} for n in range(250)]
    first = get(admin, RULES.url).text
    assert first.count('data-name="') == PER_PAGE
    assert "anything else" not in first
    last = get(admin, f"{RULES.url}?page=2").text
    assert 'data-name="r249"' in last
    assert "anything else" in last
    assert 'data-name="r120"' in get(admin, f"{RULES.url}?at=r120").text


def test_long_lists_keep_what_the_page_leaves_out(admin: FlaskClient, control: FakeControl) -> None:
    domains = [f"d{n}.example" for n in range(250)]
    control.plain["rule"][1]["domains"] = domains
    url = "/policy/edit?name=time"
    page = get(admin, url).text
    assert "And 150 more, which stay as they are" in page
    typed = re.findall(r'name="domains" value="([^"]*)"', page)[1:]
    fields = {"name": "time", "action": "allow", "domains": typed, "domains.kept": "1"}
    assert post(admin, url, url, of=shown_token(page), **fields).status_code == 303
    assert kept(control)["rule"][1]["domains"] == domains[1:]


def test_a_long_list_that_is_pasted_is_not_cut_by_an_error(admin: FlaskClient, control: FakeControl) -> None:
    pasted = " ".join(f"d{n}.example" for n in range(150)) + " not/this " + "last.example"
    fields: dict[str, Any] = {"name": "many", "action": "deny", "domains": pasted}
    done = post(admin, "/policy/new", "/policy/new", of="", **fields)
    assert done.status_code == 422
    again = re.findall(r'name="domains" value="([^"]*)"', done.text)
    assert len(again) == 152
    assert "which stay as they are" not in done.text
    fields["domains"] = [name for name in again if "/" not in name]
    assert post(admin, "/policy/new", "/policy/new", of="", **fields).status_code == 303
    assert len(kept(control)["rule"][-1]["domains"]) == 151


def test_copies_get_names_that_fit() -> None:
    assert copy_name("a", {"a", "a-2"}) == "a-3"
    assert copy_name("x" * 32, set()) == "x" * 30 + "-2"


def test_a_new_entry_begins_with_the_defaults(admin: FlaskClient, control: FakeControl) -> None:
    page = get(admin, "/policy/lists/new").text
    assert 'name="refresh_hours" value="24"' in page
    assert "differs from the default" not in page


def test_a_lan_for_guests_and_a_route_are_added(admin: FlaskClient, control: FakeControl) -> None:
    url = "/network/lans/new"
    page = get(admin, url)
    assert page.status_code == 200 and "VLAN" in page.text
    fields = {"router_preference": "medium", "pref64_lifetime": "1800"}
    done = post(admin, url, url, name="guests", interface="auto", vlan="20", prefix="generated", **fields)
    assert done.status_code == 303, done.text
    [guests] = control.candidates["admin"]["config"]["segment"]
    assert (guests["name"], guests["vlan"], guests.get("console", False)) == ("guests", 20, False)
    assert "VLAN 20 on the LAN’s port" in get(admin, "/network/lans").text
    done = post(admin, url, url, name="other", interface="auto", vlan="20", prefix="generated", **fields)
    assert "already" in done.text or "already" in get(admin, "/changes").text
    url = "/network/routes/new"
    done = post(admin, url, url, name="far", to="10.0.0.0/8", via="192.0.2.9", metric="50")
    assert done.status_code == 303, done.text
    assert control.candidates["admin"]["config"]["route"][0]["via"] == "192.0.2.9"
    assert "192.0.2.9" in get(admin, "/network/routes").text


def test_the_dashboard_names_every_lan(admin: FlaskClient) -> None:
    assert "LAN “guests”" in get(admin, "/").text and "fd00:3::1" in get(admin, "/").text
