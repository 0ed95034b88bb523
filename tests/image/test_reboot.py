"""A reboot changes nothing that the outside can see."""

from __future__ import annotations

import pytest

from tests.image.console import certificate, post
from tests.lab.lab import ClientView, Lab
from tests.lab.rows import Rows

PASSWORD = "a-sentence-is-a-good-one"

pytestmark = pytest.mark.image


def test_prefix_certificate_password_and_wan_address_are_kept(lab: Lab, view: ClientView) -> None:
    """Off by the power button, on again: the same LAN prefix, certificate and DHCP lease."""
    shown = certificate(lab, view)
    assert post(lab, view, "/setup", password=PASSWORD, again=PASSWORD) == "303"
    before = shown, view.advertisement.prefixes, lab.wan_address()
    lab.box.shut_down()
    lab.box.start()
    lab.box.wait()
    again = lab.await_client()
    lab.await_resolver(again)
    after = certificate(lab, again), again.advertisement.prefixes, lab.wan_address()
    assert after == before
    assert post(lab, again, "/signin", password="not this one") == "422"
    assert post(lab, again, "/signin", password=PASSWORD) == "303"
    Rows(lab, again).http()
