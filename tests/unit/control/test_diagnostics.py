"""Tests from the box: what a target may be, how an answer is told, that one runs at a time."""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv6Address, ip_address
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.addressing import TranslationPrefix
from appliance.control.diagnostics import DiagnosticError, Diagnostics, answer_of, question, target, words_of
from appliance.protocol import dns

PREFIX = TranslationPrefix.parse("64:ff9b::/96")


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" [2001:db8::1] ", "2001:db8::1"),
        ("WWW.Example.org.", "www.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_dmarc.example.org", "_dmarc.example.org"),
    ],
)
def test_a_target_is_an_address_or_a_name(typed: str, taken: str) -> None:
    assert target(typed) == taken


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "",
            "-f",
            "-f.example",
            "a b",
            "a;reboot",
            "$(reboot)",
            "fe80::1%eth0",
            "a..b",
            "x" * 64,
            "127.1",
            "1",
        ),
        *("a\n-f", "a\0b", "0x7f000001.1", "a." * 130 + "b", "@127.0.0.1", "a/b", "ä" * 300),
    ],
)
def test_what_is_neither_is_refused(typed: str) -> None:
    with pytest.raises(DiagnosticError):
        target(typed)


@given(st.text())
def test_a_target_never_is_an_option_nor_has_white_space(text: str) -> None:
    try:
        found = target(text)
    except DiagnosticError:
        return
    assert not found.startswith("-")
    assert found.isascii()
    assert len(found.split()) == 1
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.:")


def _answer(asked: bytes, *records: tuple[int, bytes], code: int = 0) -> bytes:
    packet = dns.header(dns.QR | dns.RD | dns.RA | code, len(records), 0) + asked
    for rtype, data in records:
        packet += b"\xc0\x0c" + pack("!HHIH", rtype, dns.IN, 60, len(data)) + data
    return packet


def test_an_answer_says_what_an_address_is_made_of() -> None:
    asked = question("www.example.org", "AAAA")
    made = PREFIX.embed_packed(bytes((192, 0, 2, 1)))
    own = IPv6Address("2001:db8::1").packed
    found = answer_of(_answer(asked, (dns.AAAA, made), (dns.AAAA, own)), asked, [PREFIX])
    assert (found["code"], found["truncated"]) == ("NOERROR", False)
    assert [(one["data"], one["made_of"], one["ttl"]) for one in found["records"]] == [
        ("64:ff9b::c000:201", "192.0.2.1", 60),
        ("2001:db8::1", None, 60),
    ]
    assert found["records"][0]["name"] == "www.example.org"
    found = answer_of(_answer(asked, code=dns.Rcode.NXDOMAIN), asked, [PREFIX])
    assert (found["code"], found["records"]) == ("NXDOMAIN", [])


def test_of_an_address_its_name_is_asked_for() -> None:
    assert question("192.0.2.1", "A") == dns.wire_name("1.2.0.192.in-addr.arpa") + pack(
        "!HH", dns.PTR, dns.IN
    )
    with pytest.raises(DiagnosticError, match="no type"):
        question("www.example.org", "ANY")


@pytest.mark.parametrize(
    ("rtype", "data", "words"),
    [
        (dns.A, bytes((192, 0, 2, 1)), "192.0.2.1"),
        (dns.MX, b"\0\x0a\4mail\7example\0", "10 mail.example"),
        (dns.CNAME, b"\1<\1\"\0", "<.\\034"),
        (dns.NS, b"\0", "."),
        (16, b"\3a b\2\"\n", '"a b" "\\034\\010"'),
        (dns.A, b"\1", "1 octets: 01"),
    ],
)  # fmt: skip
def test_data_in_words(rtype: int, data: bytes, words: str) -> None:
    assert words_of(rtype, data) == words


@given(st.integers(0, 65_535), st.binary(max_size=300))
def test_any_data_has_words_that_are_plain_text(rtype: int, data: bytes) -> None:
    assert words_of(rtype, data).isprintable()


@pytest.fixture
def server() -> socket.socket:
    """A port of loopback where a DNS64 could be."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("::1", 0))
    sock.settimeout(20)
    return sock


def test_a_look_up_takes_only_the_answer_to_its_question(server: socket.socket) -> None:
    def serve() -> None:
        query, client = server.recvfrom(512)
        asked = question("www.example.org", "A")
        assert query[12:].startswith(asked)
        wrong = _answer(question("other.example", "A"), (dns.A, b"\1\1\1\1"))
        for number, answer in (
            (b"\0\0" if query[:2] != b"\0\0" else b"\1\1", _answer(asked, (dns.A, b"\2\2\2\2"))),
            (query[:2], wrong),
            (query[:2], _answer(asked, (dns.A, bytes((192, 0, 2, 1))))),
        ):
            server.sendto(number + answer[2:], client)

    with server:
        thread = threading.Thread(target=serve)
        thread.start()
        box = Diagnostics(lambda: "::1", lambda: [PREFIX], server.getsockname()[1])
        found = box.look_up("www.example.org", "A")
        thread.join()
    assert [one["data"] for one in found["records"]] == ["192.0.2.1"]
    assert found["server"] == "::1"


def test_one_at_a_time(server: socket.socket) -> None:
    """The second is refused while the first waits for its answer; the first ends well."""
    box = Diagnostics(lambda: "::1", list, server.getsockname()[1])
    found: list[dict[str, object]] = []
    with server:
        thread = threading.Thread(target=lambda: found.append(box.look_up("example.org", "A")))
        thread.start()
        query, client = server.recvfrom(512)
        with pytest.raises(DiagnosticError, match="Another test"):
            box.ping("::1")
        server.sendto(query[:2] + _answer(question("example.org", "A"))[2:], client)
        thread.join()
    assert found[0]["code"] == "NOERROR"


def test_without_an_address_on_the_lan_nothing_is_asked() -> None:
    with pytest.raises(DiagnosticError, match="no address yet"):
        Diagnostics(lambda: None, list).look_up("example.org", "A")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ping_of_loopback(address: str) -> None:
    found = Diagnostics(lambda: None, list).ping(address)
    assert found["ok"], found["output"]
    assert str(ip_address(address)) in found["output"]
