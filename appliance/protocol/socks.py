"""SOCKS, the server's side, sans-IO: version 5 (RFC 1928, 1929), 4 and 4a, and the header of UDP requests.

::

    SOCKS 5   greeting ─► [password ─► verify] ─► request ─► decide ─► open
    SOCKS 4   request ─► decide ─► open

Each state is a method that reads one message whole or none of it. Whatever is malformed ends in CLOSED, with
the reply that the version has for it where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from appliance.errors import WIRE, Failure
from appliance.protocol.names import host_name, ipv6_literal

# What a client may send ahead of the reply. Small: only those that guess the reply do it.
MAX_EARLY = 65_536
# A user's name and a host's name in SOCKS 4, which has no length fields.
MAX_TEXT = 255


class Method(IntEnum):
    """Ways to authenticate (RFC 1928 section 3)."""

    NONE = 0
    PASSWORD = 2


class Command(IntEnum):
    CONNECT = 1
    UDP_ASSOCIATE = 3


class State(IntEnum):
    """Whose turn it is."""

    READING = 0  # the client's
    VERIFYING = 1  # ours: ``verified``
    DECIDING = 2  # ours: ``granted`` or ``failed``
    OPEN = 3  # no SOCKS any more
    CLOSED = 4  # flush and close


class Credentials(NamedTuple):
    user: bytes
    password: bytes


class SocksRequest(NamedTuple):
    """``host`` is a name in lower case or an address in canonical form; in UDP_ASSOCIATE it is where the
    client says its datagrams will come from, mostly an unspecified address.
    """

    version: int
    command: Command
    host: str
    port: int
    user: bytes  # of SOCKS 4, which proves nothing


_NO_METHOD = b"\x05\xff"
_GENERAL, _NO_SUCH_COMMAND, _NO_SUCH_ADDRESS_TYPE = 1, 7, 8
_IPV4, _DOMAIN, _IPV6 = 1, 3, 4
_GRANTED_4, _REJECTED_4 = 90, 91


class SocksServer:
    """One client's handshake."""

    __slots__ = ("_held", "_methods", "_read", "_version", "problem", "state")

    def __init__(self, methods: tuple[Method, ...]) -> None:
        """``methods`` in the order of our liking: the first that the client offers is taken.

        Without Method.NONE among them SOCKS 4 is refused, which cannot authenticate.
        """
        self._methods = methods
        self._held = b""
        self._read: Callable[[], Credentials | SocksRequest | bytes | None] = self._first
        self._version = 0
        self.state = State.READING
        self.problem = ""  # what was wrong, for the log

    def feed(self, data: bytes) -> Credentials | SocksRequest | bytes | None:
        """Octets from the client: a question to the engine, octets to send back to it, or None: more needed.

        Call again with b"" after each result but None: more may be there. What comes after the handshake, or
        before its reply, waits for ``take``.
        """
        if self.state is State.CLOSED:
            return None
        self._held += data
        return self._read() if self.state is State.READING else None

    @property
    def full(self) -> bool:
        """As much waits as may: read no more until the reply is out."""
        return len(self._held) >= MAX_EARLY

    def take(self) -> bytes:
        """What the client sent ahead, once; the tunnel begins with it."""
        held, self._held = self._held, b""
        return held

    def verified(self, right: bool) -> bytes:
        """The reply to Credentials (RFC 1929 section 2). A wrong password closes."""
        if self.state is not State.VERIFYING:
            raise ValueError("nobody asked")
        if right:
            self.state, self._read = State.READING, self._request
            return b"\x01\x00"
        self._close("wrong user or password")
        return b"\x01\x01"

    def granted(self, address: bytes = b"\0\0\0\0", port: int = 0) -> bytes:
        """The reply to a request that was granted. ``address``: 4 or 16 octets.

        For UDP_ASSOCIATE it is where the client's datagrams are awaited.
        """
        if self.state is not State.DECIDING:
            raise ValueError("nobody asked")
        self.state = State.OPEN
        if self._version == 4:
            return _reply_4(_GRANTED_4)
        return b"\x05\0\0" + packed_address(address, port)

    def failed(self, failure: Failure) -> bytes:
        """The reply to a request that came to nothing; the connection closes after it."""
        if self.state is not State.DECIDING:
            raise ValueError("nobody asked")
        wire = WIRE[failure]
        self._close(wire.log)
        return _reply_4(wire.socks4) if self._version == 4 else _reply_5(wire.socks5)

    def _close(self, problem: str) -> None:
        self.state = State.CLOSED
        self.problem = problem
        self._held = b""

    def _refuse(self, problem: str, reply: bytes | None) -> bytes | None:
        self._close(problem)
        return reply

    def _first(self) -> Credentials | SocksRequest | bytes | None:
        """The first octet tells the version."""
        if not self._held:
            return None
        self._version = self._held[0]
        if self._version == 5:
            self._read = self._greeting
        elif self._version == 4:
            if Method.NONE not in self._methods:
                return self._refuse("SOCKS 4 cannot authenticate", _reply_4(_REJECTED_4))
            self._read = self._request_4
        else:
            return self._refuse("this is no SOCKS", None)
        return self._read()

    def _greeting(self) -> bytes | None:
        """VER NMETHODS METHODS (RFC 1928 section 3)."""
        held = self._held
        if len(held) < 2 or len(held) < 2 + held[1]:
            return None
        offered = held[2 : 2 + held[1]]
        for method in self._methods:
            if method in offered:
                self._held = held[2 + held[1] :]
                self._read = self._password if method is Method.PASSWORD else self._request
                return bytes((5, method))
        return self._refuse("no common way to authenticate", _NO_METHOD)

    def _password(self) -> Credentials | bytes | None:
        """VER ULEN UNAME PLEN PASSWD (RFC 1929 section 2)."""
        held = self._held
        if held and held[0] != 1:
            return self._refuse("malformed password message", b"\x01\x01")
        if len(held) < 2:
            return None
        user_end = 2 + held[1]
        if len(held) < user_end + 1 or len(held) < user_end + 1 + held[user_end]:
            return None
        end = user_end + 1 + held[user_end]
        self._held = held[end:]
        self.state = State.VERIFYING
        return Credentials(held[2:user_end], held[user_end + 1 : end])

    def _request(self) -> SocksRequest | bytes | None:
        """VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 section 4)."""
        held = self._held
        if len(held) < 4:
            if held and held[0] != 5:
                return self._refuse("malformed request", _reply_5(_GENERAL))
            return None
        if held[0] != 5 or held[2] != 0:
            return self._refuse("malformed request", _reply_5(_GENERAL))
        if held[1] not in (Command.CONNECT, Command.UDP_ASSOCIATE):
            return self._refuse("unknown command", _reply_5(_NO_SUCH_COMMAND))
        if held[3] not in (_IPV4, _DOMAIN, _IPV6):
            return self._refuse("unknown type of address", _reply_5(_NO_SUCH_ADDRESS_TYPE))
        end = _address_end(held, 3)
        if end is None:
            return None
        command = Command(held[1])
        host = _host(held, 3)
        port = int.from_bytes(held[end - 2 : end], "big")
        if host is None or (port == 0 and command is Command.CONNECT):
            return self._refuse("malformed address", _reply_5(_GENERAL))
        self._held = held[end:]
        self.state = State.DECIDING
        return SocksRequest(5, command, host, port, b"")

    def _request_4(self) -> SocksRequest | bytes | None:
        """VN CD DSTPORT DSTIP USERID NUL, and in 4a a name and NUL after it if DSTIP is 0.0.0.x."""
        held = self._held
        if len(held) < 8:
            return None
        if held[1] != Command.CONNECT:
            return self._refuse("unknown command", _reply_4(_REJECTED_4))
        user_end = held.find(b"\0", 8, 8 + MAX_TEXT + 1)
        if user_end < 0:
            return self._unended(8)
        port, address, end = int.from_bytes(held[2:4], "big"), held[4:8], user_end + 1
        host: str | None
        if address[:3] == b"\0\0\0" and address[3]:
            name_end = held.find(b"\0", end, end + MAX_TEXT + 1)
            if name_end < 0:
                return self._unended(end)
            host = _name(held[end:name_end])
            end = name_end + 1
        else:
            host = str(IPv4Address(address))
        if host is None or port == 0:
            return self._refuse("malformed address", _reply_4(_REJECTED_4))
        self._held = held[end:]
        self.state = State.DECIDING
        return SocksRequest(4, Command.CONNECT, host, port, held[8:user_end])

    def _unended(self, start: int) -> bytes | None:
        """A text whose NUL is not there: wait for it, or it is too long."""
        if len(self._held) - start > MAX_TEXT:
            return self._refuse("a text is too long", _reply_4(_REJECTED_4))
        return None


