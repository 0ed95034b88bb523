"""A reboot changes nothing that the outside can see."""

from __future__ import annotations

import pytest

from tests.image.console import post, shown_certificate
from tests.lab.lab import ClientView, Lab
from tests.lab.rows import Rows
from tests.netns.conftest import wait_for

NAME = "crossing"
SCREEN_TIMEOUT = 60.0  # emulated
PASSWORD = "a-sentence-is-a-good-one"

pytestmark = pytest.mark.image


def _kept(lab: Lab, view: ClientView) -> tuple[object, ...]:
    return shown_certificate(lab, view, "-pubkey"), view.advertisement.prefixes, lab.wan_address()


def test_what_is_kept_and_a_new_name(lab: Lab, view: ClientView) -> None:
    """Off by the power button, named anew, on again: prefix, key, lease and password are the same.

    The new name is the box's own, and its certificate's.
    """
    before = _kept(lab, view)  # waits for the console
    assert post(lab, view, "/setup", password=PASSWORD, again=PASSWORD) == "303"
    assert "DNS:isthmus," in shown_certificate(lab, view, "-ext", "subjectAltName")
    lab.box.shut_down()
    lab.box.write_state("/lib/isthmus/config.toml", f'[system]\nhostname = "{NAME}"\n')
    lab.box.start()
    lab.box.wait()
    again = lab.await_client()
    lab.await_resolver(again)
    assert _kept(lab, again) == before
    assert f"DNS:{NAME}," in shown_certificate(lab, again, "-ext", "subjectAltName")
    # The screen's first line; it comes up beside the web console, at times after it.
    wait_for(lambda: f"{NAME}, Isthmus" in lab.box.console(), "the new name on the screen", SCREEN_TIMEOUT)
    assert post(lab, again, "/signin", password="not this one") == "422"
    assert post(lab, again, "/signin", password=PASSWORD) == "303"
    Rows(lab, again).http()
