"""Settings in real Chromium: each main task by mouse, by keys, without JavaScript; and how all pages look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from appliance.control.client import ControlClient
from tests.browser.looks import MARKS, PASSWORD, look
from tests.lab.forward import Forwarder
from tests.netns.conftest import Box, wait_for

pytestmark = MARKS

PAGES = {
    "policy": "/policy", "policy-rule": "/policy/edit?name=no-trackers", "policy-lists": "/policy/lists",
    "policy-list": "/policy/lists/edit?name=trackers", "policy-schedules": "/policy/schedules",
    "policy-schedule": "/policy/schedules/new", "policy-limits": "/policy/limits",
    "policy-limit": "/policy/limits/new", "policy-default": "/policy/default", "users": "/users",
    "user": "/users/edit?name=ann@home.example", "groups": "/users/groups", "devices": "/users/devices",
    "device": "/users/devices/new", "network": "/network", "translation": "/network/translation",
    "lans": "/network/lans", "lan": "/network/lans/new", "routes": "/network/routes",
    "route": "/network/routes/new",
    "translation-prefix": "/network/translation/edit?name=64:ff9b::/96", "published": "/network/published",
    "published-service": "/network/published/new", "listeners": "/network/listeners",
    "listener": "/network/listeners/edit?name=https", "explicit": "/network/explicit", "system": "/system",
    "traffic": "/system/traffic", "certificates": "/system/certificates", "changes": "/changes",
    "history": "/history", "revision": "/history/1", "updates": "/system/updates", "log": "/log",
    "requests": "/policy/requests", "backup": "/system/backup",
    "diagnostics": "/system/diagnostics",
}  # fmt: skip
NEW_PREFIX, NEW_HOST = "fd00:2::/64", "fd00:2::1"


def sign_in(page: Page) -> None:
    """Through the first boot or the sign-in, whichever there is."""
    page.goto("/")
    if page.get_by_role("heading", name="Choose a password").is_visible():
        page.get_by_label("Password of").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Set the password").click()
        page.get_by_role("link", name="Skip the set-up").click()
    elif page.get_by_role("heading", name="Sign in").is_visible():
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()


@pytest.fixture
def admin(page: Page) -> Page:
    """The tab, signed in, with the system's theme."""
    page.context.clear_cookies(name="theme")
    sign_in(page)
    return page


@pytest.fixture
def plain(browser: Browser, address: str, admin: Page) -> Iterator[Page]:
    """A tab without JavaScript, signed in; after ``admin``, so that there is a password."""
    context = browser.new_context(ignore_https_errors=True, java_script_enabled=False, base_url=address)
    tab = context.new_page()
    tab.set_default_timeout(15_000)
    sign_in(tab)
    yield tab
    context.close()


def saved(page: Page) -> None:
    """The form was taken."""
    page.get_by_role("button", name="Save to pending changes").click()
    expect(page.get_by_role("status").filter(has_text="saved to the pending changes")).to_be_visible()


def apply(page: Page, comment: str = "") -> None:
    """Apply what is pending: by way of the review, with a note for the history."""
    page.get_by_role("link", name="Apply").click()
    page.get_by_label("Note for the history").fill(comment)
    page.get_by_role("button", name="Apply").click()


def test_a_user_is_added_and_in_force_at_once(admin: Page) -> None:
    admin.goto("/users")
    admin.get_by_role("link", name="Add a group").click()
    admin.get_by_label("Name").fill("staff")
    admin.get_by_role("button", name="Add group").click()
    expect(admin.get_by_text("Group “staff” added.")).to_be_visible()
    admin.get_by_role("link", name="Proxy users").click()
    admin.get_by_label("Name").fill("ann@home.example")
    admin.get_by_label("Password").fill("short")
    admin.get_by_label("staff").check()
    admin.get_by_role("button", name="Add user").click()
    expect(admin.get_by_label("Password")).to_be_focused()
    expect(admin.get_by_text("This has 5 characters.")).to_be_visible()
    admin.get_by_label("Password").fill("correct horse")
    admin.get_by_role("button", name="Add user").click()
    expect(admin.get_by_role("link", name="ann@home.example").first).to_be_visible()
    expect(admin.get_by_role("region", name="Pending changes")).to_have_count(0)


