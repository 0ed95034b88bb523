"""A request's head: read strictly, and written anew for the origin."""

from __future__ import annotations

import re
from typing import Final

from appliance.protocol.http1.grammar import (
    CHUNKED,
    FIELD_LINES,
    LENGTH,
    MAX_HEAD,
    TOKEN,
    Refused,
    bad_request,
    fields_pattern,
    nominated,
    values_pattern,
    without,
)
from appliance.protocol.http1.hop import Hop
from appliance.protocol.http1.request_line import PATH, Kind, request_line
from appliance.protocol.names import host_name


class Request:
    """A request that may be carried.

    ``wire`` is what goes to the origin: the head, and what had come of the body, in its new framing. It is
    empty unless ``kind`` is FORWARD. ``length`` is the body's: a number of octets, or CHUNKED.
    """

    __slots__ = (
        "credentials",  # the value of Proxy-Authorization, never sent on
        "expects",  # the client waits for 100 Continue
        "head",  # as the client sent it
        "host",  # in lower case without final dot, or an address; "" for PAGE and SELF
        "keep",  # the client's connection may serve another request
        "kind",
        "length",
        "method",
        "minor",  # HTTP/1.minor is what the client speaks
        "port",
        "target",  # path and query as the origin gets them
        "upgrade",  # it asks for a WebSocket
        "wire",
    )

    def __init__(
        self,
        kind: Kind,
        method: str,
        host: str,
        port: int,
        target: bytes,
        minor: int,
        head: bytes,
    ) -> None:
        self.kind = kind
        self.method: Final = method
        self.host: Final = host
        self.port: Final = port
        self.target: Final = target
        self.minor: Final = minor
        self.length = 0
        self.keep = minor == 1
        self.credentials: bytes | None = None
        self.expects = False
        self.upgrade = False
        self.wire = b""
        self.head: Final = head

    def field(self, name: str) -> bytes | None:
        """A field of the client's, its lines joined by commas (RFC 9110 section 5.2); None if it is absent.

        Takes a pass over the head: for logs, rules and error pages.
        """
        values = [value.strip(b" \t") for value in values_pattern(name).findall(self.head)]
        return b", ".join(values) if values else None

    def reflection(self) -> bytes:
        """The content of the answer to TRACE: the head as it was received, without secrets (RFC 9110
        section 9.3.8).
        """
        line, _, lines = self.head[:-4].partition(b"\r\n")
        return line + (without(b"\r\n" + lines, _SECRETS) if lines else b"") + b"\r\n\r\n"


# Looking a member up on its class takes as long as a whole regular expression of the simpler kind.
_FORWARD, _TUNNEL = Kind.FORWARD, Kind.TUNNEL
_SECRETS = {b"authorization", b"proxy-authorization", b"cookie"}

# The common case in one pass: http, a name, no oddities. What it does not match is looked at with care.
_COMMON = re.compile(
    rb"(" + TOKEN + rb"{1,32}+) http://([0-9A-Za-z._-]{1,254}+)(?::([1-9][0-9]{0,4}+))?(/" + PATH + rb") "
    rb"HTTP/1\.([01])\r\n" + FIELD_LINES + rb"\r\n"
)
# The same for CONNECT.
_TUNNEL_COMMON = re.compile(
    rb"CONNECT ([0-9A-Za-z._-]{1,254}+):([1-9][0-9]{0,4}+) HTTP/1\.([01])\r\n" + FIELD_LINES + rb"\r\n"
)
# Host is overridden (RFC 9112 section 3.2.2), but one that is no host at all is refused (section 3.2).
_HOST_VALUE = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%:\[\]-]*+")