def _reply_5(code: int) -> bytes:
    return bytes((5, code, 0, _IPV4, 0, 0, 0, 0, 0, 0))


def _reply_4(code: int) -> bytes:
    return bytes((0, code, 0, 0, 0, 0, 0, 0))


def packed_address(address: bytes, port: int) -> bytes:
    """ATYP ADDR PORT of an address of 4 or 16 octets."""
    return bytes((_IPV4 if len(address) == 4 else _IPV6,)) + address + port.to_bytes(2, "big")


def _address_end(data: bytes, at: int) -> int | None:
    """Where ATYP ADDR PORT that begin at ``at`` end; None if they are not whole, or of an unknown type."""
    kind = data[at] if len(data) > at else 0
    if kind == _IPV4:
        end = at + 7
    elif kind == _IPV6:
        end = at + 19
    elif kind == _DOMAIN and len(data) > at + 1:
        end = at + 2 + data[at + 1] + 2
    else:
        return None
    return end if len(data) >= end else None


def _host(data: bytes, at: int) -> str | None:
    """The host of a whole ATYP ADDR PORT."""
    kind = data[at]
    if kind == _IPV4:
        return str(IPv4Address(data[at + 1 : at + 5]))
    if kind == _IPV6:
        return str(IPv6Address(data[at + 1 : at + 17]))
    return _name(data[at + 2 : at + 2 + data[at + 1]])


def _name(raw: bytes) -> str | None:
    """A name; addresses written out are taken too, since clients that leave resolving to us send them so."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        return None
    if ":" in text:
        return ipv6_literal(text[1:-1] if text[0] == "[" and text[-1] == "]" else text)
    return host_name(text)


class Datagram(NamedTuple):
    """A UDP request's header: where its payload goes, and where in the packet that begins."""

    host: str
    port: int
    start: int


def parse_datagram(packet: bytes) -> Datagram | None:
    """The header RSV FRAG ATYP DST.ADDR DST.PORT (RFC 1928 section 7); None: drop the packet.

    Fragments are dropped, as the RFC allows, and so is what is malformed.
    """
    if packet[:3] != b"\0\0\0":
        return None
    end = _address_end(packet, 3)
    if end is None:
        return None
    host = _host(packet, 3)
    port = int.from_bytes(packet[end - 2 : end], "big")
    if host is None or port == 0:
        return None
    return Datagram(host, port, end)


def datagram_header(address: bytes, port: int) -> bytes:
    """What goes before a payload that came from an address of 4 or 16 octets."""
    return b"\0\0\0" + packed_address(address, port)
