"""A response's head: read strictly, and written anew for the client."""

from __future__ import annotations

import re

from appliance.protocol.http1.grammar import (
    CHUNKED,
    FIELD_LINES,
    LENGTH,
    MAX_FIELDS,
    MAX_HEAD,
    UNTIL_CLOSE,
    Refused,
    bad_response,
    fields_pattern,
    nominated,
    values_pattern,
    without,
)
from appliance.protocol.http1.hop import Hop
from appliance.protocol.http1.request import Request


class Response:
    """A response that may be carried. An interim one (1xx but 101) is never seen by the engine as such.

    ``wire`` is what goes to the client: the head, and what had come of the body, in its new framing.
    ``length`` is the body's: octets, CHUNKED or UNTIL_CLOSE; what a HEAD would have had does not count.
    """

    __slots__ = (
        "head",  # as the origin sent it
        "keep",  # the client's connection may serve another request afterwards
        "keep_origin",  # the origin's connection may
        "length",
        "status",
        "wire",
    )

    def __init__(self, status: int, keep: bool, head: bytes) -> None:
        self.status = status
        self.keep = keep
        self.keep_origin = False
        self.length = 0
        self.wire = b""
        self.head = head

    def field(self, name: str) -> bytes | None:
        """A field of the origin's, its lines joined by commas; None if it is absent. Takes a pass."""
        values = [value.strip(b" \t") for value in values_pattern(name).findall(self.head)]
        return b", ".join(values) if values else None


_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t -~\x80-\xff]*+)?+\r\n(?:" + FIELD_LINES + rb")\r\n"
)
_SPECIAL = fields_pattern(
    (
        rb"connection",
        rb"proxy-connection",
        rb"keep-alive",
        rb"te",
        rb"trailer",
        rb"upgrade",
        rb"content-length",
        rb"transfer-encoding",
        rb"proxy-auth[a-z-]*+",
    )
)
_OPTIONS = frozenset(nominated(b"keep-alive, close, upgrade"))
_NO_LENGTH = frozenset((204, 205, 304))


def parse_response(head: bytes, asked: Request, hop: Hop, keep: bool) -> Response:
    """The response in a whole head, its empty line included, to a request; raises Refused.

    ``keep`` is False where the client's connection is to be closed after it for a reason of ours.
    The wire form of an interim response is empty where the client cannot have it.
    """
    response = begin_response(head, asked, hop, keep)
    if response is None:
        if len(head) > MAX_HEAD or head.count(b"\n") > MAX_FIELDS + 2:
            raise too_large()
        raise bad_response("The origin's answer is no HTTP/1 response.")
    return response


def too_large() -> Refused:
    """What to say of a head over the limits."""
    return bad_response("The origin's head is too large.", "http_response_header_section_size")


