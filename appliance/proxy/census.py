"""What control asks of all workers, as one answer (org.isthmus.proxy)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from appliance import engine
from appliance.proxy.listing import MAX_LISTED, PLACE, cursor_of
from appliance.proxy.seat import Process, Seat
from appliance.proxy.verifier import COUNTS

# Sessions of a page for which all workers are asked at once. A worker waits half a second for its answer to
# be read, and then breaks it off: it has to fit into the socket's buffer (208 KiB; a session takes one at
# most).
MAX_TOGETHER = 128
MAX_ID = 40  # signs of a session's

_COUNTS = (
    "tcp",
    "udp",
    "icmp",
    "half_open",
    "opened",
    "refused",
    "unreachable",
    "denied",
    "limited",
    "bytes_to_wan",
    "bytes_to_lan",
)


class Census:
    """Asks those on the ``seats``, and those that drain: the supervisor's own lists, as they are by then."""

    def __init__(self, seats: list[Seat], draining: list[Process]) -> None:
        self._seats = seats
        self._draining = draining

    def processes(self) -> list[Process]:
        """Those on the seats, then those that drain."""
        return [*(seat.process for seat in self._seats if seat.process is not None), *self._draining]

    def status(self, verifies: bool) -> dict[str, Any]:
        """GetStatus: counters summed over the workers; ``verifies``: whether the password helper is there."""
        totals: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
        medians: list[float] = []
        warnings = []
        if engine.WHY_PLAIN and not engine.ASKED_PLAIN:
            warnings.append(f"The engine is not compiled ({engine.WHY_PLAIN}): each session costs more.")
        counted: dict[int, int] = {}
        targets: list[dict[str, Any]] = []
        limits: dict[str, dict[str, Any]] = {}
        passwords: Counter[str] = Counter()
        for process in self.processes():
            answer = process.ask({"ask": "status"})
            if answer is None:
                warnings.append(f"Worker {process.index} does not answer.")
                continue
            for name in _COUNTS:
                totals[name] += answer[name]
            for limit in answer["limits"]:
                known = limits.setdefault(limit["reason"], {**limit, "count": 0, "recent": False})
                known["count"] += limit["count"]
                known["recent"] |= limit["recent"]
            passwords.update(answer["passwords"])
            counted[process.pid] = answer["tcp"] + answer["udp"] + answer["icmp"]
            if answer["dial_ms_median"] is not None:
                medians.append(answer["dial_ms_median"])
            warnings += [problem for problem in answer["problems"] if problem not in warnings]
            if process not in self._draining:
                targets = answer["targets"]  # each worker looks for itself; one's word is enough
            if answer["log_dropped"]:
                warnings.append(f"{answer['log_dropped']} log lines could not be written.")
        if not verifies:
            warnings.append("The process that verifies passwords is down.")
        totals["dial_ms_median"] = sum(medians) / len(medians) if medians else None
        workers = [
            _describe(seat.index, seat.process, seat.restarts, counted, draining=False)
            for seat in self._seats
        ]
        workers += [_describe(p.index, p, 0, counted, draining=True) for p in self._draining]
        return {
            "workers": workers,
            "counters": totals,
            "limits": list(limits.values()),
            "passwords": {name: passwords[name] for name in COUNTS},
            "warnings": warnings,
            "targets": targets,
        }

    def sessions(self, limit: int, search: str | None, cursor: str | None = None) -> dict[str, Any]:
        """ListSessions: the newest first, over all workers."""
        limit = max(1, min(limit, MAX_LISTED))
        found: list[dict[str, Any]] = []
        total = 0
        question = {"ask": "sessions", "limit": limit + 1, "search": search, "cursor": cursor}
        for process, answer in self._answers(question, together=limit <= MAX_TOGETHER):
            if answer is not None:
                if process in self._draining:
                    # Its successor has its index, and numbers of its own.
                    for session in answer["sessions"]:
                        number = session["id"].partition("-")[2]
                        session["id"] = f"{process.index}.{process.pid}-{number}"
                found += answer["sessions"]
                total += answer["total"]
        found.sort(key=lambda session: tuple(session[PLACE]), reverse=True)
        more = len(found) > limit
        found = found[:limit]
        places = [session.pop(PLACE) for session in found]
        return {"sessions": found, "total": total, "cursor": cursor_of(places[-1]) if more else ""}

    def _answers(
        self, question: dict[str, Any], together: bool
    ) -> Iterator[tuple[Process, dict[str, Any] | None]]:
        """Every process with its answer. ``together``: all are asked before one is heard."""
        if not together:
            for process in self.processes():
                yield process, process.ask(question)
            return
        for process in [process for process in self.processes() if process.tell(question)]:
            yield process, process.hear()

    def kill(self, number: str) -> bool:
        """Kill: end one session by its ``id``; False where there is none."""
        worker, _dash, session = number.partition("-")
        if not (session.isascii() and session.isdecimal() and len(number) < MAX_ID):
            return False
        places = {f"{process.index}.{process.pid}": process for process in self._draining}
        places |= {str(seat.index): seat.process for seat in self._seats if seat.process is not None}
        process = places.get(worker)
        if process is None:
            return False
        answer = process.ask({"ask": "kill", "number": int(session)})
        return answer is not None and bool(answer.get("killed"))


def _describe(
    index: int, process: Process | None, restarts: int, sessions: dict[int, int], draining: bool
) -> dict[str, Any]:
    """The varlink type ``Worker``; without a process, one that is about to be started."""
    return {
        "index": index,
        "pid": process.pid if process else 0,
        "sessions": sessions.get(process.pid, 0) if process else 0,
        "started": process.started if process else 0.0,
        "restarts": restarts,
        "draining": draining,
    }
