"""How this proxy names itself to its neighbours in Via, and knows a request that it has seen before."""

from __future__ import annotations

import re

_PSEUDONYM = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,62}")


class Hop:
    """One proxy on a message's way (RFC 9110 section 7.6.3).

    ``pseudonym`` stands for the box's name and address, which nobody upstream is to learn. It must differ
    between boxes that may forward to each other: a request that carries ours already has been here, and is
    a loop. Without a pseudonym there is no Via, and the engine must know loops by itself (it refuses to
    dial its own addresses).
    """

    __slots__ = ("_seen", "via")

    def __init__(self, pseudonym: str | None) -> None:
        if pseudonym is not None and _PSEUDONYM.fullmatch(pseudonym) is None:
            raise ValueError("a pseudonym is letters, digits and hyphens")
        name = (pseudonym or "").encode()
        # The field line by the minor version that a message came with, with CRLF before it.
        self.via: tuple[bytes, bytes] = (
            (b"\r\nVia: 1.0 " + name, b"\r\nVia: 1.1 " + name) if name else (b"", b"")
        )
        self._seen = re.compile(
            rb"(?:^|,)[\t ]*+[^\t ,]++[\t ]++" + re.escape(name.lower()) + rb"(?![^\t ,])"
        )

    def has_passed(self, via: bytes) -> bool:
        """Whether a Via value (in lower case) names this hop."""
        return bool(self.via[0]) and self._seen.search(via) is not None
