"""What a client's first bytes say of where it wants to go: the server name of a ClientHello, the Host.

Nothing is decrypted and nothing is changed; what was read goes on to the server as it came.
"""

from __future__ import annotations

import re
from enum import Enum

# RFC 8446 section 4: a handshake message's length has 24 bits, but a ClientHello over this is an attack.
MAX_HELLO = 16_384
MAX_HEAD = 65_536
MAX_RECORD = 16_384

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0


class Sniff(Enum):
    """What is to be said without a name."""

    MORE = "more"  # the bytes so far are a beginning
    NONE = "none"  # there is no name in it
    BAD = "bad"  # this is no such protocol, or malformed


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
    message = _hello(data)
    if isinstance(message, Sniff):
        return message
    try:
        return _name_in(_Reader(message))
    except _BadHelloError:
        return Sniff.BAD


def _hello(data: bytes) -> bytes | Sniff:
    """The ClientHello's body out of its records, once it is whole."""
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
        if message and message[0] != _CLIENT_HELLO:
            return Sniff.BAD
        if len(message) >= 4:
            size = int.from_bytes(message[1:4], "big")
            if size > MAX_HELLO:
                return Sniff.BAD
            if len(message) >= 4 + size:
                return message[4 : 4 + size]
        if len(data) < at + 5 + length:
            return Sniff.MORE
        at += 5 + length


def _name_in(reader: _Reader) -> str | Sniff:
    reader.take(2 + 32)  # legacy_version, random
    reader.vector(1)  # legacy_session_id
    reader.vector(2)  # cipher_suites
    reader.vector(1)  # legacy_compression_methods
    if not reader.left():
        return Sniff.NONE
    extensions = _Reader(reader.vector(2))
    while extensions.left():
        kind, body = extensions.number(2), extensions.vector(2)
        if kind != _SERVER_NAME:
            continue
        names = _Reader(_Reader(body).vector(2))
        while names.left():
            if names.number(1) != _HOST_NAME:
                raise _BadHelloError  # no other type was ever defined
            return _host(names.vector(2))
    return Sniff.NONE


_HOST = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?")


def _host(name: bytes) -> str | Sniff:
    if not _HOST.fullmatch(name):
        return Sniff.BAD
    return name.rstrip(b".").decode().lower()


# The head of a request, as strict as RFC 9112 sections 2.2, 3 and 5 let it be: who is lenient here reads
# another Host than the server does.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ([!-~]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]*)(?:[/?#].*)?", re.IGNORECASE)
_PORT = re.compile(rb":\d{0,5}$")


def http_host(data: bytes) -> str | Sniff:
    """The host that an HTTP/1 request is for, without its port, in lower case."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD:
            return Sniff.BAD
        # A head ends in CRLF: a line that is there already must be one, or this is no HTTP.
        first, ended, _rest = data.partition(b"\r\n")
        looks = _REQUEST_LINE.fullmatch(first) if ended else b"\n" not in data and b"\0" not in data
        return Sniff.MORE if looks else Sniff.BAD
    lines = data[:end].split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(lines[0])
    if request is None or end > MAX_HEAD:
        return Sniff.BAD
    hosts = []
    for text in lines[1:]:
        field = _FIELD.fullmatch(text)
        if field is None:
            return Sniff.BAD
        if field[1].lower() == b"host":
            hosts.append(field[2])
    if len(hosts) > 1:
        return Sniff.BAD
    absolute = _ABSOLUTE.fullmatch(request[1])
    if absolute:
        return _host(_PORT.sub(b"", absolute[1]))  # RFC 9112 section 3.2.2: it overrides Host
    if not hosts or not hosts[0]:
        return Sniff.NONE
    return _host(_PORT.sub(b"", hosts[0]))