def test_a_rule_is_made_changed_and_applied(admin: Page) -> None:
    admin.goto("/policy/lists")
    admin.get_by_role("link", name="New list").first.click()
    admin.get_by_label("Name").fill("trackers")
    admin.get_by_label("Source").fill("/var/lib/isthmus/trackers.txt")
    saved(admin)
    admin.goto("/policy")
    admin.get_by_role("link", name="New rule").click()
    admin.get_by_label("Name", exact=True).fill("no-trackers")
    admin.get_by_label("trackers").check()
    domains = admin.get_by_role("group", name="Domains")
    domains.get_by_label("domain 1", exact=True).fill("ads.example")
    domains.get_by_role("button", name="Add a row").click()
    expect(domains.get_by_label("domain 2", exact=True)).to_be_focused()
    domains.get_by_label("domain 2", exact=True).fill("no name/at all")
    admin.get_by_role("button", name="Save to pending changes").click()
    expect(admin.get_by_text("“name/at” is no domain")).to_be_visible()
    expect(admin.locator("[aria-invalid=true]").first).to_be_focused()
    look(admin, "policy-rule-errors")
    domains.get_by_role("button", name="Remove domain 4").click()
    domains.get_by_role("button", name="Remove domain 3").click()
    domains.get_by_role("button", name="Remove domain 2").click()
    saved(admin)
    expect(admin.get_by_text("New, not applied")).to_be_visible()
    expect(admin.get_by_role("region", name="Pending changes")).to_contain_text("2 changes")
    apply(admin, "No trackers")
    expect(admin.get_by_role("heading", name="History")).to_be_visible()
    expect(admin.get_by_role("link", name="No trackers")).to_be_visible()
    admin.goto("/policy")
    expect(admin.get_by_role("region", name="Pending changes")).to_have_count(0)


def test_rules_by_keys_alone(admin: Page) -> None:
    admin.goto("/policy/new")
    admin.get_by_label("Name", exact=True).focus()
    admin.keyboard.type("time")
    admin.keyboard.press("Tab")
    admin.keyboard.press("ArrowLeft")  # from Deny to Allow
    admin.keyboard.press("Enter")
    expect(admin.locator("tr[data-name=time]")).to_contain_text("Allow")
    up = admin.get_by_role("button", name="Move up time")
    up.focus()
    admin.keyboard.press("Enter")
    expect(admin.locator("tr[data-name]").first).to_have_attribute("data-name", "time")
    expect(admin.get_by_role("button", name="Move down time")).to_be_focused()
    admin.keyboard.press("Enter")
    expect(admin.locator("tr[data-name]").last).to_have_attribute("data-name", "time")
    expect(admin.get_by_role("button", name="Move up time")).to_be_focused()
    admin.wait_for_load_state()
    admin.keyboard.press("g")
    admin.keyboard.press("c")
    expect(admin.get_by_role("heading", name="Review")).to_be_visible()
    admin.wait_for_load_state()  # the keys are the script's
    admin.keyboard.press("?")
    expect(admin.get_by_role("dialog", name="Keys")).to_be_visible()
    admin.keyboard.press("Escape")


def test_rules_are_dragged(admin: Page) -> None:
    admin.goto("/policy")
    admin.locator("tr[data-name=time] td").first.drag_to(
        admin.locator("tr[data-name=no-trackers]"), target_position={"x": 40, "y": 3}
    )
    expect(admin.locator("tr[data-name]").first).to_have_attribute("data-name", "time")


def test_why(admin: Page) -> None:
    """By the candidate the rule that was just put first decides; by the live policy the default."""
    admin.goto("/policy")
    why = admin.get_by_role("region", name="Why?")
    why.get_by_label("From").fill("fd00:1::2")
    why.get_by_label("To", exact=True).fill("www.example.org")
    why.get_by_role("button", name="Test").click()
    expect(why.get_by_text("Allowed by “time”")).to_be_visible()
    expect(why.get_by_role("listitem").first).to_contain_text("all of its conditions hold")
    why.get_by_text("Live policy").click()
    why.get_by_role("button", name="Test").click()
    expect(why.get_by_text("Allowed by the default")).to_be_visible()
    look(admin, "policy-why")


def test_a_rule_without_javascript(plain: Page) -> None:
    plain.goto("/policy/new")
    plain.get_by_label("Name", exact=True).fill("no-video")
    ports = plain.get_by_role("group", name="Ports")
    ports.get_by_role("button", name="Add a row").click()
    expect(plain.get_by_label("Name", exact=True)).to_have_value("no-video")
    ports.get_by_label("port 2", exact=True).fill("8000-8999")
    saved(plain)
    expect(plain.locator("tr[data-name=no-video]")).to_contain_text("8000-8999")
    plain.get_by_role("button", name="Turn off no-video").click()
    expect(plain.locator("tr[data-name=no-video]")).to_contain_text("Off")
    plain.get_by_role("button", name="Duplicate no-video").click()
    plain.get_by_role("button", name="Delete no-video-2").click()
    expect(plain.locator("tr[data-name]")).to_have_count(3)


