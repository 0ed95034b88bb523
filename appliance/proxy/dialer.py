"""The dialler of named destinations: Happy Eyeballs (RFC 8305) over the ways out of the box.

    dial --literal------------------------------> attempts --one connects--> Dialled; the others are reset
         --name--> AAAA and A, asked at once -+->          --none is left--> the most telling Failure
                   A first: 50 ms for AAAA ---'            --too late------>

An *attempt* is one connect(). The next one begins when the last has failed, or ATTEMPT_DELAY after it began,
while all before it go on. Every address, whether written or resolved, is judged by ``Routes`` first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from socket import AF_INET, AF_INET6

from appliance.errors import Failure, failure_of
from appliance.proxy.arbiter import Judge
from appliance.proxy.context import Context
from appliance.proxy.eyeballs import Candidates, Route, most_telling
from appliance.proxy.loop import Handler, Timer
from appliance.proxy.relay import EPOLLERR, EPOLLHUP, EPOLLOUT, LEG_EVENTS
from appliance.proxy.resolver import Answer, Resolver
from appliance.proxy.routes import Routes
from appliance.session.record import literal_address

# RFC 8305 section 3: seconds that A waits for AAAA. Less, and IPv6 loses to resolvers that answer in any
# order; more is added to every name whose AAAA is slow.
RESOLUTION_DELAY = 0.05
# Section 5: seconds from one attempt to the next. Less doubles the load on servers that are merely far away;
# with more, a family that is a black hole costs over 0.4 s.
ATTEMPT_DELAY = 0.25
# Attempts of one dial that go out of the box. More would let a name with many dead addresses hold as many
# descriptors and ports for each client; fewer would miss the one that lives.
MAX_ATTEMPTS = 6
# Seconds for which IPv6 that had no route is tried last and not waited for: most boxes have none. Longer, and
# a line that gets IPv6 is used late; shorter, and every few names pay for the delay again.
UNROUTED_FOR = 10.0
# Descriptors that dials leave free for everything else: pipes, log, hand-over.
SPARE_DESCRIPTORS = 16

_FAILED = EPOLLERR | EPOLLHUP
_SETTLED = EPOLLOUT | _FAILED
_EVENTS = LEG_EVENTS


class Dialled(Handler):
    """A connected socket: the one that won.

    ``fd`` is watched by the loop (LEG_EVENTS, edge-triggered), and until ``loop.hand_to`` gives it to its new
    owner, this object collects what is reported of it in ``events``. ``address``: packed, 4 or 16 octets,
    IPv4 where an IPv6 address embedded it; ``text``: the same to read; ``aliases``: the names that led to it.
    """

    __slots__ = ("_dial", "address", "aliases", "events", "fd", "text")

    def __init__(self, fd: int, address: bytes, text: str, dial: Dial | None = None) -> None:
        self.fd = fd
        self.address = address
        self.text = text
        self.aliases: tuple[str, ...] = ()
        self.events = 0
        self._dial = dial  # while it is an attempt

    def on_event(self, events: int) -> None:
        """The attempt's outcome; after it, what the new owner should know."""
        self.events |= events
        dial = self._dial  # held: it lets go of this attempt, and whoever asked for it of the dial
        if dial is not None and events & _SETTLED:
            dial.settled(self, bool(events & _FAILED))

    def abandon(self) -> None:
        """No memory."""
        dial = self._dial
        if dial is not None:
            dial.abandon()

    def release(self) -> Dialled:
        """It is an attempt no more."""
        self._dial = None
        return self


Done = Callable[[Dialled | Failure], None]


