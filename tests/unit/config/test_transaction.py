"""The commit machine: its table, and what a start makes of every state that a crash can leave."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.transaction import (
    MAX_REVISIONS,
    MAX_REVISIONS_BYTES,
    TRANSITIONS,
    Event,
    Holds,
    Ledger,
    LedgerError,
    Moment,
    Pending,
    Phase,
    Record,
    Repair,
    TransitionError,
    from_plain,
    repair,
    to_plain,
)

NOW = Moment(1_000.0, 100.0, "boot")
LATER = Moment(1_090.0, 190.0, "boot")


def record(number: int, size: int = 1_000) -> Record:
    return Record(number, number - 1 or None, "ann", "", 1_000.0, 1, size)


def written(number: int, by_hand: bool = True) -> Ledger:
    """A ledger with one settled revision, and this one committed on top."""
    return Ledger().adopt(record(1)).commit(record(number), by_hand, LATER).written()


LEDGERS = {
    "empty": Ledger(),
    "settled": Ledger().adopt(record(1)),
    "writing": Ledger().adopt(record(1)).commit(record(2), True, LATER),
    "unconfirmed": written(2),
    "by itself": written(2, by_hand=False),
    "reverting": written(2).roll_back("late"),
}


def test_every_phase_can_be_left_and_reached() -> None:
    assert {phase for phase, _event in TRANSITIONS} == set(Phase) == set(TRANSITIONS.values())


@pytest.mark.parametrize("ledger", LEDGERS.values(), ids=LEDGERS)
@pytest.mark.parametrize("event", Event)
def test_what_is_not_in_the_table_is_refused(ledger: Ledger, event: Event) -> None:
    if (ledger.phase, event) in TRANSITIONS:
        assert ledger.after(event) is TRANSITIONS[ledger.phase, event]
    else:
        with pytest.raises(TransitionError):
            ledger.after(event)


def test_the_ways_of_a_commit() -> None:
    assert LEDGERS["unconfirmed"].active == 2
    assert [LEDGERS["unconfirmed"].state(one) for one in LEDGERS["unconfirmed"].records] == [
        "replaced",
        "unconfirmed",
    ]
    kept = written(2).confirm()
    assert (kept.active, kept.phase, kept.pending) == (2, Phase.SETTLED, None)
    assert [kept.state(one) for one in kept.records] == ["replaced", "active"]
    undone = LEDGERS["reverting"].written()
    assert (undone.active, undone.phase, undone.pending) == (1, Phase.SETTLED, None)
    assert [(undone.state(one), one.ended) for one in undone.records] == [
        ("active", ""),
        ("rolled-back", "late"),
    ]
    given_up = LEDGERS["writing"].abandon()
    assert [given_up.state(one) for one in given_up.records] == ["active", "abandoned"]
    assert given_up.next_number() == 3


@pytest.mark.parametrize("ledger", LEDGERS.values(), ids=LEDGERS)
def test_a_ledger_is_read_as_it_was_written(ledger: Ledger) -> None:
    assert from_plain(json.loads(json.dumps(to_plain(ledger)))) == ledger


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        {"format": 1},
        {**to_plain(LEDGERS["settled"]), "phase": "asleep"},
        {**to_plain(LEDGERS["settled"]), "active": 7},
        {**to_plain(LEDGERS["settled"]), "phase": "unconfirmed"},
        {**to_plain(LEDGERS["unconfirmed"]), "pending": None},
        {**to_plain(LEDGERS["settled"]), "records": [{"number": 1}]},
    ],
)
def test_what_is_no_ledger_is_refused(broken: object) -> None:
    with pytest.raises(LedgerError):
        from_plain(broken)


def test_a_newer_ledger_is_refused_in_words() -> None:
    with pytest.raises(LedgerError, match="format 2; this version reads 1") as caught:
        from_plain({**to_plain(Ledger()), "format": 2})
    assert "newer version" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "holds", "now", "what"),
    [
        ("empty", Holds.MISSING, NOW, Repair.NOTHING),
        ("empty", Holds.OTHER, NOW, Repair.NOTHING),
        ("settled", Holds.ACTIVE, NOW, Repair.NOTHING),
        ("settled", Holds.OTHER, NOW, Repair.NOTHING),
        ("settled", Holds.MISSING, NOW, Repair.WRITE),
        ("writing", Holds.ACTIVE, NOW, Repair.ABANDON),
        ("writing", Holds.TARGET, NOW, Repair.WRITTEN),
        ("writing", Holds.OTHER, NOW, Repair.ABANDON),
        ("unconfirmed", Holds.ACTIVE, NOW, Repair.NOTHING),
        ("unconfirmed", Holds.ACTIVE, LATER, Repair.ROLL_BACK),
        ("unconfirmed", Holds.ACTIVE, replace(NOW, boot="other"), Repair.ROLL_BACK),
        ("unconfirmed", Holds.MISSING, LATER, Repair.WRITE),
        ("by itself", Holds.ACTIVE, NOW, Repair.ROLL_BACK),
        ("reverting", Holds.ACTIVE, NOW, Repair.WRITE),
        ("reverting", Holds.BACK_TO, NOW, Repair.WRITTEN),
        ("reverting", Holds.OTHER, NOW, Repair.WRITTEN),
        ("reverting", Holds.MISSING, NOW, Repair.WRITE),
    ],
)
def test_what_a_start_does(name: str, holds: Holds, now: Moment, what: Repair) -> None:
    assert repair(LEDGERS[name], holds, now) is what


def test_the_time_that_remains() -> None:
    pending = Pending(2, 1, True, LATER)
    assert pending.remaining(NOW) == 90.0
    assert pending.remaining(replace(NOW, wall=9e9)) == 90.0
    assert pending.remaining(replace(NOW, uptime=191.0)) == 0.0
    assert pending.remaining(replace(NOW, boot="other")) == 0.0


EVENTS = ["commit", "adopt", "written", "abandon", "confirm", "roll back"]


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_any_way_keeps_its_promises(events: list[str]) -> None:
    ledger = Ledger().adopt(record(1))
    for event in events:
        before = ledger
        try:
            if event == "commit":
                ledger = ledger.commit(record(ledger.next_number()), True, LATER)
            elif event == "adopt":
                ledger = ledger.adopt(record(ledger.next_number()))
            elif event == "roll back":
                ledger = ledger.roll_back("why")
            else:
                ledger = getattr(ledger, event)()
        except TransitionError:
            assert ledger is before
        assert from_plain(to_plain(ledger)) == ledger
        numbers = [one.number for one in ledger.records]
        assert numbers == sorted(set(numbers))
        assert [ledger.state(one) for one in ledger.records].count("unconfirmed") <= 1
        if before.phase is Phase.REVERTING and ledger.phase is Phase.SETTLED:
            assert before.pending is not None and ledger.active == before.pending.back_to


def test_old_revisions_go_and_needed_ones_stay() -> None:
    ledger = Ledger().adopt(record(1))
    ledger = ledger.commit(record(2), True, LATER).written()
    for number in range(3, MAX_REVISIONS + 11):
        ledger = ledger.adopt(record(number))
    ledger, gone = ledger.pruned()
    assert gone == tuple(range(2, 11))  # and not 1, which the deadline may bring back
    assert ledger.records[0].number == 1 and len(ledger.records) == MAX_REVISIONS + 1
    assert ledger.pruned() == (ledger, ())


def test_large_revisions_are_fewer() -> None:
    ledger = Ledger()
    for number in range(1, 31):
        ledger = ledger.adopt(record(number, 4 << 20))
    ledger, gone = ledger.pruned()
    assert gone == tuple(range(1, 15)) and sum(one.size for one in ledger.records) == MAX_REVISIONS_BYTES
    assert ledger.adopt(record(31, MAX_REVISIONS_BYTES + 1)).pruned()[0].records[0].number == 31
