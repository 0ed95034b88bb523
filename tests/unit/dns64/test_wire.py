"""protocol.dns: the parser on good and hostile octets, the stream splitter at every byte."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol import dns as wire


def query(name: str = "v4.example.", rtype: str = "AAAA", edns: int = 0) -> bytes:
    if edns:
        return dns.message.make_query(name, rtype, use_edns=0, payload=edns, id=1).to_wire()
    return dns.message.make_query(name, rtype, id=1).to_wire()


def answer() -> bytes:
    message = dns.message.make_response(dns.message.make_query("a.example.", "A", use_edns=0, id=1))
    message.answer.append(dns.rrset.from_text("a.example.", 60, "IN", "CNAME", "b.example."))
    message.answer.append(dns.rrset.from_text("b.example.", 50, "IN", "A", "192.31.196.80"))
    message.authority.append(
        dns.rrset.from_text("example.", 40, "IN", "SOA", "ns.example. root.example. 1 2 3 4 30")
    )
    return message.to_wire()


@given(st.binary(max_size=300))
def test_any_octets_parse_or_are_refused(octets: bytes) -> None:
    try:
        message = wire.parse(octets)
        for record in message.records:
            wire.expand(message, record)
    except wire.DnsError:
        pass


@given(st.data())
def test_a_damaged_message_parses_or_is_refused(data: st.DataObject) -> None:
    packet = bytearray(answer())
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = wire.parse(bytes(packet))
        writer = wire.Writer(message, wire.QR)
        for record in message.records:
            writer.copy(message, record)
        writer.finish()
    except wire.DnsError:
        pass


def test_every_truncation_is_refused() -> None:
    packet = answer()
    wire.parse(packet)
    for end in range(len(packet)):
        with pytest.raises(wire.DnsError):
            wire.parse(packet[:end])


def test_copied_records_mean_the_same() -> None:
    message = wire.parse(answer())
    writer = wire.Writer(message, message.flags)
    for record in message.records:
        writer.copy(message, record)
    copy = dns.message.from_wire(writer.finish())
    original = dns.message.from_wire(answer())
    assert copy.answer == original.answer
    assert copy.authority == original.authority
    assert message.soa_ttl() == 30


def test_pointer_loops_are_refused() -> None:
    header = bytes.fromhex("000101000001000000000000")
    for name in (b"\xc0\x0c", b"\x01a\xc0\x0c", b"\xc0\x0d"):
        with pytest.raises(wire.DnsError):
            wire.parse(header + name + b"\0\x01\0\x01")


def test_stream_gives_the_same_messages_wherever_it_is_split() -> None:
    messages = [query(), b"", query("other.example.")]
    stream = b"".join(len(m).to_bytes(2, "big") + m for m in messages)
    for cut in range(len(stream) + 1):
        buffer = bytearray(stream[:cut])
        found = wire.take_stream(buffer)
        buffer += stream[cut:]
        found += wire.take_stream(buffer)
        assert found == messages
        assert not buffer


def test_udp_size_is_kept_between_512_and_ours() -> None:
    assert wire.parse(query()).udp_size == 512
    assert wire.parse(query(edns=100)).udp_size == 512
    assert wire.parse(query(edns=900)).udp_size == 900
    assert wire.parse(query(edns=4096)).udp_size == wire.EDNS_SIZE


def test_canonical_query_drops_options_but_keeps_size_and_do() -> None:
    cookie = b"\0\x0a\0\x08" + b"12345678"
    asked = query(edns=1400)[:-2] + len(cookie).to_bytes(2, "big") + cookie
    upstream = dns.message.from_wire(wire.canonical_query(wire.parse(asked)))
    assert not upstream.options
    assert upstream.payload == 1400


def test_an_answer_is_never_answered() -> None:
    packet = bytearray(query())
    packet[2] |= 0x80
    assert wire.header_answer(bytes(packet), 1) is None
    assert wire.header_answer(b"\0\1", 1) is None
    assert wire.header_answer(b"\x12\x34\1\0", 1) == bytes.fromhex("123481010000000000000000")


def test_answers_question_ignores_case_of_the_name_only() -> None:
    packet = answer()
    question = packet[12 : wire.parse(packet).question_end]
    assert wire.answers_question(packet, b"\x01A\x07EXAMPLE\0\0\1\0\1")
    assert not wire.answers_question(packet, question[:-4] + b"\0\x1c\0\1")
    assert not wire.answers_question(query("a.example.", "A"), question)
