"""Settings as words: each kind, each refusal with what to do, and nothing changed behind one's back."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from appliance.config import parse
from appliance.config.assign import AssignError, added, assigned, completions, moved, removed, unset
from appliance.config.paths import PathError, split, value_at
from appliance.config.schema import as_plain

PLAIN = as_plain(
    parse("""
[dns]
upstreams = ["192.0.2.1"]
[[group]]
name = "staff"
[[user]]
name = "ann@home.example"
groups = ["staff"]
[[rule]]
name = "no-ads"
action = "deny"
[[rule]]
name = "all"
action = "allow"
[[published]]
name = "shop"
port = 443
route = "sni"
names = [{ hosts = ["a.example"], targets = ["[fd00::1]:443"] }]
""")
)
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(autouse=True)
def unchanged() -> Any:
    """What goes in stays as it is."""
    before = copy.deepcopy(PLAIN)
    yield
    assert before == PLAIN


@pytest.mark.parametrize(
    ("path", "words", "value"),
    [
        ("lan.prefix", ["fd00:2::/64"], "fd00:2::/64"),
        ("proxy.workers", ["3"], 3),
        ("proxy.workers", ["-3"], -3),
        ("dns.dnssec", ["Yes"], True),
        ("dns.dnssec", ["off"], False),
        ("policy.default", ["deny"], "deny"),
        ("dns.upstreams", ["192.0.2.2", "192.0.2.3"], ["192.0.2.2", "192.0.2.3"]),
        ("dns.upstreams", [], []),
        ("explicit.connect_ports", ["443", "8443"], [443, 8443]),
        ("rule.no-ads.action", ["allow"], "allow"),
        ("rule[1].action", ["deny"], "deny"),
        ("rule.no-ads.ports", ["443", "8000-8999"], ["443", "8000-8999"]),
        ('user."ann@home.example".groups', ["staff"], ["staff"]),
        ("published.shop.names[0].hosts", ["b.example"], ["b.example"]),
        ("explicit.listeners.http.port", ["8080"], 8080),
        ("translation.64:ff9b::/96.domains", ["a.example"], ["a.example"]),
        ("wan.address", ["192.0.2.2/24"], "192.0.2.2/24"),
    ],
)
def test_set(path: str, words: list[str], value: Any) -> None:
    assert value_at(assigned(PLAIN, path, words), split(path)) == value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: assigned(p, "lan.prefx", ["x"]), "no setting “lan.prefx”"),
        (lambda p: assigned(p, "lan", ["x"]), "is a table.*interface, vlan, prefix"),
        (lambda p: assigned(p, "rule.no-ads", ["x"]), "is a table"),
        (lambda p: assigned(p, "rule.more.action", ["deny"]), "no rule “more”.*no-ads, all"),
        (lambda p: assigned(p, "limit.more.sessions", ["3"]), "no limit “more”.*isthmus add limit"),
        (lambda p: assigned(p, "rule.action", ["deny"]), "which entry.*rule.NAME.action"),
        (lambda p: assigned(p, "dns.upstreams[0]", ["192.0.2.2"]), "set whole"),
        (lambda p: assigned(p, "proxy.workers", ["many"]), "“many” is no whole number"),
        (lambda p: assigned(p, "proxy.workers", []), "takes one value, not 0"),
        (lambda p: assigned(p, "lan.prefix", ["a", "b"]), "takes one value, not 2"),
        (lambda p: assigned(p, "dns.dnssec", ["maybe"]), "neither true nor false"),
        (lambda p: assigned(p, "policy.default", ["no"]), "none of its values.*allow, deny"),
        (lambda p: assigned(p, 'user."ann@home.example".password', ["x"]), "isthmus user passwd"),
        (lambda p: unset(p, "rule.no-ads"), "isthmus remove rule.no-ads"),
        (lambda p: unset(p, "rule.no-ads.action"), "has to have a value"),
        (lambda p: unset(p, ""), "no setting"),
        (lambda p: added(p, "lan.prefix", ["x"]), "is no list.*isthmus set"),
        (lambda p: added(p, "rule.no-ads", ["x"]), "is an entry of a list"),
        (lambda p: added(p, "rule", ["no-ads", "action=deny"]), "There is rule “no-ads” already"),
        (lambda p: added(p, "rule", ["new", "acton=deny"]), "“acton=deny” is no setting of rule"),
        (lambda p: added(p, "rule", ["new", "deny"]), "“deny” is no setting of rule"),
        (lambda p: added(p, "rule", ["new", "action=maybe"]), "none of its values"),
        (lambda p: added(p, "published", ["new", "names=x"]), "is a list of tables"),
        (lambda p: added(p, "rule", ["new", "action=deny"], ("before", "none")), "no rule “none”"),
        (lambda p: removed(p, "rule.none"), "no rule “none”.*no-ads, all"),
        (lambda p: removed(p, "rule.no-ads", ["x"]), "removed whole"),
        (lambda p: removed(p, "rule"), "isthmus remove rule.NAME"),
        (lambda p: removed(p, "lan.prefix"), "isthmus unset lan.prefix"),
        (lambda p: removed(p, "dns.upstreams"), "Say which"),
        (lambda p: removed(p, "dns.upstreams", ["192.0.2.9"]), "is not in dns.upstreams.*192.0.2.1"),
        (lambda p: moved(p, "lan.prefix", None), "no entry of a list"),
        (lambda p: moved(p, "rule.none", None), "no rule “none”"),
        (lambda p: moved(p, "rule.all", ("after", "all")), "no rule “all”"),
    ],
)
def test_what_is_refused_says_what_to_do(change: Change, words: str) -> None:
    with pytest.raises((AssignError, PathError)) as caught:
        change(PLAIN)
    said = f"{caught.value.message}. {caught.value.hint}"
    assert re.search(words, said), said


def test_unset() -> None:
    assert "upstreams" not in unset(PLAIN, "dns.upstreams")["dns"]
    assert "rule" not in unset(PLAIN, "rule")
    assert "dns" not in unset(PLAIN, "dns")
    assert unset(PLAIN, "wan.address") == PLAIN


def test_add_and_remove_entries() -> None:
    more = added(PLAIN, "rule", ["more", "action=deny", "domains=a.example,b.example", "enabled=no"])
    assert more["rule"][-1] == {
        "name": "more",
        "action": "deny",
        "domains": ["a.example", "b.example"],
        "enabled": False,
    }
    for beside, order in (
        (("before", "no-ads"), ["more", "no-ads", "all"]),
        (("after", "no-ads"), ["no-ads", "more", "all"]),
        (None, ["no-ads", "all", "more"]),
    ):
        made = added(PLAIN, "rule", ["name=more", "action=deny"], beside)
        assert [rule["name"] for rule in made["rule"]] == order
        assert [rule["name"] for rule in moved(more, "rule.more", beside)["rule"]] == order
    assert removed(more, "rule.more") == PLAIN
    assert removed(PLAIN, "rule[0]")["rule"][0]["name"] == "all"
    assert added({}, "device", ["tv", "macs=02:00:5e:10:00:01"])["device"][0]["name"] == "tv"
    assert added(PLAIN, "translation", ["fd64::/96"])["translation"][1] == {"prefix": "fd64::/96"}
    named = added(PLAIN, "published.shop.names", ["hosts=b.example", "targets=[fd00::2]:443"])
    assert named["published"][0]["names"][1] == {"hosts": ["b.example"], "targets": ["[fd00::2]:443"]}
    assert removed(named, "published.shop.names[1]") == PLAIN


def test_add_and_remove_values() -> None:
    more = added(PLAIN, "dns.upstreams", ["192.0.2.1", "192.0.2.2"])
    assert more["dns"]["upstreams"] == ["192.0.2.1", "192.0.2.2"]
    assert removed(more, "dns.upstreams", ["192.0.2.2"]) == PLAIN
    assert added(PLAIN, "explicit.connect_ports", ["8443"])["explicit"]["connect_ports"] == [443, 8443]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("la", ["lan."]),
        ("wan.m", ["wan.mode"]),
        ("lan.prefix", ["lan.prefix"]),
        ("rule.", ["rule.no-ads.", "rule.all."]),
        ("rule.no-ads.ac", ["rule.no-ads.action"]),
        ("user.", ['user."ann@home.example".']),
        ("published.shop.n", ["published.shop.name", "published.shop.names."]),
        ("nowhere.", []),
        ("lan.prefix.", []),
    ],
)
def test_completions(path: str, found: list[str]) -> None:
    assert completions(PLAIN, path) == found
