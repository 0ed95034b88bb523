"""Lists: each format's own lines, what is refused, and that neither pieces nor noise change anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.policy import lists
from appliance.policy.lists import WHOLE, Counts, ListError, ListParser, ascii_name
from appliance.policy.name_table import BELOW, EXACT, EXEMPT_BELOW, EXEMPT_EXACT

EXEMPT_WHOLE = EXEMPT_EXACT | EXEMPT_BELOW
Entries = list[tuple[str, int]]


def read(text: bytes, form: str = "auto", size: int = 0, empty: bool = False) -> tuple[str, Entries, Counts]:
    """The format, the entries and the counts of a list that comes in pieces of ``size``."""
    found: Entries = []
    parser = ListParser(form, 1 << 20, lambda name, flags: found.append((name.decode(), flags)))
    for at in range(0, len(text), size or len(text) or 1):
        parser.feed(text[at : at + (size or len(text))])
    counts = parser.finish(empty)
    return parser.form, found, counts


HOSTS = b"""# a comment
127.0.0.1 localhost
::1 ip6-localhost ip6-loopback
0.0.0.0 0.0.0.0
0.0.0.0 Ads.Example  # trailing
127.0.0.1\ttrack.example two.example
0 zero.example
192.168.1.10 nas.lan
0.0.0.0 not/a/name
"""
DOMAINS = (
    b"# names\nads.example\n*.below.example\n.dot.example\r\nWWW.Upper.Example.\n1.2.3.4\n"
    b"b\xc3\xbccher.example\n"
)
ADBLOCK = b"""[Adblock Plus 2.0]
! Title: a list
||ads.example^
||*.below.example^
|exact.example^
||third.example^$third-party
||loud.example^$important
@@||good.ads.example^
||path.example/banner
||part.exam
example.org##.banner
/regular[0-9]/
bare.example
0.0.0.0 host.example
"""
RPZ = b"""$TTL 300
@ SOA localhost. root.localhost. (
  1 ; serial
  43200 3600 86400 300 )
  NS localhost.
