"""First octets of every protocol that a listener takes, in every length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.protocol.proxy_sniff import Told, tell
from tests.unit.protocol.test_sniff import HELLO


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"GET http://a/ HTTP/1.1\r\n", Told.HTTP),
        (b"\r\nCONNECT a:443 HTTP/1.1\r\n", Told.HTTP),
        (b"M-SEARCH * HTTP/1.1\r\n", Told.HTTP),
        pytest.param(HELLO, Told.TLS, id="hello"),  # whose octets are others each time
        (b"\x05\x01\x00", Told.SOCKS5),
        (b"\x04\x01\x00\x50", Told.SOCKS4),
        (b"\x04\x09", Told.UNKNOWN),
        (b"\x16\x03\x01\x00\x05\x02", Told.UNKNOWN),
        (b"\x16\x02", Told.UNKNOWN),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Told.UNKNOWN),
        (b"get / HTTP/1.1", Told.UNKNOWN),
        (b"\nGET ", Told.UNKNOWN),
        (b"A" * 33, Told.UNKNOWN),
        (b"\0", Told.UNKNOWN),
    ],
)
def test_told(data: bytes, told: Told) -> None:
    assert tell(data) is told
    for end in range(len(data)):
        assert tell(data[:end]) in (Told.MORE, told)


@given(st.sampled_from([b"", b"\r\n", b"GET", b"\x16\x03\x01\x00\x05", b"\x04"]), st.binary(max_size=8))
def test_more_octets_never_change_an_answer(start: bytes, rest: bytes) -> None:
    data = start + rest
    told = tell(data)
    assert all(tell(data[:end]) in (Told.MORE, told) for end in range(len(data)))
