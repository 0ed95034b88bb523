"""The plan: what is printed, and a ruleset that nft itself reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path

import pytest

from appliance.config import parse
from appliance.network import unbound
from appliance.network.plan import (
    AddAddress,
    AddRoute,
    Facts,
    Firewall,
    LanFacts,
    MakeTun,
    MakeVlan,
    SetHostname,
    WriteFile,
    plan,
)

LANS = (LanFacts("lan0", IPv6Network("fd00:1::/64")),)
GOLDEN = Path(__file__).with_name("plan.golden.txt")


def facts(workers: int = 2, has_networkd: bool = True) -> Facts:
    """A box with two ports."""
    return Facts(LANS, "wan0", (IPv4Address("203.0.113.1"),), workers, has_networkd)


def texts(has_networkd: bool = True) -> dict[str, str]:
    """File name to text."""
    steps = plan(parse(""), facts(has_networkd=has_networkd))
    return {step.name: step.text for step in steps if isinstance(step, WriteFile)}


def test_the_plan_is_the_golden_one() -> None:
    """A change of the plan is seen in the diff. ISTHMUS_GOLDEN=write writes the file anew."""
    printed = "".join(f"{step}\n" for step in plan(parse(""), facts()))
    if os.environ.get("ISTHMUS_GOLDEN") == "write":
        GOLDEN.write_text(printed)
    assert printed == GOLDEN.read_text()


def test_the_firewall_is_last_since_nothing_undoes_it() -> None:
    for has_networkd in (True, False):
        assert isinstance(plan(parse(""), facts(has_networkd=has_networkd))[-1], Firewall)


def test_the_lan_is_advertised_whole() -> None:
    text = texts()["10-isthmus-lan.network"]
    for line in (
        "Address=fd00:1::1/64",
        "IPv6SendRA=yes",
        "DNS=fd00:1::1",
        "Prefix=fd00:1::/64",
        "[IPv6PREF64Prefix]\nPrefix=64:ff9b::/96",
    ):
        assert line in text


def test_the_wan_has_no_ipv6() -> None:
    text = texts()["10-isthmus-wan.network"]
    assert "DHCP=ipv4" in text
    assert "LinkLocalAddressing=no" in text
    assert "IPv6AcceptRA=no" in text


def test_a_static_wan() -> None:
    config = parse('[wan]\nmode="static"\naddress="203.0.113.2/24"\ngateway="203.0.113.1"')
    step = next(step for step in plan(config, facts()) if isinstance(step, WriteFile))
    assert "Address=203.0.113.2/24\nGateway=203.0.113.1\n" in step.text
    assert "DHCP" not in step.text


def test_without_networkd_the_address_is_set_here() -> None:
    steps = plan(parse(""), facts(has_networkd=False))
    assert AddAddress("lan0", "fd00:1::1/64") in steps
    assert set(texts(has_networkd=False)) == {"unbound.conf", "lans.json"}


def test_the_host_name_is_the_configurations_on_a_box_only() -> None:
    config = parse('[system]\nhostname = "crossing"')
    assert plan(config, facts())[0] == SetHostname("crossing")
    assert SetHostname("crossing") not in plan(config, facts(has_networkd=False))


def test_every_worker_has_its_way_in() -> None:
    steps = plan(parse(""), facts(workers=3))
    assert [step.name for step in steps if isinstance(step, MakeTun)] == ["isth0", "isth1", "isth2"]
    assert all(str(step) for step in steps)


def test_unbound_forwards_or_recurses() -> None:
    assert "forward-addr: 203.0.113.1" in texts()["unbound.conf"]
    bare = Facts(LANS, "wan0", (), 1, True)
    steps = [s for s in plan(parse("[dns]\ndnssec = true"), bare) if isinstance(s, WriteFile)]
    text = next(step.text for step in steps if step.name == "unbound.conf")
    assert "forward-zone" not in text
    assert 'module-config: "validator iterator"' in text


def test_wpad_leads_to_the_box_where_its_port_is_that_of_browsers() -> None:
    def text(settings: str) -> str:
        steps = [s for s in plan(parse(settings), facts()) if isinstance(s, WriteFile)]
        return next(step.text for step in steps if step.name == "unbound.conf")

    assert 'local-data: "wpad. 300 IN AAAA fd00:1::1"' in text("")
    assert "wpad" not in text("[explicit]\npac_port = 8000")
    assert "wpad" not in text("[explicit]\npac_port = 0")


ISLAND = """
[dns]
dnssec = true
[[translation]]
prefix = "64:ff9b::/96"
[[translation]]
prefix = "2001:db8:1::/96"
networks = ["10.0.0.0/8", "172.16.0.0/12", "198.51.100.128/25"]
domains = ["corp.test"]
upstreams = ["10.0.0.53", "10.0.1.53"]
"""


def test_an_islands_names_are_asked_of_its_resolvers(tmp_path: Path) -> None:
    steps = [s for s in plan(parse(ISLAND), facts()) if isinstance(s, WriteFile)]
    text = next(step.text for step in steps if step.name == "unbound.conf")
    hosts = "  forward-addr: 10.0.0.53\n  forward-addr: 10.0.1.53\n"
    for zone in ("corp.test", "10.in-addr.arpa", "16.172.in-addr.arpa", "31.172.in-addr.arpa"):
        assert f'forward-zone:\n  name: "{zone}."\n{hosts}' in text
        assert f'local-zone: "{zone}." transparent\n  domain-insecure: "{zone}."' in text
    assert "198.in-addr.arpa" not in text, "a zone larger than the network is not the island's"
    if checker := shutil.which("unbound-checkconf"):
        path = tmp_path / "unbound.conf"
        path.write_text(text.replace(unbound.ROOT_KEY, str(tmp_path / "root.key")))
        (tmp_path / "root.key").write_text(f". IN DS 20326 8 2 {'E0' * 32}\n")
        done = subprocess.run([checker, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="nft needs root")
@pytest.mark.parametrize("workers", [1, 2, 64])
def test_nft_reads_the_ruleset(workers: int) -> None:
    config = parse("[[translation]]\nprefix='64:ff9b::/96'\n[[translation]]\nprefix='2001:db8::/32'")
    (step,) = [step for step in plan(config, facts(workers)) if isinstance(step, Firewall)]
    done = subprocess.run(
        ["nft", "-c", "-f", "-"], input=step.text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_tun_devices_there_are_none_in_the_plan() -> None:
    """SYNs go to the listeners; nothing names a device that is not there."""
    bare = Facts(LANS, "wan0", (), 2, False, has_tun=False)
    steps = plan(parse(""), bare)
    assert not any(isinstance(step, MakeTun) for step in steps)
    (firewall,) = (step for step in steps if isinstance(step, Firewall))
    assert "isth0" not in firewall.text and "first_1" in firewall.text
    assert "meta l4proto icmpv6 reject with icmpv6 admin-prohibited" in firewall.text


WIDE = """
[wan]
vlan = 7
mode = "static"
address = "203.0.113.2/24"
gateway = "203.0.113.1"
[lan]
mtu = 1492
router_preference = "high"
search_domains = ["corp.example"]
dhcpv6 = true
[[segment]]
name = "guests"
vlan = 20
pref64_lifetime = 600
dns_servers = ["fd00:3::53", "fd00:3::54"]
managed = true
[[segment]]
name = "lab"
interface = "lan1"
vlan = 30
console = true
[[route]]
name = "cellar"
to = "fd00:5::/48"
via = "fd00:1::2"
[[route]]
name = "branch"
to = "10.5.0.0/16"
via = "203.0.113.9"
metric = 50
[[route]]
name = "island"
to = "10.6.0.0/16"
via = "10.9.9.9"
interface = "isle0"
"""
OLD, OLDER = IPv6Network("fd00:9::/64"), IPv6Network("fd00:8::/64")
WIDE_FACTS = Facts(
    lans=(
        LanFacts("lan0", IPv6Network("fd00:1::/64"), leaving=(OLD,), retired=(OLDER,)),
        LanFacts("lan0.20", IPv6Network("fd00:3::/64")),
        LanFacts("lan1.30", IPv6Network("fd00:4::/64")),
    ),
    wan="wan0.7",
    upstreams=(),
    workers=1,
    has_networkd=True,
    vlans=(MakeVlan("wan0.7", "wan0", 7), MakeVlan("lan0.20", "lan0", 20), MakeVlan("lan1.30", "lan1", 30)),
)  # fmt: skip


def test_the_plan_of_several_lans_is_the_golden_one() -> None:
    printed = "".join(f"{step}\n" for step in plan(parse(WIDE), WIDE_FACTS))
    golden = GOLDEN.with_name("wide.golden.txt")
    if os.environ.get("ISTHMUS_GOLDEN") == "write":
        golden.write_text(printed)
    assert printed == golden.read_text()


def test_without_networkd_what_is_not_there_is_left_out() -> None:
    """A LAN whose port was pulled keeps no other from being served."""
    facts = replace(WIDE_FACTS, has_networkd=False, absent=frozenset({"lan1", "lan1.30"}))
    steps = plan(parse(WIDE), facts)
    assert [step.name for step in steps if isinstance(step, MakeVlan)] == ["wan0.7", "lan0.20"]
    assert [(one.interface, one.address, one.leaving) for one in steps if isinstance(one, AddAddress)] == [
        ("lan0", "fd00:1::1/64", False),
        ("lan0", "fd00:9::1/64", True),
        ("lan0.20", "fd00:3::1/64", False),
    ]
    assert [step.interface for step in steps if isinstance(step, AddRoute)] == ["lan0", "wan0.7", "isle0"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="nft needs root")
def test_nft_reads_the_ruleset_of_several_lans() -> None:
    (step,) = [step for step in plan(parse(WIDE), WIDE_FACTS) if isinstance(step, Firewall)]
    done = subprocess.run(
        ["nft", "-c", "-f", "-"], input=step.text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
