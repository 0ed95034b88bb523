"""Which engine runs: the hot path compiled by Cython, or the same modules as plain Python.

The compiled modules lie in ``appliance/_compiled``, a folder for each package, with the names of the modules
that they stand in for. A package with hot modules puts its folder in front of its search path when it is
imported. The plain modules are the reference and the fall-back: they serve where nothing was compiled,
where it was compiled from other sources than those that lie here, and where ISTHMUS_ENGINE=plain asks for
them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

_HERE = Path(__file__).parent
COMPILED = _HERE / "_compiled"
SOURCES = "sources.json"  # in COMPILED: what it was made of, {path below appliance/: SHA-256}

# The modules that are compiled, with the augmenting .pxd beside each. ``kernel`` and ``batch`` have two
# sources: the .py makes its system calls by Python's library, the .pyx by the C library.
MODULES = (
    "session.record",
    "session.log",
    "session.asked",
    "proxy.kernel",
    "proxy.loop",
    "proxy.tally",
    "proxy.arbiter",
    "proxy.context",
    "proxy.relay",
    "proxy.listening",
    "proxy.transparent",
    "proxy.batch",
    "proxy.datagram",
    "proxy.packets",
    "proxy.timers",
    "proxy.stream",
    "proxy.dialer",
    "proxy.pool",
    "proxy.gatekeeper",
    "proxy.tunnel",
    "proxy.exchange",
    "proxy.http_client",
    "proxy.socks_client",
    "proxy.explicit",
    "protocol.http1.leg",
    "protocol.http1.client",
    "protocol.http1.origin",
    "protocol.http1.request",
    "protocol.http1.response",
    "dns64.batch",
    "dns64.cache",
    "dns64.told",
    "dns64.gate",
    "dns64.misses",
)


def sources_of(module: str) -> list[str]:
    """The files below appliance/ that a compiled module is made of."""
    stem = module.replace(".", "/")
    source = f"{stem}.pyx" if (_HERE / f"{stem}.pyx").exists() else f"{stem}.py"
    return [source, f"{stem}.pxd"]


def fingerprints() -> dict[str, str]:
    """What the sources here are, as SOURCES has it of those that were compiled."""
    files = [file for module in MODULES for file in sources_of(module)]
    return {file: hashlib.sha256((_HERE / file).read_bytes()).hexdigest() for file in files}


ASKED_PLAIN = os.environ.get("ISTHMUS_ENGINE") == "plain"


def _why_plain() -> str:
    """Why the plain modules serve, in words; empty where the compiled ones do."""
    if ASKED_PLAIN:
        return "ISTHMUS_ENGINE=plain"
    try:
        made_of = json.loads((COMPILED / SOURCES).read_text())
    except (OSError, ValueError):
        return "nothing was compiled"
    if made_of != fingerprints():
        return "it was compiled from other sources"
    return ""


WHY_PLAIN = _why_plain()


def prefer_compiled(package: str, path: list[str]) -> None:
    """Let ``package`` ("appliance.proxy") find its compiled modules first; ``path`` is its ``__path__``."""
    if not WHY_PLAIN:
        path.insert(0, str(COMPILED.joinpath(*package.split(".")[1:])))


def describe() -> str:
    """Which engine serves, and why, in a few words."""
    return f"plain ({WHY_PLAIN})" if WHY_PLAIN else "compiled"