# Fields that are not copied. Names with an underscore where these have a hyphen are the same field to a
# CGI or WSGI origin, and so are treated as one.
_LOOKALIKES = (rb"content_length", rb"transfer_encoding")
_TELLING = (
    rb"forwarded",
    rb"x[-_]forwarded(?:[-_][!#$%&'*+.^_`|~0-9a-z-]*+)?",
    rb"x[-_]original[-_]forwarded[-_]for",
    rb"x[-_](?:real|client|remote|originating|cluster[-_]client|proxyuser|true[-_]client)[-_]ip",
    rb"x[-_]remote[-_]addr",
    rb"client[-_]ip",
    rb"proxy[-_]client[-_]ip",
    rb"wl[-_]proxy[-_]client[-_]ip",
    rb"true[-_]client[-_]ip",
    rb"cf[-_]connecting[-_]ip",
    rb"fastly[-_]client[-_]ip",
)
_SPECIAL = fields_pattern(
    (
        rb"host",
        rb"connection",
        rb"proxy-connection",
        rb"keep-alive",
        rb"te",
        rb"trailer",
        rb"upgrade",
        rb"content-length",
        rb"transfer-encoding",
        rb"proxy-auth[a-z-]*+",
        rb"http2-settings",
        rb"expect",
        rb"via",
        rb"max-forwards",
        *_LOOKALIKES,
        *_TELLING,
    )
)
_UNDERSCORED = frozenset(_LOOKALIKES)
_FINAL_AT_ZERO = frozenset(("TRACE", "OPTIONS"))
_NO_OPTIONS = frozenset(nominated(b"keep-alive, close, upgrade"))


def begin_request(data: bytes, hop: Hop) -> Request | None:
    """The request that ``data`` begins with, if its head is whole and of the common form; raises Refused.

    None: look for the end of the head, and give it to ``parse_request``. Here one match finds the end too,
    which takes bytes.find a third of the match's own time.
    """
    match = _COMMON.match(data)
    if match is None:
        return _begin_tunnel(data, hop)
    method, name, port, target, minor = match.groups()
    host = host_name(name.decode())
    number = int(port) if port else 80
    end = match.end()
    if host is None or number > 65535 or end > MAX_HEAD or method == b"CONNECT":
        return None
    head = data if end == len(data) else data[:end]
    request = Request(_FORWARD, method.decode(), host, number, target, 1 if minor == b"1" else 0, head)
    _fields(request, name + b":" + port if port else name, head, match.end(5), hop)
    return request


def _begin_tunnel(data: bytes, hop: Hop) -> Request | None:
    """As ``begin_request``, for CONNECT."""
    match = _TUNNEL_COMMON.match(data)
    if match is None:
        return None
    name, port, minor = match.groups()
    host = host_name(name.decode())
    number = int(port)
    end = match.end()
    if host is None or number > 65535 or end > MAX_HEAD:
        return None
    head = data if end == len(data) else data[:end]
    request = Request(_TUNNEL, "CONNECT", host, number, b"", 1 if minor == b"1" else 0, head)
    _fields(request, name + b":" + port, head, match.end(3), hop)
    return request


def parse_request(head: bytes, hop: Hop) -> Request:
    """The request in a whole head, its empty line included; raises Refused.

    A request without Host is carried if its target names the origin: RFC 9112 section 3.2 asks for 400, but
    Host would be replaced by the target's host anyhow (section 3.2.2), so that nobody can read it in two
    ways, and tools that leave it out exist.
    """
    request = begin_request(head, hop)
    if request is None:
        line = request_line(head)
        request = Request(line.kind, line.method, line.host, line.port, line.path, line.minor, head)
        _fields(request, line.authority, head, line.end, hop)
    return request


