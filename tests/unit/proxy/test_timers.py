"""Timers in buckets."""

from __future__ import annotations

from appliance.proxy.timers import Timers


def test_due_in_order_and_asked_again() -> None:
    timers = Timers(100)
    asked: list[tuple[str, int]] = []

    def again(second: int) -> int:
        asked.append(("again", second))
        return second + 2 if second < 105 else 0

    def once(second: int) -> int:
        asked.append(("once", second))
        return 0

    timers.add(103, again)
    timers.add(50, once)  # in the past: the next second
    timers.advance(101)
    assert asked == [("once", 101)]
    timers.advance(103)
    timers.advance(105)
    assert asked == [("once", 101), ("again", 103), ("again", 105)]
    assert len(timers) == 0


def test_a_late_loop_misses_nothing() -> None:
    timers = Timers(0)
    asked: list[int] = []
    for at in range(1, 6):
        timers.add(at, lambda _second, at=at: asked.append(at) or 0)  # type: ignore[misc,func-returns-value]
    timers.advance(60)
    assert asked == [1, 2, 3, 4, 5]
