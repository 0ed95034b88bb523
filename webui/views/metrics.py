"""/metrics for Prometheus: for whoever has the token, in place of a session."""

from __future__ import annotations

import contextlib
import hmac
import time

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from appliance.control.client import ControlError
from appliance.session.metrics import CONTENT_TYPE, MAX_RULES, exposition
from webui.backend import Backend
from webui.digests import digest_of

# Rules are counted since the beginning of what the history keeps of them.
SINCE = 400 * 86_400.0
_SCHEME = "Bearer "


def exposed(backend: Backend) -> str:
    """All figures, as Prometheus reads them; ControlError without control."""
    now = time.time()
    rules, history = [], None
    with contextlib.suppress(ControlError):  # without the history the other figures are there
        rules = backend.top_history("rule", now - SINCE, now, "sessions", MAX_RULES)
        history = backend.history_status()
    hits = []
    with contextlib.suppress(ControlError):
        hits = backend.hits()
    return exposition(backend.status(), rules, history, hits)


def blueprint(backend: Backend) -> Blueprint:
    """The page; there is none where the configuration has no token."""
    pages = Blueprint("metrics", __name__)

    @pages.get("/metrics")
    def page() -> Response:
        wanted = backend.active()["config"]["console"].get("metrics_token")
        if not wanted:
            raise NotFound
        if not _is_right(request.headers.get("Authorization", ""), wanted):
            return Response("The token is missing or wrong.\n", 401, {"WWW-Authenticate": "Bearer"})
        return Response(exposed(backend), content_type=CONTENT_TYPE)

    return pages


def _is_right(header: str, wanted: str) -> bool:
    """``wanted``: the configuration's digest of the token."""
    if not header.startswith(_SCHEME):
        return False
    given = "sha256:" + digest_of(header.removeprefix(_SCHEME))
    return hmac.compare_digest(given, wanted)
