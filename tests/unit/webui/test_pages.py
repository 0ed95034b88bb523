"""Every page: it is there, nothing of it is inline, and what a stranger wrote is escaped in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from flask.testing import FlaskClient

from appliance import policy_cli
from appliance.control import explain
from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import STATUS, FakeControl
from webui.api.bodies import Question
from webui.views import policy

PAGES = {
    "/": "Dashboard",
    "/sessions": "Sessions",
    "/policy": "no-trackers",
    "/policy/new": "New rule",
    "/policy/edit?name=nights-off": "nights-off",
    "/policy/lists": "77 in all",
    "/policy/lists/new": "New list",
    "/policy/lists/edit?name=trackers": "Spoken of by rule “no-trackers”",
    "/policy/schedules": "22:00 to 06:00, the next day",
    "/policy/schedules/edit?name=nights": "nights",
    "/policy/limits": "20 GiB a day",
    "/policy/limits/new": "New limit",
    "/policy/requests": "games.example",
    "/log": "it had asked for shop.example",
    "/policy/default": "Where no rule matches",
    "/network/lans": "More LANs",
    "/network/lans/new": "New LAN",
    "/network/routes": "Routes",
    "/network/routes/new": "New route",
    "/users": "ann@home.example",
    "/users/edit?name=ann@home.example": "User of the explicit proxy",
    "/users/groups": "staff",
    "/users/devices": "None yet",
    "/users/devices/new": "New device",
    "/network": "wan0",
    "/network/translation": "64:ff9b::/96",
    "/network/translation/edit?name=64:ff9b::/96": "IPv4 networks",
    "/network/published": "None yet",
    "/network/published/new": "New service",
    "/network/listeners": "proxy.pac",
    "/network/listeners/edit?name=http": "Take passwords in the clear",
    "/network/explicit": "Ports for CONNECT",
    "/system": "Europe/Vienna",
    "/system/traffic": "Time to dial",
    "/system/certificates": "signed by Isthmus box 12ab",
    "/changes": "Nothing to apply",
    "/history": "why 1",
    "/history/1": "What it changed",
    "/history/1/file": "Of revision 1",
    "/changes/file": "As it is with your changes",
}  # fmt: skip


class Ids(HTMLParser):
    """Collects ids and what refers to them, and that each element is closed by its own tag."""

    EMPTY = frozenset({"meta", "link", "input", "img", "path", "circle", "rect", "use", "hr", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.wanted: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("for", "aria-describedby", "aria-labelledby", "list") and value:
                self.wanted += value.split()
            assert name != "style"
            assert not name.startswith("on")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self.open[-1:] != ["p"]:
            return
        assert self.open.pop() == tag


def well_made(text: str) -> None:
    """No inline style or script, each label has its control, no id twice."""
    found = Ids()
    found.feed(text)
    assert len(found.ids) == len(set(found.ids)), "an id twice"
    assert set(found.wanted) <= set(found.ids), set(found.wanted) - set(found.ids)
    assert not re.search(r"<script(?! src=)", text)


@pytest.mark.parametrize("url", PAGES)
def test_each_page(url: str, client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = get(client, url)
    assert answer.status_code == 200
    assert PAGES[url] in answer.text
    well_made(answer.text)
    assert "not applied yet" not in answer.text


@pytest.mark.parametrize("url", PAGES)
def test_no_page_without_a_session(url: str, client: FlaskClient, control: FakeControl) -> None:
    control.password = "correct horse"
    assert get(client, url).location == "/signin"


@pytest.mark.parametrize("url", PAGES)
def test_each_page_tells_of_pending_changes_and_of_what_waits(
    url: str, client: FlaskClient, control: FakeControl
) -> None:
    signed_in(client, control)
    control.cuts = True
    post(client, "/policy", "/policy/act", name="time", act="toggle")
    seen = control.candidates["admin"]["version"]
    post(client, "/changes", "/changes", version=seen)
    post(client, "/policy", "/policy/act", name="time", act="toggle")
    page = get(client, url).text
    assert "Keep the new settings?" in page
    assert "https://[fd00:2::1]/" in page
    assert ("1 change</b> <span>not applied yet" in page) == (url != "/changes")
    well_made(page)


EVIL = "<img src=x onerror=alert(1)>\"'&"


def test_what_strangers_wrote_is_escaped(client: FlaskClient, control: FakeControl) -> None:
    """Names of sessions, notes and sources: none of it becomes markup, whoever put it there."""
    signed_in(client, control)
    control.plain["name_list"][0]["source"] = f"/{EVIL}"
    control.plain["rule"][0]["note"] = EVIL
    control.plain["rule"][0]["domains"] = [EVIL]
    for url in ("/policy", "/policy/lists", "/policy/edit?name=no-trackers", f"/sessions?q={EVIL}"):
        page = get(client, url).text
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page
        well_made(page)


def test_the_certificate_of_the_authority_is_offered(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    for url in ("/system", "/network/listeners"):
        assert 'href="/authority.crt"' in get(client, url).text


def test_the_why_box(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    assert "Why?" in get(client, "/policy").text
    url = "/policy?client=fd00:1::2&to=ads.example.org&port=443&protocol=tcp&against=live"
    page = get(client, url).text
    assert "Denied by “no-trackers”" in page
    assert "port 443 is not 123" in page
    well_made(page)
    asked = "to=2001:db8::1&port=53&protocol=dns&user=ann&against=candidate&addresses=192.0.2.1,192.0.2.2"
    get(client, f"/policy?{asked}")
    assert control.calls == [
        ("explain", "fd00:1::2", None, "ads.example.org:443", "tcp", None, None),
        ("explain", None, "ann", "[2001:db8::1]:53", "dns", ["192.0.2.1", "192.0.2.2"], "admin"),
    ]
    assert "Say where to" in get(client, "/policy?to=").text
    wrong = get(client, "/policy?to=a/b&port=443").text
    assert "“a/b:443” is no destination. Write it otherwise." in wrong
    well_made(wrong)


def test_the_console_the_api_and_the_command_line_ask_for_every_way(
    client: FlaskClient, control: FakeControl
) -> None:
    ways = set(explain.PROTOCOLS)
    assert set(policy.PROTOCOLS) == set(policy_cli.PROTOCOLS) == ways
    assert set(get_args(Question.model_fields["protocol"].annotation)) == ways
    signed_in(client, control)
    get(client, "/policy?client=192.0.2.9&to=www.example.org&port=8443&protocol=published")
    assert control.calls[-1][1:5] == ("192.0.2.9", None, "www.example.org:8443", "published")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"allow": True, "rule": "default"}, "Allowed by the default"),
        ({"allow": False, "rule": "always"}, "Always refused"),
        ({"allow": True, "rule": "time", "pending": True}, "Not the last word"),
    ],
)
def test_what_the_why_box_says(
    answer: dict[str, Any], words: str, client: FlaskClient, control: FakeControl
) -> None:
    signed_in(client, control)
    control.explanation.update(answer)
    assert words in get(client, "/policy?to=www.example.org").text


def posts(client: FlaskClient) -> list[str]:
    """Every address that takes a form."""
    rules = client.application.url_map.iter_rules()
    return sorted(rule.rule.replace("<int:number>", "1") for rule in rules if "POST" in (rule.methods or ()))


def test_no_form_is_taken_without_its_token_or_without_a_session(
    client: FlaskClient, control: FakeControl
) -> None:
    signed_in(client, control)
    addresses = posts(client)
    assert len(addresses) > 30
    fields = {"name": "time", "act": "delete", "version": "0", "groups": "staff", "answer": "keep"}
    for address in addresses:
        assert client.post(address, data=fields, base_url="https://box").status_code == 400, address
    post(client, "/", "/signout")
    open_to_all = {"/signin", "/theme"}
    for address in addresses:
        done = post(client, "/signin", address, **fields)  # with the token of a session that nobody is in
        assert address in open_to_all or done.location == "/signin", address
    assert control.candidates == {}
    assert control.calls == []


@pytest.mark.parametrize(
    ("up", "words"),
    [((), "not in force"), ((1,), "Answers"), ((1, 1), "All 2 answer"), ((1, 0), "1 of 2 answer"),
     ((0,), "None answers")],
)  # fmt: skip
def test_published_services_say_whether_their_servers_answer(
    up: tuple[int, ...],
    words: str,
    client: FlaskClient,
    control: FakeControl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signed_in(client, control)
    control.plain["published"] = [{"name": "web", "port": 443, "targets": ["[fd00:1::80]:443"]}]
    targets = [{"target": "[fd00:1::80]:443", "up": bool(one)} for one in up]
    monkeypatch.setitem(STATUS, "published", [{"name": "web", "targets": targets}])
    page = get(client, "/network/published").text
    assert words in page
    well_made(page)


def test_a_long_trace_shows_its_ends(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    steps = [{"rule": f"rule-{number}", "matched": False, "why": "no"} for number in range(2_000)]
    steps.append({"rule": "last", "matched": True, "why": "all of its conditions hold"})
    control.explanation = {**control.explanation, "rule": "last", "steps": steps}
    page = get(client, "/policy?to=a.example").text
    assert "1961 rules more, none of which matches" in page
    assert "rule-0<" in page and "rule-19<" in page and "rule-20<" not in page
    assert "rule-1981<" in page and "<b>last</b>" in page
    # A rule that could still match is not left out.
    steps[1_000]["matched"] = None
    assert "rule-20<" in get(client, "/policy?to=a.example").text
    well_made(page)


def test_a_session_is_killed_and_its_search_kept(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    sent = post(client, "/sessions", "/sessions/kill", id="0-1", q="192.31")
    assert sent.location == "/sessions?q=192.31"
    assert ("kill", "0-1") in control.calls
    assert "1 session killed." in get(client, "/sessions").text
    post(client, "/sessions", "/sessions/kill", id="0-9")
    assert "This session was over already." in get(client, "/sessions").text


def test_sessions_come_in_pages(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    first = get(client, "/sessions?q=192.31").text
    assert "/sessions?q=192.31&amp;cursor=1-1" in first
    last = get(client, "/sessions?q=192.31&cursor=1-1").text
    assert "The newest" in last
    assert "Older ones" in first and "Older ones" not in last


def test_each_row_of_the_log_has_its_why(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    page = get(client, "/log").text
    assert "/policy?client=fd00%3A1%3A%3A7&amp;user=&amp;to=%3Ci%3E.example&amp;port=443" in page
