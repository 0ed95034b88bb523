"""Names to addresses, for the dialler: questions to the box's own unbound, and a small cache before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from appliance.dataplane import UNBOUND_PORT
from appliance.errors import Failure
from appliance.proxy.loop import Handler, Loop


class Answer(NamedTuple):
    """What one family's question came to: addresses, or why there are none."""

    family: int  # AF_INET or AF_INET6
    addresses: tuple[bytes, ...]  # packed, 4 or 16 octets; empty where it failed
    failure: Failure | None  # NO_NAME, NAME_FAILED, NAME_TIMEOUT


class Resolver(Handler):
    """Asks unbound for A and AAAA records; plain recursion, nothing is synthesised."""

    def __init__(self, loop: Loop, address: tuple[str, int] = ("127.0.0.1", UNBOUND_PORT)) -> None:
        """OSError where there is no socket to be had."""

    def resolve(self, name: str, done: Callable[[Answer], None]) -> None:
        """Ask for both families of ``name`` (as ``protocol.names.host_name`` gives it) at once.

        ``done`` is called exactly twice, once for each family, as its result comes: from the cache, before
        this returns. The name does not exist, or has no such address: NO_NAME. Any other answer without
        addresses: NAME_FAILED. None within NAME_TIMEOUT seconds: Failure.NAME_TIMEOUT.
        """
        raise NotImplementedError
