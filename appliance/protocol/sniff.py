"""The host that an HTTP/1 client's first bytes name. For TLS see client_hello.py, which tells the same way.

Nothing is changed; what was read goes on to the server as it came.
"""

from __future__ import annotations

import re

from appliance.protocol.client_hello import Sniff, host_of, server_name

__all__ = ["MAX_HEAD", "Sniff", "http_host", "may_hide_name", "said_by", "said_name", "server_name"]

MAX_HEAD = 65_536

# The head of a request, as strict as RFC 9112 sections 2.2, 3 and 5 let it be: who is lenient here reads
# another Host than the server does.
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ([!-~]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]*)(?:[/?#].*)?", re.IGNORECASE)
_PORT = re.compile(rb":\d{0,5}$")
# RFC 9112 section 2.2: servers take no notice of them.
_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")
_HANDSHAKE = b"\x16"  # the first octet of a TLS client
_METHOD = re.compile(rb"[A-Z]{1,20}(?: |\Z)")  # RFC 9110 section 9: those that there are, in capital letters


def said_name(data: bytes) -> str | Sniff:
    """The name in a client's first octets, whether of TLS or HTTP; NONE or BAD where there will be none."""
    if data[:1] == _HANDSHAKE:
        return server_name(data)
    data = _EMPTY_LINES.sub(b"", data)
    if data in (b"", b"\r"):
        return Sniff.MORE
    # What begins otherwise is no HTTP, and nothing to wait for.
    if _METHOD.match(data):
        return http_host(data)
    return Sniff.BAD if may_hide_name(data) else Sniff.NONE


def may_hide_name(data: bytes) -> bool:
    """Whether octets without a name began as TLS or HTTP: a server may read one where we cannot."""
    return data[:1] == _HANDSHAKE or b"HTTP/" in _EMPTY_LINES.sub(b"", data).partition(b"\n")[0]


def said_by(data: bytes) -> str:
    """What ``said_name`` has its name from, in the record's words."""
    return "sni" if data[:1] == _HANDSHAKE else "host"


def http_host(data: bytes) -> str | Sniff:
    """The host that an HTTP/1 request is for, without its port, in lower case."""
    data = _EMPTY_LINES.sub(b"", data)
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
        return host_of(_PORT.sub(b"", absolute[1]))  # RFC 9112 section 3.2.2: it overrides Host
    if not hosts or not hosts[0]:
        return Sniff.NONE
    return host_of(_PORT.sub(b"", hosts[0]))
