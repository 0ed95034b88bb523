"""Mistakes that would lock an admin out of a running box: each is refused or rolled back, and nothing stays.

Through control, as console, command line and API do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlError
from tests.lab.netns import Namespace, stop
from tests.netns.conftest import needs_root, wait_for
from tests.netns.test_control_commits import NEW, OLD, Live

pytestmark = [pytest.mark.netns, needs_root]

Plain = dict[str, Any]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One running control for all of them: what one leaves behind, the next one sees."""
    folder: Path = tmp_path_factory.mktemp("lockouts")
    with Namespace("lockouts") as namespace:
        running = Live(folder, namespace)
        running.start()
        try:
            yield running
        finally:
            if running.process is not None and running.process.poll() is None:
                stop(running.process)


def everything(live: Live) -> tuple[object, ...]:
    """What is in force: the file, the addresses, the firewall, the devices, the routes."""
    return (
        live.config.read_text(),
        live.addresses(),
        live.addresses(deprecated=True),
        live.tell("nft", "-s", "list", "table", "inet", "isthmus"),
        live.tell("ip", "-br", "link"),
        live.tell("ip", "-6", "rule"),
        live.tell("ip", "-6", "route", "show", "table", "main"),
    )


def segment(**settings: Any) -> Plain:
    return {"name": "guests", "interface": "far-lan0", "prefix": "fd00:3::/64", **settings}