ads.example CNAME .
*.ads.example 60 IN CNAME .
nodata.example CNAME *.
drop.example IN 60 CNAME rpz-drop.
good.ads.example CNAME rpz-passthru.
self.example CNAME self.example.
tcp.example CNAME rpz-tcp-only.
www.search.example CNAME safe.search.example.
sink.example A 0.0.0.0
walled.example A 192.0.2.1
32.1.2.0.192.rpz-ip CNAME .
ns.example.rpz-nsdname CNAME .
"""


def test_hosts() -> None:
    form, found, counts = read(HOSTS)
    assert form == "hosts"
    assert found == [(f"{name}.example", EXACT) for name in ("ads", "track", "two", "zero")]
    assert (counts.names, counts.skipped, counts.bad) == (4, 4, 1)
    assert counts.first_bad == "line 9 is “0.0.0.0 not/a/name”"


def test_domains() -> None:
    form, found, counts = read(DOMAINS)
    assert form == "domains"
    assert found == [
        ("ads.example", WHOLE),
        ("below.example", BELOW),
        ("dot.example", WHOLE),
        ("www.upper.example", WHOLE),
        ("xn--bcher-kva.example", WHOLE),
    ]
    assert counts.bad == 1


def test_adblock() -> None:
    form, found, counts = read(ADBLOCK)
    assert form == "adblock"
    assert found == [
        ("ads.example", WHOLE),
        ("below.example", BELOW),
        ("exact.example", EXACT),
        ("loud.example", WHOLE),
        ("good.ads.example", EXEMPT_WHOLE),
        ("bare.example", EXACT),
        ("host.example", EXACT),
    ]
    assert (counts.names, counts.exceptions, counts.skipped, counts.bad) == (6, 1, 5, 0)


def test_rpz() -> None:
    form, found, counts = read(RPZ)
    assert form == "rpz"
    assert found == [
        ("ads.example", EXACT),
        ("ads.example", BELOW),
        ("nodata.example", EXACT),
        ("drop.example", EXACT),
        ("good.ads.example", EXEMPT_EXACT),
        ("self.example", EXEMPT_EXACT),
        ("sink.example", EXACT),
    ]
    assert (counts.names, counts.exceptions, counts.bad) == (5, 2, 0)


def test_absolute_owners_lose_the_zones_name() -> None:
    text = b"$ORIGIN rpz.example.\n@ SOA a. b. 1 2 3 4 5\nads.example.rpz.example. CNAME .\n"
    text += b"*.x.example CNAME .\n"
    assert read(text)[1] == [("ads.example", EXACT), ("x.example", BELOW)]
    text = b"rpz.example. 60 IN SOA a. b. 1 2 3 4 5\nads.example.rpz.example. CNAME .\n"
    assert read(text)[1] == [("ads.example", EXACT)]


SOA = b"SOA localhost. root.localhost. 1 2 3 4 5\n NS localhost.\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (  # as BIND writes them
            b"$ORIGIN .\n$TTL 60\nrpz.local IN " + SOA + b"$ORIGIN rpz.local.\none.example CNAME .\n"
            b"$ORIGIN com.rpz.local.\nevil CNAME .\n*.evil CNAME .\nwww.bad CNAME .\n"
            b"$ORIGIN foo.rpz.local.\n*.com CNAME .\n",
            ["one.example", "evil.com", "*.evil.com", "www.bad.com", "*.com.foo"],
        ),
        (b"$ORIGIN local.\nrpz " + SOA + b"a.example.rpz CNAME .\nb.rpz 60 CNAME .\n", ["a.example", "b"]),
        (b"$ORIGIN rpz.local.\n@ " + SOA + b"$ORIGIN com\na CNAME .\nb.c CNAME .\n", ["a.com", "b.c.com"]),
        (b"rpz.local. " + SOA + b"a.b CNAME .\n$ORIGIN com.rpz.local.\na CNAME .\n", ["a.b", "a.com"]),
        (b"$ORIGIN rpz.local.\na.b CNAME .\n$ORIGIN com.rpz.local.\na CNAME .\n", ["a.b", "a.com"]),
        (b"@ " + SOA + b"$ORIGIN rpz.local.\na.b CNAME .\n", ["a.b"]),
        # Without an owner it is that of the line before, whatever the origin is by now.
        (b"$ORIGIN a.\n@ " + SOA + b"b.c TXT x\n$ORIGIN d.a.\n CNAME .\n", ["b.c"]),
        (b"$ORIGIN a.\n@ " + SOA + b"b.c CNAME .\n$ORIGIN rpz-ip.a.\n32.1.2.0.x CNAME .\n", ["b.c"]),
    ],
)
def test_names_are_relative_to_the_origin_and_told_without_the_zone(text: bytes, names: list[str]) -> None:
    _, found, counts = read(text, "rpz")
    assert [f"*.{name}" if flags == BELOW else name for name, flags in found] == names
    assert counts.bad == 0


def test_owners_outside_the_zone_are_not_understood() -> None:
    text = b"$ORIGIN a.\n@ " + SOA + b"b.c CNAME .\nb.d CNAME b.d.\nb.e. CNAME .\n$ORIGIN xa.\nb.f CNAME .\n"
    _, found, counts = read(text + b"b.g.a. CNAME .\n", "rpz")
    assert found == [("b.c", EXACT), ("b.d", EXEMPT_EXACT), ("b.g", EXACT)]
    assert (counts.bad, counts.first_bad) == (2, "line 6 is “b.e. CNAME .”")


@pytest.mark.parametrize("text", [HOSTS, DOMAINS, ADBLOCK, RPZ])
@given(st.integers(1, 40))
def test_pieces_do_not_matter(text: bytes, size: int) -> None:
    assert read(text, size=size) == read(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<!DOCTYPE html>\n<html>\n", "is a web page"),
        (b"# nothing but comments\n", "has no name in it"),
        (b"", "has no name in it"),
        (b"ads.example\n\x00\x01\n\xff\xfe\n???\n", "is mostly lines that are not understood; line 2 is “"),
        (b"#\n" * 2_000 + b"ads.example\n", "does not show its format in 1000 lines"),
    ],
)
def test_what_is_no_list_is_refused_in_words(text: bytes, words: str) -> None:
    with pytest.raises(ListError) as error:
        read(text)
    assert words in str(error.value)


@pytest.mark.parametrize("form", ["auto", "hosts", "domains", "adblock", "rpz"])
@pytest.mark.parametrize("size", [0, 1])
def test_a_web_page_is_refused_whatever_the_format(form: str, size: int) -> None:
    with pytest.raises(ListError, match="is a web page"):
        read(b"\n \r\n<html>\n<body>\nthis domain is for sale\nexample.com\n</html>\n", form, size)
    with pytest.raises(ListError, match="is a web page"):
        read(b"<html>" + b" " * 5_000 + b"\nexample.com\n", form, size)


def test_a_file_may_be_empty() -> None:
    assert read(b"# for later\n", empty=True)[1] == []


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ListError, match="is larger than 1 MiB"):
        read(b"ads.example\n" * 100_000)
    monkeypatch.setattr(lists, "MAX_LINES", 1_000)
    with pytest.raises(ListError, match="has more than 1,000 lines"):
        read(b"\n" * 2_000)


@pytest.mark.parametrize("size", [0, 1, 1_000])
def test_a_line_without_end_costs_one_line(size: int) -> None:
    text = b"ads.example\n" + b"x" * 300_000 + b".example\nb.example\nc.example\n"
    _, found, counts = read(text, "domains", size)
    assert [name for name, _ in found] == ["ads.example", "b.example", "c.example"]
    assert counts.bad == 1


def test_control_signs_do_not_reach_the_words() -> None:
    _, _, counts = read(b"ads.example\n\x1b[31m<script>\xff\n", "domains")
    assert counts.first_bad == "line 2 is “?[31m<script>\N{REPLACEMENT CHARACTER}”"


@pytest.mark.parametrize(
    "name", [b"127.0.0.1", b"a.0x7f.1", b"", b".", b"a..b", b"a b", b"a" * 64, b"a." * 127 + b"ab"]
)
def test_what_is_no_name(name: bytes) -> None:
    assert ascii_name(name) is None


@given(
    st.binary(max_size=200),
    st.sampled_from(["auto", "hosts", "domains", "adblock", "rpz"]),
    st.integers(1, 50),
)
def test_noise_never_raises_anything_else(noise: bytes, form: str, size: int) -> None:
    try:
        whole = read(noise, form)
    except ListError as error:
        with pytest.raises(ListError) as again:
            read(noise, form, size)
        assert str(again.value) == str(error)
        return
    assert read(noise, form, size) == whole
    for name, flags in whole[1]:
        assert ascii_name(name.encode()) == name.encode()
        assert 0 < flags < 16


_LABELS = st.text("abcz059-_", min_size=1, max_size=12)


@given(st.lists(_LABELS, min_size=2, max_size=5).map(".".join))
def test_each_format_reads_what_it_writes(name: str) -> None:
    if ascii_name(name.encode()) is None:
        return
    assert read(f"0.0.0.0 {name}\n".encode(), "hosts")[1] == [(name, EXACT)]
    assert read(f"{name}\n".encode(), "domains")[1] == [(name, WHOLE)]
    assert read(f"||{name}^\n".encode(), "adblock")[1] == [(name, WHOLE)]
    assert read(f"*.{name} CNAME .\n".encode(), "rpz")[1] == [(name, BELOW)]
