"""What a rate leaves of a flow of datagrams."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.proxy.bucket import BURST, Bucket


def test_each_way_by_itself() -> None:
    bucket = Bucket(0.0)
    assert bucket.passes(1_000, True, BURST, 0.0)
    assert not bucket.passes(1_000, True, 1, 0.0)
    assert bucket.passes(1_000, False, BURST, 0.0)
    assert not bucket.passes(1_000, True, 501, 0.5)
    assert bucket.passes(1_000, True, 500, 0.5)


@given(
    st.integers(4_096, 10_000_000),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 65_535)), max_size=60),
)
def test_never_more_than_the_rate_and_a_burst(rate: int, sent: list[tuple[float, int]]) -> None:
    bucket, now, passed = Bucket(0.0), 0.0, 0
    for pause, size in sent:
        now += pause
        if bucket.passes(rate, True, size, now):
            passed += size
        assert passed <= max(rate, BURST) + rate * now + 1
