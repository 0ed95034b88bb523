"""A reboot changes nothing that the outside can see but what was changed meanwhile: a name, a VLAN."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.image.console import post, shown_certificate
from tests.lab.advertisement import solicit
from tests.lab.lab import (
    ADVERTISEMENT_TIMEOUT,
    LAN_INTERFACE,
    SERVER,
    SERVER_NAME,
    ClientView,
    Lab,
    translated,
)
from tests.lab.netns import Namespace, unguarded
from tests.lab.rows import WELL_KNOWN, Rows
from tests.lab.vlan import Tagged
from tests.netns.conftest import wait_for

NAME = "crossing"
VLAN = 20
MTU = 1_400
CONFIG = f"""
[system]
hostname = "{NAME}"
[[segment]]
name = "guests"
vlan = {VLAN}
mtu = {MTU}
dhcpv6 = true
managed = true
router_preference = "high"
search_domains = ["guests.example"]
"""
SCREEN_TIMEOUT = 60.0  # emulated
PASSWORD = "a-sentence-is-a-good-one"

pytestmark = pytest.mark.image


def _kept(lab: Lab, view: ClientView) -> tuple[object, ...]:
    return shown_certificate(lab, view, "-pubkey"), view.advertisement.prefixes, lab.wan_address()


def _mtu(guest: Namespace) -> int:
    return int(guest.run("cat", "/proc/sys/net/ipv6/conf/eth0/mtu").stdout)


def _has_address(guest: Namespace) -> bool:
    shown = guest.run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "global").stdout
    return bool(shown) and "tentative" not in shown


@dataclass(frozen=True, slots=True)
class Rebooted:
    """What was before, and what the client sees now."""

    before: tuple[object, ...]
    view: ClientView


@pytest.fixture(scope="module")
def rebooted(lab: Lab, view: ClientView) -> Rebooted:
    """Off by the power button, with a new name and a LAN for guests written into its file, on again."""
    before = _kept(lab, view)  # waits for the console
    assert post(lab, view, "/setup", password=PASSWORD, again=PASSWORD) == "303"
    assert "DNS:isthmus," in shown_certificate(lab, view, "-ext", "subjectAltName")
    lab.box.shut_down()
    lab.box.write_state("/lib/isthmus/config.toml", CONFIG)
    lab.box.start()
    lab.box.wait()
    again = lab.await_client()
    lab.await_resolver(again)
    return Rebooted(before, again)


def test_what_is_kept_and_a_new_name(lab: Lab, rebooted: Rebooted) -> None:
    """Prefix, key, lease and password are the same. The new name is the box's own, and its certificate's."""
    again = rebooted.view
    assert _kept(lab, again) == rebooted.before
    assert f"DNS:{NAME}," in shown_certificate(lab, again, "-ext", "subjectAltName")
    # The screen's first line; it comes up beside the web console, at times after it.
    wait_for(lambda: f"{NAME}, Isthmus" in lab.box.console(), "the new name on the screen", SCREEN_TIMEOUT)
    assert post(lab, again, "/signin", password="not this one") == "422"
    assert post(lab, again, "/signin", password=PASSWORD) == "303"
    Rows(lab, again).http()


def test_a_vlan_beside_the_lan(lab: Lab, rebooted: Rebooted) -> None:
    """A host behind tagged frames is on a LAN of its own: it is told another prefix, an MTU, its search
    domain and to ask by DHCPv6, reaches IPv4 through the box, and neither the console nor the first LAN."""
    with Namespace("guest") as guest, Tagged(lab.client, LAN_INTERFACE, guest, VLAN):
        told = guest.call(lambda: solicit("eth0", ADVERTISEMENT_TIMEOUT))
        assert told is not None
        (prefix,), (main,) = told.prefixes, rebooted.view.advertisement.prefixes
        assert prefix != main and prefix.supernet(new_prefix=48) == main.supernet(new_prefix=48)
        assert told.resolvers == (prefix[1],) and told.pref64 == (WELL_KNOWN,)
        assert told.managed and told.preference == "high"
        assert not rebooted.view.advertisement.managed
        assert rebooted.view.advertisement.preference == "medium"
        wait_for(lambda: _has_address(guest), "the guest's address", ADVERTISEMENT_TIMEOUT)
        wait_for(lambda: _mtu(guest) == MTU, "the MTU", ADVERTISEMENT_TIMEOUT)
        address = translated(WELL_KNOWN, SERVER)
        curl = ("curl", "-sS", "--max-time", "30")
        assert guest.run(*curl, "--fail", f"http://[{address}]/", timeout=60).returncode == 0
        asked = guest.run("dig", "+short", "+time=5", f"@{prefix[1]}", "AAAA", SERVER_NAME).stdout
        assert asked.strip() == str(address)
        for console in (prefix[1], main[1]):
            refused = guest.run(*curl, "-k", f"https://[{console}]/", check=False, timeout=60)
            assert refused.returncode == 7, refused.stdout
        leases, script = lab.folder / "leases", lab.folder / "dhclient-script"
        leases.touch()
        script.write_text(f"#!/bin/sh\nset >>{lab.folder}/dhclient-told\n")
        script.chmod(0o755)
        guest.run(
            unguarded("dhclient", lab.folder), "-6", "-S", "-1", "-d", "-sf", script, "-lf", leases,
            "-pf", lab.folder / "dhclient-pid", "eth0", check=False, timeout=60,
        )  # fmt: skip
        assert "guests.example" in (lab.folder / "dhclient-told").read_text()
    assert lab.await_client().advertisement.prefixes == (main,)
