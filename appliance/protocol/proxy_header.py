"""The PROXY protocol, version 2 (HAProxy's proxy-protocol.txt, section 2.2): who a connection is from."""

from __future__ import annotations

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_2_PROXY = 0x21
_TCP_OVER_IPV4 = 0x11


def version_2(source: bytes, source_port: int, target: bytes, target_port: int) -> bytes:
    """The header for a TCP connection between two IPv4 endpoints (addresses of four octets)."""
    ports = source_port.to_bytes(2, "big") + target_port.to_bytes(2, "big")
    body = source + target + ports
    return _SIGNATURE + bytes((_VERSION_2_PROXY, _TCP_OVER_IPV4)) + len(body).to_bytes(2, "big") + body
