"""Which certificate a client of the console is shown.

The box's own, at an address and without a name too: whoever compared its fingerprint meets the same one. By
one of ``console.names`` it is the one that the encrypted listeners serve, an uploaded one while that is good.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from appliance.errors import IsthmusError


def context_of(make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """What ``make`` makes, without the versions of TLS that are broken."""
    context = make()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Certificates:
    """``serving``: key and chain of the listeners' certificate; ``names``: console.names, as of now.

    The files are read for each connection, so that a new one needs no restart.
    """

    def __init__(self, serving: Path, names: Callable[[], Iterable[str]]) -> None:
        self._serving = serving
        self._names = names

    def context(self, _config: Any, make_default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """gunicorn's ``ssl_context``: ``make_default`` has the box's own in it."""
        context = context_of(make_default)
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        """Python's sni_callback: another certificate for this connection, or none."""
        if not name:
            return
        try:
            if name.lower() not in self._names():
                return
            other = context_of(lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            other.load_cert_chain(self._serving)
        except (IsthmusError, OSError, ssl.SSLError):
            return  # the box's own is always there
        connection.context = other
