"""The dashboard, the table of sessions, and the figures that both poll as JSON."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request, session

from webui.backend import Backend
from webui.desk import Desk
from webui.figures import age, milliseconds
from webui.words import _, later

SESSIONS_SHOWN = 50
# Rows of a page. Fewer hides what belongs together; more takes longer to draw than to read.
SESSIONS_LISTED = 100
MAX_SEARCH = 128
MAX_CURSOR = 64
KINDS = {"tcp": later("TCP"), "udp": later("UDP and QUIC"), "icmp": later("Ping")}
REGIONS = ("state", "health", "workers", "ports", "sessions")


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


def _view(backend: Backend) -> dict[str, Any]:
    """What the dashboard shows, for the page and for each poll."""
    status = backend.status()
    sessions, total = backend.sessions(SESSIONS_SHOWN)
    counters = status["counters"]
    return {
        "status": status,
        "kinds": _kinds(counters),
        "open_now": sum(counters[kind] for kind in KINDS),
        "not_carried": sum(counters[name] for name in ("refused", "unreachable", "denied", "limited")),
        "sessions": sessions,
        "total": total,
    }


def blueprint(backend: Backend, desk: Desk) -> Blueprint:
    """The pages that only look."""
    pages = Blueprint("dashboard", __name__)

    @pages.get("/")
    def dashboard() -> str:
        session.pop("first", None)  # who comes here is done with the set-up, or skips it
        return desk.page("dashboard.html", **_view(backend))

    @pages.get("/sessions")
    def sessions() -> str:
        search = request.args.get("q", "").strip()[:MAX_SEARCH]
        before = request.args.get("cursor", "")[:MAX_CURSOR]
        found, total, cursor = backend.sessions_page(SESSIONS_LISTED, search or None, before)
        return desk.page(
            "sessions.html", sessions=found, total=total, search=search, cursor=cursor, first=not before
        )

    @pages.get("/live.json")
    def live() -> Response:
        view = _view(backend)
        status = view["status"]
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
            # Regions without inputs, as the page itself draws them.
            regions={name: render_template(f"live_{name}.html", **view) for name in REGIONS},
        )

    return pages
