"""Lines and rows as a busy box has them, for the tests of the history."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from appliance.session.row import Row, parse

CARRIED: dict[str, Any] = {
    "kind": "tcp", "client": "fd00:1::2", "client_port": 40_000, "server": "64:ff9b::c01f:c450",
    "server_port": 443, "origin": "192.31.196.80", "origin_port": 443, "service": None,
    "name": "www.a.example", "named_by": "sni", "rule": "default", "age": 1.5, "bytes_to_wan": 1_000,
    "bytes_to_lan": 20_000, "end": "closed", "time": 1_800_000_000.25, "worker": 0,
}  # fmt: skip
DENIED: dict[str, Any] = {
    "kind": "tcp", "refused": "denied", "client": "fd00:1::3", "origin": "192.31.196.81", "origin_port": 443,
    "name": "ads.b.example", "rule": "no-ads", "time": 1_800_000_001.5, "worker": 1,
}  # fmt: skip


def line(base: dict[str, Any] = CARRIED, **changes: Any) -> bytes:
    """A line of the log, with its end."""
    return json.dumps({**base, **changes}, separators=(",", ":")).encode() + b"\n"


def row(base: dict[str, Any] = CARRIED, **changes: Any) -> Row:
    """The row of such a line."""
    return parse(line(base, **changes).rstrip())


def traffic(
    count: int, begin: int = 1_800_000_000, seconds: int = 7 * 86_400, names: int = 50_000
) -> Iterator[Row]:
    """Sessions of 200 clients with names of which few are asked for often, in the order of time."""
    rng = random.Random(4)
    clients = [f"fd00:1::{number:x}" for number in range(2, 202)]
    reasons = ["closed"] * 12 + ["reset"] * 2 + ["idle"] * 3 + ["denied", "denied", "timeout"]
    for number in range(count):
        which = int(rng.paretovariate(0.6)) % names
        reason = rng.choice(reasons)
        wan, lan = (
            (0, 0) if reason in ("denied", "timeout") else (rng.randrange(5_000), rng.randrange(200_000))
        )
        user = rng.choice(["", "", "ann", "bob"])
        yield row(
            kind=rng.choice(["tcp", "tcp", "udp"]),
            client=rng.choice(clients),
            client_port=rng.randrange(1_024, 65_536),
            origin=f"192.31.{which >> 8 & 255}.{which & 255}",
            name=f"host{which}.zone{which % 977}.example",
            user=user or None,
            rule=rng.choice(["default"] * 9 + ["no-ads", "staff"]),
            service="http" if user else None,
            end=reason,
            time=begin + number * seconds / count,
            bytes_to_wan=wan,
            bytes_to_lan=lan,
        )
