"""Each page's main task three times: with the mouse, with the keyboard alone, and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from appliance.control.client import ControlClient
from tests.browser.looks import MARKS
from tests.browser.test_settings import admin, plain, sign_in
from tests.netns.conftest import Box

__all__ = ["admin", "plain", "sign_in"]
pytestmark = MARKS

# From the beginning of the longest page to its end.
MAX_TABS = 200


class Mouse:
    """Points and clicks."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def fill(self, label: str, text: str) -> None:
        """Type into an input, in the place of what it has."""
        self.page.get_by_label(label, exact=True).first.fill(text)

    def choose(self, label: str, option: str) -> None:
        """One of a list."""
        self.page.get_by_label(label, exact=True).first.select_option(option)

    def tick(self, label: str) -> None:
        """Turn a box."""
        self.page.get_by_label(label).first.click()

    def press(self, name: str) -> None:
        """A button."""
        self.page.get_by_role("button", name=name).first.click()

    def follow(self, name: str) -> None:
        """A link."""
        self.page.get_by_role("link", name=name).first.click()


class Keys(Mouse):
    """Never touches the mouse: whatever it uses, it comes to with Tab."""

    def _reach(self, wanted: Locator) -> None:
        expect(wanted).to_be_attached()
        element = wanted.element_handle()
        for _tab in range(MAX_TABS):
            if element.evaluate("one => one === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{wanted} cannot be reached with the keyboard")

    def fill(self, label: str, text: str) -> None:
        """Type over what is there."""
        self._reach(self.page.get_by_label(label, exact=True).first)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def choose(self, label: str, option: str) -> None:
        """Down the list until it is the one."""
        found = self.page.get_by_label(label, exact=True).first
        self._reach(found)
        self.page.keyboard.press("Home")
        for _step in range(40):
            if found.input_value() == option:
                return
            self.page.keyboard.press("ArrowDown")
        raise AssertionError(f"{label} has no {option}")

    def tick(self, label: str) -> None:
        """With the space bar."""
        self._reach(self.page.get_by_label(label).first)
        self.page.keyboard.press("Space")

    def press(self, name: str) -> None:
        """With Enter."""
        self._reach(self.page.get_by_role("button", name=name).first)
        self.page.keyboard.press("Enter")

    def follow(self, name: str) -> None:
        """With Enter."""
        self._reach(self.page.get_by_role("link", name=name).first)
        self.page.keyboard.press("Enter")


Step = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What is done on a page: steps by the names of a hand's methods; then this text is there."""

    url: str
    steps: tuple[Step, ...]
    seen: str
    undo: Callable[[ControlClient], Any] | None = field(default=None)


