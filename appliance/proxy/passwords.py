"""The password helper: one process beside the workers that does all the hashing.

::

    worker --question--> proxy/verify.sock --> lock-out --> queue --> argon2id --> lock-out
    worker <-----------verdict------------------+------------+------------------------+

One verification takes 64 MiB and some 140 ms of a processor: in a worker, every session would wait for it.
Here it runs at nice 19, one at a time. A *question* is a password and the hash that it should have; of a user
that there is not it is a *decoy*, a hash that no password has, so that both take the same time. The lock-out
is kept here, where the questions of all workers meet. The supervisor holds the listening socket: while a
helper that died is being replaced, questions wait in it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, socket, socketpair
from typing import NamedTuple

from argon2.exceptions import InvalidHash, VerificationError, VerifyMismatchError
from argon2.low_level import Type, verify_secret

from appliance.policy.throttle import Throttle
from appliance.proxy.seat import Process

# Questions that wait. At 140 ms each the last one is answered after nine seconds, within the workers'
# patience; more would be given up before its turn.
MAX_QUEUE = 64
# Of one client: a browser opens six connections at once, and asks the same with each.
MAX_WAITING_PER_CLIENT = 8
# A user who proved to be one from a client is let try from there whatever others do to the account's
# lock-out: so many of those pairs are known, for so long (seconds).
MAX_TRUSTED = 16_384
TRUST_LIFETIME = 86_400.0
# Questions of one worker that are read between two hashings.
MAX_READS = 256
# A helper that dies this soon after its start waits before the next try, doubling; never so long that a
# question that waits is noticed by its client.
QUICK_DEATH = 1.0
FIRST_PAUSE = 0.05
MAX_PAUSE = 1.0
BACKLOG = 256

_HEAD = struct.Struct("!Id?16sHHH")
_ANSWER = struct.Struct("!IB")
_MAX_MESSAGE = 8_192


class Verdict(IntEnum):
    """What became of a question."""

    WRONG = 0
    RIGHT = 1
    LOCKED = 2  # too many wrong passwords before: not looked at
    BUSY = 3  # the queue is full
    FAILED = 4  # it could not be looked at: the hash is none, or there is no memory


class Question(NamedTuple):
    """``deadline`` is monotonic (one clock for all processes); ``client`` an address of 16 octets."""

    number: int
    deadline: float
    known: bool  # there is such a user; without one, ``expected`` is a decoy
    client: bytes
    user: bytes
    expected: bytes
    password: bytes

    def encode(self) -> bytes:
        """As one message."""
        lengths = len(self.user), len(self.expected), len(self.password)
        head = _HEAD.pack(self.number, self.deadline, self.known, self.client, *lengths)
        return head + self.user + self.expected + self.password

    @classmethod
    def decode(cls, data: bytes) -> Question:
        """The message again; ValueError where it is none."""
        try:
            number, deadline, known, client, user, expected, password = _HEAD.unpack_from(data)
        except struct.error:
            raise ValueError("too short") from None
        if len(data) != _HEAD.size + user + expected + password:
            raise ValueError("lengths that do not add up")
        at = _HEAD.size
        parts = (data[at : at + user], data[at + user : at + user + expected], data[at + user + expected :])
        return cls(number, deadline, known, client, *parts)


def encode_answer(number: int, verdict: Verdict) -> bytes:
    """The message that answers a question."""
    return _ANSWER.pack(number, verdict)


def decode_answer(data: bytes) -> tuple[int, Verdict]:
    """(number, verdict); ValueError where it is none."""
    try:
        number, verdict = _ANSWER.unpack(data)
    except struct.error:
        raise ValueError("no answer") from None
    return number, Verdict(verdict)


def check(expected: bytes, password: bytes) -> Verdict:
    """Whether ``password`` has the argon2id hash ``expected``."""
    try:
        verify_secret(expected, password, Type.ID)
    except VerifyMismatchError:
        return Verdict.WRONG
    except (VerificationError, InvalidHash):
        return Verdict.FAILED
    return Verdict.RIGHT


Answer = Callable[[int, Verdict], None]


class Desk:
    """Questions in, verdicts out, one at a time. ``check`` and ``clock`` are the only ways outside."""

    def __init__(
        self,
        check: Callable[[bytes, bytes], Verdict] = check,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._clock = clock
        self._queue: deque[tuple[Question, Answer]] = deque()
        self._waiting: Counter[bytes] = Counter()  # by client
        # Apart, so that names that do not exist cannot push those that do out of a bounded table.
        self._accounts = Throttle()
        self._strangers = Throttle()
        self._addresses = Throttle()
        self._trusted: dict[tuple[bytes, bytes], float] = {}

    @property
    def idle(self) -> bool:
        """No question waits."""
        return not self._queue

    def take(self, question: Question, answer: Answer) -> None:
        """Answer at once where that needs no hashing; else put it in the queue."""
        if self._is_locked(question, self._clock()):
            answer(question.number, Verdict.LOCKED)
        elif len(self._queue) >= MAX_QUEUE or self._waiting[question.client] >= MAX_WAITING_PER_CLIENT:
            answer(question.number, Verdict.BUSY)
        else:
            self._waiting[question.client] += 1
            self._queue.append((question, answer))

    def work(self) -> None:
        """Answer the question that waits longest. One that nobody waits for any more is dropped."""
        if not self._queue:
            return
        question, answer = self._queue.popleft()
        self._waiting[question.client] -= 1
        if self._waiting[question.client] <= 0:
            del self._waiting[question.client]
        if question.deadline <= self._clock():
            return
        if self._is_locked(question, self._clock()):  # by one that was before it in the queue
            answer(question.number, Verdict.LOCKED)
            return
        verdict = self._check(question.expected, question.password)
        if verdict is Verdict.RIGHT and not question.known:
            verdict = Verdict.WRONG
        self._book(question, verdict)
        answer(question.number, verdict)

    def _keys(self, question: Question) -> tuple[Throttle, str, str]:
        accounts = self._accounts if question.known else self._strangers
        return accounts, question.user.hex(), question.client.hex()

    def _is_trusted(self, question: Question, now: float) -> bool:
        return self._trusted.get((question.user, question.client), 0.0) > now

    def _is_locked(self, question: Question, now: float) -> bool:
        accounts, account, address = self._keys(question)
        if self._addresses.wait(address, now) > 0:
            return True
        return accounts.wait(account, now) > 0 and not self._is_trusted(question, now)

    def _book(self, question: Question, verdict: Verdict) -> None:
        now = self._clock()
        accounts, account, address = self._keys(question)
        if verdict is Verdict.WRONG:
            accounts.failed(account, now)
            self._addresses.failed(address, now)
        elif verdict is Verdict.RIGHT:
            if accounts.wait(account, now) == 0:  # else somebody is at it from elsewhere, and goes on waiting
                accounts.succeeded(account)
            self._addresses.succeeded(address)
            pair = (question.user, question.client)
            self._trusted.pop(pair, None)
            self._trusted[pair] = now + TRUST_LIFETIME
            while len(self._trusted) > MAX_TRUSTED:
                del self._trusted[next(iter(self._trusted))]


def _run(listener: socket, line: socket) -> None:
    """Be the helper until ``line`` ends, which the supervisor holds."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # passwords are in memory here
    listener.setblocking(False)
    desk = Desk()
    workers: dict[int, socket] = {}
    poll = select.poll()
    poll.register(line.fileno(), select.POLLIN)
    poll.register(listener.fileno(), select.POLLIN)
    while True:
        for fd, _event in poll.poll(None if desk.idle else 0):
            if fd == line.fileno():
                return
            if fd == listener.fileno():
                with contextlib.suppress(OSError):
                    worker, _address = listener.accept()
                    worker.setblocking(False)
                    workers[worker.fileno()] = worker
                    poll.register(worker.fileno(), select.POLLIN)
            elif not _read(workers[fd], desk):
                poll.unregister(fd)
                workers.pop(fd).close()
        desk.work()


