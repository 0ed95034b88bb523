"""Bodies in chunks (RFC 9112 section 7.1): read strictly, framed anew without extensions."""

from __future__ import annotations

import re
from enum import IntEnum

from appliance.protocol.http1.grammar import (
    FIELD_LINES,
    MAX_CHUNK_EXCESS,
    MAX_CHUNK_LINE,
    MAX_TRAILERS,
    STRAY,
    TOKEN,
    without,
)

_QUOTED = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
# A chunk's line. White space before the line's end is no extension, and so is an error.
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,15}+)"
    rb"(?:[\t ]*+;[\t ]*+" + TOKEN + rb"++(?:[\t ]*+=[\t ]*+(?:" + TOKEN + rb"++|" + _QUOTED + rb"))?+)*+\r\n"
)
# A chunk's line up to this length costs no more than its data allows for, whatever its size.
_FREE_LINE = 14
_TRAILERS = re.compile(FIELD_LINES + rb"\r\n")
_NAMES = re.compile(rb"(?:\A|\r\n)([^:\r]++):")

# A recipient that merges one of these into the head reads another message than we did.
_FRAMING = frozenset(b"content-length transfer-encoding host content_length transfer_encoding".split())
# RFC 9110 section 6.5.1: not in trailers: routing, modifiers, authentication, control, how content is read.
_NOT_IN_TRAILERS = frozenset(
    b"connection proxy-connection keep-alive te trailer upgrade via forwarded x-forwarded-for max-forwards "
    b"expect range authorization proxy-authorization proxy-authenticate proxy-authentication-info "
    b"www-authenticate authentication-info cookie set-cookie content-encoding content-type content-range "
    b"content-location cache-control age date expires location retry-after vary warning pragma "
    b"if-match if-none-match if-modified-since if-unmodified-since if-range proxy-status".split()
)


class ChunkError(ValueError):
    """The body is not framed as it says; its end can no longer be told."""


class _Part(IntEnum):
    SIZE = 0  # before a chunk's line
    DATA = 1  # inside its data
    END = 2  # before the CRLF after the data
    TRAILERS = 3
    DONE = 4


_SIZE_LINE, _DATA, _END, _TRAILER_SECTION, _DONE = _Part


class Chunked:
    """Reads one body. ``feed`` may be called with any pieces until ``done``; ``rest`` is what follows it."""

    __slots__ = ("_excess", "_held", "_left", "_part", "_reframe", "_seen", "content", "done", "rest")

    def __init__(self, reframe: bool) -> None:
        """``reframe``: give out chunks of our own, with the end and trailers; else the bare content."""
        self._part = _SIZE_LINE
        self._left = 0
        self._held = b""  # the beginning of a line
        self._excess = 0
        self._seen = 0  # octets of the trailers that hold no end of them
        self._reframe = reframe
        self.content = 0  # octets of it up to here
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """What to send on for these octets, in one new chunk at the most; raises ChunkError."""
        if self._held:
            data = self._held + data
            self._held = b""
        out: list[bytes] = []
        at, end = 0, len(data)
        trailers: bytes | None = None
        while at < end:
            part = self._part
            if part is _DATA:
                piece = data[at : at + self._left]
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._part = _END
            elif part is _END:
                if data[at : at + 2] != b"\r\n":
                    if end - at < 2 and data[at] == 13:
                        self._held = data[at:]
                        break
                    raise ChunkError("A chunk is longer than it says.")
                at += 2
                self._part = _SIZE_LINE
            elif part is _SIZE_LINE:
                match = _SIZE.match(data, at, at + MAX_CHUNK_LINE)
                if match is None:
                    self._hold_line(data, at)
                    break
                size, start = int(match[1], 16), match.end()
                if self._excess or start - at > _FREE_LINE:
                    self._spend(start - at, size)
                at, stop = start, start + size
                if not size:
                    self._part = _TRAILER_SECTION
                elif data[stop : stop + 2] == b"\r\n":
                    # The whole chunk is here. Small ones by the thousand are how this is made to cost most.
                    out.append(data[start:stop])
                    at = stop + 2
                else:
                    self._left = size
                    self._part = _DATA
            else:
                section = self._trailers(data, at)
                if section is None:
                    break
                trailers = _filtered(section)
                self._part = _DONE
                self.done = True
                self.rest = data[at + len(section) :]
                break
        return self._framed(out, trailers)

    def _framed(self, out: list[bytes], trailers: bytes | None) -> bytes:
        content = out[0] if len(out) == 1 else b"".join(out)
        self.content += len(content)
        if not self._reframe:
            return content
        framed = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
        return framed if trailers is None else framed + b"0\r\n" + trailers + b"\r\n"

    def _spend(self, line: int, size: int) -> None:
        """Bounds what framing may cost beside the data that it frames."""
        self._excess = max(0, self._excess + line + 2 - 16 - 2 * size)
        if self._excess > MAX_CHUNK_EXCESS:
            raise ChunkError("The chunks are nearly all framing.")

    def _hold_line(self, data: bytes, at: int) -> None:
        line = data[at:]
        if b"\n" in line or STRAY.search(line) or len(line) >= MAX_CHUNK_LINE:
            raise ChunkError("A chunk's size is malformed.")
        self._held = line

    def _trailers(self, data: bytes, at: int) -> bytes | None:
        """The trailer section with its empty line; None if it is not whole. Looks at no octet twice."""
        if data[at : at + 2] == b"\r\n":
            return b"\r\n"
        new = max(at, at + self._seen - 3)
        stop = data.find(b"\r\n\r\n", new) + 4
        size = (len(data) if stop == 3 else stop) - at
        if STRAY.search(data, new, at + min(size, MAX_TRAILERS + 1)):
            raise ChunkError("The trailers are malformed.")
        if size > MAX_TRAILERS:
            raise ChunkError("The trailers are too large.")
        if stop == 3:
            self._held = data[at:]
            self._seen = size
            return None
        if _TRAILERS.fullmatch(data, at, stop) is None:
            raise ChunkError("The trailers are malformed.")
        return data[at:stop]


def _filtered(section: bytes) -> bytes:
    """The trailer lines that may go on, each with CRLF after it."""
    if section == b"\r\n":
        return b""
    names = {name.lower() for name in _NAMES.findall(section)}
    if names & _FRAMING:
        raise ChunkError("A trailer would change how the message is framed.")
    lines = without(b"\r\n" + section[:-4], names & _NOT_IN_TRAILERS)
    return lines[2:] + b"\r\n" if lines else b""
