"""The password helper and a worker's side of it: lock-out, queue, memory, and a helper that dies."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, socket
from typing import Any

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, parse
from appliance.policy.throttle import FIRST_WAIT, FREE_FAILURES
from appliance.proxy.context import Context
from appliance.proxy.kernel import Kernel
from appliance.proxy.passwords import (
    MAX_QUEUE,
    MAX_WAITING_PER_CLIENT,
    Desk,
    Helper,
    Question,
    Verdict,
    check,
    decode_answer,
    encode_answer,
)
from appliance.proxy.tally import Tally, shared_words
from appliance.proxy.verifier import MAX_ASKED, MAX_PASSWORD, VERIFIED_LIFETIME, VERIFY_TIMEOUT, Verifier
from appliance.session.log import Log

# As cheap as argon2id goes: what is tested is not its cost.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASHED = {name: CHEAP.hash(f"{name}'s password") for name in ("ann", "ben")}
ONE, TWO = bytes(15) + b"\x01", bytes(15) + b"\x02"


def client(number: int) -> bytes:
    """An address."""
    return number.to_bytes(16, "big")


def config(users: dict[str, str] = HASHED) -> Config:
    """A configuration with users."""
    text = '[[group]]\nname = "staff"\n'
    for name, hashed in users.items():
        text += f'[[user]]\nname = "{name}"\ngroups = ["staff"]\npassword = "{hashed}"\n'
    return parse(text)


# -- the desk --------------------------------------------------------------------------------------


class Bench:
    """A desk with a clock of ours; a password is right where it equals the hash."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.hashed = 0
        self.answers: list[Verdict] = []
        self.desk = Desk(self._check, lambda: self.now)

    def _check(self, expected: bytes, password: bytes) -> Verdict:
        self.hashed += 1
        return Verdict.RIGHT if expected == password else Verdict.WRONG

    def ask(self, password: str, user: str = "ann", who: bytes = ONE, known: bool = True) -> None:
        """Put a question that is good for ten seconds."""
        parts = user.encode(), b"right", password.encode()
        question = Question(7, self.now + 10, known, who, *parts)
        self.desk.take(question, lambda _number, verdict: self.answers.append(verdict))

    def tell(self, password: str, **more: Any) -> Verdict:
        """Put it and work until it is answered."""
        self.ask(password, **more)
        self.desk.work()
        return self.answers[-1]


def test_wrong_passwords_lock_the_account_from_everywhere_without_hashing() -> None:
    bench = Bench()
    for number in range(FREE_FAILURES):
        assert bench.tell("wrong", who=client(number)) is Verdict.WRONG
    assert bench.tell("right", who=client(99)) is Verdict.LOCKED
    assert bench.hashed == FREE_FAILURES
    assert bench.tell("right", user="ben", who=client(98)) is Verdict.RIGHT
    bench.now += FIRST_WAIT + 0.1
    assert bench.tell("right", who=client(99)) is Verdict.RIGHT


def test_wrong_passwords_lock_the_address_for_every_account() -> None:
    bench = Bench()
    for number in range(FREE_FAILURES):
        assert bench.tell("wrong", user=f"user{number}") is Verdict.WRONG
    assert bench.tell("right", user="ben") is Verdict.LOCKED
    assert bench.tell("right", user="ben", who=TWO) is Verdict.RIGHT


def test_others_cannot_lock_a_user_out_where_it_was_right_before() -> None:
    bench = Bench()
    assert bench.tell("right") is Verdict.RIGHT
    for number in range(2, FREE_FAILURES + 2):
        assert bench.tell("wrong", who=client(number)) is Verdict.WRONG
    assert bench.tell("right") is Verdict.RIGHT
    assert bench.tell("right", who=client(99)) is Verdict.LOCKED  # the others' failures are not forgiven


def test_names_that_are_nobodys_are_locked_like_users() -> None:
    bench = Bench()
    told = [bench.tell("right", user="eve", known=False, who=client(n)) for n in range(FREE_FAILURES + 1)]
    assert told == [Verdict.WRONG] * FREE_FAILURES + [Verdict.LOCKED]


