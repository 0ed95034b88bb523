"""A file that is too large to be kept: a form that is read in parts, as they arrive.

The framework's own reader of such forms loses an octet of a file where a read ends within what could be the
beginning of a boundary. This one holds back as many octets as a boundary has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from werkzeug.http import parse_options_header

from webui.patience import more_time

# What is read at once. Less costs a call for each; more holds memory for each upload.
CHUNK = 256 * 1024
# What is handed on at once. Less costs control more calls (it reads 8 MiB at most); more is held in the
# console's memory, one and a half times.
PART = 4 << 20
# A field's head, and its text: the token, or a box that is ticked.
MAX_HEAD = 2_048
MAX_FIELD = 1_024
MAX_FIELDS = 8


class BrokenFormError(ValueError):
    """It is no form with a file at its end, or its sender went away."""


class Stream(Protocol):
    """Where a form comes from."""

    def read(self, most: int) -> bytes:
        """At most so many octets; none at the end."""


class _Reader:
    """What has arrived and is not used yet."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray(b"\r\n")  # so that the first boundary is like the others

    def _more(self) -> None:
        data = self._stream.read(CHUNK)
        if not data:
            raise BrokenFormError("it ended too soon")
        more_time()
        self._buffer += data

    def until(self, end: bytes, limit: int) -> bytes:
        """What is before ``end``, of ``limit`` octets at most; both are used up."""
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > limit + len(end):
                raise BrokenFormError("a field is too long")
            self._more()
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        if len(found) > limit:
            raise BrokenFormError("a field is too long")
        return found

    def pass_on(self, end: bytes, take: Callable[[bytes], None]) -> None:
        """Give ``take`` what is before ``end``, in parts of PART octets but for the last."""
        seen = 0  # up to where there is no end
        while (at := self._buffer.find(end, seen)) < 0:
            seen = max(0, len(self._buffer) - len(end) + 1)
            while seen >= PART:
                take(bytes(self._buffer[:PART]))
                del self._buffer[:PART]
                seen -= PART
            self._more()
        for start in range(0, at, PART):
            take(bytes(self._buffer[start : min(start + PART, at)]))
        del self._buffer[: at + len(end)]


def read_form(
    stream: Stream, boundary: str, begin: Callable[[dict[str, str], str], Callable[[bytes], None]]
) -> None:
    """Read a multipart form (RFC 7578) up to the end of its first file.

    ``begin`` gets the fields before the file and its name, and returns what takes the file's parts, each
    of PART octets but the last. What either raises ends the reading. BrokenFormError.
    """
    if not boundary:
        raise BrokenFormError("no form")
    reader = _Reader(stream)
    line = b"\r\n--" + boundary.encode("latin-1", "replace")
    fields: dict[str, str] = {}
    reader.until(line, MAX_FIELD)
    for _ in range(MAX_FIELDS):
        name, filename = _head(reader.until(b"\r\n\r\n", MAX_HEAD))
        if filename is not None:
            reader.pass_on(line, begin(fields, filename))
            return
        fields[name] = reader.until(line, MAX_FIELD).decode("utf-8", "replace")
    raise BrokenFormError("too many fields")


def _head(lines: bytes) -> tuple[str, str | None]:
    """A field's name; its file's, where it is one."""
    for line in lines.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            options = parse_options_header(value)[1]
            return options.get("name", ""), options.get("filename")
    raise BrokenFormError("a field without a name")


def drain(stream: Stream) -> None:
    """Read what is left: a browser that is still sending hears no answer."""
    while stream.read(CHUNK):
        more_time()