# What is typed, and the setting that the refusal names.
REFUSED: list[tuple[str, Callable[[Plain], Any], str]] = [
    ("a prefix that is no /64", lambda c: c["lan"].update(prefix="fd00:2::/48"), "lan.prefix"),
    ("half a prefix", lambda c: c["lan"].update(prefix="fd00:2"), "lan.prefix"),
    ("a link-local prefix", lambda c: c["lan"].update(prefix="fe80::/64"), "lan.prefix"),
    ("the translation's own prefix", lambda c: c["lan"].update(prefix="64:ff9b::/64"), "lan.prefix"),
    ("both sides on one port", lambda c: c["lan"].update(interface="wan0"), "lan.interface"),
    ("both on one VLAN", lambda c: (c["lan"].update(interface="wan0", vlan=5), c["wan"].update(vlan=5)),
     "lan.vlan"),
    ("a segment on the LAN's port", lambda c: c.update(segment=[segment(interface="lan0")]),
     "segment[0].interface"),
    ("a segment in the LAN's prefix", lambda c: c.update(segment=[segment(prefix="fd00:1::/64")]),
     "segment[0].prefix"),
    ("a VLAN that no switch knows", lambda c: c["lan"].update(vlan=4095), "lan.vlan"),
    ("a listener on the console's port", lambda c: c["explicit"]["listeners"][0].update(port=443),
     "explicit.listeners[0].port"),
    ("the PAC file on the console's port", lambda c: c["explicit"].update(pac_port=443), "explicit.pac_port"),
    ("the console on the DNS's port", lambda c: c["console"].update(port=53), "console.port"),
    ("the console on no port", lambda c: c["console"].update(port=0), "console.port"),
    ("a WAN without its gateway", lambda c: c["wan"].pop("gateway"), "wan"),
    ("a gateway on another network", lambda c: c["wan"].update(gateway="192.0.2.1"), "wan"),
    ("no translation prefix at all", lambda c: c.update(translation=[]), "translation"),
    ("a route over the LAN's own network",
     lambda c: c.update(route=[{"name": "r", "to": "fd00:1::/48", "via": "fd00:1::2"}]), "route[0].to"),
    ("a packet size that IPv6 does not run over", lambda c: c["lan"].update(mtu=576), "lan.mtu"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_before_anything_is_done(live: Live, change: Callable[[Plain], Any], path: str) -> None:
    before = everything(live)
    candidate = live.put("ann", change)
    assert path in [problem["path"] for problem in candidate["problems"]]
    with pytest.raises(ControlError) as refused:
        live.client.commit("ann", "", candidate["based_on"], None, 60)
    assert refused.value.code.endswith(".Invalid")
    live.client.discard_candidate("ann")
    assert everything(live) == before and live.client.pending() is None


# What the schema cannot know: the box says it when it tries.
IMPOSSIBLE: list[tuple[str, Callable[[Plain], Any], str]] = [
    ("the LAN on a port that is not there", lambda c: c["lan"].update(interface="eth9"), "no port “eth9”"),
    ("the WAN on a port that is not there", lambda c: c["wan"].update(interface="eth9"), "no port “eth9”"),
    ("the LAN on a VLAN of a missing port", lambda c: c["lan"].update(interface="eth9", vlan=20), "eth9"),
    ("a segment on a missing port", lambda c: c.update(segment=[segment(interface="eth9")]),
     "segment.guests.interface"),
    ("a route by way of nobody",
     lambda c: c.update(route=[{"name": "r", "to": "10.0.0.0/8", "via": "10.9.9.9", "interface": "lan0"}]),
     "route"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"), [row[1:] for row in IMPOSSIBLE], ids=[row[0] for row in IMPOSSIBLE]
)
def test_rolled_back_where_the_box_cannot_do_it(
    live: Live, change: Callable[[Plain], Any], words: str
) -> None:
    before = everything(live)
    candidate = live.put("ann", change)
    assert candidate["problems"] == []
    with pytest.raises(ControlError, match=words) as refused:
        live.client.commit("ann", "", candidate["based_on"], None, 60)
    assert refused.value.code.endswith(".Refused")
    live.client.discard_candidate("ann")
    assert everything(live) == before and live.client.pending() is None


# What is possible, and cuts whoever sits at the LAN's old place: it has to be confirmed, and comes back.
CUTS: list[tuple[str, Callable[[Plain], Any]]] = [
    ("another prefix", lambda c: c["lan"].update(prefix="fd00:2::/64")),
    ("another port", lambda c: c["lan"].update(interface="far-lan0")),
    ("another port of the console", lambda c: c["console"].update(port=8443)),
    ("the sides exchanged", lambda c: (c["lan"].update(interface="wan0"), c["wan"].update(interface="lan0"))),
    ("packets too large for the switch", lambda c: c["lan"].update(mtu=9000)),
]


@pytest.mark.parametrize("change", [row[1] for row in CUTS], ids=[row[0] for row in CUTS])
def test_what_cuts_waits_for_a_word_and_comes_back(live: Live, change: Callable[[Plain], Any]) -> None:
    before = everything(live)
    candidate = live.put("ann", change)
    assert candidate["problems"] == [] and candidate["needs_confirmation"]
    with pytest.raises(ControlError, match="has to be confirmed"):
        live.client.commit("ann", "", candidate["based_on"], None, 0)
    assert everything(live) == before
    live.client.commit("ann", "", candidate["based_on"], None, 3_600)
    assert live.client.pending() is not None and live.config.read_text() != before[0]
    live.client.rollback("ann")
    wait_for(lambda: everything(live) == before, "all of it as before", 20)


def test_a_rule_against_the_console_does_not_keep_an_admin_out(live: Live) -> None:
    """Rules are the proxy's: the console is let in before, and by no rule."""
    rule = {"name": "all", "action": "deny", "destinations": ["::/0", "0.0.0.0/0"]}
    candidate = live.put("ann", lambda c: (c["policy"].update(default="deny"), c.update(rule=[rule])))
    assert candidate["problems"] == [] and not candidate["needs_confirmation"]
    live.client.commit("ann", "", candidate["based_on"])
    assert 'iifname "lan0" tcp dport 443 accept' in live.tell("nft", "list", "table", "inet", "isthmus")


def test_both_addresses_are_there_and_certified_until_somebody_confirms(live: Live) -> None:
    candidate = live.put("ann", lambda c: c["lan"].update(prefix="fd00:2::/64"))
    done = live.client.commit("ann", "", candidate["based_on"], None, 60)
    assert live.addresses() == [NEW] and live.addresses(deprecated=True) == [OLD]
    certificate = live.state / "tls" / "console.crt"
    names = live.tell("openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", certificate)
    assert "FD00:1:0:0:0:0:0:1" in names and "FD00:2:0:0:0:0:0:1" in names
    [lan] = live.client.status()["lans"]
    assert (lan["address"], lan["leaving"]) == ("fd00:2::1", ["fd00:1::1"])
    live.client.confirm("ann", done["revision"])
    wait_for(lambda: live.addresses(deprecated=True) == [], "the old one to go", 20)
    assert live.addresses() == [NEW]
