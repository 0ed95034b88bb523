"""The error tree, and the one table that says what each failed dial looks like on the wire.

Every error that a person may see has a stable code, the place it belongs to (a configuration path,
a file, a flag), what is wrong in words, and what to do about it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, with its place and its remedy."""

    path: str  # "lan.prefix", "dns.upstreams[1]", or a file's name
    message: str
    hint: str = ""
    code: str = "invalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" {self.hint}" if self.hint else "")


class IsthmusError(Exception):
    """Base of every error that is ours. ``code`` is stable, ``hint`` says what to do."""

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(IsthmusError):
    """A configuration that was refused, with all of its problems. Nothing of it was applied."""

    code = "config-invalid"

    def __init__(self, problems: list[Problem]) -> None:
        count = len(problems)
        super().__init__(f"the configuration has {count} problem{'s' if count != 1 else ''}")
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([f"{self.message}:", *(f"  {problem}" for problem in self.problems)])


class Failure(Enum):
    """Why a session did not come about."""

    REFUSED = "refused"
    NO_ROUTE = "no-route"
    HOST_UNREACHABLE = "host-unreachable"
    PORT_UNREACHABLE = "port-unreachable"
    PROHIBITED = "prohibited"  # the WAN side said so
    TIMEOUT = "timeout"
    DENIED = "denied"  # our own policy
    NON_GLOBAL = "non-global"  # RFC 6052 section 3.1
    # Caps of ours: another one, and those of every session.
    LIMIT = "limit"
    RATE = "rate"  # new sessions in this second
    SESSIONS = "sessions"
    HALF_OPEN = "half-open"
    CONNECTIONS = "connections"  # of a client to the explicit proxy
    # What the box has no more of.
    DESCRIPTORS = "descriptors"
    PORTS = "ports"
    MEMORY = "memory"
    RESOURCES = "resources"  # one of them, or a handshake that came when the last had gone
    RESET = "reset"
    TOO_BIG = "too-big"
    NO_NAME = "no-name"  # the DNS says that there is none, or has no address for it
    NAME_FAILED = "name-failed"  # the DNS failed to say
    NAME_TIMEOUT = "name-timeout"
    LOOP = "loop"  # the request came from ourselves


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """What a client is told, by the protocol that it speaks.

    ``icmpv6`` is (type, code); a TCP client gets RST where it is None. ``socks5`` is REP (RFC 1928 section
    6), ``socks4`` CD, ``http`` a status and ``proxy_status`` the error type beside it (RFC 9209 section 2.3).
    """

    icmpv6: tuple[int, int] | None
    log: str
    socks5: int
    http: int
    proxy_status: str
    socks4: int = 91  # "rejected or failed"; 92 and 93 are about identd, which nobody asks


# ICMPv6 codes: RFC 4443 section 3.1. 1/0 no route, 1/1 prohibited, 1/3 address unreachable,
# 1/4 port unreachable. A refusal is a TCP reset, as the origin itself would have sent.
# REP: 1 general failure, 2 not allowed by the ruleset, 3 network unreachable, 4 host unreachable,
# 5 connection refused. A host that does not answer is unreachable: 6 ("TTL expired") is ICMP's time exceeded.
WIRE: dict[Failure, WireAnswer] = {
    Failure.REFUSED: WireAnswer(None, "refused", 5, 502, "connection_refused"),
    Failure.NO_ROUTE: WireAnswer((1, 0), "no route", 3, 502, "destination_ip_unroutable"),
    Failure.HOST_UNREACHABLE: WireAnswer((1, 3), "host unreachable", 4, 502, "destination_ip_unroutable"),
    Failure.PORT_UNREACHABLE: WireAnswer((1, 4), "port unreachable", 5, 502, "connection_refused"),
    Failure.PROHIBITED: WireAnswer((1, 1), "prohibited by the WAN side", 4, 502, "destination_ip_unroutable"),
    Failure.TIMEOUT: WireAnswer((1, 3), "no answer in time", 4, 504, "connection_timeout"),
    Failure.DENIED: WireAnswer((1, 1), "denied by policy", 2, 403, "http_request_denied"),
    Failure.NON_GLOBAL: WireAnswer(
        (1, 1), "non-global IPv4 in the well-known prefix", 2, 403, "destination_ip_prohibited"
    ),
    Failure.LIMIT: WireAnswer(None, "over a limit", 1, 503, "connection_limit_reached"),
    Failure.RATE: WireAnswer(None, "too many new sessions in a second", 1, 503, "connection_limit_reached"),
    Failure.SESSIONS: WireAnswer(None, "too many sessions", 1, 503, "connection_limit_reached"),
    Failure.HALF_OPEN: WireAnswer(None, "too many half-open sessions", 1, 503, "connection_limit_reached"),
    Failure.CONNECTIONS: WireAnswer(
        None, "too many connections to the proxy", 1, 503, "connection_limit_reached"
    ),
    Failure.DESCRIPTORS: WireAnswer(None, "out of descriptors", 1, 503, "proxy_internal_error"),
    Failure.PORTS: WireAnswer(None, "out of ports", 1, 503, "proxy_internal_error"),
    Failure.MEMORY: WireAnswer(None, "out of memory", 1, 503, "proxy_internal_error"),
    Failure.RESOURCES: WireAnswer(None, "out of resources", 1, 503, "proxy_internal_error"),
    Failure.RESET: WireAnswer(None, "reset", 1, 502, "connection_terminated"),
    Failure.TOO_BIG: WireAnswer((2, 0), "packet too big", 1, 502, "proxy_internal_error"),
    Failure.NO_NAME: WireAnswer((1, 3), "no such name", 4, 502, "dns_error"),
    Failure.NAME_FAILED: WireAnswer((1, 3), "the name could not be resolved", 4, 502, "dns_error"),
    Failure.NAME_TIMEOUT: WireAnswer((1, 3), "the DNS did not answer in time", 4, 504, "dns_timeout"),
    Failure.LOOP: WireAnswer((1, 1), "a loop", 2, 502, "proxy_loop_detected"),
}

CAPS = frozenset({Failure.LIMIT, Failure.RATE, Failure.SESSIONS, Failure.HALF_OPEN, Failure.CONNECTIONS})
SHORTAGES = frozenset({Failure.DESCRIPTORS, Failure.PORTS, Failure.MEMORY, Failure.RESOURCES})

_BY_ERRNO: dict[int, Failure] = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ENETUNREACH: Failure.NO_ROUTE,
    errno.ENETDOWN: Failure.NO_ROUTE,
    errno.EHOSTUNREACH: Failure.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Failure.HOST_UNREACHABLE,
    errno.EACCES: Failure.PROHIBITED,
    errno.EPERM: Failure.PROHIBITED,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.ECONNRESET: Failure.REFUSED,
    errno.EMFILE: Failure.DESCRIPTORS,
    errno.ENFILE: Failure.DESCRIPTORS,
    errno.ENOBUFS: Failure.MEMORY,
    errno.ENOMEM: Failure.MEMORY,
    # No port left: connect(2) of TCP; bind(2); connect(2) of UDP.
    errno.EADDRNOTAVAIL: Failure.PORTS,
    errno.EADDRINUSE: Failure.PORTS,
    errno.EAGAIN: Failure.PORTS,
}


def failure_of(code: int) -> Failure:
    """The failure behind an errno of connect(2); an unknown one counts as an unreachable host."""
    return _BY_ERRNO.get(code, Failure.HOST_UNREACHABLE)
