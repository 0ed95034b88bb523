"""ClientHellos in QUIC: RFC 9001's own packet, any order, several datagrams, and nothing ever raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol import quic_initial
from appliance.protocol.client_hello import ClientHello, Sniff
from appliance.protocol.quic_initial import MAX_CRYPTO, MAX_DATAGRAMS, MAX_PIECES, Keys, QuicInitial
from tests.unit.protocol.quic import V1, V2, client_keys, crypto, initial, varint
from tests.unit.protocol.test_sniff import client_hello, with_extension

ID = bytes.fromhex("8394c8f03e515708")
# RFC 9001 section A.2: the frame, and the beginning and the end of the packet that is made of it.
FRAME = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000"
    "c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500"
    "050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003"
    "020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff050480"
    "00ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"
)
BEGINNING = bytes.fromhex("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b")
END = bytes.fromhex("e221af44860018ab0856972e194cd934")
RFC_PACKET = initial(FRAME.ljust(1162, b"\0"), number=2)

HELLO = client_hello("WWW.Example.org")[5:]
FOUND = ClientHello("www.example.org", False)


def read(*datagrams: bytes) -> ClientHello | Sniff:
    flow = QuicInitial()
    for datagram in datagrams:
        flow.feed(datagram)
    return flow.result


def test_the_vectors_of_the_rfcs() -> None:
    keys = Keys(V1, ID)
    assert keys.key.hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert keys.iv.hex() == "fa044b2f42a3fd3b46fb255c"
    assert keys.hp.hex() == "9f50449e04a0e810283a1e9933adedd2"
    second = Keys(V2, ID)  # RFC 9369 section A.1
    assert second.key.hex() == "8b1a0bc121284290a29e0971b5cd045d"
    assert second.iv.hex() == "91f73e2351d8fa91660e909f"
    assert second.hp.hex() == "45b95e15235d6f45a6b19cbcb0294ba9"
    assert (second.key, second.iv, second.hp) == client_keys(V2, ID)
    assert len(RFC_PACKET) == 1_200
    assert RFC_PACKET.startswith(BEGINNING) and RFC_PACKET.endswith(END)
    assert read(RFC_PACKET) == ClientHello("example.com", False)


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_hello(version: int, size: int) -> None:
    assert read(initial(crypto(0, HELLO), 7, version, size=size)) == FOUND


@given(st.lists(st.integers(1, 600), max_size=12), st.randoms(use_true_random=False), st.integers(1, 4))
def test_pieces_in_any_order_over_several_datagrams(cuts: list[int], order: object, most: int) -> None:
    frames, at = [], 0
    for cut in [*cuts, len(HELLO)]:
        if at < len(HELLO):
            frames.append(crypto(at, HELLO[at : at + cut]))
            at += cut
    order.shuffle(frames)  # type: ignore[attr-defined]
    flow = QuicInitial()
    for number, start in enumerate(range(0, len(frames), most)):
        assert flow.result is Sniff.MORE
        flow.feed(initial(b"\x01\0\0".join(frames[start : start + most]), number))
    assert flow.result == FOUND


def test_acknowledgements_tokens_and_packets_behind() -> None:
    frames = b"\x02" + varint(3) + varint(100) + varint(1) + varint(0) + varint(0) + varint(1)
    frames += b"\x03" + varint(3) + varint(1) + varint(0) + varint(0) + varint(1) * 3
    packet = initial(frames + crypto(0, HELLO), token=b"token" * 20)
    zero_rtt = b"\xd0" + V1.to_bytes(4, "big") + b"\x08" + ID + b"\0" + varint(30) + bytes(30)
    for datagram in (packet + zero_rtt, zero_rtt + packet, packet + b"\x40" + bytes(20), packet + bytes(20)):
        assert read(datagram) == FOUND


def test_the_servers_connection_id_changes_no_keys_and_a_retry_does() -> None:
    first = initial(crypto(0, HELLO[:100]))
    then = initial(crypto(100, HELLO[100:]), 1, connection_id=b"servers1", keys_of=ID)
    assert read(first, then) == FOUND
    again = initial(crypto(0, HELLO), 1, connection_id=b"retrying", token=b"x")
    assert read(first, again) == FOUND


def test_ech_is_told() -> None:
    body = with_extension(client_hello("www.example.org"), b"\xfe\x0d\0\x01\0")[5:]
    assert read(initial(crypto(0, body))) == ClientHello("www.example.org", True)


@pytest.mark.parametrize(
    ("datagram", "says"),
    [
        (b"", Sniff.BAD),
        (b"hello", Sniff.NONE),  # as a short header
        (b"\x80" + bytes(30), Sniff.BAD),  # version negotiation
        (b"\x16\xfe\xfd" + bytes(50), Sniff.BAD),  # DTLS
        (b"\xc0\0\0\0\2\x08" + ID + b"\0" + bytes(1_000), Sniff.NONE),  # another version
        (b"\xf0\0\0\0\1\x08" + ID + b"\0" + bytes(1_000), Sniff.BAD),  # Retry
        (b"\xc0\0\0\0\1\x15" + bytes(1_000), Sniff.BAD),  # an id too long
        (RFC_PACKET[:-1], Sniff.BAD),
        (RFC_PACKET[:-1] + b"x", Sniff.BAD),
        (initial(b"\x06\0\x40\x50"), Sniff.BAD),
        (initial(crypto(0, HELLO) + b"\x1e"), Sniff.BAD),  # HANDSHAKE_DONE
        (initial(crypto(0, b"\x02" + HELLO[1:])), Sniff.BAD),
        (initial(crypto(MAX_CRYPTO, b"x")), Sniff.BAD),
        (initial(crypto(0, HELLO[:50]) + crypto(40, b"x" * 10)), Sniff.BAD),  # says it in two ways
        (initial(b"".join(crypto(2 * at, b"x") for at in range(1, MAX_PIECES + 2))), Sniff.BAD),
        (initial(crypto(0, client_hello(None)[5:])), ClientHello("", False)),
        (initial(b"\x1c\0\0\0"), Sniff.MORE),
    ],
    ids=lambda value: value.name if isinstance(value, Sniff) else "",
)
def test_other_datagrams(datagram: bytes, says: ClientHello | Sniff) -> None:
    assert read(datagram) == says


def test_it_does_not_wait_for_ever() -> None:
    datagrams = [initial(crypto(1, b"x"), number) for number in range(MAX_DATAGRAMS)]
    assert read(*datagrams[:-1]) is Sniff.MORE
    assert read(*datagrams) is Sniff.NONE


def test_keys_are_tried_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    keys = quic_initial.Keys

    def counted(version: int, connection_id: bytes) -> Keys:
        made.append(connection_id)
        return keys(version, connection_id)

    monkeypatch.setattr(quic_initial, "Keys", counted)
    flow = QuicInitial()
    for number in range(10):
        flow.feed(initial(b"\x01", number, connection_id=b"%08d" % number))
    assert len(made) == quic_initial.MAX_KEYS


@given(st.binary(max_size=300), st.sampled_from([V1, V2]))
def test_any_frames(frames: bytes, version: int) -> None:
    assert isinstance(read(initial(frames, version=version)), ClientHello | Sniff)


@given(st.integers(0, len(RFC_PACKET)), st.binary(max_size=30), st.binary(max_size=60))
def test_any_datagram(cut: int, middle: bytes, noise: bytes) -> None:
    for datagram in (noise, RFC_PACKET[:cut] + middle + RFC_PACKET[cut + len(middle) :], RFC_PACKET + noise):
        assert isinstance(read(datagram, noise, RFC_PACKET), ClientHello | Sniff)
