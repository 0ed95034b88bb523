"""SVCB and HTTPS records (RFC 9460): the addresses that they hint at, and the keys of ECH taken out. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.protocol import dns

_MANDATORY, _IPV4_HINT, _ECH, _IPV6_HINT = 0, 4, 5, 6
_MAPPED = bytes(10) + b"\xff\xff"
_NAME_AT = 2  # behind the priority


def _parameters(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each parameter: its key, where it begins, where it ends. Stops where the data is malformed."""
    try:
        at = dns.skip_name(data, _NAME_AT)
    except dns.DnsError:
        return
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            return
        yield int.from_bytes(data[at : at + 2], "big"), at, end
        at = end


def hints(data: bytes) -> list[bytes]:
    """Addresses that a client may go to without asking for them (section 7.3): 16 octets, IPv4 mapped."""
    found: list[bytes] = []
    for key, at, end in _parameters(data):
        size = {_IPV4_HINT: 4, _IPV6_HINT: 16}.get(key, 0)
        if size and (end - at - 4) % size == 0:
            for one in range(at + 4, end, size):
                found.append((_MAPPED if size == 4 else b"") + data[one : one + size])
    return found


def without_ech(data: bytes) -> bytes | None:
    """The data without the keys of ECH; None for a record that means nothing without them."""
    out, kept = bytearray(), 0
    for key, at, end in _parameters(data):
        if key == _MANDATORY and _ECH in _numbers(data[at + 4 : end]):
            return None
        if key == _ECH:
            out += data[kept:at]
            kept = end
    return bytes(out + data[kept:])


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
