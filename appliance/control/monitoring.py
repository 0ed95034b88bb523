"""The verbs of org.isthmus.control about sessions that were: the history's answers, passed on.

The history is a daemon of its own, so that nothing which runs as root reads its database.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from varlink.error import VarlinkError

from appliance.control.client import ControlError, call
from appliance.control.samples import Samples

INTERFACE = "org.isthmus.control"
# A search may take the history five seconds; erasing waits for a batch that is being written.
HISTORY_TIMEOUT = 10.0


class Monitor:
    """The daemons that know of sessions. ``proxy`` asks the proxy: (method, parameters), None without it."""

    def __init__(self, runtime: Path, proxy: Callable[..., dict[str, Any] | None]) -> None:
        self._path = runtime / "history" / "history.sock"
        self._proxy = proxy

    def history(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of org.isthmus.history; VarlinkError in words."""
        given = {key: value for key, value in parameters.items() if value is not None}
        try:
            return call(self._path, f"org.isthmus.history.{method}", given, HISTORY_TIMEOUT)
        except ControlError as error:
            if error.code == "unavailable":
                raise _refused(
                    "The history does not answer.", "`systemctl status isthmus-history` says why."
                ) from None
            raise _refused(error.message, error.hint) from None

    def erase(self) -> None:
        """Forget the log and the history; VarlinkError where something is left."""
        # The log first: the history goes on from its end.
        answer = self._proxy("EraseLog")
        self.history("Erase")
        if answer is None:
            words = "The history is erased; the log of sessions is not, for the proxy does not answer."
            raise _refused(words, "Try again when it does.")
        if answer.get("problem"):
            raise _refused(f"The history is erased. {answer['problem']}", "Try again.")

    def kill(self, number: str) -> bool:
        """End a session; VarlinkError without the proxy."""
        answer = self._proxy("Kill", id=number)
        if answer is None:
            raise _refused("The proxy does not answer.", "`isthmus status` says what is wrong.")
        return bool(answer["killed"])


def _refused(message: str, hint: str) -> VarlinkError:
    return VarlinkError({"error": f"{INTERFACE}.Refused", "parameters": {"message": message, "hint": hint}})


class MonitoringVerbs:
    """A part of org.isthmus.control, method by method. Both are set where there is a box."""

    monitor: Monitor | None = None
    samples: Samples | None = None

    def _monitor(self) -> Monitor:
        if self.monitor is None:
            raise _refused("There is no history here.", "isthmus-control keeps none of its own.")
        return self.monitor

    def GetTraffic(self) -> dict[str, Any]:  # noqa: N802
        """The last half hour."""
        return {"points": self.samples.points() if self.samples is not None else []}

    def SearchHistory(  # noqa: N802 - varlink's own spelling, here and below
        self, filters: dict[str, Any], cursor: str | None, limit: int
    ) -> dict[str, Any]:
        """A page of sessions that are over."""
        return self._monitor().history("Search", filters=filters, cursor=cursor, limit=limit)

    def TopHistory(  # noqa: N802
        self, by: str, since: float, until: float, measure: str | None, limit: int
    ) -> dict[str, Any]:
        """Those with most."""
        return self._monitor().history("Top", by=by, since=since, until=until, measure=measure, limit=limit)

    def HistorySeries(  # noqa: N802
        self, by: str | None, key: str | None, since: float, until: float, step: int
    ) -> dict[str, Any]:
        """Sums over time."""
        return self._monitor().history("Series", by=by, key=key, since=since, until=until, step=step)

    def EraseHistory(self) -> dict[str, Any]:  # noqa: N802
        """Forget all of it."""
        self._monitor().erase()
        return {}

    def KillSession(self, id: str) -> dict[str, Any]:  # noqa: N802, A002 - the interface's name
        """End one that is open."""
        return {"killed": self._monitor().kill(id)}

    def GetHistoryStatus(self) -> dict[str, Any]:  # noqa: N802
        """How the history goes."""
        return self._monitor().history("GetStatus")