def test_tries_at_once_do_not_pass_the_lock_together() -> None:
    bench = Bench()
    for number in range(FREE_FAILURES * 3):
        bench.ask("wrong", who=client(number))
    while not bench.desk.idle:
        bench.desk.work()
    assert bench.answers.count(Verdict.WRONG) == FREE_FAILURES == bench.hashed
    assert bench.answers.count(Verdict.LOCKED) == FREE_FAILURES * 2


def test_the_queue_is_bounded_for_a_client_and_in_all() -> None:
    bench = Bench()
    for number in range(MAX_WAITING_PER_CLIENT + 1):
        bench.ask("right", user=f"user{number}")
    assert bench.answers == [Verdict.BUSY]
    for number in range(MAX_QUEUE):
        bench.ask("right", who=client(100 + number))
    assert bench.answers == [Verdict.BUSY] * (1 + MAX_WAITING_PER_CLIENT)
    bench.desk.work()
    bench.ask("right")
    assert bench.answers[-1] is Verdict.RIGHT  # and the new one waits


def test_what_nobody_waits_for_any_more_is_not_hashed() -> None:
    bench = Bench()
    bench.ask("right")
    bench.now += 11
    bench.desk.work()
    assert bench.desk.idle
    assert not bench.hashed
    assert not bench.answers


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e9), st.booleans(), *[st.binary(max_size=300)] * 3)
def test_questions_are_read_as_they_were_put(
    number: int, deadline: float, known: bool, user: bytes, expected: bytes, password: bytes
) -> None:
    question = Question(number, deadline, known, ONE, user, expected, password)
    assert Question.decode(question.encode()) == question
    for end in range(len(question.encode())):
        with pytest.raises(ValueError):
            Question.decode(question.encode()[:end])


@given(st.binary(max_size=100))
def test_any_message_is_a_question_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        Question.decode(data)
    with contextlib.suppress(ValueError):
        decode_answer(data)


def test_hashes_that_are_none_are_no_wrong_passwords() -> None:
    hashed = HASHED["ann"].encode()
    assert check(hashed, b"ann's password") is Verdict.RIGHT
    assert check(hashed, b"ann's password ") is Verdict.WRONG
    assert check(b"$argon2id$v=19$m=8,t=1,p=1$AAAA$A", b"x") is Verdict.FAILED


# -- a worker's side -------------------------------------------------------------------------------


class Side:
    """A worker's loop with a verifier, and what it was told."""

    def __init__(self, path: Path) -> None:
        self.context = Context(Kernel(65_536), Config(), -1, Log(None, 0), Tally(shared_words()))
        self.verifier = Verifier(self.context, path)
        self.verifier.configure(config())
        self.told: list[bool] = []

    def ask(self, user: str, password: str | bytes, who: bytes = ONE) -> None:
        """Put a question."""
        data = password.encode() if isinstance(password, str) else password
        self.verifier.verify(user, data, who, self.told.append)

    def turn(self, seconds: float = 0.02) -> None:
        """Go round the loop once."""
        self.context.dispatch(self.context.wait(seconds))
        self.context.timers.advance(int(self.context.now))
        self.context.close_buried()

    def turn_until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Go round until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.verifier.counts()
            self.turn()

    def tell(self, user: str, password: str | bytes, who: bytes = ONE) -> bool:
        """Put it and wait."""
        before = len(self.told)
        self.ask(user, password, who)
        self.turn_until(lambda: len(self.told) > before)
        return self.told[-1]


