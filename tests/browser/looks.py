"""Chromium, and what a page is looked at with: screenshots in both themes and sizes, and axe."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
PASSWORD = "a sentence is a good one"
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium package on this system"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZES = {"desktop": (1280, 800), "phone": (360, 740)}
# Each theme and each size once: the other two combinations differ in nothing that axe looks at.
CHECKED = {("light", "desktop"), ("dark", "phone")}


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
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} hangs out"
            if (scheme, kind) in CHECKED:
                page.evaluate(AXE.read_text())
                found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes[0].html]))")
                assert found == [], f"{name}, {kind}, {scheme}"
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    page.set_viewport_size({"width": 1280, "height": 800})
