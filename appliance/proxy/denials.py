"""What the DNS front has denied, as it tells us: into the log of sessions, and counted.

The front may write nothing but its own folder, so the log is written here. What it says is looked at as any
stranger's: a front that was taken over is to forge no line.
"""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket
from typing import Any
from zoneinfo import ZoneInfo

from appliance.config.schema import Config
from appliance.session.hits import DNS_CELL, LIST, RULE, Hits
from appliance.session.log import Log

SOCKET = "denials.sock"  # in the proxy's part of the runtime folder
MAX_DATAGRAM = 262_144
# Datagrams that one turn reads: the front sends one a second.
_READS = 8
_ADDRESS = re.compile(r"[0-9a-f:.]{2,45}")
_NAME = re.compile(r"[a-z0-9?_.-]{0,253}")
_LABEL = re.compile(r"[a-z0-9-]{1,64}")
_DEVICE = re.compile(r"[A-Za-z0-9._@+-]{0,64}")


class Denials:
    """The socket, and where it leads. OSError where it cannot be opened."""

    def __init__(self, runtime: Path, log_path: Path | None, hits: Path) -> None:
        path = runtime / SOCKET
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.path = path
        self.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        self.socket.bind(str(path))
        # The folder's group are the box's daemons, of which the front is one.
        os.chown(path, -1, path.parent.stat().st_gid)
        path.chmod(0o660)
        self._log = Log(log_path, DNS_CELL)
        self._zone = ZoneInfo("UTC")
        try:
            self._hits: Hits | None = Hits(hits, DNS_CELL)
        except OSError:
            self._hits = None  # a broken disk costs the counters, never an answer

    def configure(self, config: Config) -> None:
        """Take a configuration up."""
        self._log.configure(config.policy.privacy)
        self._zone = ZoneInfo(config.system.timezone)

    def reopen(self) -> None:
        """The log was moved away."""
        self._log.reopen()

    def flush(self) -> None:
        """Write what was heard."""
        self._log.flush()

    def receive(self) -> None:
        """Hear the front."""
        for _ in range(_READS):
            try:
                data = self.socket.recv(MAX_DATAGRAM)
            except OSError:
                break
            try:
                self._take(json.loads(data))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue  # not the front's
        self._log.flush()

    def _take(self, told: dict[str, Any]) -> None:
        for client, name, rule, device in told["rows"]:
            parts = (_ADDRESS, client), (_NAME, name), (_LABEL, rule), (_DEVICE, device)
            if not all(pattern.fullmatch(text) for pattern, text in parts):
                continue
            entry = {"kind": "dns", "refused": "denied", "client": client, "name": name, "named_by": "dns"}
            if device:
                entry["device"] = device
            self._log.refused({**entry, "rule": rule})
        if self._hits is not None:
            now = datetime.now(self._zone)
            for kind, counts in ((RULE, told["rules"]), (LIST, told["lists"])):
                known = {name: count for name, count in counts.items() if _LABEL.fullmatch(name)}
                self._hits.add(kind, {name: int(count) for name, count in known.items()}, now)

    def close(self) -> None:
        """Let go of the socket, which the next program makes anew."""
        self.socket.close()
        self.path.unlink(missing_ok=True)
