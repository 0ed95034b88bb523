"""One box, one Chromium and one tab for all tests of the console.

    Chromium --- client --- [ box: control, proxy, history, web ] --- server

A forwarder of the lab carries the host's loopback to the LAN address, as `make run` does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.browser.looks import ARGUMENTS, CHROMIUM
from tests.lab.forward import Forwarder
from tests.lab.netns import stop
from tests.netns.conftest import BIN, Box, wait_for


@pytest.fixture(scope="package")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box whose console nobody has set up yet."""
    with Box(tmp_path_factory.mktemp("console")) as box:
        box.start_control()
        box.start_proxy()
        box.start(
            "history", BIN / "isthmus-history", "--config", box.config, "--runtime", box.runtime,
            "--state", box.state / "history", "--log", box.sessions_log, "--squid", box.logs / "access.log",
        )  # fmt: skip
        box.start_web()
        yield box


@pytest.fixture(scope="package")
def address(box: Box) -> Iterator[str]:
    """Where the host's browser finds the console."""
    forwarder = Forwarder(box.client, "fd00:1::1", 443)
    try:
        yield f"https://127.0.0.1:{forwarder.port}"
    finally:
        forwarder.close()


@pytest.fixture(scope="package")
def traffic(box: Box) -> Iterator[None]:
    """Real sessions that cross the box, from the first test that asks for them."""
    server = box.start("peers", sys.executable, "-m", "tests.netns.peers", where=box.server)
    wait_for(lambda: "ready" in box.log("peers"), "the server's side")
    client = box.start("traffic", sys.executable, "-m", "tests.browser.traffic", where=box.client)
    wait_for(lambda: "ready" in box.log("traffic"), f"the client's side\n{box.log('traffic')}")
    yield
    for process in (client, server):
        stop(process)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="package")
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
