"""When an MTU is told: the intervals of RFC 4861 section 6.2.4 and 6.2.6."""

from __future__ import annotations

from appliance.lan.schedule import (
    INITIAL,
    INITIAL_INTERVAL,
    MAX_DELAY,
    MAX_INTERVAL,
    MIN_BETWEEN,
    MIN_INTERVAL,
    Schedule,
)


def test_the_first_ones_come_close_and_the_others_at_random() -> None:
    schedule, now, waits = Schedule(100.0), 100.0, []
    for _ in range(20):
        assert schedule.due >= now
        waits.append(schedule.due - now)
        now = schedule.due
        schedule.sent(now)
    assert waits[: INITIAL + 1] == [0.0] + [INITIAL_INTERVAL] * INITIAL
    assert all(MIN_INTERVAL <= wait <= MAX_INTERVAL for wait in waits[INITIAL + 1 :])
    assert len(set(waits[INITIAL + 1 :])) > 1


def test_many_who_ask_get_one_answer_soon() -> None:
    schedule = Schedule(100.0)
    schedule.sent(100.0)
    schedule.solicited(110.0)
    assert 110.0 <= schedule.due <= 110.0 + MAX_DELAY
    before = schedule.due
    schedule.solicited(110.0 + MAX_DELAY)
    assert schedule.due == before


def test_asking_all_the_time_does_not_hasten_it() -> None:
    schedule = Schedule(100.0)
    schedule.sent(100.0)
    schedule.solicited(100.1)
    assert schedule.due == 100.0 + MIN_BETWEEN
