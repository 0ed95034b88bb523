"""From a client's octets to its answer: cache, plan, upstream, synthesis. Knows no socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address
from typing import Protocol

from appliance.dns64.cache import Answer, Cache, Entry, answer_of
from appliance.dns64.counters import Counters
from appliance.dns64.gate import Gate, blocked
from appliance.dns64.misses import Misses
from appliance.dns64.synthesis import Kind, NeedA, Synthesis, refusal
from appliance.dns64.told import Told, packed
from appliance.protocol import dns

# Seconds. A stub asks again after 5 (glibc, RFC 6147 section 5.1.3 leaves it to us): the whole answer
# has to be there before. AAAA comes first and must leave A its time.
AAAA_TIMEOUT = 2.0
A_TIMEOUT = 2.5
ANSWER_TIMEOUT = AAAA_TIMEOUT + A_TIMEOUT
# Clients waiting for one identical answer; a flood of one question must not hoard memory.
MAX_WAITERS = 1_000
# Unanswered questions of one client. A browser has some tens, a forwarder for a whole site some
# hundreds; eight clients that flood with names nobody answers leave the upstream's table half empty.
MAX_WAITING_PER_CLIENT = 1_024
# Octets of a question: one name and OPT need 282, padding (RFC 8467) goes to multiples of 128.
MAX_QUERY = 4_096
# Clients whose exclusion is remembered by their address as text; then all are forgotten.
MAX_CLIENTS_KNOWN = 4_096
_BADVERS = 16  # RFC 6891 section 9

Reply = Callable[[bytes], None]


class Ask(Protocol):
    """Sends a canonical query upstream; see upstream.Upstream.ask."""

    def __call__(
        self, packet: bytes, timeout: float, answered: Callable[[dns.Message | None], None]
    ) -> None: ...


class _Job:
    """One plan on its way, with everyone who waits for it."""

    __slots__ = ("cache", "jobs", "key", "need", "query", "resolver", "synthesis", "target", "waiters")

    def __init__(self, resolver: Resolver, key: bytes, query: dns.Message, group: _Group) -> None:
        self.resolver = resolver
        self.key = key
        self.query = query
        # It is answered by the rules under which it was asked.
        self.synthesis = resolver.synthesis
        self.cache = group.cache
        self.jobs = group.jobs
        self.waiters: list[tuple[bytes, bool, str, Reply]] = []
        self.need: NeedA | None = None
        self.target = b""

    def aaaa_came(self, answer: dns.Message | None) -> None:
        try:
            verdict = self.synthesis.judge_aaaa(self.query, answer)
        except dns.DnsError:
            verdict = self.synthesis.judge_aaaa(self.query, None)
        if isinstance(verdict, NeedA):
            self.need = verdict
            self.resolver.ask(dns.canonical_query(self.query, dns.A), A_TIMEOUT, self.a_came)
        else:
            self.resolver.finish(self, verdict)

    def resume(self, empty: dns.Message, answer: dns.Message | None) -> None:
        """Go on where the AAAA answer is there already, and perhaps the A answer."""
        if answer is not None:
            verdict = self.synthesis.judge_aaaa(self.query, empty)
            if isinstance(verdict, NeedA):
                self.need = verdict
                self.a_came(answer)
                return
        self.aaaa_came(empty)

    def a_came(self, answer: dns.Message | None) -> None:
        assert self.need is not None
        try:
            made = self.synthesis.answer_from_a(self.query, self.need, answer)
        except dns.DnsError:
            made = refusal(self.query, dns.Rcode.SERVFAIL)
        self.resolver.finish(self, made)

    def ptr_came(self, answer: dns.Message | None) -> None:
        try:
            made = self.synthesis.answer_ptr(self.query, self.target, answer)
        except dns.DnsError:
            made = refusal(self.query, dns.Rcode.SERVFAIL)
        self.resolver.finish(self, made)

    def passed(self, answer: dns.Message | None) -> None:
        try:
            made = self.synthesis.pass_on(self.query, answer)
        except dns.DnsError:
            made = refusal(self.query, dns.Rcode.SERVFAIL)
        self.resolver.finish(self, made)


class _Group:
    """Clients that get the same answers: with synthesis, or without."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.jobs: dict[bytes, _Job] = {}


