"""The DNS front's loop."""

from __future__ import annotations

import os

import pytest

from appliance.dns64 import loop as module
from appliance.dns64.loop import READ, Loop


def faulty(_events: int = 0) -> None:
    raise RuntimeError("a mistake of ours")


def test_a_fault_costs_nobody_else(capfd: pytest.CaptureFixture[str]) -> None:
    loop = Loop()
    reading, writing = os.pipe()
    os.write(writing, b"x")

    def on_data(events: int) -> None:
        os.read(reading, 1)
        faulty(events)

    loop.add(reading, READ, on_data)
    loop.after(0.0, faulty)
    loop.after(0.01, loop.stop)
    loop.run()
    assert loop.faults == 2
    assert capfd.readouterr().err.count("RuntimeError: a mistake of ours") == 2


def test_of_too_many_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FAULTS", 2)
    loop = Loop()
    for _ in range(3):
        loop.after(0.0, faulty)
    with pytest.raises(RuntimeError):
        loop.run()
