"""The loop's timers, over a kernel whose clock the test moves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.proxy import kernel as system
from appliance.proxy import loop as loops
from appliance.proxy.loop import Handler, Loop, Timer

LONG = 1_000.0


class Kernel(system.Kernel):
    """Sleeps by moving its clock; ``busy`` is how long each batch takes to be worked off."""

    def __init__(self) -> None:
        super().__init__(16)
        self.now = 100.0
        self.time = 100.0
        self.busy = 0.0
        self.slept: list[float] = []
        self.ready: list[tuple[int, int]] = []

    def clock(self) -> float:
        return self.time

    def wait(self, seconds: float) -> int:
        assert seconds >= 0
        self.slept.append(seconds)
        if not self.ready:
            self.time += seconds
        self.now = self.time
        self.time += self.busy
        return len(self.ready)

    def event_fd(self, index: int) -> int:
        return self.ready[index][0]

    def event_mask(self, index: int) -> int:
        return self.ready[index][1]


def turn(loop: Loop, seconds: float = LONG) -> None:
    loop.dispatch(loop.wait(seconds))


def test_called_when_due_and_once() -> None:
    kernel = Kernel()
    loop = Loop(kernel)
    called: list[float] = []
    loop.at(0.25, lambda: called.append(loop.now))
    turn(loop, 0.1)
    assert called == []
    turn(loop)
    assert called == [100.25]
    turn(loop)
    assert called == [100.25]
    assert kernel.slept[-1] == LONG  # nothing is left to wake for


def test_a_batch_that_took_long_is_counted_in() -> None:
    kernel = Kernel()
    loop = Loop(kernel)
    loop.at(0.05, lambda: None)
    kernel.time += 0.04  # since ``now``
    loop.wait(LONG)
    assert abs(kernel.slept[-1] - 0.01) < 1e-9


def test_a_cancelled_one_wakes_nobody() -> None:
    kernel = Kernel()
    loop = Loop(kernel)
    called: list[str] = []
    timer = loop.at(0.1, lambda: called.append("cancelled"))
    loop.at(0.2, lambda: called.append("kept"))
    timer.cancel()
    timer.cancel()
    turn(loop)
    assert abs(kernel.slept[-1] - 0.2) < 1e-9
    assert called == ["kept"]


def test_events_come_before_timers_of_the_same_batch() -> None:
    kernel = Kernel()
    loop = Loop(kernel)
    order: list[str] = []

    class Peer(Handler):
        def on_event(self, events: int) -> None:
            order.append("event")
            timer.cancel()  # as a dial does that has succeeded at the last moment

    timer = loop.at(0.1, lambda: order.append("timer"))
    loop.hand_to(5, Peer())
    kernel.time += 0.2
    kernel.ready = [(5, 1)]
    turn(loop)
    assert order == ["event"]


def test_one_made_by_another_waits_for_the_next_batch() -> None:
    loop = Loop(Kernel())
    called: list[int] = []

    def again() -> None:
        called.append(len(called))
        loop.at(0.0, again)

    loop.at(0.0, again)
    turn(loop)
    assert called == [0]
    turn(loop)
    assert called == [0, 1]


def test_what_is_cancelled_does_not_pile_up() -> None:
    loop = Loop(Kernel())
    kept: list[str] = []
    loop.at(1.0, lambda: kept.append("kept"))
    # Each holds its successor: were all of them kept, so would be the first.
    freed: list[int] = []

    class Big:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            freed.append(self.number)

        def call(self) -> None: ...

    for number in range(4 * loops.MAX_CANCELLED):
        loop.at(60.0, Big(number).call).cancel()
        assert len(freed) == number + 1
    turn(loop)
    assert kept == ["kept"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["at", "cancel", "turn"]),
            st.floats(0, 2, allow_nan=False),
            st.integers(0, 20),
        ),
        max_size=60,
    )
)
def test_whatever_is_asked(script: list[tuple[str, float, int]]) -> None:
    """Never early, never after a cancel, each once, in the order of their times, and none slept past."""
    kernel = Kernel()
    kernel.busy = 0.01
    loop = Loop(kernel)
    timers: list[tuple[float, Timer]] = []
    alive: dict[int, float] = {}
    called: list[tuple[float, int]] = []

    def action(number: int) -> Any:
        def act() -> None:
            due = alive.pop(number)
            assert due <= loop.now
            called.append((due, number))

        return act

    def one_turn(seconds: float) -> None:
        before = kernel.time
        count = loop.wait(seconds)
        if alive:
            assert before + kernel.slept[-1] <= max(min(alive.values()), before) + 1e-6
        start = len(called)
        loop.dispatch(count)
        assert called[start:] == sorted(called[start:])
        assert not [due for due in alive.values() if due <= loop.now]

    for what, seconds, which in script:
        if what == "at":
            number = len(timers)
            timers.append((loop.now + seconds, loop.at(seconds, action(number))))
            alive[number] = timers[-1][0]
        elif what == "cancel" and timers:
            number = which % len(timers)
            timers[number][1].cancel()
            alive.pop(number, None)
        else:
            one_turn(seconds)
    while alive:
        one_turn(LONG)


class Faulty(Handler):
    """Has a mistake in it."""

    def __init__(self) -> None:
        self.abandoned = 0

    def on_event(self, _events: int) -> None:
        raise KeyError("ours")

    def abandon(self) -> None:
        self.abandoned += 1


class Good(Handler):
    def __init__(self) -> None:
        self.events = 0

    def on_event(self, _events: int) -> None:
        self.events += 1


def test_a_fault_costs_one_handler_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others go on, and the journal has where it was; of too many the worker makes an end."""
    monkeypatch.setattr(loops, "MAX_FAULTS", 3)
    kernel = Kernel()
    loop = Loop(kernel)
    faulty, good = Faulty(), Good()
    loop.hand_to(5, faulty)
    loop.hand_to(6, good)
    kernel.ready = [(5, 1), (6, 1)]
    turn(loop)
    loop.later(faulty)
    turn(loop)
    assert (faulty.abandoned, good.events, loop.faults) == (3, 2, 3)
    assert "KeyError: 'ours'" in capsys.readouterr().err
    loop.at(0.0, lambda: faulty.on_event(0))
    with pytest.raises(KeyError):
        turn(loop)