def _fields(request: Request, authority: bytes, head: bytes, at: int, hop: Hop) -> None:
    """Reads the fields that are ours and writes the head for the origin from the rest.

    ``at`` is where the request line's CRLF begins. Everything between the special fields is copied in
    slices: it was validated with the whole head.
    """
    host = length = coding = None
    connection = via = upgrade = b""
    hops: bytes | None = None
    forward = request.kind is _FORWARD
    method, target = request.method, request.target
    kept = [method.encode(), b" ", target, b" HTTP/1.1\r\nHost: ", authority]
    for field in _SPECIAL.finditer(head.lower(), at):
        name, value = field.groups()
        start, end = field.span()
        if name == b"host":
            if host is not None:
                raise bad_request("Host stands more than once.")
            host = value.strip(b" \t")
        elif name == b"connection":
            option = value.strip(b" \t")
            if option == b"close":
                request.keep = False
            elif option != b"keep-alive":
                connection += b"," + value
        elif name == b"proxy-connection":
            pass
        elif name == b"content-length":
            if length is not None:
                raise bad_request("Content-Length stands more than once.")
            length = value.strip(b" \t")
        elif name == b"transfer-encoding":
            if coding is not None:
                raise bad_request("Transfer-Encoding stands more than once.")
            coding = value.strip(b" \t")
        elif name == b"proxy-authorization":
            if request.credentials is not None:
                raise bad_request("Proxy-Authorization stands more than once.")
            request.credentials = head[field.start(2) : field.end(2)].strip(b" \t")
        elif name == b"expect":
            if value.strip(b" \t") != b"100-continue":
                raise bad_request("Expect asks for something unknown.", 417)
            request.expects = request.minor == 1
        elif name == b"upgrade":
            upgrade += b"," + value
        elif name == b"via":
            via += b"," + value
        elif name == b"max-forwards":
            if method not in _FINAL_AT_ZERO:
                continue  # it means nothing here, and is the client's
            if hops is not None:
                raise bad_request("Max-Forwards stands more than once.")
            hops = value.strip(b" \t")
        elif name in _UNDERSCORED:
            raise bad_request("A field is named almost like one that frames the message.")
        if start - 1 > at:
            kept.append(head[at : start - 1])
        at = end - 1
    kept.append(head[at:-4])

    if host is None:
        if request.minor == 1 and not forward and request.kind is not Kind.TUNNEL:
            raise bad_request("Host is missing.")
    elif _HOST_VALUE.fullmatch(host) is None:
        raise bad_request("Host is malformed.")
    framing = b""
    if coding is not None or length is not None:
        framing = _framing(request, length, coding)
    if request.expects and not request.length:
        request.expects = False
    if via and hop.has_passed(via):
        raise Refused(502, "The request has been here before.", "proxy_loop_detected")
    if hops is not None:
        hops = _one_hop_less(request, hops)
        forward = request.kind is _FORWARD
    if connection:
        kept[5:] = [_connection(request, connection, upgrade, b"".join(kept[5:]))]
    if not forward:
        return
    if framing:
        kept.append(framing)
    if request.expects:
        kept.append(b"\r\nExpect: 100-continue")
    if hops is not None:
        kept.append(b"\r\nMax-Forwards: " + hops)
    if request.upgrade:
        kept.append(b"\r\nConnection: Upgrade\r\nUpgrade: websocket")
    kept.append(hop.via[request.minor])
    kept.append(b"\r\n\r\n")
    request.wire = b"".join(kept)


def _framing(request: Request, length: bytes | None, coding: bytes | None) -> bytes:
    """Sets the body's length (RFC 9112 section 6.3) and gives the one line that tells the origin."""
    if coding is not None:
        if length is not None:
            raise bad_request("Content-Length and Transfer-Encoding stand side by side.")
        if request.minor == 0:
            raise bad_request("HTTP/1.0 has no Transfer-Encoding.")
        if coding != b"chunked":
            raise bad_request("The transfer coding is not chunked.", 501 if _is_coded(coding) else 400)
        request.length = CHUNKED
    else:
        if length is None or LENGTH.fullmatch(length) is None:
            raise bad_request("Content-Length is no number.")
        request.length = int(length)
    if request.length and request.method in ("CONNECT", "TRACE"):
        raise bad_request(f"{request.method} has no content.")
    if request.length == CHUNKED:
        return b"\r\nTransfer-Encoding: chunked"
    return b"\r\nContent-Length: %d" % request.length


_CODED = re.compile(rb"(?:x-)?(?:gzip|compress|deflate)[\t ]*+,[\t ]*+chunked")


def _is_coded(coding: bytes) -> bool:
    """Whether this is a well-formed list of codings that exist, which is merely not offered here."""
    return _CODED.fullmatch(coding) is not None


def _connection(request: Request, connection: bytes, upgrade: bytes, lines: bytes) -> bytes:
    """Takes what Connection says to heart; the lines without those that it names."""
    try:
        names = nominated(connection)
    except ValueError as error:
        raise bad_request(f"{error}.") from None
    if b"close" in names:
        request.keep = False
    # Only WebSocket passes: what comes after any other switch (h2c above all) could hold requests that
    # no rule has seen. A request whose Upgrade is dropped is answered as if it had asked for none.
    if (
        b"upgrade" in names
        and upgrade[1:].strip(b" \t") == b"websocket"
        and request.method == "GET"
        and request.minor == 1
        and not request.length
    ):
        request.upgrade = True
    others = names - _NO_OPTIONS
    return without(lines, others) if others and lines else lines


def _one_hop_less(request: Request, hops: bytes) -> bytes | None:
    """RFC 9110 section 7.6.2."""
    if LENGTH.fullmatch(hops) is None:
        raise bad_request("Max-Forwards is no number.")
    left = int(hops)
    if left == 0:
        request.kind = Kind.SELF
        return None
    return b"%d" % (left - 1)
