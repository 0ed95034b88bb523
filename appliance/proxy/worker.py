"""One worker: its epoll loop, its TUN, its listener, and its line to the supervisor."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
import resource
import signal
import statistics
import time
from pathlib import Path
from socket import recv_fds, send_fds, socket
from typing import Any

from appliance.config.schema import Config
from appliance.dataplane import worker_count
from appliance.proxy.access import Access
from appliance.proxy.context import Context
from appliance.proxy.datagram import Datagrams
from appliance.proxy.dialer import Dialer
from appliance.proxy.explicit import Explicit
from appliance.proxy.gatekeeper import Gatekeeper
from appliance.proxy.kernel import Kernel
from appliance.proxy.listing import page, place_at
from appliance.proxy.loop import Handler
from appliance.proxy.packets import Packets
from appliance.proxy.ping import Pings
from appliance.proxy.published import PublishedTcp
from appliance.proxy.published_udp import PublishedUdp
from appliance.proxy.quotas import Quotas
from appliance.proxy.relay import EPOLLIN, READ_SIZE, Pipes, RelayContext
from appliance.proxy.resolver import Resolver
from appliance.proxy.tally import Tally
from appliance.proxy.targets import Targets
from appliance.proxy.transparent import Transparent
from appliance.proxy.verifier import Verifier
from appliance.session.access import FILE as ACCESS
from appliance.session.access import AccessRequests
from appliance.session.asked import FILE as NAMES
from appliance.session.asked import AskedNames
from appliance.session.hits import FILE as HITS
from appliance.session.hits import LIST, RULE, Hits
from appliance.session.log import Log
from appliance.session.record import DIALLING, KILLED
from appliance.session.tables import Tables

TICK = 1.0
# Descriptors that are not sessions': log, epoll, TUN, listeners, and room to breathe.
RESERVED_DESCRIPTORS = 64
# A share of the descriptors is for pipes: one session in sixteen may be in bulk at once.
PIPE_SHARE = 16
# Sessions are freed by their reference counts; the collector is for what should not be, and each of its
# runs looks at every session there is.
GARBAGE_THRESHOLD = 200_000
# Octets of the supervisor's line taken at once. A whole configuration comes in pieces; more would be memory
# that is not there when it is short.
LINE_READ = 16_384
# A hand-over: one message of it (a binding's largest part is one flow), and how long all of it may take.
MAX_HEIRLOOM = 4_096
HAND_OVER_TIMEOUT = 4.0
# How a session ended that a worker did not carry to its end: all of the proxy stopped, or its time was over.
STOPPED, DRAINED = "stopped", "drained"
# Sessions whose lines are written together when all end at once: a quarter of what the log keeps for a disk.
LINES_AT_ONCE = 2_048
READY = b"ready"  # what a new worker says to the supervisor through the socket of its estate


class Worker:
    """The composition of a worker. ``line`` is the socket to the supervisor: JSON lines both ways."""

    def __init__(
        self,
        index: int,
        config: Config,
        tun: int,
        listener: socket,
        from_clients: socket,
        from_origins: socket,
        line: socket,
        log_path: Path | None,
        certificates: Path,
        helper: Path,
        runtime: Path,
        meters: Path,
        tally: Tally,
    ) -> None:
        self.index = index
        self._uncounted: list[str] = []
        self._certificates = certificates
        self._log = Log(log_path, index)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        usable = max(limit - RESERVED_DESCRIPTORS, 64)
        self._descriptors = (usable - usable // PIPE_SHARE) // 2  # sessions that they suffice for
        kernel = Kernel(READ_SIZE)
        pipes = Pipes(kernel, usable // PIPE_SHARE // 2)
        self.context = Context(kernel, config, tun, self._log, tally)
        self._tables = Tables(runtime / "lists" / "tables")
        self.context.arbiter.lists = self._tables
        self.context.arbiter.names = AskedNames(runtime / "dns64" / NAMES)
        self.relay = RelayContext(self.context, pipes)
        self._hits: Hits | None = None
        try:
            self._hits = Hits(meters.with_name(HITS), index)
        except OSError as error:
            self._uncounted = [f"Hits of rules are not counted: {error.strerror}."]
        self._quotas = Quotas(self.context, self.relay, meters, index)
        listener.setblocking(False)
        self._listener = listener.detach()
        kernel.adopt(self._listener)
        self.transparent = Transparent(self.context, self.relay, self._listener)
        self.datagrams = Datagrams(self.context, from_clients.detach(), from_origins.detach())
        self.pings = Pings(self.context, self.datagrams)
        self.targets = Targets(self.context)
        self.published_tcp = PublishedTcp(self.context, self.relay, self.targets)
        self.published_udp = PublishedUdp(self.context, self.targets)
        dialer = Dialer(self.context, Resolver(self.context))
        self._verifier = Verifier(self.context, helper)
        self._access = Access(AccessRequests(meters.with_name(ACCESS)))
        self._gate = Gatekeeper(self.context, self.relay, dialer, self._verifier, self._access)
        self.explicit = Explicit(self.context, self._gate)
        self._packets = Packets(self.context, self.transparent, self.pings)
        self._line = line
        self._request = b""
        self._stop = False
        self._drain_until: float | None = None  # monotonic; nothing new is taken up any more
        self._idle_mark: dict[int, int] = {}
        self._configure(config)
        line.setblocking(False)
        if tun >= 0:
            os.set_blocking(tun, False)
            self.context.watch(tun, self._packets, EPOLLIN)
        self.context.watch(self._listener, self.transparent, EPOLLIN)
        self.context.watch(line.fileno(), _Line(self), EPOLLIN)

    def _configure(self, config: Config) -> None:
        """Take a configuration up; sessions that there are go on."""
        self._log.flush()  # what was written down by the old rules is not to come after the new ones hold
        self._log.configure(config.policy.privacy)
        self._access.asks = config.policy.privacy == "full"
        self.context.configure(config, self._descriptors)
        self.transparent.configure()
        self.targets.configure(config)
        workers = worker_count(config.proxy.workers, len(os.sched_getaffinity(0)))
        self.datagrams.configure(self.index, workers)
        self._quotas.configure(config, workers)
        self.published_tcp.configure(config, workers)
        self.published_udp.configure(config, workers)
        self._verifier.configure(config)
        self.explicit.configure(config, workers, self._certificates)

    def run(self) -> None:
        """Serve until the supervisor says stop or goes away."""
        context, relay = self.context, self.relay
        out_of_memory = context.out_of_memory  # bound while there is memory to bind it
        # By whole seconds, as all workers: what each admits in one is added up.
        next_tick = math.floor(context.now) + TICK
        next_sweep = context.now + context.config.proxy.timers.tcp_established
        context.timers.add(1, lambda second: 0)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)
        while not self._stop:
            try:
                relay.turn(next_tick - context.now)
                if context.now >= next_tick:
                    # The supervisor makes a new worker of one whose TUN is gone.
                    self._stop = self._stop or self._packets.broken
                    next_tick = math.floor(context.now) + TICK
                    self._every_second()
                if context.now >= next_sweep:
                    next_sweep = context.now + context.config.proxy.timers.tcp_established
                    self._sweep_idle()
            except MemoryError:
                try:
                    out_of_memory(self._packets)
                except MemoryError:
                    continue  # not even a call is possible; the next turn, or second, finds some again
        self._end_all(STOPPED)
        self._count_hits()
        self._log.flush()

    def _end_all(self, reason: str) -> None:
        """End what is left, with a reset: an end in order would have a part taken for the whole."""
        context = self.context
        for number, session in list(context.sessions.items()):
            leg = self.relay.legs.get(number)
            if leg is not None:
                leg.abort(reason)
            elif session.state == DIALLING:
                context.drop(session)
            else:
                for fd in context.streams.get(number, ()):
                    context.kernel.reset_on_close(fd)  # the process's end closes it
                context.ended(session, reason)
            if not number % LINES_AT_ONCE:
                self._log.flush()
        context.close_buried()

    def _every_second(self) -> None:
        context = self.context
        self._tables.refresh(context.now)
        context.every_second()
        self._quotas.every_second()
        self._count_hits()
        self.transparent.every_second()
        self._gate.pool.every_second()
        context.close_buried()
        self._log.flush()
        if self._drain_until is not None:
            self._drained(self._drain_until)

    def _count_hits(self) -> None:
        """Write down which rules and lists decided."""
        arbiter, hits = self.context.arbiter, self._hits
        if arbiter.rule_hits and hits is not None:
            now = arbiter.local_time()
            hits.add(RULE, arbiter.rule_hits, now)
            hits.add(LIST, arbiter.list_hits, now)
        arbiter.rule_hits.clear()
        arbiter.list_hits.clear()

    def _sweep_idle(self) -> None:
        """Reset TCP sessions that moved nothing for a whole lifetime (RFC 6146 section 4)."""
        marks: dict[int, int] = {}
        for leg in list(self.relay.legs.values()):
            session = leg.session
            moved = session.to_wan + session.to_lan
            if self._idle_mark.get(session.number) == moved:
                leg.abort("idle")
            else:
                marks[session.number] = moved
        self._idle_mark = marks
        self.context.close_buried()

    # -- handing over, draining ------------------------------------------------------------------

    def adopt(self, estate: socket) -> None:
        """Take over what the worker before was about to do: held SYNs, UDP and ping bindings."""
        own = set(self.context.sessions)
        self._adopt_all(estate)
        self._quotas.count_from_now(self.context.sessions.keys() - own)  # the worker before has counted

    def _adopt_all(self, estate: socket) -> None:
        deadline = time.monotonic() + HAND_OVER_TIMEOUT
        with estate:
            while True:
                estate.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    data, descriptors, _flags, _address = recv_fds(estate, MAX_HEIRLOOM, 1)
                except OSError:
                    return  # it died, or hangs: what has come is taken, the rest is lost with it
                if not data:
                    return
                try:
                    entry = json.loads(data)
                except ValueError:  # cut off: over MAX_HEIRLOOM
                    for fd in descriptors:
                        os.close(fd)
                    continue
                if entry["kind"] == "held" and descriptors:
                    self.transparent.adopt(entry, descriptors[0])
                    continue
                if entry["kind"] == "udp":
                    self.datagrams.adopt(entry)
                    continue
                sock = socket(fileno=descriptors[0]) if descriptors else None
                if entry["kind"] == "icmp":
                    self.pings.adopt(entry, sock)
                elif entry["kind"] == "published" and sock is not None:
                    self.published_udp.adopt(entry, sock)

    def _drain(self, deadline: float, heir: int) -> None:
        """Take up nothing new; hand what is no relay over to ``heir``; go on with the relays."""
        context = self.context
        self._drain_until = context.now + deadline
        self.transparent.on_event(0)  # handshakes that are done
        self._quotas.draining = True
        self._quotas.every_second()  # what flows have moved up to here is counted here
        self.published_tcp.drain()
        self.explicit.drain()
        self.datagrams.drain()
        context.ignore(self._listener)
        if context.tun >= 0:
            context.ignore(context.tun)
        with socket(fileno=heir) as estate:
            estate.settimeout(HAND_OVER_TIMEOUT)
            try:
                heirlooms = (self.transparent, self.datagrams, self.pings, self.published_udp)
                for entry, what in itertools.chain.from_iterable(part.hand_over() for part in heirlooms):
                    data = json.dumps(entry).encode()
                    fds = [] if what is None else [what if isinstance(what, int) else what.fileno()]
                    send_fds(estate, [data], fds)
            except OSError:
                pass  # the heir died: what it did not get is lost, as with any dead worker
        context.close_buried()
        # A device or a port that is still open could not be had anew by a later worker of this number.
        if context.tun >= 0:
            os.close(context.tun)
            context.tun = -1
        context.kernel.close(self._listener)

    def _drained(self, until: float) -> None:
        """End when there is nothing left, or when the time is over."""
        if self.context.now >= until:
            self._end_all(DRAINED)
            self._stop = True
        elif not (self.context.sessions or self.context.unsent):
            self._stop = True

    # -- the supervisor's questions -------------------------------------------------------------

    def on_line(self, events: int) -> None:
        """A question of the supervisor's, or its end."""
        descriptors: list[int] = []
        try:
            data, descriptors, _flags, _address = recv_fds(self._line, LINE_READ, 1)
        except ConnectionResetError:
            data = b""
        except OSError:
            return  # nothing there, or no memory for it now: it is told of again
        if not data:
            self._stop = True
            return
        self._request += data
        *lines, self._request = self._request.split(b"\n")
        for line in lines:
            question = json.loads(line)
            answer = {**self._answer(question, descriptors), "answers": question.get("asked")}
            # Blocking, but bounded: the supervisor reads at once, and MAX_LISTED bounds the answer.
            self._line.settimeout(0.5)
            # It may have given up waiting, and reads no more, or the kernel has no memory: it asks again.
            # Where an answer was broken off, the next one stands on a line of its own all the same.
            with contextlib.suppress(OSError):
                self._line.sendall(b"\n" + json.dumps(answer).encode() + b"\n")
            self._line.setblocking(False)

    def _answer(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        match question.get("ask"):
            case "status":
                return self._status()
            case "sessions":
                return page(
                    self.context.sessions,
                    self.index,
                    self.context.now,
                    int(question["limit"]),
                    str(question.get("search") or ""),
                    place_at(str(question.get("cursor") or "")),
                )
            case "kill":
                return {"killed": self._kill(int(question["number"]))}
            case "configure":
                self._configure(Config.model_validate(question["config"]))
            case "drain":
                self._drain(float(question["deadline"]), descriptors[0])
            case "adopt":
                self.adopt(socket(fileno=descriptors[0]))
            case "flush":
                self._log.flush()
            case "reopen":
                self._log.reopen()
            case other:
                return {"error": f"no such question: {other}"}
        return {}

    def _status(self) -> dict[str, Any]:
        counters = self.context.counters
        kinds = {"tcp": 0, "udp": 0, "icmp": 0}
        to_wan, to_lan = counters.to_wan, counters.to_lan
        for session in self.context.sessions.values():
            kinds[session.kind] += 1
            to_wan += session.to_wan
            to_lan += session.to_lan
        return {
            **kinds,
            "half_open": self.transparent.half_open + len(self.published_tcp.waiting),
            "opened": counters.opened,
            "refused": counters.refused,
            "unreachable": counters.unreachable,
            "denied": counters.denied,
            "limited": counters.limited,
            "limits": self.context.limits(),
            "passwords": self._verifier.counts(),
            "bytes_to_wan": to_wan,
            "bytes_to_lan": to_lan,
            "dial_ms_median": statistics.median(counters.dial_ms) if counters.dial_ms else None,
            "log_dropped": self._log.dropped,
            "targets": self.targets.describe(),
            "problems": self.published_tcp.problems
            + self.published_udp.problems
            + self.explicit.problems
            + self._quotas.problems
            + self._uncounted,
        }

    def _kill(self, number: int) -> bool:
        session = self.context.sessions.get(number)
        if session is None or not self.context.kill(session, KILLED):
            return False
        self.context.close_buried()
        return True


class _Line(Handler):
    """The supervisor's line as a handler of the loop."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def on_event(self, events: int) -> None:
        """A question waits."""
        self._worker.on_line(events)


def run_worker(
    index: int,
    config: Config,
    tun: int,
    listener: socket,
    from_clients: socket,
    from_origins: socket,
    line: socket,
    log_path: Path | None,
    certificates: Path,
    helper: Path,
    runtime: Path,
    meters: Path,
    tally: Tally,
    estate: socket | None,
) -> None:
    """Be a worker; returns when it is to end.

    ``certificates``: the folder with the box's own; ``helper``: the password helper's socket; ``runtime``:
    the daemons' common folder; ``meters``: the file of the limits' counters; ``tally``: what all workers
    have; ``estate``: from which a worker before hands over.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    worker = Worker(
        index,
        config,
        tun,
        listener,
        from_clients,
        from_origins,
        line,
        log_path,
        certificates,
        helper,
        runtime,
        meters,
        tally,
    )
    if estate is not None:
        # The listeners stand: the one before may close its own, and nobody is refused in between.
        with contextlib.suppress(OSError):
            estate.send(READY)
        worker.adopt(estate)
    worker.run()
