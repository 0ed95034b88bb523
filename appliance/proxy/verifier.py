"""A worker's side of the password helper: who was right lately, and what is being asked.

A password that was right is remembered for VERIFIED_LIFETIME as a keyed digest of it, of the user's name and
of the user's hash: with a new password, or without the user, the digest is another one. So a session costs no
hashing, a configuration voids what it changes, and no password stays in memory.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET, socket

from appliance.config.schema import Config
from appliance.proxy.context import Context
from appliance.proxy.loop import Handler
from appliance.proxy.passwords import Question, Verdict, decode_answer
from appliance.proxy.relay import EPOLLIN, EPOLLRDHUP

# Seconds for which a password that was right needs no hashing. Shorter costs a processor 140 ms for each user
# more often, longer keeps a digest to be guessed from in memory.
VERIFIED_LIFETIME = 900.0
MAX_VERIFIED = 16_384
# Seconds until a question counts as answered with no. The helper runs when nobody else wants to: on a box
# that is busy, verifying takes seconds. Browsers and SOCKS clients wait for thirty.
VERIFY_TIMEOUT = 20
# Questions of this worker that are on their way; each holds a connection of a client.
MAX_ASKED = 256
# How often a question is put: one that ends the helper must not end each of its successors.
MAX_TRIES = 2
# Octets that are looked at. Longer names and passwords are nobody's, and are refused like any wrong one.
MAX_USER = 256
MAX_PASSWORD = 4_096
# What is counted of passwords: the verdicts' names.
COUNTS = tuple(verdict.name.lower() for verdict in Verdict)
# The hash that no password has, where there is no user with a password whose cost it could share.
_COSTS = "$argon2id$v=19$m=65536,t=3,p=1"
_DECOY = "$" + "A" * 22 + "$" + "A" * 43


class _Asked:
    """A question that is on its way, with all who wait for its answer."""

    __slots__ = ("done", "question", "sent", "tries", "who")

    def __init__(self, question: Question, who: tuple[bytes, bytes], done: Callable[[bool], None]) -> None:
        self.question = question
        self.who = who  # digest, client
        self.done = [done]
        self.sent = False
        self.tries = 0


class Verifier(Handler):
    """Says whether a password is a user's. ``path``: the helper's socket."""

    def __init__(self, context: Context, path: Path) -> None:
        self._context = context
        self._path = str(path)
        self._sock: socket | None = None
        self._key = secrets.token_bytes(32)
        self._users: dict[str, str] = {}
        self._decoy = _COSTS + _DECOY
        self._verified: dict[bytes, float] = {}  # digest, until when
        self._asked: dict[int, _Asked] = {}
        self._by_who: dict[tuple[bytes, bytes], _Asked] = {}
        self._numbers = 0
        self._retrying = False
        self._counts: Counter[str] = Counter()

    def configure(self, config: Config) -> None:
        """Take the users up. What was verified by a hash that is no more does not count any longer."""
        self._users = {user.name: user.password for user in config.user if user.password is not None}
        # What verifying costs most users, it costs for names that are none.
        costs = Counter(hashed.rsplit("$", 2)[0] for hashed in self._users.values()).most_common(1)
        self._decoy = (costs[0][0] if costs else _COSTS) + _DECOY

    def counts(self) -> dict[str, int]:
        """Totals: passwords that were right and wrong, were not looked at (locked, busy), got no answer."""
        return {name: self._counts[name] for name in COUNTS}

    def verify(self, user: str, password: bytes, client: bytes, done: Callable[[bool], None]) -> None:
        """Whether ``password`` is the user's. ``client``: its address (16 octets), for the lock-out.

        ``done`` is called once: at once where the password was right lately, and within VERIFY_TIMEOUT
        otherwise.
        """
        hashed = self._users.get(user)
        name = user.encode(errors="backslashreplace")[:MAX_USER]
        expected = (hashed or self._decoy).encode()
        password = password[: MAX_PASSWORD + 1]
        lengths = f"{len(name)} {len(expected)} ".encode()
        digest = blake2b(lengths + name + expected + password, key=self._key, digest_size=32).digest()
        if hashed is not None and self._verified.get(digest, 0.0) > self._context.now:
            self._counts["right"] += 1
            done(True)
            return
        same = self._by_who.get((digest, client))
        if same is not None:
            same.done.append(done)
            return
        if len(self._asked) >= MAX_ASKED:
            self._counts["busy"] += 1
            done(False)
            return
        self._numbers = (self._numbers + 1) & 0xFFFFFFFF
        deadline = self._context.now + VERIFY_TIMEOUT
        known = hashed is not None
        question = Question(self._numbers, deadline, known, client, name, expected, password)
        asked = _Asked(question, (digest, client), done)
        self._asked[question.number] = asked
        self._by_who[asked.who] = asked
        self._context.timers.add(int(deadline), partial(self._overdue, question.number))
        self._put(asked)

    # -- the helper ----------------------------------------------------------------------------

    def _connect(self) -> bool:
        sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            sock.connect(self._path)
            self._context.watch(sock.fileno(), self, EPOLLIN | EPOLLRDHUP)
        except OSError:
            sock.close()
            return False
        self._sock = sock
        return True

    def _put(self, asked: _Asked) -> None:
        for _ in range(MAX_TRIES):  # a connection that broke meanwhile shows itself here first
            if self._sock is None and not self._connect():
                break
            assert self._sock is not None
            try:
                self._sock.send(asked.question.encode())
            except BlockingIOError:
                self._answer(asked, Verdict.BUSY)
                return
            except OSError:
                self._drop()
                continue
            asked.sent = True
            asked.tries += 1
            return
        self._retry()

    def _put_all(self) -> None:
        for asked in list(self._asked.values()):
            if not asked.sent and self._asked.get(asked.question.number) is asked:
                self._put(asked)

    def _drop(self) -> None:
        """The helper died: its successor is to be asked what it was asked, once."""
        if self._sock is not None:
            self._context.bury(self._sock.fileno(), self._sock)
            self._sock = None
        for asked in list(self._asked.values()):
            asked.sent = False
            if asked.tries >= MAX_TRIES:
                self._answer(asked, Verdict.FAILED)
        self._retry()

    def _retry(self) -> None:
        """Put soon what is not put: there is no helper, or no descriptor."""
        if not self._retrying and self._asked:
            self._retrying = True
            self._context.timers.add(int(self._context.now) + 1, self._again)

    def _again(self, _second: int) -> int:
        self._retrying = False
        self._put_all()
        return 0

    def on_event(self, events: int) -> None:
        """Answers, or the helper's end."""
        while self._sock is not None:
            try:
                data = self._sock.recv(64)
                number, verdict = decode_answer(data)  # no octets, the end, is no answer either
            except BlockingIOError:
                return
            except (OSError, ValueError):
                self._drop()
                self._put_all()
                return
            asked = self._asked.get(number)
            if asked is not None:
                self._answer(asked, verdict)

    def abandon(self) -> None:
        """Memory ran out: begin anew with the helper."""
        self._drop()

    # -- the end of a question -----------------------------------------------------------------

    def _overdue(self, number: int, _second: int) -> int:
        asked = self._asked.get(number)  # by number: a timer would hold the password until its time
        if asked is not None:
            self._answer(asked, Verdict.FAILED)
        return 0

    def _answer(self, asked: _Asked, verdict: Verdict) -> None:
        question = asked.question
        del self._asked[question.number]
        del self._by_who[asked.who]
        # A configuration may have come meanwhile: the hash must still be the user's.
        hashed = self._users.get(question.user.decode(errors="replace"))
        right = verdict is Verdict.RIGHT and hashed is not None and hashed.encode() == question.expected
        self._counts[verdict.name.lower()] += len(asked.done)
        if right:
            self._verified.pop(asked.who[0], None)
            self._verified[asked.who[0]] = self._context.now + VERIFIED_LIFETIME
            while len(self._verified) > MAX_VERIFIED:
                del self._verified[next(iter(self._verified))]
        for done in asked.done:
            done(right)
