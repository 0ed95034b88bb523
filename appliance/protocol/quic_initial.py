"""The ClientHello in a QUIC client's first datagrams (RFC 9000, RFC 9001; version 2: RFC 9369). Sans-IO.

*Initial*: the packets in which a handshake begins. They are encrypted, by keys that anybody can derive from
the connection id in the first of them. *CRYPTO*: their frames that carry the handshake, in pieces and in any
order, over several datagrams where the ClientHello is long.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from appliance.protocol.client_hello import MAX_HELLO, MESSAGE_HEAD, ClientHello, Sniff, from_message

# Datagrams that are looked at. A hello with keys of post-quantum size needs two, lost ones are sent again.
# Fewer could be got by with by noise in front; each costs some 50 µs.
MAX_DATAGRAMS = 16
# Keys that are tried for a client: the second is that after a Retry (RFC 9001 section 5.2).
MAX_KEYS = 3
MAX_PACKETS = 8  # of one datagram
# Pieces of the handshake that do not touch each other. Chrome makes some ten, to keep others from this.
MAX_PIECES = 64
MAX_CRYPTO = MESSAGE_HEAD + MAX_HELLO

_MAX_CONNECTION_ID = 20
_SAMPLE = 16
_TAG = 16


@dataclass(frozen=True, slots=True)
class _Version:
    salt: bytes
    label: bytes  # in front of the labels of the keys
    initial: int  # the packet type in bits 4 and 5 of the first octet
    retry: int


_VERSIONS = {
    1: _Version(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), b"quic ", 0, 3),
    0x6B3343CF: _Version(bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), b"quicv2 ", 1, 0),
}


class _BadPacketError(Exception):
    pass


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 section 7.1) without context, for at most 32 octets."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return hmac.digest(secret, info + b"\1", "sha256")[:size]


class Keys:
    """What the client's Initials are protected with (RFC 9001 section 5.2)."""

    __slots__ = ("connection_id", "hp", "iv", "key", "largest")

    def __init__(self, version: int, connection_id: bytes) -> None:
        parameters = _VERSIONS[version]
        secret = _expand(hmac.digest(parameters.salt, connection_id, "sha256"), b"client in", 32)
        self.connection_id = connection_id
        self.key = _expand(secret, parameters.label + b"key", 16)
        self.iv = _expand(secret, parameters.label + b"iv", 12)
        self.hp = _expand(secret, parameters.label + b"hp", 16)
        self.largest = -1  # packet number so far

    def open(self, packet: bytes, number_at: int) -> bytes | None:
        """The frames of a packet whose number begins at ``number_at``; None where these are not its keys."""
        sample = packet[number_at + 4 : number_at + 4 + _SAMPLE]
        if len(sample) < _SAMPLE:
            return None
        mask = Cipher(AES(self.hp), ECB()).encryptor().update(sample)  # noqa: S305  (one block: RFC 9001)
        first = packet[0] ^ mask[0] & 0x0F
        size = (first & 3) + 1
        short = bytes(a ^ b for a, b in zip(packet[number_at : number_at + size], mask[1:], strict=False))
        number = _whole_number(int.from_bytes(short, "big"), size, self.largest)
        header = bytes([first]) + packet[1:number_at] + short
        nonce = (int.from_bytes(self.iv, "big") ^ number).to_bytes(12, "big")
        try:
            frames = AESGCM(self.key).decrypt(nonce, packet[number_at + size :], header)
        except InvalidTag:
            return None
        self.largest = max(self.largest, number)
        return frames


def _whole_number(short: int, size: int, largest: int) -> int:
    """A packet number of which the last ``size`` octets were sent (RFC 9000 section A.3)."""
    window = 1 << 8 * size
    expected = largest + 1
    number = expected & -window | short
    if number <= expected - window // 2 and number < (1 << 62) - window:
        return number + window
    if number > expected + window // 2 and number >= window:
        return number - window
    return number