def begin_response(data: bytes, asked: Request, hop: Hop, keep: bool) -> Response | None:
    """The same for the head that ``data`` begins with; None if it is not whole, or no head of a response."""
    match = _HEAD.match(data)
    if match is None:
        return None
    end_of_head = match.end()
    if end_of_head > MAX_HEAD:
        raise too_large()
    head = data if end_of_head == len(data) else data[:end_of_head]
    version, code = match.groups()
    status = int(code)
    if status == 407:
        # Only the proxy may ask for the proxy's password; a browser would show the box's own form.
        raise bad_response("The origin answered in the proxy's name (407).")
    response = Response(status, keep and asked.keep, head)

    length = coding = None
    closes = False
    connection = upgrade = b""
    at = head.find(b"\r")
    # A status line without reason phrase still needs the space before it (RFC 9112 section 4).
    kept: list[bytes] = [b"HTTP/1.1", head[8:at] if at > 12 else head[8:at] + b" "]
    for field in _SPECIAL.finditer(head.lower(), at):
        name, value = field.groups()
        start, end = field.span()
        if name == b"content-length":
            if length is not None:
                raise bad_response("The origin's Content-Length stands more than once.")
            length = value.strip(b" \t")
        elif name == b"transfer-encoding":
            if coding is not None:
                raise bad_response("The origin's Transfer-Encoding stands more than once.")
            coding = value.strip(b" \t")
        elif name == b"connection":
            option = value.strip(b" \t")
            if option == b"close":
                closes = True
            elif option != b"keep-alive" or version == b"0":
                connection += b"," + value
        elif name == b"upgrade":
            upgrade += b"," + value
        if start - 1 > at:
            kept.append(head[at : start - 1])
        at = end - 1
    kept.append(head[at:-4])

    response.keep_origin = version == b"1"
    names: set[bytes] = set()
    if connection:
        try:
            names = nominated(connection)
        except ValueError as error:
            raise bad_response(f"The origin's answer is malformed: {error}.") from None
        response.keep_origin = b"close" not in names and (version == b"1" or b"keep-alive" in names)
        if names - _OPTIONS:
            kept[2:] = [without(b"".join(kept[2:]), names - _OPTIONS)]
    if closes:
        response.keep_origin = False
    kept.append(hop.via[1 if version == b"1" else 0])
    if status < 200:
        _interim(
            response, asked, kept, version, b"upgrade" in names and upgrade[1:].strip(b" \t") == b"websocket"
        )
        return response
    _framing(response, asked, version, length, coding, kept)
    if not response.keep:
        kept.append(b"\r\nConnection: close")
    kept.append(b"\r\n\r\n")
    response.wire = b"".join(kept)
    return response


def _interim(response: Response, asked: Request, kept: list[bytes], version: bytes, switches: bool) -> None:
    """A 1xx response (RFC 9110 section 15.2): 101 only if asked for, none to a client of HTTP/1.0."""
    if version == b"0":
        raise bad_response("The origin sent an interim response in HTTP/1.0.")
    if response.status == 101:
        if not asked.upgrade or not switches:
            raise bad_response("The origin switched protocols unasked.", "http_upgrade_failed")
        response.keep = response.keep_origin = False
        kept.append(b"\r\nConnection: Upgrade\r\nUpgrade: websocket")
    if asked.minor == 1:
        response.wire = b"".join(kept) + b"\r\n\r\n"


def _framing(
    response: Response,
    asked: Request,
    version: bytes,
    length: bytes | None,
    coding: bytes | None,
    kept: list[bytes],
) -> None:
    """Sets the body's length (RFC 9112 section 6.3) and adds the one line that tells the client."""
    if coding is not None:
        # RFC 9112 section 6.1 calls such framing faulty. What a cache or client behind us made of it would
        # be anyone's guess, so it ends here.
        if length is not None:
            raise bad_response("The origin sent Content-Length and Transfer-Encoding.")
        if version == b"0":
            raise bad_response("The origin sent Transfer-Encoding in HTTP/1.0.")
        if coding != b"chunked":
            raise bad_response(
                "The origin's transfer coding is not chunked.", "http_response_transfer_coding"
            )
    octets = 0
    if length is not None:
        if LENGTH.fullmatch(length) is None:
            raise bad_response("The origin's Content-Length is no number.")
        octets = int(length)
    if asked.method == "HEAD" or response.status in _NO_LENGTH:
        # No body, whatever the fields say. Content-Length then tells of what a GET would get; only in 204
        # and 205 has it no meaning (RFC 9110 sections 8.6 and 15.3.6). An origin that promises a body
        # where there is none may well send it: its connection is not used again.
        if response.status == 205:
            kept.append(b"\r\nContent-Length: 0")
        elif length is not None and response.status != 204:
            kept.append(b"\r\nContent-Length: %d" % octets)
        if response.status in _NO_LENGTH and (coding is not None or (octets and response.status != 304)):
            response.keep_origin = False
    elif coding is not None:
        response.length = CHUNKED
        if asked.minor == 1:
            kept.append(b"\r\nTransfer-Encoding: chunked")
        else:
            response.keep = False
    elif length is not None:
        response.length = octets
        kept.append(b"\r\nContent-Length: %d" % octets)
    else:
        response.length = UNTIL_CLOSE
        response.keep = response.keep_origin = False
