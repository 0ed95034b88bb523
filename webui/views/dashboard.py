"""The dashboard, the table of sessions, and the figures that both poll as JSON."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, redirect, render_template, request, session
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import ControlError
from webui import charts
from webui.backend import Backend
from webui.desk import Desk, done, refused
from webui.figures import age, milliseconds, rate
from webui.security import role
from webui.words import _, later

SESSIONS_SHOWN = 50
# Rows of a page. Fewer hides what belongs together; more takes longer to draw than to read.
SESSIONS_LISTED = 100
MAX_SEARCH = 128
MAX_CURSOR = 64
MAX_ID = 64
KINDS = {"tcp": later("TCP"), "udp": later("UDP and QUIC"), "icmp": later("Ping")}
REGIONS = ("state", "health", "workers", "ports", "sessions")
# Drawn anew only where control has looked since the page's last poll.
CHARTS = ("chart_throughput", "chart_sessions", "rows_throughput", "rows_sessions")
# Who had most, and the day by the hour: sums of whole hours, which a page need not have of this very second.
SUMS_SECONDS = 30.0
HOUR, DAY_HOURS = 3_600, 24
RANKED = 6


def _kinds(counters: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the crossing. ``lane`` is its thickness: one step for each power of ten."""
    open_now = sum(counters[kind] for kind in KINDS)
    return [
        {
            "kind": kind,
            "words": _(words),
            "open": counters[kind],
            "share": _("%(share)s %% of all", share=f"{100 * counters[kind] / open_now:.0f}")
            if open_now
            else _("none open"),
            "lane": min(len(str(counters[kind])) + 1, 5) if counters[kind] else 1,
        }
        for kind, words in KINDS.items()
    ]


def _view(desk: Desk) -> dict[str, Any]:
    """What the dashboard shows, for the page and for each poll."""
    # Health is some seconds old: its checks look at the world. What is counted is of this moment.
    status = {**desk.status(), **desk.backend.figures()}
    found, total = desk.backend.sessions(SESSIONS_SHOWN)
    counters = status["counters"]
    return {
        "status": status,
        "kinds": _kinds(counters),
        "open_now": sum(counters[kind] for kind in KINDS),
        "not_carried": sum(counters[name] for name in ("refused", "unreachable", "denied", "limited")),
        "sessions": found,
        "total": total,
    }


def _traffic(desk: Desk) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = desk.backend.traffic()
    return points


def _charts(points: list[dict[str, Any]], until: float, zone: str) -> dict[str, charts.Chart]:
    return {
        "throughput": charts.throughput(points, until, zone),
        "sessions": charts.sessions(points, until, zone),
    }


def _now(points: list[dict[str, Any]], until: float) -> dict[str, tuple[str, str]] | None:
    """The rates of the last interval, as (figure, unit); None where it is too long ago."""
    if not points or until - points[-1]["time"] > 4 * 5.0:
        return None
    last = points[-1]
    opened = last["opened"]
    return {
        "opened": (f"{opened:.1f}" if opened < 10 else f"{opened:.0f}", "/s"),
        "to_wan": rate(last["to_wan"]),
        "to_lan": rate(last["to_lan"]),
    }


class Sums:
    """What the history says of the last hours, for some seconds the same; None where it does not answer."""

    def __init__(self, backend: Backend, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    def get(self) -> dict[str, Any]:
        """``clients``, ``names`` (type HistorySum) and ``hours`` (type HistoryPoint)."""
        whose = str(role())  # a viewer may not be told who the clients are
        now = self._clock()
        with self._lock:
            kept = self._kept.get(whose)
        if kept is not None and now - kept[0] < SUMS_SECONDS:
            return kept[1]
        since = now // HOUR * HOUR - HOUR
        found = {
            "clients": self._asked(lambda: self._backend.top_history("client", since, now, "octets", RANKED)),
            "names": self._asked(lambda: self._backend.top_history("name", since, now, "octets", RANKED)),
            "hours": self._asked(
                lambda: self._backend.history_series(None, None, now - (DAY_HOURS - 1) * HOUR, now, HOUR)
            ),
        }
        with self._lock:
            self._kept[whose] = (now, found)
        return found

    @staticmethod
    def _asked(ask: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]] | None:
        try:
            return ask()
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            return None


def blueprint(backend: Backend, desk: Desk) -> Blueprint:
    """The pages that only look."""
    pages = Blueprint("dashboard", __name__)
    sums = Sums(backend)

    @pages.get("/")
    def dashboard() -> str:
        session.pop("first", None)  # who comes here is done with the set-up, or skips it
        points, view = _traffic(desk), _view(desk)
        until, zone = view["status"]["time"], desk.zone()
        found = sums.get()
        hours = found["hours"]
        return desk.page(
            "dashboard.html", **view, charts=_charts(points, until, zone), now=_now(points, until),
            clients=found["clients"], names=found["names"],
            day=charts.by_hour(hours, zone) if hours is not None else None,
        )  # fmt: skip

    @pages.get("/sessions")
    def sessions() -> str:
        search = request.args.get("q", "").strip()[:MAX_SEARCH]
        before = request.args.get("cursor", "")[:MAX_CURSOR]
        found, total, cursor = backend.sessions_page(SESSIONS_LISTED, search or None, before)
        return desk.page(
            "sessions.html", sessions=found, total=total, search=search, cursor=cursor, first=not before
        )

    @pages.post("/sessions/kill")
    def kill() -> BaseResponse:
        search = request.form.get("q", "").strip()[:MAX_SEARCH]
        try:
            ended = backend.kill_session(request.form.get("id", "")[:MAX_ID])
            if ended:
                done(_("1 session killed."))
            else:
                refused(_("This session was over already."))
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            refused(f"{failed.message} {failed.hint}".strip())
        return redirect(url_of_sessions(search), 303)

    @pages.get("/live.json")
    def live() -> Response:
        view = _view(desk)
        status = view["status"]
        regions = {name: render_template(f"live_{name}.html", **view) for name in REGIONS}
        points = _traffic(desk)
        newest = f"{points[-1]['time']:.3f}" if points else ""
        if newest != request.args.get("seen", ""):
            drawn = _charts(points, status["time"], desk.zone())
            regions |= {name: render_template(f"live_{name}.html", charts=drawn) for name in CHARTS}
        return jsonify(
            time=status["time"],
            uptime=age(status["uptime"]),
            counters=status["counters"],
            dial=milliseconds(status["counters"]["dial_ms_median"]),
            checks=status["checks"],
            kinds=view["kinds"],
            open=view["open_now"],
            not_carried=view["not_carried"],
            total=view["total"],
            seen=newest,
            # Regions without inputs, as the page itself draws them.
            regions=regions,
        )

    return pages


def url_of_sessions(search: str) -> str:
    """The table, with the search that it had."""
    return f"/sessions?{urlencode({'q': search})}" if search else "/sessions"
