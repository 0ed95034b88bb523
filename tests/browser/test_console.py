"""The console in real Chromium, over TLS, against the real daemons running in the box's namespace.

    Chromium --- client --- [ box: control, proxy, web ] --- server

A forwarder of the lab carries the host's loopback to the LAN address, as `make run` does.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.browser.looks import MARKS, PASSWORD, SCREENSHOTS, look
from tests.netns.conftest import BIN, SERVER, SERVER6, Box, wait_for

pytestmark = MARKS

RUDE = "fd00:1::bad"


def test_first_boot_asks_for_a_password(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
    look(page, "setup")
    page.get_by_label("Password of").fill(PASSWORD)
    page.get_by_label("The same again").fill("something else")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("alert")).to_contain_text("The two differ")
    page.get_by_label("Password of").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("heading", name="Which port is which?")).to_be_visible()


def test_the_set_up_ends_at_a_working_client(box: Box, page: Page) -> None:
    box.start("web-server", sys.executable, "-m", "http.server", "80", "--bind", SERVER, where=box.server)
    get = ("curl", "-sS", "--max-time", "5", "-o", "/dev/null", f"http://[{SERVER6}]/")
    page.goto("/setup/network")
    look(page, "setup-network")
    page.get_by_label("Prefix given to hosts").fill("fd00:1::/48")
    page.get_by_role("button", name="Continue to policy").click()
    expect(page.locator("[aria-invalid=true]").first).to_be_focused()
    page.get_by_label("Prefix given to hosts").fill("fd00:1::/64")
    page.get_by_role("button", name="Continue to policy").click()
    expect(page.get_by_role("heading", name="What may cross?")).to_be_visible()
    look(page, "setup-policy")
    page.get_by_label("Kept for").fill("14")
    page.get_by_label("Time zone").fill("Europe/Vienna")
    page.get_by_role("button", name="Continue to the test").click()
    expect(page.get_by_role("heading", name="Apply what you chose")).to_be_visible()
    look(page, "setup-apply")
    page.get_by_role("button", name="Apply 2 changes").click()
    expect(page.get_by_role("heading", name="Does it work?")).to_be_visible()
    page.get_by_label("IPv4 host").fill("not a name")
    page.get_by_role("button", name="Cross").click()
    expect(page.get_by_text("That is no address and no name.")).to_be_visible()
    page.get_by_label("IPv4 host").fill(SERVER)
    page.get_by_role("button", name="Cross").click()
    expect(page.get_by_text("It crosses")).to_be_visible()
    expect(page.get_by_text("HTTP/1.0 200 OK")).to_be_visible()
    look(page, "setup-test")
    wait_for(lambda: box.client.run(*get, check=False).returncode == 0, "the client's own request")
    page.get_by_role("button", name="Open the dashboard").click()
    expect(page.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()
    expect(page.get_by_text("The box is set up.")).to_be_visible()


def test_sign_out_and_in(page: Page) -> None:
    page.get_by_role("button", name="Sign out").first.click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    look(page, "signin")
    page.get_by_label("Password", exact=True).fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the password")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()


def test_an_empty_dashboard_says_what_is_wrong(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("The resolver does not answer")).to_be_visible()  # none runs here
    expect(page.get_by_text("fd00:1::/64").first).to_be_visible()
    expect(page.get_by_text("No session is open")).to_be_visible()
    look(page, "dashboard-empty")


def test_dashboard_lives(page: Page, traffic: None) -> None:
    page.goto("/")
    expect(page.locator(".crossing-row", has_text="TCP").locator("b")).to_have_text("12")
    expect(page.locator(".crossing-row", has_text="UDP").locator("b")).to_have_text("3")
    expect(page.locator('[data-rate="to_wan"] span')).to_have_text("Mbit/s", timeout=15_000)
    chart = page.locator("[data-region=chart_throughput]")
    expect(chart).to_contain_text("Most to the LAN:", timeout=30_000)
    drawn = chart.locator("path.l-6").get_attribute("d")
    expect(chart.locator("path.l-6")).not_to_have_attribute("d", drawn or "", timeout=30_000)
    page.locator("details.more summary").first.click()
    expect(page.locator("[data-region=rows_throughput] tr").first).to_be_visible()
    page.wait_for_timeout(6_000)  # another poll brings new rows, and the table stays open
    expect(page.locator("[data-region=rows_throughput] tr").first).to_be_visible()
    page.locator("details.more summary").first.click()
    look(page, "dashboard")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused")).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Live, every 2 s")).to_be_visible()


def test_sessions_are_searched_by_the_address_line(page: Page, traffic: None) -> None:
    page.goto("/sessions")
    look(page, "sessions")
    page.get_by_role("searchbox").fill("udp")
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile(r"/sessions\?q=udp$"))
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("button", name="Light").first.click()
    expect(page).to_have_url(re.compile(r"/sessions\?q=udp$"))  # the theme's form keeps the search
    page.goto("/sessions?q=203.0.113.99")
    expect(page.get_by_role("heading", name="No session matches")).to_be_visible()


def test_a_session_is_killed_from_the_table(page: Page, traffic: None) -> None:
    page.goto("/sessions?q=udp")
    page.get_by_role("button", name="Kill session").first.click()
    expect(page.get_by_text("1 session killed.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/sessions\?q=udp$"))


def test_address_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/")
    page.get_by_role("button", name="Copy LAN prefix").click()
    expect(page.get_by_text("fd00:1::/64 copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "fd00:1::/64"


def test_phone_has_a_menu(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/")
    page.get_by_label("Menu").first.click()
    expect(page.get_by_role("navigation", name="Menu").get_by_role("link", name="Sessions")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / "menu-phone-light.png")
    page.get_by_role("navigation", name="Menu").get_by_role("link", name="Sessions").click()
    expect(page.get_by_role("heading", name="Sessions", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 800})


def test_theme_is_kept(page: Page) -> None:
    page.goto("/sessions")
    page.get_by_role("button", name="Dark").first.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_without_javascript(browser: Browser, address: str) -> None:
    context = browser.new_context(ignore_https_errors=True, java_script_enabled=False, base_url=address)
    tab = context.new_page()
    tab.goto("/")
    tab.get_by_label("Password", exact=True).fill(PASSWORD)
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()
    expect(tab.get_by_role("button", name="Pause")).to_be_hidden()
    expect(tab.locator("[data-region=chart_throughput] path.l-6")).to_be_attached()
    tab.get_by_role("button", name="Dark").first.click()
    expect(tab.locator("html")).to_have_attribute("data-theme", "dark")
    tab.get_by_role("button", name="Sign out").first.click()
    expect(tab.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


def test_rude_hosts_do_not_take_the_console_from_others(box: Box, page: Page) -> None:
    """Far more connections than threads, each with one byte: none may keep a thread for itself."""
    # A host of its own: deprecated, so that the browser's connections do not come from it too.
    box.client.run("ip", "addr", "add", f"{RUDE}/64", "dev", "eth0", "nodad", "preferred_lft", "0")
    rude = [
        box.client.call(lambda: socket.create_connection(("fd00:1::1", 443), source_address=(RUDE, 0)))
        for _ in range(60)
    ]
    for sock in rude:
        try:
            sock.sendall(b"\x16")
        except OSError:
            pass  # over its share: closed already
    page.goto("/sessions")
    expect(page.get_by_role("heading", name="Sessions", exact=True)).to_be_visible()
    ask = ("curl", "-sk", "--max-time", "2", "-o", "/dev/null", "https://[fd00:1::1]/static/mark.svg")
    same = (*ask, "--interface", RUDE)
    wait_for(lambda: box.client.run(*same, check=False).returncode == 0, "the rude host's own turn")
    for sock in rude:
        sock.close()


def test_control_down_is_told_and_passes(box: Box, page: Page) -> None:
    page.goto("/")
    control = box.processes["control"]
    control.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator("#live-note")).to_contain_text("does not answer", timeout=30_000)
        look(page, "dashboard-stale")
    finally:
        control.send_signal(signal.SIGCONT)
    expect(page.locator("#live-note")).to_contain_text("Live", timeout=30_000)


def test_bad_configuration_is_refused_with_all_its_problems(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('colour = 1\n[console]\nport = 99999\n[lan]\nprefix = "fd00::/48"\n')
    done = subprocess.run([BIN / "isthmus-web", "--config", bad], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for path in ("colour", "console.port", "lan.prefix"):
        assert path in done.stderr
