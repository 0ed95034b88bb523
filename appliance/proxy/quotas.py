"""Limits of clients, users and devices: what a new session may, and once a second what the others have used.

Sessions are counted anew each second, so that nothing drifts. Bandwidth is the kernel's to pace, by
SO_MAX_PACING_RATE on both legs: a subject's rate is shared out among its sessions that move anything, each
second anew, and nothing waits in here. UDP and ping have no such socket: there a bucket of the subject's,
filled by all its sessions of datagrams together, says what is lost (``passes``). The meters' file tells each
worker what the others have of a subject.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from socket import SOL_SOCKET, socket
from zoneinfo import ZoneInfo

from appliance.config.schema import Config
from appliance.dataplane import MAX_WORKERS
from appliance.policy.forbidden import unmapped
from appliance.policy.limits import CompiledLimit, Party, compile_limits
from appliance.proxy.bucket import Bucket
from appliance.proxy.context import Context
from appliance.proxy.relay import RelayContext
from appliance.session.meters import Meters, Period, period_of
from appliance.session.record import Session, address_text

SO_MAX_PACING_RATE = 47
UNPACED = 0xFFFFFFFF  # the kernel's word for no limit
# A session that has its rate already is left alone where the new one differs by less: one part in so many.
_TOLERANCE = 8
OVER = "quota"  # the log's word for the end of what a quota has ended
# Least octets a second of a session that is paced: less, and not even its handshakes come through in time.
MIN_RATE = 4_096


class _Use:
    """What one subject has of one limit, in this worker."""

    __slots__ = (
        "active", "bucket", "datagrams", "is_shared", "limit", "new", "over", "place", "sessions", "share",
        "subject",
    )  # fmt: skip

    def __init__(self, limit: CompiledLimit, subject: str, place: int, is_shared: bool, now: float) -> None:
        self.limit = limit
        self.subject = subject
        self.place = place  # of the meter
        self.is_shared = is_shared  # other workers may have sessions of it
        self.sessions = 0  # of this worker
        self.new = 0  # in this second
        self.active: set[int] = set()  # numbers of sessions that have moved something, where a rate is shared
        self.datagrams = 0  # of the active ones, those without a socket that the kernel could pace
        self.bucket = Bucket(now)  # for these
        self.over = False  # its octets are used up
        self.share = UNPACED  # octets a second that each of its sessions may have


class _Known:
    """A session that is counted."""

    __slots__ = ("moved", "rate", "uses")

    def __init__(self, uses: tuple[_Use, ...], moved: int = 0) -> None:
        self.uses = uses
        self.moved = moved  # octets that are counted already
        self.rate = 0


class Quotas:
    """A worker's part of the limits. ``refused_by``: the limit that said no last."""

    def __init__(self, context: Context, relay: RelayContext, path: Path, worker: int) -> None:
        self._context = context
        self._relay = relay
        self._path = path
        self._worker = worker
        self._limits: tuple[CompiledLimit, ...] = ()
        self._paces = False
        self._meters: Meters | None = None
        self._workers = 0
        self._zone = ZoneInfo("UTC")
        self._period = Period(0, 0)
        self._uses: dict[tuple[str, str], _Use] = {}
        self._known: dict[int, _Known] = {}
        # Sockets that outlived their session and are paced yet. A number may be another session's by now,
        # which has set its own rate.
        self._left: set[int] = set()
        self.refused_by = ""
        self.draining = False  # the worker that has taken over says how many sessions there are
        self.problems: list[str] = []  # in words, while not everything can be limited

    def configure(self, config: Config, workers: int) -> None:
        """Take a configuration up."""
        had_some = self._context.quotas is not None
        self._limits = compile_limits(config.limit)
        self._paces = any(limit.kbit_per_second is not None for limit in self._limits)
        self._zone = ZoneInfo(config.system.timezone)
        self._forget_uses()
        self.problems = []
        if self._limits and self._meters is None:
            try:
                self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                self._meters = Meters(self._path, self._worker)
                self._meters.forget_sessions([self._worker])
            except OSError as error:
                self.problems = [f"Limits do not hold: {self._path} cannot be used: {error.strerror}."]
        if self._meters is not None and self._worker == 0 and workers != self._workers:
            self._meters.forget_sessions(range(workers, MAX_WORKERS))  # who had them says nothing more
        self._workers = workers
        self._context.quotas = self if self._limits and self._meters is not None else None
        self._tell_time()
        pace(self._left, UNPACED)
        self._left.clear()
        if self._context.quotas is None:
            for number, known in self._known.items():
                if known.rate:
                    self._pace(number, UNPACED)
            self._known.clear()
            return
        if not had_some:
            self.count_from_now(self._context.sessions)
        self._count_anew()
        self.every_second()

    def _forget_uses(self) -> None:
        """A limit that is there no more has no sessions, whenever it is there again."""
        if self._meters is not None and not self.draining:
            for use in self._uses.values():
                self._meters.set_sessions(use.place, 0)
        self._uses.clear()

    def _count_anew(self) -> None:
        """Sessions that there are belong to other limits now; what they have moved was counted before."""
        sessions = self._context.sessions
        self._known = {number: known for number, known in self._known.items() if number in sessions}
        for number, known in self._known.items():
            session = sessions[number]
            known.uses = self._uses_of(session.client, session.user)
            if known.rate:
                self._pace(number, UNPACED)  # until the next second says otherwise
                known.rate = 0

    def count_from_now(self, numbers: Iterable[int]) -> None:
        """What these sessions have moved is counted elsewhere, or was nobody's limit yet."""
        if self._context.quotas is None:
            return
        for number in numbers:
            session = self._context.sessions[number]
            uses = self._uses_of(session.client, session.user)
            self._known[number] = _Known(uses, session.to_wan + session.to_lan)

    def _tell_time(self) -> None:
        self._period = period_of(datetime.fromtimestamp(time.time(), self._zone))

    def _party(self, client: bytes, user: str) -> Party:
        arbiter = self._context.arbiter
        return Party(
            unmapped(client), address_text(client), user, arbiter.groups_of(user), arbiter.device_of(client)
        )

    def _uses_of(self, client: bytes, user: str) -> tuple[_Use, ...]:
        """All that count a session of these two."""
        assert self._meters is not None
        party = self._party(client, user)
        found = []
        for limit in self._limits:
            subject = limit.subject(party)
            if subject is None:
                continue
            key = limit.name, subject
            use = self._uses.get(key)
            if use is None:
                place = self._meters.meter(*key, self._period)
                if place < 0:
                    self.problems = ["Limits do not hold for all: there are too many clients to count."]
                    continue
                self._meters.hold(place)
                shared = limit.is_shared or subject != party.address  # a device's addresses are several
                use = self._uses[key] = _Use(limit, subject, place, shared, self._context.now)
            found.append(use)
        return tuple(found)

    # -- a new session -----------------------------------------------------------------------------

    def admit(self, client: bytes, user: str) -> bool:
        """Whether one more session is within all limits; it is counted as tried."""
        assert self._meters is not None
        uses = self._uses_of(client, user)
        for use in uses:
            if not self._has_room(use, self._meters):
                self.refused_by = use.limit.name
                return False
        for use in uses:
            use.new += 1
            use.sessions += 1
            if use.is_shared and use.limit.new_per_second is not None:
                self._meters.count_new(use.place, int(self._context.now))
        return True

    def _has_room(self, use: _Use, meters: Meters) -> bool:
        limit = use.limit
        if limit.new_per_second is not None:
            new = use.new
            if use.is_shared:
                new = meters.new(use.place, int(self._context.now), self._workers)
            if new >= limit.new_per_second:
                return False
        if limit.sessions is None and limit.per_day is None and limit.per_month is None:
            return True
        reading = meters.read(use.place, self._period, but_own_sessions=True)
        if limit.sessions is not None and reading.sessions + use.sessions >= limit.sessions:
            return False
        return not (
            (limit.per_day is not None and reading.day >= limit.per_day)
            or (limit.per_month is not None and reading.month >= limit.per_month)
        )

    def opened(self, session: Session) -> None:
        """Pace a new session, as one more beside those that move something."""
        if not self._paces:
            return
        known = self._known.get(session.number)
        if known is None:
            known = self._known[session.number] = _Known(self._uses_of(session.client, session.user))
        sockets = self._sockets(session.number)
        left = self._left.intersection(sockets)
        self._left -= left
        known.rate = 0  # what carries it is new
        for use in known.uses:
            if use.limit.kbit_per_second is not None:
                use.active.add(session.number)
                use.datagrams += session.kind != "tcp"
                use.share = self._share(use)
                self._set_rate(session.number, known, min(use.share, known.rate or UNPACED))
        if not known.rate:
            pace(left, UNPACED)

    # -- once a second -----------------------------------------------------------------------------

    def ended(self, session: Session) -> None:
        """Count what a session has moved since it was last looked at."""
        known = self._known.pop(session.number, None)
        if known is None:
            known = _Known(self._uses_of(session.client, session.user))
        elif known.rate:
            # Streams outlive an exchange: the next one may be somebody's without a limit. Until it comes they
            # stay paced, since all of a small body waits in the kernel when the exchange is over.
            self._left.update(self._context.streams.get(session.number, ()))
        for use in known.uses:
            if session.number in use.active:
                use.active.remove(session.number)
                use.datagrams -= session.kind != "tcp"
        assert self._meters is not None
        with self._meters.alone():
            self._count(known, session)

    def _count(self, known: _Known, session: Session) -> bool:
        """Book what is new; whether there was any."""
        assert self._meters is not None
        moved = session.to_wan + session.to_lan
        fresh = moved - known.moved
        if fresh:
            known.moved = moved
            for use in known.uses:
                self._meters.add(use.place, fresh, self._period)
        return fresh > 0

    def every_second(self) -> None:
        """Count all sessions anew, end those whose octets are used up, share out the rates."""
        meters = self._meters
        if meters is None or not self._limits:
            return
        self._tell_time()
        for use in self._uses.values():
            use.sessions = use.new = use.datagrams = 0
            use.active = set()
            # A worker that drains says nothing of its sessions: others may have given the place away.
            place = meters.meter(use.limit.name, use.subject, self._period)
            use.place = place if place >= 0 else use.place
        with meters.alone():
            self._count_all()
        for use in self._uses.values():
            limit = use.limit
            if limit.per_day is not None or limit.per_month is not None:
                reading = meters.read(use.place, self._period)
                use.over = (limit.per_day is not None and reading.day >= limit.per_day) or (
                    limit.per_month is not None and reading.month >= limit.per_month
                )
        self._end_those_over()
        self._share_rates()
        for key in [key for key, use in self._uses.items() if not use.sessions]:
            del self._uses[key]

    def _count_all(self) -> None:
        """What all sessions have moved, and how many there are."""
        assert self._meters is not None
        sessions = self._context.sessions
        for number in [number for number in self._known if number not in sessions]:
            del self._known[number]  # its dial has failed, or it is another worker's
        for session in list(self._context.sessions.values()):
            known = self._known.get(session.number)
            if known is None:
                known = self._known[session.number] = _Known(self._uses_of(session.client, session.user))
            moving = self._count(known, session)
            for use in known.uses:
                use.sessions += 1
                if moving and use.limit.kbit_per_second is not None:
                    use.active.add(session.number)
                    use.datagrams += session.kind != "tcp"
        if not self.draining:
            for use in self._uses.values():
                self._meters.set_sessions(use.place, use.sessions, len(use.active))

    def _end_those_over(self) -> None:
        if not any(use.over for use in self._uses.values()):
            return
        for number, known in list(self._known.items()):
            if any(use.over for use in known.uses):
                leg = self._relay.legs.get(number)
                session = self._context.sessions.get(number)
                if leg is not None:
                    leg.abort(OVER)
                elif session is not None:
                    self._context.kill(session, OVER)

    def _share_rates(self) -> None:
        if not self._paces:
            return
        for use in self._uses.values():
            use.share = self._share(use)
        # Who moves nothing now may begin in this second: not at more than a share.
        for number, known in self._known.items():
            rate = min([use.share for use in known.uses], default=UNPACED)
            if rate < UNPACED or known.rate:
                self._set_rate(number, known, rate)

    def _share(self, use: _Use) -> int:
        """Octets a second for each of those that share a limit's rate."""
        assert self._meters is not None
        if use.limit.kbit_per_second is None:
            return UNPACED
        octets = use.limit.kbit_per_second * 125
        active = len(use.active) + self._meters.active(use.place, self._workers)
        return min(max(octets // max(active, 1), MIN_RATE), UNPACED)

    def passes(self, session: Session, to_wan: bool, size: int) -> bool:
        """Whether a datagram is within what the limits leave its subject; what is not is lost."""
        known = self._known.get(session.number)
        for use in known.uses if known is not None else ():
            if use.limit.kbit_per_second is not None:
                # New sessions bring no burst of their own, or opening them would pass by the limit.
                rate = min(use.share * max(use.datagrams, 1), use.limit.kbit_per_second * 125)
                if not use.bucket.passes(rate, to_wan, size, self._context.now):
                    return False
        return True

    def _set_rate(self, number: int, known: _Known, rate: int) -> None:
        if abs(known.rate - rate) * _TOLERANCE > rate:
            self._pace(number, rate)
            known.rate = rate

    def _pace(self, number: int, rate: int) -> None:
        session = self._context.sessions.get(number)
        if session is not None:
            session.rate = 0 if rate == UNPACED else rate
        pace(self._sockets(number), rate)

    def _sockets(self, number: int) -> tuple[int, ...]:
        """What carries a session of TCP; nothing, for datagrams."""
        leg = self._relay.legs.get(number)
        return self._context.streams.get(number, ()) if leg is None else (leg.fd, leg.peer.fd)


def pace(sockets: Iterable[int], rate: int) -> None:
    """Let the kernel send no more than so many octets a second by these."""
    value = rate.to_bytes(4, sys.byteorder)  # as an int it would have a sign, and half of these no room
    for fd in sockets:
        try:
            sock = socket(fileno=fd)
        except OSError:
            continue  # it is over
        try:
            sock.setsockopt(SOL_SOCKET, SO_MAX_PACING_RATE, value)
        except OSError:
            pass  # no socket of TCP
        finally:
            sock.detach()
