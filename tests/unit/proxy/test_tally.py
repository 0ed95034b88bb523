"""What workers know of each other's counts: in one process, and in processes that share the memory."""

from __future__ import annotations

import os

from appliance.proxy.tally import HALF_OPEN, MAX_TALLIED, NEW, SECOND, SESSIONS, UNTOLD, Places, Tally


def test_each_sees_the_sum_of_the_others() -> None:
    places = Places()
    first, second, third = (Tally(places.words, places.take()) for _ in range(3))
    first.tell(SESSIONS, 5)
    second.tell(SESSIONS, 7)
    second.tell(HALF_OPEN, 1)
    assert [one.others(SESSIONS) for one in (first, second, third)] == [7, 5, 12]
    assert [one.others(HALF_OPEN) for one in (first, second, third)] == [1, 0, 1]
    first.tell(SESSIONS, 2)
    assert third.others(SESSIONS) == 9


def test_new_ones_count_in_their_second_only() -> None:
    places = Places()
    first, second = (Tally(places.words, places.take()) for _ in range(2))
    first.tell(SECOND, 1000)
    first.tell(NEW, 30)
    assert second.others_new(1000) == 30
    assert second.others_new(1001) == 0
    assert first.others_new(1000) == 0


def test_what_a_dead_worker_had_counts_no_more_and_its_place_is_another_s() -> None:
    places = Places()
    here, dead = places.take(), places.take()
    mine, other = Tally(places.words, here), Tally(places.words, dead)
    other.tell(SESSIONS, 9)
    assert mine.others(SESSIONS) == 9
    places.give_back(dead)
    places.give_back(dead)  # told twice: no harm
    assert mine.others(SESSIONS) == 0
    assert places.take() == dead
    assert mine.others(SESSIONS) == 0


def test_without_a_place_a_worker_counts_alone() -> None:
    places = Places()
    taken = [places.take() for _ in range(MAX_TALLIED)]
    assert len(set(taken)) == MAX_TALLIED
    assert places.take() == UNTOLD
    alone = Tally(places.words, UNTOLD)
    alone.tell(SESSIONS, 3)
    assert Tally(places.words, taken[0]).others(SESSIONS) == 0
    Tally(places.words, taken[-1]).tell(SESSIONS, 4)
    assert alone.others(SESSIONS) == 4


def test_a_child_s_counts_are_the_parent_s_to_read() -> None:
    places = Places()
    mine, theirs = places.take(), places.take()
    pid = os.fork()
    if pid == 0:
        Tally(places.words, theirs).tell(SESSIONS, 41)
        os._exit(0)
    os.waitpid(pid, 0)
    assert Tally(places.words, mine).others(SESSIONS) == 41
