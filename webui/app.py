"""create_app: the pages. Every form works without JavaScript; live figures are polled as JSON."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, Protocol

from flask import Flask, Response, jsonify, redirect, render_template, request, session, url_for
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import ControlError

# A signed-in browser whose user does nothing for this long signs in again. A page that only polls
# does not count: a tab left open would stay signed in for ever.
SESSION_SECONDS = 12 * 3_600
# No form of the console is larger; what is, is no form of the console.
MAX_REQUEST = 64 * 1024
SESSIONS_SHOWN = 50
SESSIONS_LISTED = 1000  # as many as control hands out at once
MAX_SEARCH = 128
KINDS = {"tcp": "TCP", "udp": "UDP and QUIC", "icmp": "Ping"}
REGIONS = ("state", "health", "workers", "ports", "sessions")
USER = "admin"
MIN_PASSWORD = 10
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
_POLLED = {"live"}
_OPEN = {"static", "authority", "setup", "set_password", "signin", "sign_in", "set_theme"}


_BACK = "Go back, load the page anew, and try again."
_WORDS = {
    404: ("There is no such page.", "The dashboard has links to all there is."),
    405: ("This address takes no such request.", "Use the forms and links of the console."),
    413: ("This form is too large.", f"The console takes at most {MAX_REQUEST // 1024} kB."),
    500: ("The console has failed at this.", "The rest works. Its log says what happened."),
}


class Backend(Protocol):
    """What the console needs of control; appliance.control.client.ControlClient is one."""

    def status(self) -> dict[str, Any]:
        """Type Status of org.isthmus.control."""

    def sessions(self, limit: int = 50, search: str | None = None) -> tuple[list[dict[str, Any]], int]:
        """The newest sessions and how many match."""

    def password_set(self) -> bool:
        """False until the first boot's password was set."""

    def set_first_password(self, password: str) -> None:
        """Set it once."""

    def authenticate(self, user: str, password: str, address: str) -> tuple[bool, float | None]:
        """(right, seconds to wait)."""


def create_app(backend: Backend, key: bytes, authority: Path | None = None) -> Flask:
    """The console over a backend; ``key`` signs the session cookie, ``authority`` is the box's, PEM."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=key,
        SESSION_COOKIE_NAME="__Host-isthmus",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        MAX_CONTENT_LENGTH=MAX_REQUEST,
    )
    app.jinja_env.filters.update(size=size, speed=speed, age=age, milliseconds=milliseconds)
    _guard(app, backend)
    _account(app, backend)
    _pages(app, backend)
    _certificate(app, authority)
    return app


# -- figures for people ------------------------------------------------------------------------------


def size(count: float) -> str:
    """1.90 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{_three(count)} {unit}"
        count /= 1000
    return f"{_three(count)} TB"


def _three(value: float) -> str:
    """Three digits that count: 1.90, 76.2, 184."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def milliseconds(value: float | None) -> str:
    """11.8; under one with two decimals, for a server next door; a dash where nothing was dialled yet."""
    return "–" if value is None else f"{value:.2f}" if value < 1 else f"{value:.1f}"


def speed(mbit: int) -> str:
    """100 Mbit/s, 2.5 Gbit/s."""
    return f"{mbit / 1000:g} Gbit/s" if mbit >= 1000 else f"{mbit} Mbit/s"


def age(seconds: float) -> str:
    """2:14, 3:02:14, or 9 days."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# -- who may see what --------------------------------------------------------------------------------


def _token() -> str:
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    return str(session["csrf"])


def _signed_in() -> bool:
    seen = session.get("seen")
    return session.get("user") == USER and isinstance(seen, int) and time.time() - seen < SESSION_SECONDS


def _theme() -> str:
    chosen = request.cookies.get("theme", "system")
    return chosen if chosen in THEMES else "system"