class FakeHelper:
    """The other end of the socket, by hand."""

    def __init__(self, path: Path) -> None:
        self._listener = socket(AF_UNIX, SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._listener.settimeout(5)
        self.peer: socket | None = None

    def hear(self) -> Question:
        """The next question."""
        if self.peer is None:
            self.peer = self._listener.accept()[0]
            self.peer.settimeout(5)
        return Question.decode(self.peer.recv(65_536))

    def heard_nothing(self) -> bool:
        """Nothing more was asked."""
        assert self.peer is not None
        self.peer.settimeout(0.05)
        try:
            return not self.peer.recv(65_536)
        except TimeoutError:
            return True

    def say(self, question: Question, verdict: Verdict) -> None:
        """Answer."""
        assert self.peer is not None
        self.peer.send(encode_answer(question.number, verdict))

    def die(self) -> None:
        """The connection breaks, and the next one is taken."""
        assert self.peer is not None
        self.peer.close()
        self.peer = None

    def close(self) -> None:
        """The end."""
        if self.peer is not None:
            self.peer.close()
        self._listener.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeHelper]:
    """A helper by hand on tmp_path/verify.sock."""
    made = FakeHelper(tmp_path / "verify.sock")
    yield made
    made.close()


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    """A worker's side of tmp_path/verify.sock."""
    made = Side(tmp_path / "verify.sock")
    yield made
    if made.verifier._sock is not None:
        made.verifier._sock.close()


def test_right_once_is_remembered_for_a_while(side: Side, fake: FakeHelper) -> None:
    side.ask("ann", "ann's password")
    question = fake.hear()
    assert question.known
    assert question.expected.decode() == HASHED["ann"]
    fake.say(question, Verdict.RIGHT)
    side.turn_until(lambda: side.told == [True])
    side.ask("ann", "ann's password", TWO)  # at once, without a turn of the loop
    assert side.told == [True, True]
    side.ask("ann", "ann's passworD")
    assert side.told == [True, True]
    fake.say(fake.hear(), Verdict.WRONG)
    side.turn_until(lambda: side.told == [True, True, False])
    side.context.now += VERIFIED_LIFETIME
    side.ask("ann", "ann's password")
    assert fake.hear().password == b"ann's password"
    assert side.verifier.counts() == {"right": 2, "wrong": 1, "locked": 0, "busy": 0, "failed": 0}


@pytest.mark.parametrize("users", [{"ann": CHEAP.hash("new")}, {"ben": HASHED["ben"]}, {}])
def test_a_changed_password_or_a_removed_user_counts_no_longer(
    side: Side, fake: FakeHelper, users: dict[str, str]
) -> None:
    side.ask("ann", "ann's password")
    fake.say(fake.hear(), Verdict.RIGHT)
    side.turn_until(lambda: side.told == [True])
    side.ask("ben", "ben's password")
    before = fake.hear()
    side.verifier.configure(config(users))
    fake.say(before, Verdict.RIGHT)  # by the hash of before
    side.turn_until(lambda: len(side.told) == 2)
    assert side.told[1] is ("ben" in users)
    side.ask("ann", "ann's password")
    assert fake.hear().known is ("ann" in users)
    assert len(side.told) == 2


def test_unknown_users_are_asked_about_like_known_ones(side: Side, fake: FakeHelper) -> None:
    side.ask("eve", "x")
    question = fake.hear()
    assert not question.known
    cost = HASHED["ann"].rsplit("$", 2)[0].encode()
    assert question.expected.startswith(cost + b"$")
    assert check(question.expected, question.password) is Verdict.WRONG
    fake.say(question, Verdict.RIGHT)  # whatever the helper says
    side.turn_until(lambda: side.told == [False])


def test_the_same_question_is_asked_once(side: Side, fake: FakeHelper) -> None:
    for _ in range(5):
        side.ask("ann", "ann's password")
    side.ask("ann", "ann's password", TWO)  # another client: its own lock-out
    first, second = fake.hear(), fake.hear()
    assert {first.client, second.client} == {ONE, TWO}
    assert fake.heard_nothing()
    fake.say(first, Verdict.RIGHT)
    side.turn_until(lambda: side.told == [True] * 5)


def test_silence_is_no_in_the_end(side: Side, fake: FakeHelper) -> None:
    side.ask("ann", "ann's password")
    question = fake.hear()
    assert question.deadline == pytest.approx(time.monotonic() + VERIFY_TIMEOUT, abs=2)
    second = int(side.context.now)
    for passed in range(VERIFY_TIMEOUT + 2):
        side.context.timers.advance(second + passed)
    assert side.told == [False]
    fake.say(question, Verdict.RIGHT)  # too late
    side.turn(0.1)
    assert side.told == [False]
    assert side.verifier.counts()["failed"] == 1


