"""Which names a request may come by. Pure.

A page from elsewhere can have its own name lead to the box (DNS rebinding) and then read the console as if
it were its own. Its name is in Host then, and no such name is the box's: those are addresses, names without a
dot, the box's own under an ending that nobody can register, and what console.names lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

# RFC 6762, RFC 8375, ICANN's reservation of 2024, and what home routers use.
PRIVATE_ENDINGS = frozenset({"local", "home.arpa", "internal", "lan", "home"})


def host_of(field: str) -> str | None:
    """The host in a Host field, without its port and in small letters; None where it is no host."""
    text = field.strip().lower()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not _is_port(rest)):
            return None
        try:
            return str(ip_address(host)) if ":" in host else None
        except ValueError:
            return None
    host, colon, port = text.partition(":")
    if colon and not _is_port(f":{port}"):
        return None
    return host.removesuffix(".") or None


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isdecimal() and len(text) <= 6


def is_ours(field: str, names: Iterable[str]) -> bool:
    """Whether a request with this Host is for the box; ``names``: its own first, then others."""
    host = host_of(field)
    if host is None:
        return False
    try:
        ip_address(host)
        return True
    except ValueError:
        pass
    own, *others = names
    label, dot, ending = host.partition(".")
    if not dot or host in others:
        return True
    return label == own.lower() and ending in PRIVATE_ENDINGS
