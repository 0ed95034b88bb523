"""Answers that the proxy makes itself, as octets."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from appliance.protocol.http1.grammar import NAME, VALUE
from appliance.protocol.http1.request import Request
from appliance.protocol.http1.request_line import Kind

_NO_BODY = frozenset((204, 304))
# RFC 9110 section 9.3.6: no length fields in a granted CONNECT; what follows the head is the tunnel.
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE, CONNECT"


def phrase(status: int) -> str:
    """The reason phrase that RFC 9110 gives a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def answer(
    status: int,
    fields: Iterable[tuple[str, str]],
    content: bytes = b"",
    *,
    head_only: bool = False,
    keep: bool = False,
) -> bytes:
    """A whole response. ``head_only`` for HEAD: it has the length of what GET would have got.

    Raises ValueError on a field that would not be one line (no text of a client's may break out of it).
    """
    lines = [f"HTTP/1.1 {status} {phrase(status)}".encode()]
    for name, value in fields:
        raw = value.encode("latin-1", "replace")
        if NAME.fullmatch(name.encode()) is None or VALUE.fullmatch(raw) is None:
            raise ValueError(f"{name} is no field line")
        lines.append(name.encode() + b": " + raw)
    if status not in _NO_BODY:
        lines.append(b"Content-Length: %d" % len(content))
    if not keep:
        lines.append(b"Connection: close")
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head if head_only or status in _NO_BODY else head + content


def own_answer(request: Request, fields: Iterable[tuple[str, str]] = (), *, keep: bool) -> bytes:
    """The answer to a request that is for the proxy itself (Kind.SELF): TRACE or OPTIONS."""
    assert request.kind is Kind.SELF
    if request.method == "TRACE":
        return answer(200, [("Content-Type", "message/http"), *fields], request.reflection(), keep=keep)
    return answer(204, [("Allow", METHODS), *fields], keep=keep)
