"""Bundles: taken in any portions, refused by name for whatever is wrong with them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.update.bundle import Reader
from appliance.update.manifest import MAX_MANIFEST, PREFIX, Running, judge
from appliance.update.versions import UpdateError, order
from tests.unit.update.wares import CONTENT, KEY, NEW, OTHER_KEY, RUNNING, bundle

PUBLIC = KEY.public_key()
GOOD = bundle()


def read(*portions: bytes, running: Running = RUNNING) -> dict[str, bytes]:
    """The pieces of a bundle that comes in portions; UpdateError."""
    reader = Reader(PUBLIC, running)
    found: dict[str, bytes] = {}
    for data in portions:
        for piece, part in reader.feed(data):
            found[piece.name] = found.get(piece.name, b"") + part
    reader.finish()
    return found


def code(*portions: bytes, running: Running = RUNNING) -> str:
    """Why it is refused."""
    with pytest.raises(UpdateError) as caught:
        read(*portions, running=running)
    assert caught.value.message
    return caught.value.code


@pytest.mark.parametrize("size", (1, 7, PREFIX, 1_000, 1 << 20))
def test_any_portions(size: int) -> None:
    octets = GOOD.octets
    assert read(*(octets[at : at + size] for at in range(0, len(octets), size))) == CONTENT


@given(st.integers(0, len(GOOD.octets) - 1), st.integers(1, 255))
def test_no_flipped_octet_is_taken(place: int, change: int) -> None:
    octets = bytearray(GOOD.octets)
    octets[place] ^= change
    assert code(bytes(octets)) in ("tampered", "wrong-key", "not-an-update", "truncated")


@given(st.integers(0, len(GOOD.octets) - 1))
def test_no_beginning_is_taken(length: int) -> None:
    assert code(GOOD.octets[:length]) == "truncated"


@given(st.binary(max_size=300))
def test_anything_is_refused(octets: bytes) -> None:
    code(octets)


@given(st.binary(min_size=1, max_size=200))
def test_a_manifest_that_is_signed_and_no_manifest(body: bytes) -> None:
    """The owner's key does not make nonsense good."""
    from appliance.update.manifest import MAGIC, key_id

    signature = KEY.sign(MAGIC + body)
    octets = MAGIC + key_id(PUBLIC) + signature + len(body).to_bytes(4, "big") + body
    assert code(octets) in ("not-an-update", "truncated")


def test_what_is_refused_and_why() -> None:
    assert code(bundle(key=OTHER_KEY).octets) == "wrong-key"
    assert code(bundle(product="isthmus-arm64").octets) == "wrong-product"
    assert code(bundle(version="0.9.9").octets) == "older"
    assert code(bundle(version="1.0.0").octets) == "same"
    assert code(bundle(least="1.0.1").octets) == "too-far"
    assert code(GOOD.octets + b"x") == "tampered"
    assert code(b"PK\3\4" + bytes(400)) == "not-an-update"
    assert code(GOOD.octets[: PREFIX - 4] + (MAX_MANIFEST + 1).to_bytes(4, "big") + bytes(99)) == "tampered"


def test_the_floor_outlives_a_fall_back() -> None:
    """1.2 was kept here once: 1.1 would be a step back, whatever runs now."""
    assert code(GOOD.octets, running=Running("1.0.0", "1.2.0")) == "older"


def test_a_bad_head_is_refused_before_any_piece() -> None:
    reader = Reader(PUBLIC, RUNNING)
    with pytest.raises(UpdateError):
        next(reader.feed(bundle(version="0.5").head + b"r"))
    assert reader.manifest is None


def test_order() -> None:
    versions = ["0.9", "1.0", "1.0.1", "1.9", "1.10", "1.10.0.1", "2.0"]
    assert sorted(versions, key=order) == versions
    assert order("1.0") == order("1.0.0")
    for text in ("", "1", "1.", "01.2", "1.2.3.4.5", "v1.2", "1.2-rc1", "1.2\n", "1.1234567"):
        with pytest.raises(UpdateError):
            order(text)


def test_judge_says_nothing_of_a_good_one() -> None:
    judge(GOOD.manifest, RUNNING)
    assert GOOD.manifest.version == NEW
