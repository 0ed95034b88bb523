"""Host names and literals as clients write them in a request, brought to the one form that policy reads."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

# RFC 1035 section 2.3.4 allows 255 octets on the wire, which is 253 signs and a final dot.
MAX_NAME = 254

# Underscores occur in real names (RFC 2181 section 11 lets a name hold anything); the rest is RFC 1123.
_NAME = re.compile(r"(?=[^.])[0-9A-Za-z_-]{1,63}(?:\.[0-9A-Za-z_-]{1,63})*+\.?")
# A last label such as 7, 0x7f or 017: the C library reads these names as IPv4 addresses, policy would not.
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")
_MAY_END_A_NUMBER = frozenset("0123456789abcdefABCDEFxX.")


@lru_cache(maxsize=4_096)
def host_name(text: str) -> str | None:
    """A DNS name in lower case without its final dot, or an IPv4 address; None for anything else.

    Names whose last label is a number ("127.1", "0x7f000001", "2130706433") are refused unless they are an
    IPv4 address in its one canonical form: whoever resolves them might read an address that no rule saw.
    """
    if len(text) > MAX_NAME or _NAME.fullmatch(text) is None:
        return None
    if text[-1] in _MAY_END_A_NUMBER and _ENDS_IN_A_NUMBER.search(text):
        try:
            return str(IPv4Address(text))
        except AddressValueError:
            return None
    return text.rstrip(".").lower()


def ipv6_literal(text: str) -> str | None:
    """An IPv6 address without brackets in its canonical form (RFC 5952); None if it is none.

    Zone identifiers are refused: they mean an interface of the sender's, which says nothing here.
    """
    if "%" in text:
        return None
    try:
        return str(IPv6Address(text))
    except AddressValueError:
        return None