def test_questions_are_bounded(side: Side, fake: FakeHelper) -> None:
    for number in range(MAX_ASKED + 3):
        side.ask(f"user{number}", "x")
    assert side.told == [False] * len(side.told)
    assert len(side.told) >= 3
    assert side.verifier.counts()["busy"] == len(side.told)


def test_names_and_passwords_without_end_are_cut(side: Side, fake: FakeHelper) -> None:
    side.ask("ä" * 9_000, b"\xff" * 60_000)
    question = fake.hear()
    assert len(question.encode()) < 8_192
    assert len(question.password) == MAX_PASSWORD + 1
    fake.say(question, Verdict.WRONG)
    side.turn_until(lambda: side.told == [False])


def test_a_helper_that_dies_is_asked_again_and_not_for_ever(side: Side, fake: FakeHelper) -> None:
    side.ask("ann", "ann's password")
    fake.hear()
    fake.die()
    side.turn_until(lambda: side.verifier._sock is not None)
    side.turn()
    fake.say(fake.hear(), Verdict.RIGHT)
    side.turn_until(lambda: side.told == [True])
    side.ask("ben", "poison")
    for _ in range(2):
        fake.hear()
        fake.die()
        side.turn()
        side.turn()
    side.turn_until(lambda: side.told == [True, False])


def test_no_helper_yet_is_waited_for(side: Side, tmp_path: Path) -> None:
    side.ask("ann", "ann's password")
    assert not side.told
    fake = FakeHelper(tmp_path / "verify.sock")
    try:
        side.turn_until(lambda: side.verifier._sock is not None)
        fake.say(fake.hear(), Verdict.RIGHT)
        side.turn_until(lambda: side.told == [True])
    finally:
        fake.close()


def test_no_password_stays_in_memory(side: Side, fake: FakeHelper) -> None:
    marker = "needle in " + "the haystack"
    side.ask("ann", marker)
    fake.say(fake.hear(), Verdict.RIGHT)
    side.turn_until(lambda: side.told == [True])
    held = [thing for thing in gc.get_objects() if isinstance(thing, Question)]
    assert not any(marker.encode() in question.password for question in held)
    assert marker.encode() not in repr(vars(side.verifier)).encode()


# -- the process -----------------------------------------------------------------------------------


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Helper]:
    """The real helper, a child of this process."""
    made = Helper(tmp_path / "verify.sock")
    made.start(lambda: None)
    yield made
    made.end()


def test_the_real_helper(helper: Helper, side: Side, tmp_path: Path) -> None:
    assert (tmp_path / "verify.sock").stat().st_mode & 0o777 == 0o600
    assert helper.process is not None
    assert side.tell("ann", "ann's password")
    assert os.getpriority(os.PRIO_PROCESS, helper.process.pid) == 19  # which it sets when it starts
    assert not side.tell("ann", "ben's password")
    assert not side.tell("eve", "eve's password")
    assert side.tell("ben", "ben's password", TWO)
    for _ in range(FREE_FAILURES):
        side.tell("ben", "x")
    assert not side.tell("ben", "ben's password ")
    assert side.verifier.counts()["locked"] >= 1


def test_the_real_helper_killed(helper: Helper, side: Side) -> None:
    assert side.tell("ann", "ann's password")
    assert helper.process is not None
    os.kill(helper.process.pid, 9)
    os.waitpid(helper.process.pid, 0)
    helper.vacate()
    side.ask("ben", "ben's password")
    side.turn()
    helper.start(lambda: None)
    side.turn_until(lambda: side.told == [True, True], 3)


def test_it_ends_with_its_supervisor(helper: Helper) -> None:
    assert helper.process is not None
    pid = helper.process.pid
    helper.process.line.close()
    assert os.waitpid(pid, 0)[1] == 0
    os.close(helper.process.pidfd)
    helper.process = None