def test_two_tabs_of_one_rule(admin: Page, plain: Page) -> None:
    for tab in (admin, plain):
        tab.goto("/policy/edit?name=no-video")
    plain.get_by_label("Note for the block page").fill("From one tab")
    saved(plain)
    admin.get_by_label("Note for the block page").fill("From the other")
    admin.get_by_role("button", name="Save to pending changes").click()
    expect(admin.get_by_role("heading", name="Changed meanwhile")).to_be_visible()
    expect(admin.get_by_role("cell", name="From one tab")).to_be_visible()
    expect(admin.get_by_role("cell", name="From the other")).to_be_visible()
    look(admin, "stale")
    admin.get_by_role("button", name="Save mine").click()
    admin.goto("/policy/edit?name=no-video")
    expect(admin.get_by_label("Note for the block page")).to_have_value("From the other")


def test_all_pages_look_as_they_should(admin: Page) -> None:
    """With changes pending, so that the bar is on each."""
    for name, url in PAGES.items():
        admin.goto(url)
        expect(admin.get_by_role("heading", level=1)).to_be_visible()
        look(admin, name)


def test_pending_changes_are_discarded(admin: Page) -> None:
    admin.goto("/network")
    admin.get_by_role("link", name="Discard").click()
    look(admin, "discard")
    admin.get_by_role("button", name="Discard").click()
    expect(admin.get_by_text("Nothing to apply")).to_be_visible()
    look(admin, "changes-none")


def test_an_old_revision_is_restored(admin: Page) -> None:
    admin.goto("/history")
    admin.get_by_role("row").filter(has_text="Replaced").get_by_role("link").last.click()
    admin.get_by_role("button", name="Restore").click()
    expect(admin.get_by_role("heading", name="Review")).to_be_visible()
    expect(admin.get_by_text("Rule “no-trackers”").first).to_be_visible()
    admin.goto("/changes?discard=1")
    admin.get_by_role("button", name="Discard").click()


def test_two_admins_clash_and_choose(box: Box, admin: Page) -> None:
    """One at the console, one at the command line."""
    admin.goto("/policy/default")
    admin.get_by_label("Kept for").fill("60")
    saved(admin)
    control = ControlClient(box.runtime)
    theirs = control.candidate("root")
    theirs["config"]["policy"].update(retention_days=90, privacy="counters")
    control.put_candidate("root", theirs["config"], theirs["based_on"])
    control.commit("root", "by the command line", theirs["based_on"])
    admin.get_by_role("link", name="Review").click()
    expect(admin.get_by_role("button", name="Apply 1 change")).to_be_disabled()
    look(admin, "changes-clash")
    admin.get_by_role("radio", name="In force: 90").check()
    admin.get_by_role("button", name="Merge").click()
    expect(admin.get_by_text("Merged with what is in force now.")).to_be_visible()
    expect(admin.get_by_text("Nothing to apply")).to_be_visible()
    admin.goto("/policy/default")
    expect(admin.get_by_label("Kept for")).to_have_value("90")
    expect(admin.get_by_role("radio", name="Counters only")).to_be_checked()


@pytest.fixture
def moved(box: Box, browser: Browser) -> Iterator[Page]:
    """A tab at the address that the box moves to: another host to the browser, so another session."""
    box.client.run("ip", "addr", "add", "fd00:2::2/64", "dev", "eth0", "nodad")
    forwarder = Forwarder(box.client, NEW_HOST, 443)
    context = browser.new_context(
        ignore_https_errors=True, base_url=f"https://localhost:{forwarder.port}"
    )  # fmt: skip
    tab = context.new_page()
    tab.set_default_timeout(15_000)
    yield tab
    context.close()
    forwarder.close()


def move(page: Page, prefix: str, seconds: str) -> None:
    """Change the LAN's prefix and apply it."""
    page.goto("/network")
    page.get_by_label("Prefix given to hosts").fill(prefix)
    saved(page)
    page.get_by_role("link", name="Apply").click()
    look(page, "changes-cut")
    page.get_by_label("Time to keep them").fill(seconds)
    page.get_by_role("button", name="Apply").click()


def has(box: Box, address: str) -> bool:
    """Whether the box's LAN port has it."""
    return address in box.box.run("ip", "-6", "addr", "show", "dev", "lan0", "to", address).stdout