class QuicInitial:
    """One client's first datagrams. ``feed`` them in their order until it says something else than MORE."""

    __slots__ = ("_datagrams", "_keys", "_pieces", "_stream", "result")

    def __init__(self) -> None:
        self._datagrams = 0
        self._keys: list[Keys] = []
        self._stream = bytearray()
        self._pieces: list[tuple[int, int]] = []  # what of the stream is there: from, to; in order
        self.result: ClientHello | Sniff = Sniff.MORE

    def feed(self, datagram: bytes) -> ClientHello | Sniff:
        """Take one datagram; what is known now.

        BAD: it does not begin as QUIC does, or breaks its rules. NONE: it is QUIC, but of a version that is
        not known here, or of a connection that has begun before, or its hello does not come.
        """
        if self.result is Sniff.MORE:
            try:
                self.result = self._take(datagram)
            except _BadPacketError:
                self.result = Sniff.BAD
        return self.result

    def _take(self, datagram: bytes) -> ClientHello | Sniff:
        self._datagrams += 1
        opened = False
        at = 0
        for _ in range(MAX_PACKETS):
            if at >= len(datagram) or not datagram[at] & 0x80:
                break  # no more, or a packet with a short header, which goes to the end
            found = _long_header(datagram, at)
            if found is None:
                return Sniff.NONE if self._datagrams == 1 else Sniff.MORE
            version, connection_id, number_at, end = found
            if number_at:
                opened = self._open(version, connection_id, datagram[at:end], number_at - at) or opened
            at = end
        if not opened and not self._keys:
            # Noise; or the middle of a connection, whose packets have short headers.
            return Sniff.NONE if datagram[:1] and datagram[0] & 0xC0 == 0x40 else Sniff.BAD
        hello = from_message(self._head())
        if hello is Sniff.MORE and self._datagrams >= MAX_DATAGRAMS:
            return Sniff.NONE
        return hello

    def _open(self, version: int, connection_id: bytes, packet: bytes, number_at: int) -> bool:
        """Take an Initial's frames; False where it could not be opened."""
        for keys in self._keys:
            frames = keys.open(packet, number_at)
            if frames is not None:
                self._read(frames)
                return True
        if len(self._keys) >= MAX_KEYS or any(keys.connection_id == connection_id for keys in self._keys):
            return False
        keys = Keys(version, connection_id)
        frames = keys.open(packet, number_at)
        if frames is None:
            return False
        self._keys.append(keys)
        self._read(frames)
        return True

    def _read(self, frames: bytes) -> None:
        """The frames that an Initial may have (RFC 9000 section 12.4)."""
        at, end = 0, len(frames)
        while at < end:
            kind = frames[at]
            at += 1
            if kind == 0x00:  # PADDING, mostly a thousand of them
                at = end - len(frames[at:].lstrip(b"\0"))
            elif kind == 0x06:
                offset, at = _varint(frames, at)
                size, at = _varint(frames, at)
                if at + size > end:
                    raise _BadPacketError
                self._add(offset, frames[at : at + size])
                at += size
            elif kind in (0x02, 0x03):
                at = _skip_ack(frames, at, kind == 0x03)
            elif kind == 0x1C:
                return  # the client gives up; only its reason follows
            elif kind != 0x01:  # PING
                raise _BadPacketError

    def _add(self, offset: int, data: bytes) -> None:
        """Put a piece of the handshake where it belongs. One that says otherwise than before is an attack."""
        start, end = offset, offset + len(data)
        if end > MAX_CRYPTO:
            raise _BadPacketError
        if start == end:
            return
        stream, pieces = self._stream, []
        if len(stream) < end:
            stream.extend(bytes(end - len(stream)))
        for low, high in self._pieces:
            if high < start or low > end:
                pieces.append((low, high))
                continue
            both_low, both_high = max(low, offset), min(high, offset + len(data))
            if (
                both_low < both_high
                and stream[both_low:both_high] != data[both_low - offset : both_high - offset]
            ):
                raise _BadPacketError
            start, end = min(low, start), max(high, end)
        stream[offset : offset + len(data)] = data
        pieces.append((start, end))
        if len(pieces) > MAX_PIECES:
            raise _BadPacketError
        self._pieces = sorted(pieces)

    def _head(self) -> bytes:
        """The handshake from its beginning to its first gap."""
        if not self._pieces or self._pieces[0][0]:
            return b""
        return bytes(self._stream[: self._pieces[0][1]])


def _long_header(data: bytes, at: int) -> tuple[int, bytes, int, int] | None:
    """Version, the connection id of the destination, where the packet number stands, the packet's end.

    The number's place is 0 where the packet is no Initial. None: not to be told with what is known here, as
    of another version (RFC 8999 says what all have in common).
    """
    version = int.from_bytes(data[at + 1 : at + 5], "big")
    place = at + 5
    ids = []
    for _ in range(2):
        if place >= len(data) or place + 1 + data[place] > len(data):
            raise _BadPacketError
        ids.append(data[place + 1 : place + 1 + data[place]])
        place += 1 + data[place]
    known = _VERSIONS.get(version)
    if known is None:
        if version == 0:
            raise _BadPacketError  # version negotiation is for servers
        return None
    if max(map(len, ids)) > _MAX_CONNECTION_ID or not data[at] & 0x40:
        raise _BadPacketError
    kind = data[at] >> 4 & 3
    if kind == known.retry:
        raise _BadPacketError  # a server's
    if kind == known.initial:
        token, place = _varint(data, place)
        place += token
    size, place = _varint(data, place)
    if place + size > len(data):
        raise _BadPacketError
    return version, ids[0], place if kind == known.initial else 0, place + size


def _skip_ack(frames: bytes, at: int, has_ecn: bool) -> int:
    for _ in range(2):  # the largest, the delay
        _, at = _varint(frames, at)
    count, at = _varint(frames, at)
    for _ in range(1 + 2 * count + (3 if has_ecn else 0)):
        _, at = _varint(frames, at)  # ends with the frames, whatever the count says
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1, 2, 4 or 8 octets (RFC 9000 section 16), and what follows it."""
    if at >= len(data):
        raise _BadPacketError
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise _BadPacketError
    return int.from_bytes(data[at : at + size], "big") & (1 << 8 * size - 2) - 1, at + size
