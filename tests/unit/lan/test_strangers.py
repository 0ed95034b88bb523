"""The table of other routers: bounded, and forgotten in time."""

from __future__ import annotations

from ipaddress import IPv6Network

from appliance.lan.strangers import KEPT, MAX_STRANGERS, Strangers
from appliance.protocol.advertisement import Advertisement

SAID = Advertisement(1_800, "02:00:00:00:00:01", (IPv6Network("fd00:bad::/64"),))
BYE = Advertisement(0, "", ())


def test_one_is_shown_until_it_leaves() -> None:
    table = Strangers()
    assert table.heard("lan", "fe80::1", SAID, 0) and not table.heard("lan", "fe80::1", SAID, 1)
    [one] = table.plain()
    assert (one["lan"], one["router"], one["prefixes"]) == ("lan", "fe80::1", ["fd00:bad::/64"])
    assert table.heard("lan", "fe80::1", BYE, 2) and table.plain() == []


def test_one_that_is_silent_is_forgotten() -> None:
    table = Strangers()
    table.heard("lan", "fe80::1", SAID, 0)
    assert not table.keep({"lan"}, KEPT)
    assert table.keep({"lan"}, KEPT + 1) and table.plain() == []


def test_one_of_a_lan_that_ended_is_forgotten() -> None:
    table = Strangers()
    table.heard("guests", "fe80::1", SAID, 0)
    assert table.keep({"lan"}, 1) and table.plain() == []


def test_invented_routers_fill_a_table_of_one_size() -> None:
    table = Strangers()
    for number in range(10 * MAX_STRANGERS):
        table.heard("lan", f"fe80::{number:x}", SAID, 0)
    assert len(table.plain()) == MAX_STRANGERS