def test_the_lans_address_moves_and_is_kept_at_the_new_one(box: Box, admin: Page, moved: Page) -> None:
    move(admin, NEW_PREFIX, "120")
    expect(admin.get_by_role("link", name=f"https://[{NEW_HOST}]/")).to_be_visible()
    look(admin, "leaving")
    wait_for(lambda: has(box, NEW_HOST), "the new address", 30)
    sign_in(moved)
    expect(moved.get_by_text("Keep the new settings?")).to_be_visible()
    moved.goto("/network")
    look(moved, "network-confirm")
    moved.get_by_role("button", name="Keep").click()
    expect(moved.get_by_text("stays.")).to_be_visible()
    move(moved, "fd00:1::/64", "120")
    wait_for(lambda: has(box, "fd00:1::1"), "the old address", 30)
    admin.goto("/changes/confirm")
    admin.get_by_role("button", name="Keep").click()
    expect(admin.get_by_text("stays.")).to_be_visible()


def test_the_lans_address_comes_back_when_nobody_keeps_the_new_one(box: Box, admin: Page) -> None:
    move(admin, NEW_PREFIX, "10")
    wait_for(lambda: has(box, NEW_HOST), "the new address", 30)
    # The tab is left alone: it finds the box again by itself.
    expect(admin.get_by_role("heading", name="History")).to_be_visible(timeout=60_000)
    expect(admin.get_by_text("Rolled back").first).to_be_visible()
    assert has(box, "fd00:1::1")
    look(admin, "history-rolled-back")


def test_the_box_is_looked_at_from_itself(admin: Page) -> None:
    admin.goto("/system/diagnostics")
    admin.get_by_label("Address or name").fill("203.0.113.1")
    admin.get_by_role("button", name="Ping").click()
    expect(admin.get_by_text("It answers", exact=True)).to_be_visible()
    expect(admin.get_by_role("region", name="What the tool says")).to_contain_text("203.0.113.1")
    look(admin, "diagnostics-ping")
    admin.get_by_label("Address or name").fill("not a name")
    admin.get_by_role("button", name="Trace the way").click()
    expect(admin.get_by_text("That is no address and no name.")).to_be_visible()
    expect(admin.locator("[aria-invalid=true]").first).to_be_focused()


def test_frames_are_captured_without_javascript(plain: Page, tmp_path: Path) -> None:
    plain.goto("/system/diagnostics")
    plain.get_by_label("Port of the box").select_option("wan0")
    plain.get_by_label("Seconds").fill("60")
    plain.get_by_role("button", name="Capture").click()
    expect(plain.get_by_text("Capturing on wan0")).to_be_visible()
    plain.get_by_label("Address or name").fill("203.0.113.1")
    plain.get_by_role("button", name="Ping").click()
    plain.get_by_role("button", name="Stop").click()
    with plain.expect_download() as download:
        plain.get_by_role("link", name="Download the last one").click()
    file = tmp_path / "wan.pcap"
    download.value.save_as(file)
    assert bytes((203, 0, 113, 1)) in file.read_bytes()


def test_a_backup_is_downloaded_and_restored(admin: Page, tmp_path: Path) -> None:
    admin.goto("/system/backup")
    admin.get_by_label("Passphrase", exact=True).fill(PASSWORD)
    admin.get_by_label("The same again").fill(PASSWORD)
    with admin.expect_download() as download:
        admin.get_by_role("button", name="Download the backup").click()
    file = tmp_path / "box.backup"
    download.value.save_as(file)
    assert file.read_bytes().startswith(b"isthmus-backup-1\n")
    admin.get_by_label("Backup", exact=True).set_input_files(file)
    admin.get_by_label("Its passphrase").fill("another passphrase")
    admin.get_by_role("button", name="Restore").click()
    expect(admin.locator("#b-opens-e")).to_be_visible()
    look(admin, "backup-refused")
    admin.get_by_label("Backup", exact=True).set_input_files(file)
    admin.get_by_label("Its passphrase").fill(PASSWORD)
    admin.get_by_role("button", name="Restore").click()
    expect(admin.get_by_text("0 changes are pending")).to_be_visible()


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_an_upload_is_refused_where_there_is_no_image(
    request: pytest.FixtureRequest, tmp_path: Path, script: bool
) -> None:
    """It crosses TLS, gunicorn and control in parts, and comes to the box's refusal."""
    page: Page = request.getfixturevalue("admin" if script else "plain")
    file = tmp_path / "isthmus-9.9.9.update"
    file.write_bytes(b"not a bundle" * 500_000)
    page.goto("/system/updates")
    page.get_by_label("Update", exact=True).set_input_files(file)
    page.get_by_role("button", name="Upload and install").click()
    expect(page.get_by_text("This system is not the image.").first).to_be_visible()