def _guard(app: Flask, backend: Backend) -> None:
    @app.before_request
    def check() -> BaseResponse | tuple[str | Response, int] | None:
        if request.method == "POST":
            given = request.form.get("csrf", "")
            if not given or not secrets.compare_digest(given.encode(), str(session.get("csrf", "")).encode()):
                return (
                    _problem("This form is out of date.", "Go back, load the page anew, and send it again."),
                    400,
                )
        if request.endpoint in (None, "static", "authority", "set_theme"):
            return None
        first = not backend.password_set()
        if first and request.endpoint not in ("setup", "set_password"):
            return redirect(url_for("setup"), 303)
        if not first and request.endpoint in ("setup", "set_password"):
            return redirect(url_for("signin"), 303)
        if request.endpoint not in _OPEN and not _signed_in():
            session.clear()
            if request.endpoint in _POLLED:
                return jsonify(problem="Signed out."), 401
            return redirect(url_for("signin"), 303)
        if _signed_in() and request.endpoint not in _POLLED:
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
        return {"csrf": _token, "theme": _theme(), "here": request.path, "url": request.full_path.rstrip("?")}

    @app.errorhandler(ControlError)
    def control_down(error: ControlError) -> tuple[str | Response, int]:
        if request.endpoint in _POLLED:
            return jsonify(problem="The box's control daemon does not answer."), 503
        return (
            _problem(
                "The box's control daemon does not answer.",
                "It is started again by itself; load this page anew soon. Traffic goes on.",
                error.message,
            ),
            503,
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[str, int]:
        code = error.code or 500
        return _problem(*_WORDS.get(code, ("This request makes no sense here.", _BACK))), code


def _problem(title: str, advice: str, detail: str = "") -> str:
    return render_template("problem.html", title=title, advice=advice, detail=detail)


# -- first boot, signing in and out ------------------------------------------------------------------


def _account(app: Flask, backend: Backend) -> None:
    @app.get("/setup")
    def setup() -> str:
        return render_template("setup.html", error=None, minimum=MIN_PASSWORD)

    @app.post("/setup")
    def set_password() -> BaseResponse | tuple[str, int]:
        password = request.form.get("password", "")
        error = None
        if len(password) < MIN_PASSWORD:
            error = f"This has {len(password)} characters. A password needs at least {MIN_PASSWORD}."
        elif password != request.form.get("again", ""):
            error = "The two differ. Type the same password twice."
        if error is None:
            try:
                backend.set_first_password(password)
            except ControlError as refused:
                if refused.code == "unavailable":
                    raise
                error = refused.message
        if error is not None:
            return render_template("setup.html", error=error, minimum=MIN_PASSWORD), 422
        _begin()
        return redirect(url_for("dashboard"), 303)

    @app.get("/signin")
    def signin() -> BaseResponse | str:
        if _signed_in():
            return redirect(url_for("dashboard"), 303)
        return render_template("signin.html", error=None)

    @app.post("/signin")
    def sign_in() -> BaseResponse | tuple[str, int]:
        right, wait = backend.authenticate(
            USER, request.form.get("password", ""), request.remote_addr or "unknown"
        )
        if wait:
            error = f"Too many wrong passwords. Try again in {age(wait + 1)}."
            return render_template("signin.html", error=error), 429
        if not right:
            return render_template("signin.html", error="This is not the password."), 422
        _begin()
        return redirect(url_for("dashboard"), 303)

    @app.post("/signout")
    def sign_out() -> BaseResponse:
        session.clear()
        return redirect(url_for("signin"), 303)

    @app.post("/theme")
    def set_theme() -> BaseResponse:
        chosen = request.form.get("theme", "system")
        target = request.form.get("here", "/")
        # Only a path of this console: no address from outside.
        safe = target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
        response = redirect(safe, 303)
        if chosen in THEMES:
            response.set_cookie("theme", chosen, max_age=365 * 86_400, secure=True, samesite="Strict")
        return response


def _certificate(app: Flask, path: Path | None) -> None:
    @app.get("/authority.crt")
    def authority() -> Response:
        """For everybody: whoever has no session yet needs it to trust this page."""
        try:
            content = path.read_bytes() if path is not None else b""
        except OSError:
            content = b""
        if not content:
            raise NotFound
        # The type by which browsers and phones offer to trust it.
        return Response(content, mimetype="application/x-x509-ca-cert")


def _begin() -> None:
    session.clear()
    session["user"] = USER
    session["seen"] = int(time.time())


# -- pages ---------------------------------------------------------------------------------------------


def _kinds(counters: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the crossing. ``lane`` is its thickness: one step for each power of ten."""
    open_now = sum(counters[kind] for kind in KINDS)
    return [
        {
            "kind": kind,
            "words": words,
            "open": counters[kind],
            "share": f"{100 * counters[kind] / open_now:.0f} % of all" if open_now else "none open",
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


def _pages(app: Flask, backend: Backend) -> None:
    @app.get("/")
    def dashboard() -> str:
        return render_template("dashboard.html", **_view(backend))

    @app.get("/sessions")
    def sessions() -> str:
        search = request.args.get("q", "").strip()[:MAX_SEARCH]
        found, total = backend.sessions(SESSIONS_LISTED, search or None)
        return render_template(
            "sessions.html", status=backend.status(), sessions=found, total=total, search=search
        )

    @app.get("/live.json")
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
