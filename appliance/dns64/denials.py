"""Questions that the policy denied, told to the proxy, which writes the log: once a second, one datagram.

Names that a client asks again and again are one entry of their second. What the proxy does not take at once
is dropped: nobody waits for the log.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket

# Seconds between two datagrams.
INTERVAL = 1.0
# Entries of a second that are told one by one; of more only the count by rule. Each takes up to 450 octets in
# a datagram that the kernel takes whole; fewer would leave rows out when a house wakes up.
MAX_NOTED = 256


class Denials:
    """What was denied since the last datagram. ``path``: the proxy's socket."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        self._noted: set[tuple[str, str, str, str]] = set()
        self._rules: Counter[str] = Counter()
        self._lists: Counter[str] = Counter()
        self.dropped = 0

    def note(self, client: str, name: str, rule: str, device: str, name_list: str) -> None:
        """``client`` has asked for ``name``; ``name_list``: of the rule's lists the one with it, or ""."""
        entry = client, name, rule, device
        if entry in self._noted:
            return
        if len(self._noted) < MAX_NOTED:
            self._noted.add(entry)
        self._rules[rule] += 1
        if name_list:
            self._lists[name_list] += 1

    def flush(self) -> None:
        """Tell the proxy."""
        if not self._rules:
            return
        told = {"rows": sorted(self._noted), "rules": self._rules, "lists": self._lists}
        try:
            self._socket.sendto(json.dumps(told).encode(), self._path)
        except OSError:
            self.dropped += self._rules.total()  # the proxy is not there, or busy
        self._noted.clear()
        self._rules.clear()
        self._lists.clear()

    def close(self) -> None:
        """Tell the last of it."""
        self.flush()
        self._socket.close()
