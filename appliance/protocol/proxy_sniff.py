"""Which protocol a client of the proxy speaks, by its first octets (listeners in mode ``auto``)."""

from __future__ import annotations

import re
from enum import Enum


class Told(Enum):
    """The protocol, or what is to be done without one."""

    HTTP = "http"
    TLS = "tls"
    SOCKS4 = "socks4"
    SOCKS5 = "socks5"
    MORE = "more"  # too little to tell
    UNKNOWN = "unknown"  # none of these: close


# A method and the space after it. Every method that is registered is in capitals, and a lower bound on what
# HTTP may look like is what keeps other protocols that begin with letters out.
_METHOD = re.compile(rb"[A-Z][A-Z-]{0,31} ")
_METHOD_BEGUN = re.compile(rb"[A-Z][A-Z-]{0,31}")
# RFC 9112 section 2.2: an empty line may stand before a request.
_EMPTY_LINES = (b"", b"\r", b"\r\n", b"\r\n\r", b"\r\n\r\n")
_HANDSHAKE, _CLIENT_HELLO = 22, 1


def tell(data: bytes) -> Told:
    """What ``data`` begins; the answer for a beginning is MORE or the answer for the whole.

    TLS is told from its record's header and the first octet of the handshake (RFC 8446 sections 4 and 5.1),
    SOCKS from its version and, in version 4, a known command.
    """
    if not data:
        return Told.MORE
    first = data[0]
    if first == 5:
        return Told.SOCKS5
    if first == 4:
        if len(data) < 2:
            return Told.MORE
        return Told.SOCKS4 if data[1] in (1, 2) else Told.UNKNOWN
    if first == _HANDSHAKE:
        known = (data[1:2] in (b"", b"\x03")) and (len(data) < 6 or data[5] == _CLIENT_HELLO)
        if not known:
            return Told.UNKNOWN
        return Told.TLS if len(data) >= 6 else Told.MORE
    if data in _EMPTY_LINES:
        return Told.MORE
    start = 4 if data[:4] == b"\r\n\r\n" else 2 if data[:2] == b"\r\n" else 0
    if _METHOD.match(data, start):
        return Told.HTTP
    return Told.MORE if _METHOD_BEGUN.fullmatch(data, start) else Told.UNKNOWN
