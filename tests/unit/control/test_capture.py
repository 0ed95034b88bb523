"""Packet capture: what a filter keeps, what the file is, what is refused; and the loopback's own frames."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.control.capture import HEAD, MAX_OCTETS, MAX_SECONDS, SNAP, Captures, Filter, asked, record
from appliance.control.diagnostics import DiagnosticError

MACS = bytes(12)


def four(protocol: int, source: str, target: str, rest: bytes, fragment: int = 0) -> bytes:
    """An IPv4 packet in Ethernet."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(rest), 0, fragment, 64, protocol, 0)
    return MACS + b"\x08\x00" + head + ip_address(source).packed + ip_address(target).packed + rest


def six(next_header: int, source: str, target: str, rest: bytes) -> bytes:
    """An IPv6 packet in Ethernet, in a VLAN."""
    head = struct.pack("!IHBB", 6 << 28, len(rest), next_header, 64)
    tag = b"\x81\x00\x00\x14\x86\xdd"
    return MACS + tag + head + ip_address(source).packed + ip_address(target).packed + rest


PORTS = struct.pack("!HH", 40_000, 443) + bytes(16)
TCP4 = four(6, "192.0.2.1", "198.51.100.7", PORTS)
TCP6 = six(6, "2001:db8::1", "2001:db8::2", PORTS)
# Behind an options header, in a first fragment; and in a later one.
FIRST = six(
    60, "2001:db8::1", "2001:db8::2", bytes((44, 0)) + bytes(6) + struct.pack("!BBHI", 17, 0, 1, 9) + PORTS
)
LATER = six(44, "2001:db8::1", "2001:db8::2", struct.pack("!BBHI", 17, 0, 8 << 3, 9) + PORTS)


@pytest.mark.parametrize(
    ("host", "port", "kept"),
    [
        (None, None, {"TCP4", "TCP6", "FIRST", "LATER", "ARP"}),
        ("198.51.100.7", None, {"TCP4"}),
        ("2001:db8::1", None, {"TCP6", "FIRST", "LATER"}),
        (None, 443, {"TCP4", "TCP6", "FIRST"}),
        (None, 40_000, {"TCP4", "TCP6", "FIRST"}),
        ("192.0.2.1", 443, {"TCP4"}),
        ("192.0.2.1", 80, set()),
    ],
)
def test_what_a_filter_keeps(host: str | None, port: int | None, kept: set[str]) -> None:
    wanted = Filter(ip_address(host) if host else None, port)
    frames = {
        "TCP4": TCP4,
        "TCP6": TCP6,
        "FIRST": FIRST,
        "LATER": LATER,
        "ARP": MACS + b"\x08\x06" + bytes(28),
    }
    assert {name for name, frame in frames.items() if wanted.matches(frame)} == kept


@given(st.binary(max_size=120), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x81\x00"]))
def test_no_frame_is_too_odd(rest: bytes, kind: bytes) -> None:
    assert Filter(ip_address("192.0.2.1"), 443).matches(MACS + kind + rest) in (True, False)
    assert Filter(None, 443).matches(rest) in (True, False)


def test_a_record_tells_the_moment_and_both_lengths() -> None:
    assert record(1.5, b"abc", 9_999) == struct.pack("<IIII", 1, 500_000, 3, 9_999) + b"abc"
    assert HEAD[:4] == b"\xd4\xc3\xb2\xa1"
    assert struct.unpack("<II", HEAD[16:]) == (SNAP, 1)


@pytest.mark.parametrize(
    ("host", "port", "seconds", "octets"),
    [
        ("www.example.org", None, 5, 5_000),
        ("", 0, 5, 5_000),
        ("", 65_536, 5, 5_000),
        ("", None, 0, 5_000),
        ("", None, MAX_SECONDS + 1, 5_000),
        ("", None, 5, MAX_OCTETS + 1),
    ],
)
def test_what_is_refused(host: str, port: int | None, seconds: int, octets: int) -> None:
    with pytest.raises(DiagnosticError):
        asked(host, port, seconds, octets)


def test_without_a_capture_there_is_nothing_to_read() -> None:
    captures = Captures()
    with pytest.raises(DiagnosticError, match="no capture"):
        captures.read(0)
    with pytest.raises(DiagnosticError, match="no device"):
        captures.start("nowhere0", "", None, 5, 5_000)
    assert captures.status()["busy"] is False


@pytest.mark.skipif(os.geteuid() != 0, reason="frames need root")
def test_a_capture_of_the_loopback_stops_when_it_is_full() -> None:
    captures = Captures()
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as there,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here,
    ):
        there.bind(("::1", 0))
        port = there.getsockname()[1]
        captures.start("lo", "::1", port, MAX_SECONDS, 5_000)
        with pytest.raises(DiagnosticError, match="already"):
            captures.start("lo", "", None, 1, 5_000)
        with pytest.raises(DiagnosticError, match="no capture"):
            captures.read(0)
        while captures.status()["busy"]:
            here.sendto(b"needle" * 100, ("::1", port))
    found = captures.status()
    data = captures.read(0)
    assert found["octets"] == len(data) <= 5_000
    assert found["frames"] == data.count(b"needle" * 100) > 3
    assert data.startswith(HEAD)
    assert captures.read(len(data)) == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="frames need root")
def test_a_capture_is_stopped() -> None:
    captures = Captures()
    captures.start("lo", "192.0.2.1", None, MAX_SECONDS, 5_000)
    captures.stop()
    assert captures.status()["busy"] is False
    assert captures.read(0) == HEAD
