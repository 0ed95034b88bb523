"""The soak: one worker of Isthmus carries everything for a long time; memory and descriptors stay flat."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.bench.topology import descriptors, family, private_memory

# One turn: each kind of load for so many seconds.
TESTS = ("sessions-honest", "ping-pong", "udp", "udp-new", "bulk-8")
SESSION_EACH = ("sessions-honest", "udp-new")  # each round is a session
WINDOW = 2.0
# New flows of one turn. A worker holds those of FLOW_LIFETIME at a time, which must fit its descriptors.
NEW_FLOWS = 500
# What the bench's configuration says of UDP: the least that RFC 4787 section 4.3 allows.
FLOW_LIFETIME = 120.0
# Sessions of TCP are gone by then, and the worker has said what it holds.
REST = 1.5
# A last third that is higher than the first by more is growth; less is the noise of the allocator.
TOLERANCE = 1.05
SAMPLES_TO_JUDGE = 6


class Sample(NamedTuple):
    """What the worker held after a turn; ``sessions``: how many had begun and ended until then."""

    moment: float
    memory: int
    descriptors: int
    sessions: int


class Judgement(NamedTuple):
    """``problem`` is empty where both stayed flat; ``text`` is for the reader."""

    text: str
    problem: str


def judge(samples: list[Sample]) -> Judgement:
    """Compare the first and last third of the samples that come after flows have begun to expire."""
    settled = [sample for sample in samples if sample.moment >= FLOW_LIFETIME * 1.25]
    if len(settled) < SAMPLES_TO_JUDGE:
        least = FLOW_LIFETIME * 1.25 + SAMPLES_TO_JUDGE * (len(TESTS) * WINDOW + REST)
        return Judgement("soak: too short to judge", f"soak: needs SOAK={least:.0f} or more")
    third = len(settled) // 3
    early, late = settled[:third], settled[-third:]
    words, problems = [], []
    for name, unit, scale in (("memory", "MB", 1e6), ("descriptors", "", 1.0)):
        before = statistics.median(getattr(sample, name) for sample in early)
        after = statistics.median(getattr(sample, name) for sample in late)
        words.append(f"{name} {before / scale:,.1f} → {after / scale:,.1f} {unit}".rstrip())
        if after > before * TOLERANCE:
            problems.append(f"{name} grew by {after / before - 1:.0%}")
    sessions = settled[-1].sessions - settled[0].sessions
    text = f"soak of {samples[-1].moment:.0f} s, {sessions:,} sessions while settled: {', '.join(words)}"
    return Judgement(text, f"soak: {' and '.join(problems)}" if problems else "")


def soak(
    supervisor: int, carry: Callable[[str, float], int], seconds: float, say: Callable[[str], None]
) -> Judgement:
    """Load for so many seconds. ``carry(test, window)`` runs one load and returns its rounds."""
    pids = family(supervisor)
    samples: list[Sample] = []
    carried = 0
    begun = time.monotonic()
    while (moment := time.monotonic() - begun) < seconds:
        for test in TESTS:
            rounds = carry(test, WINDOW)
            carried += rounds if test in SESSION_EACH else 0
        time.sleep(REST)
        if family(supervisor) != pids:
            return Judgement("soak: broken off", "soak: the worker ended and was replaced")
        sample = Sample(moment, private_memory(pids), descriptors(pids), carried)
        samples.append(sample)
        say(f"soak: {moment:4.0f} s  {sample.memory / 1e6:.1f} MB, {sample.descriptors} descriptors")
    return judge(samples)