class Resolver:
    """``ask`` is the upstream's, ``clock`` gives whole steady seconds."""

    def __init__(
        self,
        synthesis: Synthesis,
        ask: Ask,
        clock: Callable[[], int],
        counters: Counters | None = None,
        told: Told | None = None,
    ) -> None:
        self.ask = ask
        self.told = told
        self.counters = counters or Counters()
        self._clock = clock
        self._waiting: dict[str, int] = {}
        self._misses: Misses | None = None
        self.configure(synthesis)

    def configure(self, synthesis: Synthesis, gate: Gate | None = None) -> None:
        """Answer by other rules from now on; what is being asked is answered by the old ones."""
        self.synthesis = synthesis
        self._gate = gate
        # A new question is no longer one with those that are on their way, and nothing kept is right.
        self._normal = _Group()
        self._excluded = _Group()
        self._group_of: dict[str, _Group] = {}
        if self._misses is not None:
            self.follow(self._misses)

    def follow(self, misses: Misses) -> None:
        """Let a short way go by the rules of now and all later ones, with our cache."""
        self._misses = misses
        synthesis = self.synthesis
        cache = None if synthesis.excludes_clients else self._normal.cache
        misses.configure(cache, synthesis.embed, synthesis.special, self._gate)

    def resume(self, packet: bytes, client: str, reply: Reply, empty: bytes, answer: bytes) -> None:
        """As ``handle``, by UDP, for a plain AAAA question about which something is known already.

        ``empty`` is the answer to the AAAA question, ``answer`` that to the A question, each b"" where there
        is none. One that is malformed or was cut is asked for anew.
        """
        known: list[dns.Message] = []
        question = packet[dns.HEADER : dns.skip_name(packet, dns.HEADER)]
        for came, qtype in ((empty, dns.AAAA), (answer, dns.A)):
            if not came or came[2] & (dns.TC >> 8):
                break
            try:
                known.append(dns.parse_answer(came, question + qtype.to_bytes(2, "big") + b"\0\1"))
            except dns.DnsError:
                break
        group = self._group(client) if self.synthesis.excludes_clients else self._normal
        self._start(group, _query(packet), client, False, reply, known)

    def quick(self, packet: bytes, client: str, now: int) -> bytes | None:
        """What is sent by UDP behind the question's id where the answer is known; else None."""
        group = self._group(client) if self.synthesis.excludes_clients else self._normal
        entry = group.cache.get(packet[2:], now)
        if entry is None or self._denies(client, packet[2:]) or self._cloaked(client, entry):
            return None
        self._tell(client, entry)
        return entry.udp

    def handle(self, packet: bytes, client: str, by_tcp: bool, reply: Reply) -> None:
        """Answer ``packet`` of a client (its address as text), now or later, by at most one ``reply``."""
        group = self._group(client) if self.synthesis.excludes_clients else self._normal
        entry = group.cache.get(packet[2:], self._clock())
        if entry is not None and not (self._denies(client, packet[2:]) or self._cloaked(client, entry)):
            self._tell(client, entry)
            reply(packet[:2] + _tail(entry, by_tcp))
            return
        try:
            query = _query(packet)
        except _RefusedError as refused:
            if refused.answer is not None:
                reply(refused.answer)
            return
        self._start(group, query, client, by_tcp, reply)

    def _denies(self, client: str, tail: bytes) -> str:
        return self._gate.denies(packed(client), tail, self._clock()) if self._gate is not None else ""

    def _cloaked(self, client: str, entry: Entry) -> str:
        return self._gate.cloaked(packed(client), entry, self._clock()) if self._gate is not None else ""

    def _tell(self, client: str, entry: Entry) -> None:
        if self.told is not None:
            self.told.tell(packed(client), entry, self._clock())

    def _group(self, client: str) -> _Group:
        group = self._group_of.get(client)
        if group is None:
            address = client.partition("%")[0]
            out = ":" in address and self.synthesis.is_excluded_client(IPv6Address(address))
            if len(self._group_of) >= MAX_CLIENTS_KNOWN:
                self._group_of.clear()
            group = self._group_of[client] = self._excluded if out else self._normal
        return group

    def _start(
        self,
        group: _Group,
        query: dns.Message,
        client: str,
        by_tcp: bool,
        reply: Reply,
        known: Sequence[dns.Message] = (),
    ) -> None:
        """``known``: the answers to AAAA and A, as far as they are there."""
        wire = dns.canonical_query(query)
        key = wire[2:]
        identity = query.packet[:2]
        rule = self._denies(client, key)
        if rule:
            reply(identity + blocked(query, rule)[2:])
            return
        entry = group.cache.get(key, self._clock())
        if entry is not None:
            rule = self._cloaked(client, entry)
            if rule:
                reply(identity + blocked(query, rule)[2:])
                return
            self._tell(client, entry)
            reply(identity + _tail(entry, by_tcp))
            return
        waiting = self._waiting.get(client, 0)
        if waiting >= MAX_WAITING_PER_CLIENT:
            self.counters.over_share += 1
            reply(identity + dns.bare_answer(query, dns.Rcode.SERVFAIL)[2:])
            return
        job = group.jobs.get(key)
        if job is not None and len(job.waiters) >= MAX_WAITERS:
            self.counters.over_waiters += 1
            if by_tcp:  # by UDP silence makes the client ask again; a connection waits for each answer
                reply(identity + dns.bare_answer(query, dns.Rcode.SERVFAIL)[2:])
            return
        self._waiting[client] = waiting + 1
        if job is not None:
            job.waiters.append((identity, by_tcp, client, reply))
            return
        job = group.jobs[key] = _Job(self, key, query, group)
        job.waiters.append((identity, by_tcp, client, reply))
        plan = self.synthesis.plan(query, group is self._excluded)
        if plan.kind is Kind.LOCAL:
            self.finish(job, answer_of(dns.parse(plan.answer)))
        elif plan.kind is Kind.AAAA and known:
            job.resume(known[0], known[1] if len(known) > 1 else None)
        elif plan.kind is Kind.AAAA:
            self.ask(wire, AAAA_TIMEOUT, job.aaaa_came)
        elif plan.kind is Kind.PTR:
            job.target = plan.target
            self.ask(dns.canonical_query(query, name=plan.target), ANSWER_TIMEOUT, job.ptr_came)
        else:
            self.ask(wire, ANSWER_TIMEOUT, job.passed)

    def finish(self, job: _Job, answer: Answer) -> None:
        """Send a job's answer to all that wait for it, and keep it."""
        del job.jobs[job.key]
        packet = udp = answer.packet
        if len(packet) > job.query.udp_size:
            udp = dns.bare_answer(job.query, packet[3] & dns.RCODE, dns.TC)
        entry = job.cache.put(job.key, answer, udp, self._clock())
        for identity, by_tcp, client, reply in job.waiters:
            left = self._waiting[client] - 1
            if left:
                self._waiting[client] = left
            else:
                del self._waiting[client]
            rule = self._cloaked(client, entry)
            if rule:
                reply(identity + blocked(job.query, rule)[2:])
                continue
            self._tell(client, entry)
            reply(identity + (packet if by_tcp else udp)[2:])


class _RefusedError(Exception):
    """The packet is no question that is looked at; ``answer`` is None where nothing may be sent."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__()
        self.answer = answer


def _query(packet: bytes) -> dns.Message:
    """The question in a client's packet."""
    if not dns.HEADER <= len(packet) <= MAX_QUERY or packet[2] & 0x80:
        raise _RefusedError(dns.header_answer(packet, dns.Rcode.FORMERR))
    if packet[2] & 0x78:
        raise _RefusedError(dns.header_answer(packet, dns.Rcode.NOTIMP))
    try:
        query = dns.parse(packet)
    except dns.DnsError:
        raise _RefusedError(dns.header_answer(packet, dns.Rcode.FORMERR)) from None
    if query.edns_version:
        raise _RefusedError(packet[:2] + dns.bare_answer(query, _BADVERS)[2:])
    return query


def _tail(entry: Entry, by_tcp: bool) -> bytes:
    return entry.tail if by_tcp else entry.udp
