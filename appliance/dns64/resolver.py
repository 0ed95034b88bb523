"""From a client's octets to its answer: cache, plan, upstream, synthesis. Knows no socket."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Protocol

from appliance.dns64.cache import Cache, Entry
from appliance.dns64.synthesis import Kind, NeedA, Synthesis
from appliance.protocol import dns

# Seconds. A stub asks again after 5 (glibc, RFC 6147 section 5.1.3 leaves it to us): the whole answer
# has to be there before. AAAA comes first and must leave A its time.
AAAA_TIMEOUT = 2.0
A_TIMEOUT = 2.5
ANSWER_TIMEOUT = AAAA_TIMEOUT + A_TIMEOUT
# Clients waiting for one identical answer; a flood of one question must not hoard memory.
MAX_WAITERS = 1_000
_BADVERS = 16  # RFC 6891 section 9

Reply = Callable[[bytes], None]


class Ask(Protocol):
    """Sends a canonical query upstream; see upstream.Upstream.ask."""

    def __call__(
        self, packet: bytes, timeout: float, answered: Callable[[dns.Message | None], None]
    ) -> None: ...


class _Job:
    __slots__ = ("key", "query", "synthesis", "waiters")

    def __init__(self, key: bytes, query: dns.Message, synthesis: Synthesis) -> None:
        self.key = key
        self.query = query
        self.synthesis = synthesis  # it is answered by the rules under which it was asked
        self.waiters: list[tuple[bytes, bool, Reply]] = []


class Resolver:
    """``ask`` is the upstream's, ``clock`` gives whole steady seconds."""

    def __init__(self, synthesis: Synthesis, ask: Ask, clock: Callable[[], int]) -> None:
        self._synthesis = synthesis
        self._ask = ask
        self._clock = clock
        self._cache = Cache()
        self._jobs: dict[bytes, _Job] = {}

    def configure(self, synthesis: Synthesis) -> None:
        """Answer by other rules from now on; what is being asked is answered by the old ones."""
        self._synthesis = synthesis
        self._cache = Cache()
        self._jobs = {}  # a new question is no longer one with them

    def handle(self, packet: bytes, client: IPv6Address | None, by_tcp: bool, reply: Reply) -> None:
        """Answer ``packet``, now or later, with at most one call of ``reply``."""
        excluded = client is not None and self._synthesis.is_excluded_client(client)
        group = b"\1" if excluded else b"\0"
        entry = self._cache.get(group + packet[2:], self._clock())
        if entry is not None:
            reply(packet[:2] + _fit(entry, by_tcp))
            return
        if len(packet) < dns.HEADER or packet[2] & 0x80:
            if (refusal := dns.header_answer(packet, dns.Rcode.FORMERR)) is not None:
                reply(refusal)
            return
        if packet[2] & 0x78:
            if (refusal := dns.header_answer(packet, dns.Rcode.NOTIMP)) is not None:
                reply(refusal)
            return
        try:
            query = dns.parse(packet)
        except dns.DnsError:
            if (refusal := dns.header_answer(packet, dns.Rcode.FORMERR)) is not None:
                reply(refusal)
            return
        if query.edns_version:
            reply(packet[:2] + dns.bare_answer(query, _BADVERS)[2:])
            return
        self._start(group, query, excluded, by_tcp, reply)

    def _start(self, group: bytes, query: dns.Message, excluded: bool, by_tcp: bool, reply: Reply) -> None:
        wire = dns.canonical_query(query)
        key = group + wire[2:]
        identity = query.packet[:2]
        entry = self._cache.get(key, self._clock())
        if entry is not None:
            reply(identity + _fit(entry, by_tcp))
            return
        job = self._jobs.get(key)
        if job is not None:
            if len(job.waiters) < MAX_WAITERS:
                job.waiters.append((identity, by_tcp, reply))
            return
        job = _Job(key, query, self._synthesis)
        job.waiters.append((identity, by_tcp, reply))
        plan = self._synthesis.plan(query, excluded)
        if plan.kind is Kind.LOCAL:
            self._finish(job, plan.answer)
            return
        self._jobs[key] = job
        if plan.kind is Kind.AAAA:
            self._ask(wire, AAAA_TIMEOUT, lambda answer: self._aaaa_came(job, answer))
        elif plan.kind is Kind.PTR:
            target = plan.target
            wire = dns.canonical_query(query, name=target)
            self._ask(
                wire,
                ANSWER_TIMEOUT,
                lambda answer: self._complete(job, lambda: job.synthesis.answer_ptr(query, target, answer)),
            )
        else:
            self._ask(
                wire, ANSWER_TIMEOUT, lambda answer: self._complete(job, lambda: _passed(query, answer))
            )

    def _aaaa_came(self, job: _Job, answer: dns.Message | None) -> None:
        query = job.query
        try:
            verdict = job.synthesis.judge_aaaa(query, answer)
        except dns.DnsError:
            verdict = job.synthesis.judge_aaaa(query, None)
        if not isinstance(verdict, NeedA):
            self._finish(job, verdict)
            return
        need = verdict
        self._ask(
            dns.canonical_query(query, dns.A),
            A_TIMEOUT,
            lambda a: self._complete(job, lambda: job.synthesis.answer_from_a(query, need, a)),
        )

    def _complete(self, job: _Job, make: Callable[[], bytes]) -> None:
        try:
            answer = make()
        except dns.DnsError:
            answer = dns.bare_answer(job.query, dns.Rcode.SERVFAIL)
        self._finish(job, answer)

    def _finish(self, job: _Job, packet: bytes) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
        query = job.query
        limit = query.udp_size
        short = dns.bare_answer(query, packet[3] & dns.RCODE, dns.TC) if len(packet) > limit else packet
        if job.synthesis is self._synthesis:
            with contextlib.suppress(dns.DnsError):
                self._cache.put(job.key, dns.parse(packet), limit, short, self._clock())
        for identity, by_tcp, reply in job.waiters:
            reply(identity + (packet if by_tcp else short)[2:])


def _passed(query: dns.Message, answer: dns.Message | None) -> bytes:
    return answer.packet if answer else dns.bare_answer(query, dns.Rcode.SERVFAIL)


def _fit(entry: Entry, by_tcp: bool) -> bytes:
    return entry.tail if by_tcp or len(entry.tail) + 2 <= entry.limit else entry.short
