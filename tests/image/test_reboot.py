"""A reboot changes nothing that the outside can see."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.lab.lab import ClientView, Lab
from tests.lab.rows import Rows

# Emulated, Python needs ten seconds to bring the console up; a loaded machine more.
CONSOLE_TIMEOUT = 120.0
PASSWORD = "a-sentence-is-a-good-one"

pytestmark = pytest.mark.image


def _certificate(lab: Lab, view: ClientView) -> str:
    """The console's certificate, as its PEM text; waits for the console, the last daemon to be up."""
    deadline = time.monotonic() + CONSOLE_TIMEOUT
    while True:
        said = lab.client.run(
            *("openssl", "s_client", "-connect", f"[{view.box}]:443", "-servername", "isthmus"),
            check=False,
            timeout=30,
        )
        found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", said.stdout, re.DOTALL)
        if found:
            return found[0]
        assert time.monotonic() < deadline, said.stdout
        time.sleep(1)


def _post(lab: Lab, view: ClientView, path: str, **fields: str) -> str:
    """Load a page of the console and send its form; the status of the answer."""
    jar = Path("/tmp") / f"{lab.client.name}.cookies"
    curl = ("curl", "-sk", "--max-time", "30", "-b", jar, "-c", jar)
    address = f"https://[{view.box}]{path}"
    page = lab.client.run(*curl, address, check=False, timeout=60).stdout
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token, page
    data = [
        word for name, value in {"csrf": token[1], **fields}.items() for word in ("-d", f"{name}={value}")
    ]
    answer = lab.client.run(
        *curl, "-o", "/dev/null", "-w", "%{http_code}", *data, address, check=False, timeout=60
    )
    jar.unlink()
    return answer.stdout


def test_prefix_certificate_password_and_wan_address_are_kept(lab: Lab, view: ClientView) -> None:
    """Off by the power button, on again: the same LAN prefix, certificate and DHCP lease."""
    certificate = _certificate(lab, view)
    assert _post(lab, view, "/setup", password=PASSWORD, again=PASSWORD) == "303"
    before = certificate, view.advertisement.prefixes, lab.wan_address()
    lab.box.shut_down()
    lab.box.start()
    lab.box.wait()
    again = lab.await_client()
    lab.await_resolver(again)
    after = _certificate(lab, again), again.advertisement.prefixes, lab.wan_address()
    assert after == before
    assert _post(lab, again, "/signin", password="not this one") == "422"
    assert _post(lab, again, "/signin", password=PASSWORD) == "303"
    Rows(lab, again).http()