def _read(worker: socket, desk: Desk) -> bool:
    """Take a worker's questions; False where it is gone."""

    def answer(number: int, verdict: Verdict) -> None:
        # A worker that reads no answers waits until its own patience ends.
        with contextlib.suppress(OSError):
            worker.send(encode_answer(number, verdict))

    for _ in range(MAX_READS):
        try:
            data = worker.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        try:
            desk.take(Question.decode(data), answer)
        except ValueError:
            return False
    return True


class Helper:
    """The helper's place, as the supervisor keeps it. ``path``: of its socket, the proxy's user's alone."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket(AF_UNIX, SOCK_SEQPACKET)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._listener.listen(BACKLOG)
        self.process: Process | None = None
        self.start_at = 0.0  # monotonic; not before this
        self._pause = FIRST_PAUSE

    def start(self, let_go: Callable[[], None]) -> None:
        """Start it. ``let_go``: in the child, closes what is the supervisor's and the workers'."""
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.set_wakeup_fd(-1)
                let_go()
                ours.close()
                _run(self._listener, theirs)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        theirs.close()
        self.process = Process(-1, pid, ours, time.time())

    def vacate(self) -> None:
        """It died: when may the next one start?"""
        assert self.process is not None
        quick = time.time() - self.process.started < QUICK_DEATH
        self._pause = min(self._pause * 2, MAX_PAUSE) if quick else FIRST_PAUSE
        self.start_at = time.monotonic() + (self._pause if quick else 0.0)
        self.process.close()
        self.process = None

    def close(self) -> None:
        """In another process: nothing of it stays open."""
        self._listener.close()
        if self.process is not None:
            self.process.close()

    def end(self) -> None:
        """End the process, in the middle of whatever it does. Workers ask the next one anew."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.process.pid, 0)
        self.close()
        self.process = None
