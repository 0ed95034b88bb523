"""The console in real Chromium, over TLS, against the real daemons running in the box's namespace.

    Chromium --- client --- [ box: control, proxy, web ] --- server

A forwarder of the lab carries the host's loopback to the LAN address, as `make run` does.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.lab.forward import Forwarder
from tests.lab.netns import stop
from tests.netns.conftest import BIN, Box, wait_for

CHROMIUM = shutil.which("chromium")
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
PASSWORD = "a sentence is a good one"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium package on this system"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


AXE = Path(__file__).parent / "vendor" / "axe.min.js"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
RUDE = "fd00:1::bad"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box whose console nobody has set up yet."""
    with Box(tmp_path_factory.mktemp("console")) as box:
        box.start_control()
        box.start_proxy()
        box.start(
            "web", BIN / "isthmus-web", "--config", box.config,
            "--runtime", box.runtime, "--state", box.state,
        )  # fmt: skip
        ask = ("curl", "-sk", "--max-time", "2", "-o", "/dev/null", "https://[fd00:1::1]/setup")
        wait_for(lambda: box.client.run(*ask, check=False).returncode == 0, f"the console {box.log('web')}")
        yield box


@pytest.fixture(scope="module")
def address(box: Box) -> Iterator[str]:
    """Where the host's browser finds the console."""
    forwarder = Forwarder(box.client, "fd00:1::1", 443)
    try:
        yield f"https://127.0.0.1:{forwarder.port}"
    finally:
        forwarder.close()


@pytest.fixture(scope="module")
def traffic(box: Box) -> Iterator[None]:
    """Real sessions that cross the box, from the first test that asks for them."""
    server = box.start("peers", sys.executable, "-m", "tests.netns.peers", where=box.server)
    wait_for(lambda: "ready" in box.log("peers"), "the server's side")
    client = box.start("traffic", sys.executable, "-m", "tests.browser.traffic", where=box.client)
    wait_for(lambda: "ready" in box.log("traffic"), f"the client's side\n{box.log('traffic')}")
    yield
    for process in (client, server):
        stop(process)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A tab; what the page writes to the browser's console as an error fails the tests."""
    context = browser.new_context(ignore_https_errors=True, bypass_csp=False, base_url=address)
    tab = context.new_page()
    tab.set_default_timeout(15_000)
    errors: list[str] = []

    # A refused form is a 4xx, a poll while control is stopped a 503; Chromium calls both errors, and
    # both are what a test asked for.
    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not re.search("status of (4|503)", message.text):
            errors.append(message.text)

    tab.on("console", hear)
    yield tab
    context.close()
    assert errors == []


def look(page: Page, name: str) -> None:
    """Screenshots in both themes and sizes, axe on each; the tab is a desktop again afterwards."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        # Without motion: a colour that is still fading has no contrast to speak of.
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for kind, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=SCREENSHOTS / f"{name}-{kind}-{scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing hangs out"
            page.evaluate(AXE.read_text())
            found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes[0].html]))")
            assert found == [], f"{name}, {kind}, {scheme}"
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    page.set_viewport_size({"width": 1280, "height": 800})


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
    expect(page.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()


def test_sign_out_and_in(page: Page) -> None:
    page.get_by_role("button", name="Sign out").first.click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    look(page, "signin")
    page.get_by_label("Password of").fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the password")
    page.get_by_label("Password of").fill(PASSWORD)
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
    expect(page.locator("[data-chart=throughput] canvas")).to_be_visible()
    expect(page.locator("[data-sentence=throughput]")).to_contain_text("Most to the LAN:")
    page.wait_for_timeout(9_000)  # a few points for the charts
    page.locator("details.more summary").first.click()
    expect(page.locator("[data-rows=throughput] tr").first).to_be_visible()
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


def test_address_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/")
    page.get_by_role("button", name="Copy LAN prefix").click()
    expect(page.get_by_text("fd00:1::/64 copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "fd00:1::/64"


def test_phone_has_a_menu(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
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
    tab.get_by_label("Password of").fill(PASSWORD)
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.get_by_role("heading", name="Dashboard", exact=True)).to_be_visible()
    expect(tab.get_by_role("button", name="Pause")).to_be_hidden()
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
