"""What RFC 9110 and RFC 9112 let a message be made of, every limit by name, and the one refusal.

All patterns are possessive and without nested optional parts, so each is linear in the length of its input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

# The whole head. Less breaks sign-on systems with many cookies; more is memory that a slow client holds.
MAX_HEAD = 65_536
# Lines of fields. Browsers send about 20, a page behind several CDNs answers with 60.
MAX_FIELDS = 256
# RFC 9112 section 2.2: at least one empty line before a request is to be skipped, for old clients.
MAX_EMPTY_LINES = 2
# A chunk's size with its extensions, which nobody uses.
MAX_CHUNK_LINE = 1_024
# Octets of chunk framing beyond twice the data: one octet a chunk with long extensions is an attack.
MAX_CHUNK_EXCESS = 16_384
MAX_TRAILERS = 8_192
# Interim responses before the final one. Real servers send one 100, one 103, a few 102 in a long job.
MAX_INTERIM = 32
# What a client may send ahead while its last request is being answered.
MAX_PIPELINED = 65_536
# Digits of Content-Length: 10^18 octets, and no number that a C program would have to wrap.
MAX_LENGTH_DIGITS = 18

CHUNKED = -1
"""A body's length when it comes in chunks (RFC 9112 section 7.1)."""
UNTIL_CLOSE = -2
"""A body's length when only the end of the connection ends it (RFC 9112 section 6.3, rule 8)."""

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# RFC 9112 section 5: no space before the colon, no folded lines, no CR, LF or NUL inside; obs-text is data.
FIELD_LINES = rb"(?:" + TOKEN + rb"++:[\t -~\x80-\xff]*+\r\n){0,%d}+" % MAX_FIELDS

# A line's end that is none, or a NUL. None of them may stand anywhere in a head.
STRAY = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|\0")
LENGTH = re.compile(rb"[0-9]{1,%d}" % MAX_LENGTH_DIGITS)
NAME = re.compile(TOKEN + rb"++")
TOKEN_LIST = re.compile(rb"[\t ,]*+(?:" + TOKEN + rb"++[\t ]*+(?:,[\t ,]*+|$))*+")
VALUE = re.compile(rb"[\t -~\x80-\xff]*+")

# Connection may name fields that are meant for the next hop alone. Whoever names one of these wants the
# next server to read another message than we did (RFC 9110 section 7.6.1).
NEVER_HOP_BY_HOP = frozenset(
    b"host content-length transfer-encoding content-encoding content-type content-range content-location "
    b"trailer via max-forwards expect authorization cookie set-cookie cache-control date range".split()
)


class Refused(Exception):  # noqa: N818 -- named for what happened
    """A message that is not carried. Whoever sent it is at fault; its connection is closed after the answer.

    ``status`` is what the client is told, ``reason`` says why in words that can be shown, and ``error`` is
    the Proxy-Status error type (RFC 9209 section 2.3).
    """

    def __init__(self, status: int, reason: str, error: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.error = error


def bad_request(reason: str, status: int = 400) -> Refused:
    """The client's fault."""
    return Refused(status, reason, "http_request_error")


def bad_response(reason: str, error: str = "http_protocol_error") -> Refused:
    """The origin's fault."""
    return Refused(502, reason, error)


def fields_pattern(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Finds the fields with one of these names in a validated head in lower case: (name, value) each.

    Begins with a literal line feed, which the matcher skips to at the speed of memchr; names are grouped by
    their first letter, so that other fields cost one look. The value still has its white space: cutting it
    off in the pattern would take quadratic time over a long run of spaces. Names may be patterns.
    """
    by_letter: dict[bytes, list[bytes]] = {}
    for name in names:
        by_letter.setdefault(name[:1], []).append(name[1:])
    groups = (letter + b"(?:" + b"|".join(rest) + b")" for letter, rest in sorted(by_letter.items()))
    return re.compile(rb"\n(" + b"|".join(groups) + rb"):([^\r]*+)\r")


@lru_cache(maxsize=256)
def values_pattern(name: str) -> re.Pattern[bytes]:
    """Finds the values of one field in a validated head, however its name is spelt.

    Begins with a literal line feed too: re.IGNORECASE would try every octet.
    """
    letters = "".join(f"[{c}{c.upper()}]" if c.isalpha() else re.escape(c) for c in name.lower())
    return re.compile(rb"\n" + letters.encode() + rb":([^\r]*+)")


def nominated(connection: bytes) -> set[bytes]:
    """The field names in the value of Connection (RFC 9110 section 7.6.1), in lower case.

    Raises ValueError if it is no list of tokens, or names a field that is for every recipient.
    """
    if TOKEN_LIST.fullmatch(connection) is None:
        raise ValueError("Connection is no list of names")
    names = {part.strip(b" \t") for part in connection.lower().split(b",")} - {b""}
    if names & NEVER_HOP_BY_HOP:
        raise ValueError("Connection names a field that is for every recipient")
    return names


def without(lines: bytes, names: set[bytes]) -> bytes:
    """Field lines, each with CRLF before it, less those with one of the names."""
    kept = [line for line in lines.split(b"\r\n")[1:] if line.partition(b":")[0].lower() not in names]
    return b"".join(b"\r\n" + line for line in kept)
