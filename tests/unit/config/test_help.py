"""The help: each setting has some, and it says what the models do."""

from __future__ import annotations

import pytest

from appliance.config import dump, parse
from appliance.config.help import Help, children, every, help_of, title_of
from appliance.config.paths import PathError
from appliance.config.schema import Config, as_plain

ALL = list(every())


@pytest.mark.parametrize("setting", ALL, ids=lambda one: one.path)
def test_every_setting_has_help(setting: Help) -> None:
    assert setting.title
    assert setting.text.endswith((".", "?", "!")), "a comment above or behind the field"
    assert "noqa" not in setting.text and "type: ignore" not in setting.text and "``" not in setting.text
    assert help_of(setting.path) == setting
    if setting.kind == "choice":
        assert setting.choices


def test_nothing_of_the_configuration_is_left_out() -> None:
    known = {one.path for one in ALL}

    def walk(plain: object, path: str) -> None:
        if isinstance(plain, dict):
            for key, value in plain.items():
                here = f"{path}.{key}" if path else key
                assert here in known
                walk(value, here)
        elif isinstance(plain, list):
            for value in plain:
                walk(value, path)

    walk(as_plain(parse(dump(Config()))), "")


def test_an_entry_is_passed_over() -> None:
    action = help_of("rule.action")
    assert action.choices == ("allow", "deny") and action.required
    for path in ("rule.no-ads.action", "rule[3].action", "rule.action.action"):
        assert help_of(path) == action
    assert help_of("rule.no-ads").path == "rule"
    assert help_of("published.shop.names[0].hosts").path == "published.names.hosts"
    assert help_of("dns.upstreams[1]").path == "dns.upstreams"


def test_what_the_models_say() -> None:
    udp = help_of("proxy.timers.udp")
    assert (udp.kind, udp.minimum, udp.maximum, udp.default) == ("number", 120, 86_400, 300)
    prefix = help_of("lan.prefix")
    assert (prefix.kind, prefix.choices, prefix.default) == ("network", ("generated",), "generated")
    ports = help_of("explicit.connect_ports")
    assert (ports.kind, ports.many, ports.minimum, ports.most, ports.default) == (
        "number",
        True,
        1,
        256,
        [443],
    )
    address = help_of("wan.address")
    assert (address.kind, address.optional, address.default) == ("address", True, None)
    assert help_of("rule.until").kind == "moment"
    listeners = help_of("explicit.listeners")
    assert listeners.kind == "table" and listeners.many and listeners.default[0]["port"] == 3128


@pytest.mark.parametrize("path", ["", "lam", "lan.prefx", "lan.prefix.x", "rule.a.b.c", "rule[0][1].action"])
def test_there_is_no_help_for_what_is_not_there(path: str) -> None:
    with pytest.raises(PathError):
        help_of(path)


def test_children_and_titles() -> None:
    assert [one.path for one in children("wan")] == [
        "wan.interface",
        "wan.vlan",
        "wan.mode",
        "wan.address",
        "wan.gateway",
    ]
    assert [one.path for one in children("rule.no-ads")][4] == "rule.name"
    assert children("lan.prefix") == []
    assert title_of("max_new_per_client") == "Max new per client"
    assert title_of("dns") == "DNS"
