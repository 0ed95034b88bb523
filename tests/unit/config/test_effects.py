"""Effects: each change says what it does, and what may part an admin from the box is known to."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import Any

import pytest

from appliance.config import parse
from appliance.config.effects import console_url, effects
from appliance.config.schema import Config

BASE = """
[wan]
interface = "wan0"
[lan]
interface = "lan0"
prefix = "fd00:1::/64"
[[rule]]
name = "a"
action = "deny"
[[published]]
name = "shop"
port = 443
targets = ["[fd00:1::80]:443"]
"""


def told(after: str, before: str = BASE) -> list[Any]:
    return effects(parse(before), parse(after), None)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('interface = "lan0"', 'interface = "lan1"', "Moves the LAN to port lan1"),
        ('interface = "lan0"', 'interface = "auto"', "the port that the box chooses"),
        ('interface = "wan0"', 'interface = "wan1"', "Moves the WAN to port wan1"),
        ("fd00:1::/64", "fd00:2::/64", "the console moves to https://[fd00:2::1]/"),
        ('"fd00:1::/64"', '"generated"', "an address that is made then"),
        ("[[rule]]", "[console]\nport = 8443\n[[rule]]", "Moves the console to https://[fd00:1::1]:8443/"),
        (
            'interface = "wan0"',
            'interface = "wan0"\nmode = "static"\naddress = "192.0.2.2/24"\ngateway = "192.0.2.1"',
            "Sets the WAN's address (192.0.2.2/24 by way of 192.0.2.1)",
        ),
    ],
)
def test_what_cuts(old: str, new: str, words: str) -> None:
    [found, *others] = told(BASE.replace(old, new, 1))
    assert found.cut and words in found.text
    assert not any(other.cut for other in others)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('action = "deny"', 'action = "allow"', "Rules hold for new sessions"),
        ('action = "deny"', 'action = "deny"\nnote = "no"', "Rules hold for new sessions"),
        ("[[rule]]", '[policy]\ndefault = "deny"\n[[rule]]', "Rules hold for new sessions"),
        ("port = 443", "port = 444", "Moves the published service “shop” from port 443 to 444"),
        ('name = "shop"', 'name = "store"', "Closes the published service “shop” (port 443)"),
        ("::80]:443", "::81]:443", "Reloads the published service “shop”"),
        ("[[rule]]", "[proxy]\nworkers = 3\n[[rule]]", "Starts or ends workers"),
        ("[[rule]]", "[proxy]\nmax_new = 30\n[[rule]]", "Reloads the proxy: sessions stay."),
        ("[[rule]]", "[dns]\ndnssec = true\n[[rule]]", "Reloads DNS64"),
        ("[[rule]]", '[[group]]\nname = "staff"\n[[rule]]', "Users and groups hold at once"),
        ("[[rule]]", '[system]\nhostname = "box"\n[[rule]]', "Names the box box"),
        ("[[rule]]", '[[translation]]\nprefix = "fd64::/96"\n[[rule]]', "Translates 64:ff9b::/96 no more"),
        ("[[rule]]", '[[limit]]\nname = "l"\nsessions = 3\n[[rule]]', "Limits hold at once"),
        ("[[rule]]", "[explicit]\npac_port = 0\n[[rule]]", "Reloads the proxy: sessions stay."),
    ],
)
def test_what_leaves_sessions_and_console_alone(old: str, new: str, words: str) -> None:
    found = told(BASE.replace(old, new, 1))
    assert words in " ".join(one.text for one in found)
    assert not any(one.cut for one in found)


def test_nothing_does_nothing() -> None:
    assert told(BASE) == []


def test_the_consoles_address() -> None:
    assert console_url("generated", 443, None) is None
    assert console_url("generated", 443, IPv6Network("fd99::/64")) == "https://[fd99::1]/"
    assert console_url("fd00:1::/64", 8443, None) == "https://[fd00:1::1]:8443/"
    assert Config().console.port == 443