class Dial(Handler):
    """A dial under way."""

    __slots__ = (
        "_attempts",
        "_awaited",
        "_candidates",
        "_client",
        "_deadline",
        "_dialer",
        "_done",
        "_failures",
        "_host",
        "_judge",
        "_judged",
        "_next_at",
        "_next_timer",
        "_over",
        "_own",
        "_port",
        "_resolution",
        "_starting",
        "_tried",
    )

    def __init__(
        self,
        dialer: Dialer,
        client: bytes,
        own: bytes,
        host: str,
        port: int,
        done: Done,
        judge: Judge | None = None,
    ) -> None:
        self._dialer = dialer
        self._judge = judge
        self._judged: dict[bytes, tuple[bytes, tuple[str, ...]]] = {}  # by the address that is dialled
        self._client = client
        self._own = own
        self._host = host
        self._port = port
        self._done = done
        self._candidates: Candidates | None = None  # of a name
        self._attempts: list[Dialled] = []  # under way
        self._tried = 0
        self._failures: set[Failure] = set()
        self._awaited: set[int] = set()  # families whose addresses are yet to come
        self._next_at = 0.0  # when the next attempt may begin, while one is under way
        self._next_timer: Timer | None = None
        self._resolution: Timer | None = None  # A waits for AAAA
        self._over = False
        self._starting = True  # in ``Dialer.dial``: nothing is reported yet
        context = dialer.context
        self._deadline: Timer = context.at(dialer.timeout, self._too_late)

    def cancel(self) -> None:
        """Give up: everything is closed (with reset), nothing is reported. After the report: no effect."""
        self._deadline.cancel()  # a report that waits, too
        self._end(None)

    def abandon(self) -> None:
        """No memory."""
        if not self._over:
            self._finish(Failure.MEMORY)

    def begin(self) -> None:
        """Ask for the addresses, or try the one there is."""
        literal = literal_address(self._host)
        if literal is None:
            self._awaited = {AF_INET6, AF_INET}
            self._dialer.resolver.resolve(self._host, self._answered)
        else:
            route = self._route_to(literal, "", ())
            if route is not None:
                self._attempt(route)
            self._advance()
        self._starting = False

    # -- addresses -----------------------------------------------------------------------------

    def _answered(self, answer: Answer) -> None:
        if self._over:
            return
        self._awaited.discard(answer.family)
        if answer.failure is not None:
            self._failures.add(answer.failure)
        if self._candidates is None:
            self._candidates = Candidates()
        for address in answer.addresses:
            route = self._route_to(address, self._host, answer.aliases)
            if route is not None:
                self._candidates.add(route)
        if answer.family == AF_INET6:
            self._stop_waiting()
        elif (
            AF_INET6 in self._awaited
            and self._candidates
            and not self._tried
            and not self._dialer.ipv6_is_unrouted
        ):
            self._resolution = self._dialer.context.at(RESOLUTION_DELAY, self._waited_enough)
        self._advance()

    def _route_to(self, address: bytes, host: str, aliases: tuple[str, ...]) -> Route | None:
        found = self._dialer.routes.route(address, host, self._port, self._client, self._own)
        if isinstance(found, Failure):
            self._failures.add(found)
            return None
        if self._judge is not None:
            if not self._judge.allows_address(address, aliases):
                self._failures.add(Failure.DENIED)
                return None
            self._judged[found.address] = address, aliases
        return found

    def _drop_candidates(self) -> None:
        if self._candidates is not None:
            self._candidates.clear()

    def _stop_waiting(self) -> None:
        if self._resolution is not None:
            self._resolution.cancel()
            self._resolution = None

    def _waited_enough(self) -> None:
        self._resolution = None
        self._advance()

    # -- attempts ------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begin what it is time for; report where nothing is left to hope for."""
        if self._resolution is not None:
            return
        context, candidates = self._dialer.context, self._candidates
        while candidates and self._tried < MAX_ATTEMPTS:
            if self._attempts and context.now < self._next_at:
                if self._next_timer is None:
                    self._next_timer = context.at(self._next_at - context.now, self._next_is_due)
                return
            self._attempt(candidates.take(self._dialer.ipv6_is_unrouted))
        if not self._attempts and not self._awaited:
            self._finish(most_telling(self._failures))

    def _next_is_due(self) -> None:
        self._next_timer = None
        self._next_at = 0.0
        self._advance()

    def _attempt(self, route: Route) -> None:
        context, kernel = self._dialer.context, self._dialer.context.kernel
        fd = kernel.dial(route.address, self._port, route.interface, route.source)
        if fd < 0:
            self._failed_at_once(failure_of(-fd), route)
            return
        attempt = Dialled(fd, route.address, route.text, self)
        try:
            if fd + SPARE_DESCRIPTORS > context.descriptor_limit:
                raise OSError
            context.watch(fd, attempt, _EVENTS)
        except OSError:
            kernel.close(fd)
            self._failed_at_once(Failure.DESCRIPTORS, route)
            return
        self._attempts.append(attempt)
        self._tried += 1
        self._next_at = context.now + ATTEMPT_DELAY

    def _failed_at_once(self, failure: Failure, route: Route) -> None:
        self._failures.add(failure)
        if failure is Failure.NO_ROUTE and len(route.address) == 16:
            self._dialer.ipv6_has_no_route()
        elif failure in (Failure.DESCRIPTORS, Failure.MEMORY):
            self._drop_candidates()  # the next would fare no better

    def settled(self, attempt: Dialled, failed: bool) -> None:
        """connect() has ended, well or not."""
        context = self._dialer.context
        self._attempts.remove(attempt)
        code = context.kernel.error_of(attempt.fd) if failed else 0
        if not code and self._may_go_to(attempt):
            self._finish(attempt.release())
            return
        self._failures.add(failure_of(code) if code else Failure.DENIED)
        context.bury(attempt.release().fd)
        self._next_at = 0.0
        if self._next_timer is not None:
            self._next_timer.cancel()
            self._next_timer = None
        self._advance()

    def _may_go_to(self, attempt: Dialled) -> bool:
        """Whether the policy lets this address be the one: what the judge has seen last is another."""
        if self._judge is None:
            return True
        address, attempt.aliases = self._judged[attempt.address]
        return self._judge.allows_address(address, attempt.aliases)

    # -- the end -------------------------------------------------------------------------------

    def _too_late(self) -> None:
        if self._attempts or self._candidates:
            self._failures.add(Failure.TIMEOUT)
        elif self._awaited:
            self._failures.add(Failure.NAME_TIMEOUT)
        self._finish(most_telling(self._failures))

    def _finish(self, result: Dialled | Failure) -> None:
        self._deadline.cancel()
        done = self._end(self._done)
        if done is None:
            return
        if self._starting:
            self._deadline = self._dialer.context.at(0.0, partial(done, result))
        else:
            done(result)

    def _end(self, done: Done | None) -> Done | None:
        """Let go of everything; ``done``, unless the end was before."""
        if self._over:
            return None
        self._over = True
        self._stop_waiting()
        if self._next_timer is not None:
            self._next_timer.cancel()
            self._next_timer = None
        context = self._dialer.context
        for attempt in self._attempts:
            context.kernel.reset_on_close(attempt.fd)
            context.bury(attempt.release().fd)
        self._attempts.clear()
        self._drop_candidates()
        self._done = _nobody  # whoever waits is often who holds this dial
        return done


