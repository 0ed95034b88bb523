"""Differences and merges: what each side did is kept, and what clashes is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.diff import MAX_SHOWN, Change, Clash, changes, merge, shown

BASE: dict[str, Any] = {
    "lan": {"prefix": "generated"},
    "dns": {"upstreams": ["192.0.2.1"]},
    "rule": [
        {"name": "a", "action": "deny", "domains": ["a.example"]},
        {"name": "b", "action": "deny", "domains": []},
        {"name": "c", "action": "allow", "domains": []},
    ],
    "user": [{"name": "ann", "groups": ["staff"], "password": "$argon2id$secret"}],
}


def changed(**tables: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), **tables}


def rules(*names: str) -> list[dict[str, Any]]:
    known = {rule["name"]: rule for rule in BASE["rule"]}
    return [dict(known.get(name, {"name": name, "action": "deny"})) for name in names]


def names(plain: dict[str, Any]) -> list[str]:
    return [rule["name"] for rule in plain["rule"]]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ({}, []),
        ({"lan": {"prefix": "fd00::/64"}}, [Change("lan.prefix", "set", '"generated"', '"fd00::/64"')]),
        ({"lan": {}}, [Change("lan.prefix", "set", '"generated"', None)]),
        (
            {"dns": {"upstreams": ["192.0.2.1", "192.0.2.2"]}},
            [Change("dns.upstreams", "set", '["192.0.2.1"]', '["192.0.2.1", "192.0.2.2"]')],
        ),
        ({"rule": rules("a", "b")}, [Change("rule.c", "remove", 'name = "c", action = "allow"', None)]),
        ({"rule": rules("d", "a", "b", "c")}, [Change("rule.d", "add", None, 'name = "d", action = "deny"')]),
        ({"rule": rules("b", "a", "c")}, [Change("rule", "order", '["a", "b", "c"]', '["b", "a", "c"]')]),
        (
            {"rule": [{**rules("a")[0], "action": "allow"}, *rules("b", "c")]},
            [Change("rule.a.action", "set", '"deny"', '"allow"')],
        ),
    ],
)
def test_changes(after: dict[str, Any], found: list[Change]) -> None:
    assert changes(BASE, changed(**after)) == found


def test_no_hash_is_shown() -> None:
    other = [{"name": "ann", "groups": ["staff"], "password": "$argon2id$other"}]
    [one] = changes(BASE, changed(user=other))
    assert (one.path, one.before, one.after) == ("user.ann.password", "(not shown)", "(not shown)")
    for two in (changes(BASE, changed(user=[])), changes(changed(user=[]), BASE)):
        assert "argon2id" not in str(two) and "ann" in str(two)
    clashing = merge(BASE, changed(user=other), changed(user=[{**other[0], "password": "$argon2id$third"}]))
    assert [clash.path for clash in clashing.clashes] == ["user.ann.password"]
    assert "argon2id" not in str(clashing.clashes)


def test_a_long_value_is_cut() -> None:
    assert len(shown(["a.example"] * 10_000)) == MAX_SHOWN + 1


def test_both_sides_changes_are_merged() -> None:
    mine = changed(lan={"prefix": "fd00::/64"}, rule=[{**rules("a")[0], "action": "allow"}, *rules("b", "c")])
    theirs = changed(dns={"upstreams": []}, rule=[{**rules("a")[0], "domains": []}, *rules("c", "d")])
    merged = merge(BASE, mine, theirs)
    assert merged.clashes == ()
    assert merged.plain["lan"] == {"prefix": "fd00::/64"} and merged.plain["dns"] == {"upstreams": []}
    assert merged.plain["rule"][0] == {"name": "a", "action": "allow", "domains": []}
    assert names(merged.plain) == ["a", "c", "d"]


def test_a_clash_says_all_three_values_and_goes_where_it_is_told() -> None:
    mine, theirs = changed(lan={"prefix": "fd01::/64"}), changed(lan={"prefix": "fd02::/64"})
    clash = Clash("lan.prefix", '"generated"', '"fd01::/64"', '"fd02::/64"')
    assert merge(BASE, mine, theirs).clashes == (clash,)
    assert merge(BASE, mine, theirs).plain == mine
    assert merge(BASE, mine, theirs, keep_mine=()).plain == theirs
    assert merge(BASE, mine, theirs, keep_mine={"lan.prefix"}).plain == mine


def test_an_entry_that_one_removed_and_the_other_changed_clashes() -> None:
    mine = changed(rule=rules("b", "c"))
    theirs = changed(rule=[{**rules("a")[0], "action": "allow"}, *rules("b", "c")])
    merged = merge(BASE, mine, theirs)
    assert [(clash.path, clash.mine) for clash in merged.clashes] == [("rule.a", None)]
    assert names(merged.plain) == ["b", "c"]
    assert names(merge(BASE, mine, theirs, keep_mine=()).plain) == ["a", "b", "c"]


def test_the_order_is_who_changed_it() -> None:
    reordered, added = changed(rule=rules("c", "a", "b")), changed(rule=rules("a", "new", "b", "c"))
    for mine, theirs in ((reordered, added), (added, reordered)):
        merged = merge(BASE, mine, theirs)
        assert merged.clashes == ()
        assert names(merged.plain) == ["c", "a", "new", "b"]


def test_two_orders_clash() -> None:
    mine, theirs = changed(rule=rules("c", "a", "b")), changed(rule=rules("b", "a", "c"))
    merged = merge(BASE, mine, theirs)
    assert merged.clashes == (Clash("rule.(order)", '["a", "b", "c"]', '["c", "a", "b"]', '["b", "a", "c"]'),)
    assert names(merged.plain) == ["c", "a", "b"]
    assert names(merge(BASE, mine, theirs, keep_mine=()).plain) == ["b", "a", "c"]


def test_both_added_the_same_entry_differently() -> None:
    mine = changed(rule=[*rules("a", "b", "c"), {"name": "d", "action": "deny"}])
    theirs = changed(rule=[*rules("a", "b", "c"), {"name": "d", "action": "allow"}])
    assert [clash.path for clash in merge(BASE, mine, theirs).clashes] == ["rule.d.action"]


values = st.one_of(st.integers(0, 3), st.lists(st.sampled_from("xyz"), max_size=2))
settings = st.dictionaries(st.sampled_from("xy"), values)
entries = st.lists(
    st.builds(lambda name, rest: {"name": name, **rest}, st.sampled_from("abcd"), settings),
    unique_by=lambda entry: str(entry["name"]),
)
tables = st.dictionaries(st.sampled_from("pq"), values)
plains = st.builds(lambda table, rule: {"t": table, "rule": rule}, tables, entries)


@given(plains, plains)
def test_merging_with_nothing_changed_is_the_other_side(base: dict[str, Any], mine: dict[str, Any]) -> None:
    for merged in (merge(base, mine, base), merge(base, base, mine), merge(base, mine, mine)):
        assert merged.clashes == () and merged.plain == mine


@given(plains, plains, plains)
def test_a_merge_holds_each_sides_changes(
    base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    one, other = merge(base, mine, theirs), merge(base, theirs, mine)
    assert {clash.path for clash in one.clashes} == {clash.path for clash in other.clashes}
    clashing = {clash.path for clash in one.clashes}
    if not clashing:
        for side in (mine, theirs):
            kept = {c.path for c in changes(side, one.plain)} & {c.path for c in changes(base, side)}
            assert {path for path in kept if path != "rule"} == set()
    assert merge(base, mine, theirs, clashing).plain == one.plain


@given(plains, plains)
def test_no_change_means_equal(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert (changes(before, after) == []) == (before == after)
