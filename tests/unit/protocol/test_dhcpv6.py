"""DHCPv6 questions: what is answered, with what; and that nothing a stranger sends does more."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol.dhcpv6 import (
    CLIENT_ID,
    DNS_SERVERS,
    DOMAIN_LIST,
    IA_NA,
    IA_PD,
    IA_TA,
    MAX_MESSAGE,
    MAX_OPTIONS,
    NTP_SERVER,
    OPTION_REQUEST,
    REFRESH_TIME,
    SERVER_ID,
    SNTP_SERVERS,
    Answers,
    duid,
    question,
    reply,
)

SERVER = duid(bytes.fromhex("020000000001"))
CLIENT = duid(bytes.fromhex("020000000002"))
DNS, NTP = IPv6Address("fd00:1::1"), IPv6Address("fd00:1::123")
ANSWERS = Answers((DNS,), ("corp.example", "example"), (NTP,))


def option(code: int, content: bytes = b"") -> bytes:
    return struct.pack("!HH", code, len(content)) + content


def wanted(*codes: int) -> bytes:
    return option(OPTION_REQUEST, struct.pack(f"!{len(codes)}H", *codes))


def asks(*options: bytes, kind: int = 11) -> bytes:
    return bytes((kind,)) + b"abc" + b"".join(options)


def answered(message: bytes, answers: Answers = ANSWERS) -> dict[int, bytes]:
    """The options of the reply."""
    asked = question(message, SERVER)
    assert asked is not None
    out = reply(asked, SERVER, answers)
    assert out[:4] == b"\x07abc"
    found, rest = {}, out[4:]
    while rest:
        code, length = struct.unpack_from("!HH", rest)
        found[code], rest = rest[4 : 4 + length], rest[4 + length :]
    return found


def test_what_is_asked_for_is_told() -> None:
    found = answered(
        asks(option(CLIENT_ID, CLIENT), wanted(DNS_SERVERS, DOMAIN_LIST, SNTP_SERVERS, NTP_SERVER))
    )
    assert found[SERVER_ID] == SERVER and found[CLIENT_ID] == CLIENT
    assert found[DNS_SERVERS] == DNS.packed
    assert found[DOMAIN_LIST] == b"\x04corp\x07example\0\x07example\0"
    assert found[SNTP_SERVERS] == NTP.packed
    assert found[NTP_SERVER] == b"\0\x01\0\x10" + NTP.packed
    assert struct.unpack("!I", found[REFRESH_TIME])[0] >= 600


def test_what_is_not_asked_for_is_not_told() -> None:
    assert set(answered(asks(wanted(DNS_SERVERS)))) == {SERVER_ID, DNS_SERVERS, REFRESH_TIME}
    assert set(answered(asks())) >= {DNS_SERVERS, DOMAIN_LIST, SNTP_SERVERS, NTP_SERVER}
    assert set(answered(asks(), Answers())) == {SERVER_ID, REFRESH_TIME}


@pytest.mark.parametrize(
    "message",
    [
        *(asks(kind=kind) for kind in range(256) if kind != 11),  # others, relayed ones included
        *(asks(option(code, bytes(12))) for code in (IA_NA, IA_TA, IA_PD)),
        asks(option(SERVER_ID, CLIENT)),
        asks(option(CLIENT_ID, b"\0\x01")),
        asks(option(CLIENT_ID, bytes(131))),
        asks(option(CLIENT_ID, CLIENT), option(CLIENT_ID, CLIENT)),
        asks(option(OPTION_REQUEST, b"\0")),
        asks(option(8, b"\0\0"))[:-1],
        asks(b"\0"),
        asks(*(option(99) for _ in range(MAX_OPTIONS + 1))),
        asks(option(99, bytes(MAX_MESSAGE))),
        b"",
        b"\x0bab",
    ],
)
def test_what_is_not_answered(message: bytes) -> None:
    assert question(message, SERVER) is None


def test_a_question_for_this_server_is_its_own() -> None:
    assert SERVER_ID in answered(asks(option(SERVER_ID, SERVER)))


@given(st.binary(max_size=MAX_MESSAGE + 10))
def test_nothing_else_comes_of_any_octets(data: bytes) -> None:
    """An answer is bounded by what is configured and by who asks, whatever the question is."""
    for message in (data, b"\x0b" + data):
        asked = question(message, SERVER)
        if asked is not None:
            assert len(reply(asked, SERVER, ANSWERS)) <= 4 + 8 + len(SERVER) + len(asked.client) + 120


@given(
    st.lists(
        st.tuples(st.integers(40, 80).filter(lambda code: code != NTP_SERVER), st.binary(max_size=40)),
        max_size=20,
    )
)
def test_options_that_say_nothing_change_nothing(others: list[tuple[int, bytes]]) -> None:
    plain = asks(option(CLIENT_ID, CLIENT), wanted(DNS_SERVERS))
    assert answered(plain + b"".join(option(*one) for one in others)) == answered(plain)
