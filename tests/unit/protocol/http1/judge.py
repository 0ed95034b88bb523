"""A strict reader of HTTP/1 streams, by RFC 9112's grammar, that shares nothing with the core.

It sees only what an origin or a client received and says what is wrong with it. ``dangerous``: two
recipients may see different messages in it. ``odd``: octets that the grammar forbids, without that effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_URI = frozenset(b"%-._~!$&'()*+,;=:@/?[]0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset(b"0123456789")
_HEX = frozenset(b"0123456789abcdefABCDEF")


@dataclass
class Message:
    start: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    whole: bool = False


@dataclass
class Judgement:
    messages: list[Message] = field(default_factory=list)
    dangerous: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    rest: bytes = b""  # after the last whole message


def judge_requests(stream: bytes) -> Judgement:
    """Everything that an origin received on one connection."""
    verdict = Judgement(rest=stream)
    while verdict.rest and not verdict.dangerous:
        head, sep, rest = verdict.rest.partition(b"\r\n\r\n")
        if not sep:
            return verdict
        message = _head(head, verdict)
        words = message.start.split(b" ")
        if len(words) != 3 or not words[0] or set(words[0]) - _TCHAR or words[2] != b"HTTP/1.1":
            verdict.dangerous.append("request line")
        elif words[1][:1] != b"/" and words[1] != b"*":
            verdict.dangerous.append("request target")
        elif set(words[1]) - _URI:
            verdict.odd.append("target's octets")
        if sum(name == b"host" for name, _ in message.fields) != 1:
            verdict.dangerous.append("Host")
        verdict.messages.append(message)
        verdict.rest = _body(message, rest, verdict, 0)
        if not message.whole:
            return verdict
    return verdict


def judge_response(stream: bytes, closed: bool, method: str = "GET") -> Judgement:
    """Everything that a client received as the answer to one request."""
    verdict = Judgement(rest=stream)
    while not verdict.dangerous:
        head, sep, rest = verdict.rest.partition(b"\r\n\r\n")
        if not sep:
            return verdict
        message = _head(head, verdict)
        version, _, status_reason = message.start.partition(b" ")
        status = status_reason[:3]
        if (
            version != b"HTTP/1.1"
            or len(status) != 3
            or set(status) - _DIGITS
            or status_reason[3:4] not in (b" ",)
        ):
            verdict.dangerous.append("status line")
            return verdict
        verdict.messages.append(message)
        if status[:1] == b"1" or status in (b"204", b"304") or method == "HEAD":
            message.whole = True
            verdict.rest = rest
            if status[:1] in (b"1",) or status == b"204":
                if any(name in (b"content-length", b"transfer-encoding") for name, _ in message.fields):
                    verdict.dangerous.append("length without body")
                if status[:1] == b"1" and status != b"101":
                    continue
            return verdict
        framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in message.fields)
        verdict.rest = _body(message, rest, verdict, None if not framed and closed else 0)
        return verdict
    return verdict


def _head(head: bytes, verdict: Judgement) -> Message:
    lines = head.split(b"\r\n")
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            verdict.dangerous.append("CR, LF or NUL in a line")
        elif any((octet < 32 and octet != 9) or octet == 127 for octet in line):
            verdict.odd.append("control character")
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or set(name) - _TCHAR:
            verdict.dangerous.append("field name")
        elif bytes(c for c in name.lower() if c in b"abcdefghijklmnopqrstuvwxyz") in (
            b"contentlength",
            b"transferencoding",
        ) and name.lower() not in (b"content-length", b"transfer-encoding"):
            verdict.odd.append("a name like one of framing")
        fields.append((name.lower(), value.strip(b" \t")))
    return Message(lines[0], fields)


def _body(message: Message, data: bytes, verdict: Judgement, default: int | None) -> bytes:
    lengths = [value for name, value in message.fields if name == b"content-length"]
    codings = [value for name, value in message.fields if name == b"transfer-encoding"]
    if (lengths and codings) or len(lengths) > 1 or len(codings) > 1:
        verdict.dangerous.append("two framings")
    elif codings:
        if codings[0] != b"chunked":
            verdict.dangerous.append("transfer coding")
        return _chunks(message, data, verdict)
    elif lengths:
        if not lengths[0] or set(lengths[0]) - _DIGITS or len(lengths[0]) > 18:
            verdict.dangerous.append("Content-Length")
            return data
        default = int(lengths[0])
    if default is None:
        message.body, message.whole = data, True
        return b""
    message.body = data[:default]
    message.whole = len(data) >= default
    return data[default:]


def _chunks(message: Message, data: bytes, verdict: Judgement) -> bytes:
    while True:
        line, sep, rest = data.partition(b"\r\n")
        if not sep:
            if set(line) - _HEX - {13}:
                verdict.dangerous.append("chunk size")
            return data
        if not line or set(line) - _HEX or len(line) > 15:
            verdict.dangerous.append("chunk size")
            return data
        size = int(line, 16)
        if size == 0:
            break
        message.body += rest[:size]
        if len(rest) < size + 2:
            return data
        if rest[size : size + 2] != b"\r\n":
            verdict.dangerous.append("chunk's end")
            return data
        data = rest[size + 2 :]
    while True:
        line, sep, rest = rest.partition(b"\r\n")
        if not sep:
            return rest
        if not line:
            message.whole = True
            return rest
        trailer = _head(b"x\r\n" + line, verdict)
        if trailer.fields[0][0] in (b"content-length", b"transfer-encoding", b"host"):
            verdict.dangerous.append("framing in trailers")