def _nobody(_result: Dialled | Failure) -> None:
    """Who is told of a dial that has been reported."""


class Dialer:
    """Dials names and addresses for the clients of a worker."""

    def __init__(self, context: Context, resolver: Resolver) -> None:
        self.context = context
        self.resolver = resolver
        self.routes = Routes(context)
        self.timeout = context.config.proxy.timers.dial  # seconds
        self._unrouted_until = 0.0  # monotonic

    def configure(self) -> None:
        """Take up what the context was configured with."""
        self.routes.configure()
        self.timeout = self.context.config.proxy.timers.dial
        self._unrouted_until = 0.0

    @property
    def ipv6_is_unrouted(self) -> bool:
        """Whether there was no route for IPv6 a short while ago."""
        return self.context.now < self._unrouted_until

    def ipv6_has_no_route(self) -> None:
        """Remember it."""
        self._unrouted_until = self.context.now + UNROUTED_FOR

    def dial(
        self, client: bytes, own: bytes, host: str, port: int, done: Done, judge: Judge | None = None
    ) -> Dial:
        """Connect to ``host``: a name, an IPv4 or an IPv6 address, as ``protocol.names`` gives them.

        ``client`` and ``own`` are the two ends of the client's connection (16 octets, IPv4 as its mapped
        form): the client keeps its source address of a pool; the networks at ``own`` are the LAN, which is no
        origin. ``done`` is called exactly once, never before this returns, unless the dial is cancelled.
        ``context.admit`` is the caller's to ask. ``judge``, where there is one, has the last word on each
        address.
        """
        dial = Dial(self, client, own, host, port, done, judge)
        dial.begin()
        return dial
