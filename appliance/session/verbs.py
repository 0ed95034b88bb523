"""The verbs of org.isthmus.history, and the socket that they are asked on."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from varlink.error import VarlinkError

from appliance.session.history import open_reader
from appliance.session.keeper import Keeper
from appliance.session.queries import Filters, QueryError, bounded, search
from appliance.session.row import MAYBE
from appliance.session.sums import series, top
from appliance.varlink_socket import VarlinkServer

INTERFACE = "org.isthmus.history"
MAX_QUESTION = 65_536


def _refused(message: str, hint: str) -> VarlinkError:
    return VarlinkError({"error": f"{INTERFACE}.Refused", "parameters": {"message": message, "hint": hint}})


class Interface:
    """org.isthmus.history, method by method. Readers have connections of their own."""

    def __init__(self, keeper: Keeper, exports: Callable[[], list[dict[str, Any]]]) -> None:
        self._keeper = keeper
        self._exports = exports

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(open_reader(self._keeper.path)) as database:
                bounded(database, time.monotonic)
                yield database
        except QueryError as error:
            raise _refused(f"{error.message}.", error.hint) from None
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise _refused("This takes too long.", "Narrow the time, or search for more of it.") from None
            words = self._keeper.problem or f"The history cannot be read: {error}."
            raise _refused(words, "`isthmus status` says when it is well again.") from None

    def Search(self, filters: dict[str, Any], cursor: str | None, limit: int) -> dict[str, Any]:  # noqa: N802
        """A page of rows."""
        with self._reading() as database:
            page = search(database, Filters(**filters), cursor or "", limit)
        return {
            "rows": [_row(row) for row in page.rows],
            "cursor": page.cursor,
            "searched": page.searched / 1000,
        }

    def Top(  # noqa: N802
        self, by: str, since: float, until: float, measure: str | None, limit: int
    ) -> dict[str, Any]:
        """Those with most."""
        with self._reading() as database:
            return {
                "sums": [_named(one) for one in top(database, by, since, until, measure or "octets", limit)]
            }

    def Series(  # noqa: N802
        self, by: str | None, key: str | None, since: float, until: float, step: int
    ) -> dict[str, Any]:
        """Sums over time."""
        with self._reading() as database:
            points = series(database, by, key or "", since, until, step)
        return {"points": [_named(point) for point in points]}

    def Erase(self) -> dict[str, Any]:  # noqa: N802
        """Forget everything."""
        try:
            self._keeper.erase()
        except (OSError, sqlite3.Error) as error:
            raise _refused(f"Not all of the history was erased: {error}.", "Try again.") from None
        return {}

    def GetStatus(self) -> dict[str, Any]:  # noqa: N802
        """How it goes."""
        return {"status": {**self._keeper.status(), "exports": self._exports()}}


def _named(sums: dict[str, Any]) -> dict[str, Any]:
    return {f"bytes_{key}" if key.startswith("to_") else key: value for key, value in sums.items()}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """The varlink type ``Row``."""
    made = _named(row)
    made["time"] /= 1000
    made["age"] /= 1000
    for name in MAYBE:
        made[name] = made[name] or None
    return made


class Server(VarlinkServer):
    """The socket; who may connect, the folder's and the file's owners say."""

    def __init__(self, path: Path, interface: Interface) -> None:
        super().__init__(path, INTERFACE, interface, Path(__file__).parent, MAX_QUESTION)
        path.chmod(0o600)
