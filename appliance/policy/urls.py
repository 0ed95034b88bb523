"""One spelling for all that mean the same URL (RFC 3986 section 6.2.2): no other one gets round a rule.

It is for the policy alone: what goes to the origin stays as the client wrote it.
"""

from __future__ import annotations

import re
from string import ascii_letters, digits

_UNRESERVED = frozenset(ascii_letters + digits + "-._~")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_SLASHES = re.compile(r"/{2,}")


def one_spelling(url: str) -> str:
    """``url`` (host/path?query) without needless escapes, dot segments, and slashes twice in its path.

    Two slashes are not one by the RFC, but servers that serve files take them so.
    """
    if "%" in url:
        url = _ENCODED.sub(_decoded, url)
    path, mark, query = url.partition("?")
    if "//" in path:
        path = _SLASHES.sub("/", path)
    if "/." in path:
        path = _without_dots(path)
    return path + mark + query


def _decoded(found: re.Match[str]) -> str:
    sign = chr(int(found[1], 16))
    return sign if sign in _UNRESERVED else found[0].upper()


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4, for a path that begins with the host."""
    host, *segments = path.split("/")
    out: list[str] = []
    for segment in segments:
        if segment == "..":
            del out[-1:]
        elif segment != ".":
            out.append(segment)
    if segments[-1] in (".", ".."):
        out.append("")
    return "/".join((host, *out))
