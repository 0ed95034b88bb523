"""The lock-out after wrong passwords."""

from __future__ import annotations

from appliance.policy.throttle import (
    FIRST_WAIT,
    FORGET_AFTER,
    FREE_FAILURES,
    MAX_TRACKED,
    MAX_WAIT,
    Throttle,
)


def test_the_throttle_doubles_forgets_and_is_bounded() -> None:
    throttle = Throttle()
    for _ in range(FREE_FAILURES + 1):
        throttle.failed("a", 100.0)
    assert throttle.wait("a", 100.0) == FIRST_WAIT * 2
    for _ in range(40):
        throttle.failed("a", 100.0)
    assert throttle.wait("a", 100.0) == MAX_WAIT
    assert throttle.wait("a", 101.0 + FORGET_AFTER) == 0
    for number in range(MAX_TRACKED + 10):
        throttle.failed(str(number), 0.0)
    assert len(throttle._failures) == MAX_TRACKED


def test_failures_of_long_ago_do_not_add_up() -> None:
    throttle = Throttle()
    for _ in range(FREE_FAILURES - 1):
        throttle.failed("a", 0.0)
    throttle.failed("a", FORGET_AFTER + 1)
    assert throttle.wait("a", FORGET_AFTER + 1) == 0


def test_names_made_up_let_nobody_out() -> None:
    throttle = Throttle()
    for _ in range(40):
        throttle.failed("admin", 100.0)
    for number in range(2 * MAX_TRACKED):
        throttle.failed(str(number), 101.0)
    assert throttle.wait("admin", 101.0) == MAX_WAIT - 1
    assert len(throttle._failures) == MAX_TRACKED
