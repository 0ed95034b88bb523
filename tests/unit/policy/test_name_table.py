"""The table of names against a plain dictionary, and that what is no table is refused."""

from __future__ import annotations

import io
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.policy import name_table
from appliance.policy.name_table import (
    BELOW,
    EXACT,
    EXEMPT_BELOW,
    EXEMPT_EXACT,
    NameTable,
    TableBuilder,
    TableError,
)
from appliance.policy.sets import suffixes

WHOLE = EXACT | BELOW
KEY = bytes(range(16))


def built(entries: list[tuple[str, int]], exceptions_win: bool = False, key: bytes = KEY) -> bytes:
    builder = TableBuilder(key)
    for name, flags in entries:
        builder.add(name.encode(), flags)
    out = io.BytesIO()
    builder.write(out, exceptions_win)
    return out.getvalue()


def expected(entries: list[tuple[str, int]], exceptions_win: bool, name: str) -> str:
    """The same, by the words of the contract."""
    flags: dict[str, int] = {}
    for entry, more in entries:
        flags[entry] = flags.get(entry, 0) | more
    found = ""
    for suffix in reversed(suffixes(name)):
        covers, exempts = (EXACT, EXEMPT_EXACT) if suffix == name else (BELOW, EXEMPT_BELOW)
        held = flags.get(suffix, 0)
        if held & exempts:
            if exceptions_win:
                return ""
            found = ""
        elif held & covers:
            found = suffix
    return found


_NAMES = st.lists(st.sampled_from(["a", "b", "x" * 14, "y" * 15, "z" * 63, ""]), min_size=1, max_size=5).map(
    ".".join
)


@given(
    st.lists(st.tuples(_NAMES, st.integers(1, 15)), max_size=30),
    st.lists(_NAMES, min_size=1, max_size=20),
    st.booleans(),
    # A key is random, not chosen: with one of few bits names that differ little have one digest.
    st.binary().map(lambda seed: blake2b(seed, digest_size=name_table.KEY).digest()),
)
def test_it_is_what_a_dictionary_says(
    entries: list[tuple[str, int]], names: list[str], exceptions_win: bool, key: bytes
) -> None:
    table = NameTable(built(entries, exceptions_win, key))
    assert len(table) == len({name for name, _ in entries})
    for name in names:
        assert table.find(name) == expected(entries, exceptions_win, name)
        assert (name in table) == bool(expected(entries, exceptions_win, name))


def test_what_entries_cover() -> None:
    table = NameTable(built([("a.example", WHOLE), ("=b.example"[1:], EXACT), ("c.example", BELOW)]))
    assert table.find("a.example") == table.find("x.y.a.example") == "a.example"
    assert table.find("b.example") == "b.example" and not table.find("x.b.example")
    assert not table.find("c.example") and table.find("x.c.example") == "c.example"
    assert not table.find("example") and not table.find("ba.example") and not table.find("")


def test_exceptions() -> None:
    entries = [
        ("a.example", WHOLE),
        ("good.a.example", EXEMPT_EXACT | EXEMPT_BELOW),
        ("bad.good.a.example", WHOLE),
    ]
    longest = NameTable(built(entries))
    assert longest.find("x.a.example") and not longest.find("x.good.a.example")
    assert longest.find("bad.good.a.example") == "bad.good.a.example"
    assert not NameTable(built(entries, exceptions_win=True)).find("bad.good.a.example")


def test_many_names_and_none_else() -> None:
    table = NameTable(built([(f"n{number}.example", WHOLE) for number in range(20_000)]))
    assert all(table.find(f"www.n{number}.example") for number in range(20_000))
    assert not any(table.find(f"m{number}.example") for number in range(20_000))


def test_a_name_that_is_no_text_is_not_found() -> None:
    assert not NameTable(built([("a.example", WHOLE)])).find("\udcff.example")


def test_what_is_no_table_is_refused() -> None:
    good = built([("a.example", WHOLE)])
    for bad in (b"", good[:63], good[:-8], good + bytes(8), b"x" + good[1:]):
        with pytest.raises(TableError):
            NameTable(bad)


@given(st.binary(min_size=64, max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(TableError):
        NameTable(b"isth-nt1" + noise)


def test_more_names_than_a_box_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_table, "MAX_NAMES", 2)
    with pytest.raises(ValueError, match="more than 2 names"):
        built([("a", 1), ("b", 1), ("c", 1)])
