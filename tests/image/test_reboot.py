"""A reboot changes nothing that the outside can see."""

from __future__ import annotations

import re

import pytest

from tests.lab.lab import ClientView, Lab
from tests.lab.rows import Rows

pytestmark = pytest.mark.image


def _certificate(lab: Lab, view: ClientView) -> str:
    """The console's certificate, as its PEM text."""
    said = lab.client.run(
        *("openssl", "s_client", "-connect", f"[{view.box}]:443", "-servername", "isthmus"),
        check=False,
        timeout=30,
    )
    found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", said.stdout, re.DOTALL)
    assert found, said.stdout
    return found[0]


def test_prefix_certificate_and_wan_address_are_kept(lab: Lab, view: ClientView) -> None:
    """Off by the power button, on again: the same LAN prefix, certificate and DHCP lease."""
    before = _certificate(lab, view), view.advertisement.prefixes, lab.wan_address()
    lab.box.shut_down()
    lab.box.start()
    lab.box.wait()
    again = lab.await_client()
    lab.await_resolver(again)
    after = _certificate(lab, again), again.advertisement.prefixes, lab.wan_address()
    assert after == before
    Rows(lab, again).http()
