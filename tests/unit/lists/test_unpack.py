"""gzip by pieces: the same as the library's, a little at a time, and nothing of half a file."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.lists.unpack import STEP, Unpacker, UnpackError


def unpack(data: bytes, size: int) -> bytes:
    out: list[bytes] = []
    unpacker = Unpacker(out.append)
    for at in range(0, len(data), size):
        unpacker.feed(data[at : at + size])
    unpacker.finish()
    return b"".join(out)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 100))
def test_members_in_pieces(first: bytes, second: bytes, size: int) -> None:
    assert unpack(gzip.compress(first) + gzip.compress(second), size) == first + second


@given(st.binary(max_size=100), st.integers(1, 10))
def test_what_is_not_gzip_stays(data: bytes, size: int) -> None:
    if not data.startswith(b"\x1f\x8b"):
        assert unpack(data, size) == data


def test_it_comes_a_little_at_a_time() -> None:
    pieces: list[int] = []
    unpacker = Unpacker(lambda data: pieces.append(len(data)))
    unpacker.feed(gzip.compress(bytes(10 << 20)))
    unpacker.finish()
    assert sum(pieces) == 10 << 20 and max(pieces) <= STEP


@given(st.integers(2, 200))
def test_half_a_file_is_told(end: int) -> None:
    packed = gzip.compress(bytes(range(256)))
    with pytest.raises(UnpackError):
        unpack(packed[: min(end, len(packed) - 1)], 1_000)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_noise_raises_nothing_else(noise: bytes, size: int) -> None:
    try:
        unpack(b"\x1f\x8b" + noise, size)
    except UnpackError:
        pass
    packed = bytearray(gzip.compress(b"some text that is packed" * 10))
    packed[10 : 10 + len(noise)] = noise
    try:
        unpack(bytes(packed), size)
    except UnpackError:
        pass
