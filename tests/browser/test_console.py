"""The console in real Chromium, over TLS, against the real daemons running in the box's namespace.

    Chromium --- client --- [ box: control, web ]

A forwarder of the lab carries the host's loopback to the LAN address, as `make run` does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.lab.forward import Forwarder
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
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console that nobody has set up yet."""
    with Box(tmp_path_factory.mktemp("console")) as box:
        box.start_control()
        box.start_proxy()
        box.start(
            "web", BIN / "isthmus-web", "--config", box.config,
            "--runtime", box.runtime, "--state", box.state,
        )  # fmt: skip
        ask = ("curl", "-sk", "--max-time", "2", "-o", "/dev/null", "https://[fd00:1::1]/setup")
        wait_for(lambda: box.client.run(*ask, check=False).returncode == 0, f"the console {box.log('web')}")
        forwarder = Forwarder(box.client, "fd00:1::1", 443)
        try:
            yield f"https://127.0.0.1:{forwarder.port}"
        finally:
            forwarder.close()


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

    # A refused form is a 4xx, which Chromium calls an error; it is what the test asked for.
    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            errors.append(message.text)

    tab.on("console", hear)
    yield tab
    context.close()
    assert errors == []


def look(page: Page, name: str) -> None:
    """Screenshots in both themes and sizes, axe on each; the tab is a desktop again afterwards."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for kind, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.screenshot(path=SCREENSHOTS / f"{name}-{kind}-{scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing hangs out"
            page.evaluate(AXE.read_text())
            found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes[0].html]))")
            assert found == [], f"{name}, {kind}, {scheme}"
    page.emulate_media(color_scheme="light")
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


def test_dashboard_says_what_is_wrong_and_lives(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("The resolver does not answer")).to_be_visible()  # none runs here
    expect(page.get_by_text("fd00:1::/64").first).to_be_visible()
    look(page, "dashboard")
    with page.expect_response("**/live.json") as answer:
        pass
    assert answer.value.ok
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused")).to_be_visible()


def test_theme_is_kept(page: Page) -> None:
    page.goto("/sessions")
    look(page, "sessions")
    page.get_by_role("button", name="Dark").first.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
