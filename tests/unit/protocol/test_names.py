"""Hosts in requests: one form for each, and none that a resolver might take for an address nobody checked."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol.names import host_name, ipv6_literal


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("WWW.Example.org", "www.example.org"),
        ("a.example.", "a.example"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("face", "face"),
        ("a1.b2", "a1.b2"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("", None),
        (".", None),
        (".a", None),
        ("a..b", None),
        ("a b", None),
        ("a/b", None),
        ("a%2e", None),
        ("bücher.example", None),
        ("a" * 64 + ".b", None),
        ("a." * 127 + "bc", None),
        ("127.1", None),
        ("192.0.2.1.", None),
        ("192.0.2.256", None),
        ("192.0.02.1", None),
        ("0x7f.0.0.1", None),
        ("a.0X1", None),
        ("a.0x", None),
        ("2130706433", None),
        ("a.example.7", None),
    ],
)
def test_host_name(text: str, host: str | None) -> None:
    assert host_name(text) == host


def test_ipv6_literal() -> None:
    assert ipv6_literal("2001:DB8:0:0::1") == "2001:db8::1"
    assert ipv6_literal("::ffff:192.0.2.1") == str(ip_address("::ffff:192.0.2.1"))
    for text in ("fe80::1%eth0", "1.2.3.4", "", "::g", "[::1]"):
        assert ipv6_literal(text) is None


@given(st.text(max_size=80) | st.from_regex(r"[0-9xXa-f.]{1,20}", fullmatch=True))
def test_what_is_accepted_is_canonical(text: str) -> None:
    host = host_name(text)
    if host is not None:
        assert host_name(host) == host == host.lower()
        label = host.rpartition(".")[2]
        if label.isdigit() or label.startswith("0x"):
            try:
                assert str(IPv4Address(host)) == host
            except ValueError:
                assert set(label[2:]) - set("0123456789abcdef")
