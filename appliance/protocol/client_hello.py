"""What a ClientHello (RFC 8446 section 4.1.2) says of where its client wants to go.

Nothing is decrypted and nothing is changed; what was read goes on to the server as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

# RFC 8446 section 4: a handshake message's length has 24 bits, but a ClientHello over this is an attack.
MAX_HELLO = 16_384
MAX_RECORD = 16_384
# Octets in front of a handshake message: its type and its length.
MESSAGE_HEAD = 4

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_ENCRYPTED_CLIENT_HELLO = 0xFE0D


class Sniff(Enum):
    """What is to be said without a name."""

    MORE = "more"  # the bytes so far are a beginning
    NONE = "none"  # there is no name in it
    BAD = "bad"  # this is no such protocol, or malformed


@dataclass(frozen=True, slots=True)
class ClientHello:
    """``name``: the SNI's host in small letters, "" where there is none.

    ``has_ech``: the extension encrypted_client_hello is there. So it is in the hellos of browsers that have
    nothing to hide, too (they fill it with noise, so that nobody can tell): it says that ``name`` *may* be a
    front's, no more. To keep ECH out, the keys have to be kept from the clients, by the DNS.
    """

    name: str
    has_ech: bool


class _BadHelloError(Exception):
    pass


class _Reader:
    """Fields of a TLS structure, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise _BadHelloError
        out = self._data[self._at : self._at + size]
        self._at += size
        return out

    def vector(self, size: int) -> bytes:
        """A vector whose length has ``size`` octets."""
        return self.take(self.number(size))

    def left(self) -> int:
        return len(self._data) - self._at


def server_name(data: bytes) -> str | Sniff:
    """The host name of the SNI (RFC 6066 section 3) in a TLS client's first bytes, in lower case.

    The ClientHello may come in several records, and they in any pieces.
    """
    hello = from_records(data)
    if isinstance(hello, Sniff):
        return hello
    return hello.name or Sniff.NONE


def from_records(data: bytes) -> ClientHello | Sniff:
    """The ClientHello in a TLS client's first bytes; MORE or BAD without one."""
    message = b""
    at = 0
    while True:
        header = data[at : at + 5]
        if (header[:1] and header[0] != _HANDSHAKE_RECORD) or (header[1:2] and header[1] != 3):
            return Sniff.BAD
        if len(header) < 5:
            return Sniff.MORE
        length = int.from_bytes(header[3:5], "big")
        if not 0 < length <= MAX_RECORD:
            return Sniff.BAD
        message += data[at + 5 : at + 5 + length]
        hello = from_message(message)
        if hello is not Sniff.MORE:
            return hello
        if len(data) < at + 5 + length:
            return Sniff.MORE
        at += 5 + length


def from_message(message: bytes) -> ClientHello | Sniff:
    """The ClientHello that a row of handshake messages begins with; MORE or BAD without one."""
    if message and message[0] != _CLIENT_HELLO:
        return Sniff.BAD
    if len(message) < MESSAGE_HEAD:
        return Sniff.MORE
    size = int.from_bytes(message[1:MESSAGE_HEAD], "big")
    if size > MAX_HELLO:
        return Sniff.BAD
    if len(message) < MESSAGE_HEAD + size:
        return Sniff.MORE
    try:
        return _read(_Reader(message[MESSAGE_HEAD : MESSAGE_HEAD + size]))
    except _BadHelloError:
        return Sniff.BAD


def _read(reader: _Reader) -> ClientHello:
    reader.take(2 + 32)  # legacy_version, random
    reader.vector(1)  # legacy_session_id
    reader.vector(2)  # cipher_suites
    reader.vector(1)  # legacy_compression_methods
    name, has_ech = "", False
    extensions = _Reader(reader.vector(2) if reader.left() else b"")
    while extensions.left():
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == _ENCRYPTED_CLIENT_HELLO:
            has_ech = True
        elif kind == _SERVER_NAME:
            if name:
                raise _BadHelloError  # RFC 8446 section 4.2: once; which one would the server read?
            name = _first_name(_Reader(_Reader(body).vector(2)))
    return ClientHello(name, has_ech)


def _first_name(names: _Reader) -> str:
    if not names.left():
        return ""
    if names.number(1) != _HOST_NAME:
        raise _BadHelloError  # no other type was ever defined
    found = host_of(names.vector(2))
    if isinstance(found, Sniff):
        raise _BadHelloError
    return found


_HOST = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?")


def host_of(name: bytes) -> str | Sniff:
    """A host's name as a client writes it, in small letters without the final dot; BAD for anything else."""
    if not _HOST.fullmatch(name):
        return Sniff.BAD
    return name.rstrip(b".").decode().lower()