SAVE: Step = ("press", "Save to pending changes")
SAVED = "saved to the pending changes"
TASKS = {
    "devices": Task(
        "/users/devices",
        (("follow", "New device"), ("fill", "Name", "printer"), ("fill", "card 1", "02:00:5e:10:00:09"),
         SAVE),
        SAVED,
    ),
    "groups": Task(
        "/users/groups", (("fill", "Name", "crew"), ("press", "Add group")), "Group “crew” added.",
        lambda control: control.remove_group("crew"),
    ),
    "users": Task(
        "/users",
        (("fill", "Name", "bo"), ("fill", "Password", "a long password"), ("tick", "testers"),
         ("press", "Add user")),
        "User “bo” added.", lambda control: control.remove_user("bo"),
    ),
    "lists": Task(
        "/policy/lists",
        (("follow", "New list"), ("fill", "Name", "ads"), ("fill", "Source", "/var/lib/ads.txt"), SAVE),
        SAVED,
    ),
    "schedules": Task(
        "/policy/schedules",
        (("follow", "New schedule"), ("fill", "Name", "nights"), ("fill", "From", "22:00"), SAVE),
        SAVED,
    ),
    "limits": Task(
        "/policy/limits",
        (("follow", "New limit"), ("fill", "Name", "guests"), ("fill", "Sessions (optional)", "40"), SAVE),
        SAVED,
    ),
    "policy-default": Task("/policy/default", (("fill", "Kept for", "21"), SAVE), SAVED),
    "policy-why": Task(
        "/policy", (("fill", "From", "fd00:1::2"), ("fill", "To", "www.example.org"), ("press", "Test")),
        "Under the",
    ),
    "network": Task("/network", (("fill", "Address", "203.0.113.3/24"), SAVE), SAVED),
    "lans": Task(
        "/network/lans",
        (("follow", "New LAN"), ("fill", "Name", "guests"), ("fill", "VLAN (optional)", "20"), SAVE),
        SAVED,
    ),
    "routes": Task(
        "/network/routes",
        (("follow", "New route"), ("fill", "Name", "branch"), ("fill", "Network", "10.9.0.0/16"),
         ("fill", "Router", "203.0.113.1"), SAVE),
        SAVED,
    ),
    "translation": Task(
        "/network/translation",
        (("follow", "New translation prefix"), ("fill", "Prefix", "fd00:64::/96"),
         ("fill", "network 1", "10.0.0.0/8"), SAVE),
        SAVED,
    ),
    "published": Task(
        "/network/published",
        (("follow", "New service"), ("fill", "Name", "web"), ("fill", "Port", "8443"),
         ("fill", "server 1", "[fd00:1::80]:443"), SAVE),
        SAVED,
    ),
    "listeners": Task(
        "/network/listeners",
        (("follow", "New listener"), ("fill", "Name", "lab"), ("fill", "Port", "8090"), SAVE), SAVED,
    ),
    "explicit": Task("/network/explicit", (("fill", "port 1", "8443"), SAVE), SAVED),
    "system": Task("/system", (("fill", "Host name", "strait"), SAVE), SAVED),
    "traffic": Task("/system/traffic", (("fill", "UDP, idle", "240"), SAVE), SAVED),
    "certificates": Task(
        "/system/certificates", (("press", "Renew the box’s own"),), "certificates are new",
    ),
    "admins": Task(
        "/system/admins",
        (("fill", "Name", "eve"), ("fill", "Password", "a long password"), ("choose", "Role", "viewer"),
         ("press", "Add admin")),
        "eve", lambda control: control.remove_admin("eve"),
    ),
    "tokens": Task(
        "/system/tokens",
        (("fill", "Name", "poller"), ("choose", "Role", "operator"), ("press", "Make a token")), "poller",
        lambda control: control.remove_token("poller"),
    ),
    "audit": Task(
        "/system/audit", (("fill", "Search in all of it", "sign-in"), ("press", "Search")), "sign-in",
    ),
    "log": Task(
        "/log",
        (("fill", "Search by name, address, user, device or rule", "nobody.example"),
         ("choose", "How it ended", "denied"), ("press", "Search")),
        "No session is like that",
    ),
    "sessions": Task(
        "/sessions",
        (("fill", "Search by address, port or kind", "203.0.113.99"), ("press", "Search")),
        "No session matches",
    ),
    "history": Task(
        "/history", (("follow", "test_tasks"), ("press", "Restore")), "is in your pending changes",
    ),
    "diagnostics": Task(
        "/system/diagnostics", (("fill", "Address or name", "203.0.113.1"), ("press", "Ping")), "It answers",
    ),
    "updates": Task(
        "/system/updates",
        (("fill", "Address", "https://192.0.2.1/x.update"), ("press", "Fetch and install")),
        "This system is not the image.",
    ),
    "backup": Task(
        "/system/backup",
        (("fill", "Passphrase", "short"), ("fill", "The same again", "short"),
         ("press", "Download the backup")),
        "At least",
    ),
}  # fmt: skip


@pytest.fixture
def control(box: Box) -> Iterator[ControlClient]:
    """At the box itself; what a task left pending is gone afterwards, and so is what it put in force."""
    made = ControlClient(box.runtime)
    if all(group["name"] != "testers" for group in made.users()[1]):
        made.add_group("testers")
        for retention in (29, 30):  # two revisions that can be told apart
            candidate = made.candidate("root")
            candidate["config"]["policy"]["retention_days"] = retention
            made.put_candidate("root", candidate["config"], candidate["based_on"])
            made.commit("root", f"test_tasks {retention}", candidate["based_on"])
    yield made
    made.discard_candidate("admin")


@pytest.mark.parametrize("hand", ["mouse", "keys", "plain"])
@pytest.mark.parametrize("name", TASKS)
def test_the_main_task(name: str, hand: str, request: pytest.FixtureRequest, control: ControlClient) -> None:
    page: Page = request.getfixturevalue("plain" if hand == "plain" else "admin")
    task = TASKS[name]
    hands = Keys(page) if hand == "keys" else Mouse(page)
    page.goto(task.url)
    try:
        for verb, *words in task.steps:
            getattr(hands, verb)(*words)
        expect(page.locator("main").get_by_text(task.seen).first).to_be_visible()
    finally:
        if task.undo is not None:
            page.wait_for_load_state()
            task.undo(control)
