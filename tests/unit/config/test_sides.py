"""What is refused between the sides: each by its path, with something to do about it."""

from __future__ import annotations

from ipaddress import IPv6Network

import pytest

from appliance.config import parse
from appliance.config.codec import dump, write
from appliance.config.schema import resolved
from appliance.config.sides import MAX_DEVICE_NAME, device_name
from appliance.errors import ConfigError

TWO = """
[wan]
interface = "wan0"
[lan]
interface = "lan0"
prefix = "fd00:1::/64"
[[segment]]
name = "guests"
vlan = 20
prefix = "fd00:3::/64"
"""
STATIC = TWO.replace('"wan0"', '"wan0"\nmode = "static"\naddress = "203.0.113.2/24"\ngateway = "203.0.113.1"')


def route(text: str) -> str:
    return f'{STATIC}\n[[route]]\nname = "r"\n{text}\n'


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ('[wan]\ninterface = "a"\n[lan]\ninterface = "a"', "lan.interface", "is the WAN already"),
        (
            '[wan]\ninterface = "a"\nvlan = 7\n[lan]\ninterface = "a"\nvlan = 7',
            "lan.vlan",
            "VLAN 7 on port a",
        ),
        (TWO.replace("vlan = 20", 'interface = "wan0"'), "segment[0].interface", "is the WAN already"),
        (
            TWO.replace("vlan = 20", 'interface = "lan0"'),
            "segment[0].interface",
            "is the LAN already",
        ),
        (
            TWO + '[[segment]]\nname = "b"\nvlan = 20',
            "segment[1].vlan",
            "port lan0 is LAN “guests”",
        ),
        ('[lan]\nvlan = 9\n[[segment]]\nname = "a"\nvlan = 9', "segment[0].vlan", "is the LAN already"),
        (TWO.replace("vlan = 20\n", ""), "segment[0]", "a port of its own, or a VLAN"),
        (TWO.replace("vlan = 20", "vlan = 4095"), "segment[0].vlan", "4094"),
        (TWO.replace('"guests"', '"lan"'), "segment[0].name", "is there already"),
        (TWO.replace("fd00:3::", "fd00:1::"), "segment[0].prefix", "overlaps the LAN's prefix"),
        (TWO.replace("fd00:3::", "64:ff9b::"), "segment[0].prefix", "overlaps the translation prefix"),
        (
            TWO.replace('"lan0"', '"lan0"\nclient_prefix = "fd00:3::/96"'),
            "segment[0].prefix",
            "client_prefix",
        ),
        ('[lan]\nprefix = "64:ff9b::/64"', "lan.prefix", "overlaps the translation prefix"),
        ("[lan]\nmtu = 1279", "lan.mtu", "1280"),
        ('[lan]\nntp_servers = ["fd00::1"]', "lan", "dhcpv6 = true"),
        ('[lan]\ndns_servers = ["fe80::1"]', "lan.dns_servers", "every host can reach"),
        ("[lan]\npref64_lifetime = 1801", "lan.pref64_lifetime", "8"),
        (STATIC.replace("203.0.113.1", "203.0.113.2"), "wan", "the box's own address"),
        (route('to = "fd00:5::/48"\nvia = "fd00:9::1"'), "route[0].via", "in no LAN"),
        (route('to = "fd00:5::/48"\nvia = "fd00:1::1"'), "route[0].via", "the box itself"),
        (route('to = "fd00:1::/48"\nvia = "fd00:1::2"'), "route[0].to", "LAN “lan” has"),
        (route('to = "64:ff9b::/64"\nvia = "fd00:1::2"'), "route[0].to", "translation prefix"),
        (route('to = "::/0"\nvia = "fd00:1::2"'), "route[0]", "the LAN's routers"),
        (route('to = "fd00:5::/48"\nvia = "fe80::2"'), "route[0]", "name the interface"),
        (route('to = "fd00:5::/48"\nvia = "192.0.2.1"'), "route[0]", "family"),
        (route('to = "10.0.0.0/8"\nvia = "192.0.2.1"'), "route[0].via", "not inside the WAN's network"),
        (route('to = "10.0.0.0/8"\nvia = "203.0.113.2"'), "route[0].via", "the box itself"),
        (route('to = "203.0.113.0/25"\nvia = "203.0.113.9"'), "route[0].to", "own network"),
        (
            route('to = "10.0.0.0/8"\nvia = "203.0.113.9"\n[[route]]\nname = "r"')
            + 'to = "10.0.0.0/8"\nvia = "203.0.113.8"',
            "route[1].to",
            "there twice with metric 1024",
        ),
    ],
)
def test_what_is_refused(text: str, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    found = {problem.path: f"{problem.message} {problem.hint}" for problem in refused.value.problems}
    assert words in found.get(path, ""), found


@pytest.mark.parametrize(
    "text",
    [
        TWO,
        STATIC,
        # A trunk: the WAN without a tag, the LAN and the guests with one, all on one port.
        TWO.replace('"lan0"', '"wan0"\nvlan = 10'),
        route('to = "fd00:5::/48"\nvia = "fd00:3::2"'),
        route('to = "fd00:5::/48"\nvia = "fe80::2"\ninterface = "lan0"'),
        route('to = "10.0.0.0/8"\nvia = "10.9.9.9"\ninterface = "island0"'),
    ],
)
def test_what_is_taken_comes_back_from_its_text(text: str) -> None:
    config = parse(text)
    assert parse(dump(config)) == config == parse(write(config))


def test_a_file_of_before_there_were_several_lans_is_as_good_as_ever() -> None:
    config = parse('schema_version = 1\n[lan]\ninterface = "lan0"\nprefix = "fd00:1::/64"')
    assert [name for name, _lan in config.lans()] == ["lan"]


def test_a_vlans_device_keeps_its_number() -> None:
    assert device_name("lan0", None) == "lan0"
    assert device_name("lan0", 20) == "lan0.20"
    name = device_name("enp94s0f1np1", 4_094)
    assert name.endswith(".4094") and len(name) == MAX_DEVICE_NAME


def test_two_long_names_that_would_become_one_are_refused() -> None:
    text = '[wan]\ninterface = "enp94s0f1np1"\nvlan = 4001\n[lan]\ninterface = "enp94s0f1np2"\nvlan = 4001\n'
    with pytest.raises(ConfigError, match=r"its device would be called enp94s0f1n.4001"):
        parse(text)


def test_prefixes_that_the_box_made_take_their_places() -> None:
    config = parse('[[segment]]\nname = "guests"\nvlan = 20')
    made = {"lan": IPv6Network("fd00:1::/64"), "guests": IPv6Network("fd00:2::/64")}
    assert [lan.prefix for _name, lan in resolved(config, made).lans()] == list(made.values())
