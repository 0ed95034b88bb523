"""Paths: written and read alike; entries found by name or number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.paths import MAX_PARTS, PathError, joined, key_of, named, split, value_at

PLAIN = {
    "lan": {"prefix": "generated"},
    "rule": [{"name": "no-ads", "action": "deny"}, {"name": "a", "action": "allow"}],
    "user": [{"name": "ann@home.example", "groups": ["staff"]}],
    "translation": [{"prefix": "64:ff9b::/96"}],
}


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("", ()),
        ("lan.prefix", ("lan", "prefix")),
        ("rule.no-ads.action", ("rule", "no-ads", "action")),
        ("rule[3].action", ("rule", 3, "action")),
        ('user."ann@home.example".groups[0]', ("user", "ann@home.example", "groups", 0)),
        ("translation.64:ff9b::/96.networks", ("translation", "64:ff9b::/96", "networks")),
    ],
)
def test_a_path_has_its_parts(path: str, parts: tuple[str | int, ...]) -> None:
    assert split(path) == parts
    assert joined(parts) == path


@pytest.mark.parametrize("path", [".", "a.", ".a", "a..b", "a[", "a[x]", "a.[1]", 'a."b', "a b", "a]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(PathError, match="no path"):
        split(path)


def test_a_path_has_an_end() -> None:
    assert len(split("a" + ".a" * (MAX_PARTS - 1))) == MAX_PARTS
    with pytest.raises(PathError, match="too many"):
        split("a" + ".a" * MAX_PARTS)


names = st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(st.one_of(names, st.integers(0, 999_999)), min_size=1, max_size=MAX_PARTS))
def test_what_is_joined_splits_again(parts: list[str | int]) -> None:
    assert split(joined(parts)) == tuple(parts)


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        parts = split(text)
    except PathError:
        return
    assert split(joined(parts)) == parts


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("lan.prefix", "generated"),
        ("rule.no-ads.action", "deny"),
        ("rule[1].action", "allow"),
        ("rule[2].action", None),
        ("rule.none.action", None),
        ('user."ann@home.example".groups[0]', "staff"),
        ("translation.64:ff9b::/96", {"prefix": "64:ff9b::/96"}),
        ("lan.prefix.deeper", None),
    ],
)
def test_the_value_at_a_path(path: str, value: object) -> None:
    assert value_at(PLAIN, split(path)) == value


def test_numbers_become_names() -> None:
    assert named("rule[1].action", PLAIN) == "rule.a.action"
    assert named("user[0].groups[0]", PLAIN) == 'user."ann@home.example".groups[0]'
    assert named("rule[7].action", PLAIN) == "rule[7].action"
    assert named("(file)", PLAIN) == "(file)"


def test_entries_with_the_same_name_have_no_key() -> None:
    assert key_of(PLAIN["rule"]) == "name"
    assert key_of([{"name": "a"}, {"name": "a"}]) is None
    assert key_of(["a"]) is None
