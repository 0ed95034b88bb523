"""Who may see what: headers, the session's cookie, the token on every form, the first boot's gate."""

from __future__ import annotations

import secrets
import time
from typing import Any

from flask import (
    Flask,
    Response,
    abort,
    current_app,
    g,
    jsonify,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from appliance.config.roles import Role
from appliance.control.client import ControlError
from webui.access import least_of
from webui.acting import act_for
from webui.api.blueprint import of_http
from webui.api.problems import ApiError, of_control
from webui.backend import Backend
from webui.hosts import is_ours
from webui.signed_in import Session, Sessions
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
THEMES = ("system", "light", "dark")

# Half a year, as the Observatory asks. Browsers take it only over a connection that they trust, and only for
# names (RFC 6797 section 8.1): whoever clicks a warning away, or uses the address, is never locked out by it.
# No inline script or style anywhere.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "Strict-Transport-Security": "max-age=15768000",
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

_MISDIRECTED = later(
    "Use its address, its own name, or one of those in System, Names in the DNS. A page from elsewhere may "
    "have sent you here."
)
_WORDS = {
    403: (
        later("Your role does not allow this."),
        later("An admin can give your account another role: System, Admins."),
    ),
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


def registry() -> Sessions:
    """Who is signed in to this console."""
    found: Sessions = current_app.extensions["sessions"]
    return found


def signed_in() -> bool:
    """Whether this browser's admin is known, and was there not too long ago."""
    return "admin" in g


def begin(admin: dict[str, Any]) -> None:
    """Start a session of this admin's (type Admin), with a new token."""
    session.clear()
    agent = request.headers.get("User-Agent", "")
    made = registry().begin(admin["name"], admin["epoch"], request.remote_addr or "", agent, time.time())
    session["id"] = made.id
    _known_as(admin, made)


def end() -> None:
    """End this browser's session."""
    registry().end(str(session.get("id", "")))
    session.clear()


def _known_as(admin: dict[str, Any], mine: Session) -> None:
    g.admin, g.session = admin, mine
    act_for(
        {"name": admin["name"], "role": admin["role"], "via": "console", "address": request.remote_addr or ""}
    )


def author() -> str:
    """In whose name this request changes the configuration."""
    return str(g.admin["name"])


def role() -> Role:
    """Of whoever is signed in."""
    return Role(g.admin["role"])


def _is_api() -> bool:
    return request.path.startswith("/api/")


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

    app.extensions["sessions"] = Sessions()
    names: list[str] = [""]  # those of the box, as control said last

    @app.before_request
    def check() -> BaseResponse | tuple[str | Response, int] | None:
        act_for(None)
        if request.endpoint == "static":
            return None
        mine = registry().find(session.get("id"), time.time(), SESSION_SECONDS)
        try:
            access = backend.access(mine.name if mine else None)
            names[:] = access["names"]
        except ControlError:
            # What needs nothing of it is there without control, too.
            if request.endpoint not in _FREE:
                raise
            access = {"admin": None}
        if not is_ours(request.headers.get("Host", ""), names):
            if _is_api():
                raise ApiError(421, _("This is not the box’s name."), _(_MISDIRECTED))
            return problem(_("This is not the box’s name."), _(_MISDIRECTED)), 421
        if _is_api():
            if not access.get("password_set", True):
                raise ApiError(403, _("The box has no password yet."), _("Open its console, and set one."))
            return None
        admin = access["admin"]
        if mine is not None and admin is not None and admin["epoch"] == mine.epoch:
            _known_as(admin, mine)
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            refused = _checked_token()
            if refused:
                return refused
        if request.endpoint in _FREE:
            return None
        first = not access["password_set"]
        if first and request.endpoint not in _SETUP:
            return redirect(url_for("account.setup"), 303)
        if not first and request.endpoint in _SETUP:
            return redirect(url_for("account.signin"), 303)
        if request.endpoint in _SETUP | _SIGN_IN:
            return None
        if not signed_in():
            end()
            if request.endpoint in POLLED:
                return jsonify(problem=_("Signed out.")), 401
            return redirect(url_for("account.signin"), 303)
        if request.endpoint not in POLLED and mine is not None:
            registry().touch(mine.id, time.time())
        if not role().may(least_of(str(request.endpoint), request.method)):
            abort(403)
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
        return {"csrf": token, "theme": _theme(), "here": request.path, "url": url, "me": g.get("admin")}

    @app.errorhandler(ApiError)
    def api_refused(error: ApiError) -> Response:
        return error.response()

    @app.errorhandler(ControlError)
    def control_failed(error: ControlError) -> Response | tuple[str | Response, int]:
        if _is_api():
            return of_control(error).response()
        if error.code.endswith(".PermissionDenied"):
            return problem(_(_WORDS[403][0]), error.message), 403
        if error.code != "unavailable":
            # A refusal that its page had no place for: said whole, with what to do.
            return problem(_("The box refused this."), error.message, error.hint), 409
        title = _("The box's control daemon does not answer.")
        if request.endpoint in POLLED:
            return jsonify(problem=title), 503
        advice = _("It is started again by itself; load this page anew soon. Traffic goes on.")
        return problem(title, advice, error.message), 503

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response | tuple[str, int]:
        if _is_api():
            return of_http(error)
        code = error.code or 500
        makes_no_sense = (
            later("This request makes no sense here."),
            later("Go back, load the page anew, and try again."),
        )
        title, advice = _WORDS.get(code, makes_no_sense)
        return problem(_(title), _(advice)), code
