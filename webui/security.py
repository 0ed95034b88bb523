"""Who may see what: headers, the session's cookie, the token on every form, the first boot's gate."""

from __future__ import annotations

import secrets
import time
from typing import Any

from flask import Flask, Response, jsonify, redirect, render_template, request, session, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import ControlError
from webui.backend import Backend
from webui.words import _, later

# A signed-in browser whose user does nothing for this long signs in again. A page that only polls
# does not count: a tab left open would stay signed in for ever.
SESSION_SECONDS = 12 * 3_600
# The largest form is a rule with a hundred names on its page; what is larger is no form of the console.
MAX_REQUEST = 64 * 1024
# The endpoints that take files, and at most how large a request, from whoever is signed in. The largest
# update is two pieces of a gibibyte, as control takes it.
LARGER = {"updates.upload": (2 << 30) + MAX_REQUEST, "backup.restore": (8 << 20) + MAX_REQUEST}
# What reads its form by itself, as it arrives, and checks its token.
STREAMED = {"updates.upload"}
USER = "admin"
THEMES = ("system", "light", "dark")

# No inline script or style anywhere. HSTS is left out on purpose: with a certificate of its own a
# browser that remembers it could not be let past a renewed certificate any more.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
POLLED = {"dashboard.live", "changes.state", "updates.state"}
_FREE = {None, "static", "account.authority", "account.set_theme", "metrics.page"}
_SETUP = {"account.setup", "account.set_password"}
_SIGN_IN = {"account.signin", "account.sign_in"}

_WORDS = {
    404: (later("There is no such page."), later("The dashboard has links to all there is.")),
    405: (later("This address takes no such request."), later("Use the forms and links of the console.")),
    413: (later("This form is too large."), later("The console takes at most 64 kB.")),
    500: (
        later("The console has failed at this."),
        later("The rest works. Its log says what happened."),
    ),
}


def token() -> str:
    """What every form of this session carries."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    return str(session["csrf"])


def signed_in() -> bool:
    """Whether this browser's user is known, and was there not too long ago."""
    seen = session.get("seen")
    return session.get("user") == USER and isinstance(seen, int) and time.time() - seen < SESSION_SECONDS


def begin() -> None:
    """Start a session, with a new token."""
    session.clear()
    session["user"] = USER
    session["seen"] = int(time.time())


def author() -> str:
    """In whose name this request changes the configuration."""
    return str(session["user"])


def problem(title: str, advice: str, detail: str = "") -> str:
    """A page that only says what is wrong."""
    return render_template("problem.html", title=title, advice=advice, detail=detail)


def _theme() -> str:
    chosen = request.cookies.get("theme", "system")
    return chosen if chosen in THEMES else "system"


def is_right_token(given: str) -> bool:
    """Whether a form of this session was sent."""
    kept = str(session.get("csrf", ""))
    return bool(given) and secrets.compare_digest(given.encode(), kept.encode())


def _checked_token() -> tuple[str, int] | None:
    if signed_in() and request.endpoint in LARGER:
        request.max_content_length = LARGER[request.endpoint]
        if request.endpoint in STREAMED:
            return None
    if is_right_token(request.form.get("csrf", "")):
        return None
    return problem(_("This form is out of date."), _("Go back, load the page anew, and send it again.")), 400


def guard(app: Flask, backend: Backend) -> None:
    """Nobody gets past this without a session, but for the few pages before it."""

    @app.before_request
    def check() -> BaseResponse | tuple[str | Response, int] | None:
        if request.method == "POST":
            refused = _checked_token()
            if refused:
                return refused
        if request.endpoint in _FREE:
            return None
        first = not backend.password_set()
        if first and request.endpoint not in _SETUP:
            return redirect(url_for("account.setup"), 303)
        if not first and request.endpoint in _SETUP:
            return redirect(url_for("account.signin"), 303)
        if request.endpoint not in _SETUP | _SIGN_IN and not signed_in():
            session.clear()
            if request.endpoint in POLLED:
                return jsonify(problem=_("Signed out.")), 401
            return redirect(url_for("account.signin"), 303)
        if signed_in() and request.endpoint not in POLLED:
            session["seen"] = int(time.time())
        return None

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers[name] = value
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        return response

    @app.context_processor
    def shared() -> dict[str, Any]:
        url = request.full_path.rstrip("?")
        return {"csrf": token, "theme": _theme(), "here": request.path, "url": url}

    @app.errorhandler(ControlError)
    def control_failed(error: ControlError) -> tuple[str | Response, int]:
        if error.code != "unavailable":
            # A refusal that its page had no place for: said whole, with what to do.
            return problem(_("The box refused this."), error.message, error.hint), 409
        title = _("The box's control daemon does not answer.")
        if request.endpoint in POLLED:
            return jsonify(problem=title), 503
        advice = _("It is started again by itself; load this page anew soon. Traffic goes on.")
        return problem(title, advice, error.message), 503

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[str, int]:
        code = error.code or 500
        makes_no_sense = (
            later("This request makes no sense here."),
            later("Go back, load the page anew, and try again."),
        )
        title, advice = _WORDS.get(code, makes_no_sense)
        return problem(_(title), _(advice)), code
