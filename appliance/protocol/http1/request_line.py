"""A request's first line in all its forms, and who the request is for (RFC 9112 section 3)."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from appliance.protocol.http1.grammar import (
    FIELD_LINES,
    MAX_FIELDS,
    MAX_HEAD,
    STRAY,
    TOKEN,
    Refused,
    bad_request,
)
from appliance.protocol.names import host_name, ipv6_literal


class Kind(Enum):
    """Who a request is for (RFC 9112 section 3.2)."""

    FORWARD = "forward"  # absolute-form: an origin, by HTTP
    TUNNEL = "tunnel"  # CONNECT
    PAGE = "page"  # origin-form: one of the box's own pages
    SELF = "self"  # OPTIONS *, or TRACE and OPTIONS whose Max-Forwards has run out


# All but what is no URI anywhere: spaces, controls, "#" and octets above ASCII. Browsers send some signs
# that RFC 3986 leaves out (quotes, "|", "^"); RFC 9110 section 7.7 forbids to rewrite a path.
PATH = rb"[!\"$-~]*+"
_LINE = re.compile(rb"(" + TOKEN + rb"{1,32}+) ([!-~]++) HTTP/([0-9])\.([0-9])\r\n")
_LINES = re.compile(FIELD_LINES + rb"\r\n")
_ABSOLUTE = re.compile(rb"([A-Za-z][0-9A-Za-z+.-]*+)://([^/?]*+)((?:[/?]" + PATH + rb")?)")
_AUTHORITY = re.compile(rb"([0-9A-Za-z._-]++|\[[0-9A-Fa-f:.]++\])(?::([0-9]{0,5}+))?")
_ORIGIN = re.compile(rb"/" + PATH)


class RequestLine(NamedTuple):
    """What the first line of a request says. ``end`` is where its CRLF begins."""

    kind: Kind
    method: str
    host: str
    port: int
    authority: bytes  # for Host
    path: bytes
    minor: int
    end: int


def request_line(head: bytes) -> RequestLine:
    """The line in every form that it may have, once all of the head is found in order; raises Refused."""
    refuse_stray(head)
    if len(head) > MAX_HEAD:
        raise too_large(head)
    line = _LINE.match(head)
    if line is None:
        raise bad_request("The request line is malformed.")
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in b"01":
        raise bad_request("The version is not HTTP/1.0 or HTTP/1.1.", 505)
    if head.count(b"\n") > MAX_FIELDS + 2:
        raise bad_request("The head has too many fields.", 431)
    if _LINES.fullmatch(head, line.end()) is None:
        raise bad_request("A field is malformed.")
    kind, host, port, authority, path = _target(method, target)
    return RequestLine(kind, method.decode(), host, port, authority, path, int(minor), line.end() - 2)


def refuse_stray(beginning: bytes | bytearray, start: int = 0) -> None:
    """Raises Refused if a head, or its beginning, has from ``start`` on what may stand in no line."""
    if STRAY.search(beginning, start, MAX_HEAD + 1):
        raise bad_request("A line does not end in CRLF, or holds a NUL.")


def too_large(beginning: bytes | bytearray) -> Refused:
    """What to say of a head, or its beginning, that is over MAX_HEAD."""
    if beginning.find(b"\r\n", 0, MAX_HEAD) < 0:
        return bad_request("The request target is too long.", 414)
    return bad_request("The head is too large.", 431)


def _target(method: bytes, target: bytes) -> tuple[Kind, str, int, bytes, bytes]:
    """Kind, host, port, authority and path of a request target (RFC 9112 section 3.2)."""
    if method == b"CONNECT":
        # wget and Python's clients send an IPv6 address without its brackets. Here the port must follow, so
        # it can be read in one way only, and no next server reads it; elsewhere it is refused.
        bare, _, digits = target.rpartition(b":")
        if b":" in bare and bare[:1] != b"[":
            target = b"[" + bare + b"]:" + digits
        host, port, authority = _authority(target, None)
        return Kind.TUNNEL, host, port, authority, b""
    if target == b"*":
        if method != b"OPTIONS":
            raise bad_request("Only OPTIONS has the target *.")
        return Kind.SELF, "", 0, b"", target
    if target[:1] == b"/":
        if _ORIGIN.fullmatch(target) is None:
            raise bad_request("The request target is malformed.")
        return Kind.PAGE, "", 0, b"", target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise bad_request("The request target is neither a whole URL nor one of the box's own pages.")
    scheme, text, path = absolute.groups()
    if scheme.lower() != b"http":
        raise bad_request("Only http URLs are fetched here; https goes through CONNECT.", 501)
    host, port, authority = _authority(text, 80)
    if path[:1] != b"/":
        # RFC 9112 section 3.2.4: the last proxy makes OPTIONS of an origin without path an asterisk.
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    return Kind.FORWARD, host, port, authority, path


def _authority(text: bytes, default: int | None) -> tuple[str, int, bytes]:
    """Host, port and the canonical authority. Without ``default`` the port must be there."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        # User information among others: RFC 9110 section 4.2.4 wants it treated as an error.
        raise bad_request("The target's host is malformed.")
    name, digits = match[1].decode(), match[2]
    host = ipv6_literal(name[1:-1]) if name[0] == "[" else host_name(name)
    if host is None:
        raise bad_request("The target's host is malformed.")
    if not digits:
        if default is None:
            raise bad_request("CONNECT names no port.")
        return host, default, match[1]
    port = int(digits)
    if not 0 < port < 65536:
        raise bad_request("The target's port is out of range.")
    return host, port, match[1] + b":%d" % port
