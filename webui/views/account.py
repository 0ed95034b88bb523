"""The first boot's password, signing in and out, the theme, and the authority's certificate."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as BaseResponse

from appliance.config.fields import MIN_PASSWORD
from appliance.control.client import ControlError
from webui.backend import Backend
from webui.figures import age
from webui.security import THEMES, begin, end, signed_in
from webui.views.first import STEPS
from webui.words import _

MAX_NAME = 64
FIRST_ADMIN = "admin"


def _local(target: str) -> str:
    """Only a path of this console: no address from outside."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _refused_first(backend: Backend, password: str, again: str) -> str | None:
    """Why this first password is not taken; None when it was set."""
    if len(password) < MIN_PASSWORD:
        return _(
            "This has %(has)s characters. A password needs at least %(min)s.",
            has=len(password),
            min=MIN_PASSWORD,
        )
    if password != again:
        return _("The two differ. Type the same password twice.")
    try:
        backend.set_first_password(password)
    except ControlError as refused:
        if refused.code == "unavailable":
            raise
        return refused.message
    return None


def blueprint(backend: Backend, certificate: Path | None) -> Blueprint:
    """``certificate`` is the box's authority's, PEM."""
    pages = Blueprint("account", __name__)

    @pages.get("/setup")
    def setup() -> str:
        return render_template("setup.html", error=None, minimum=MIN_PASSWORD, step="password", steps=STEPS)

    @pages.post("/setup")
    def set_password() -> BaseResponse | tuple[str, int]:
        password = request.form.get("password", "")
        error = _refused_first(backend, password, request.form.get("again", ""))
        if error is not None:
            page = render_template(
                "setup.html", error=error, minimum=MIN_PASSWORD, step="password", steps=STEPS
            )
            return page, 422
        begin(backend.access(FIRST_ADMIN)["admin"])
        return redirect(url_for("first.network"), 303)

    def signin_page(error: str | None = None, name: str = FIRST_ADMIN, wanted: bool = False) -> str:
        codes = wanted or backend.access()["codes"]
        return render_template("signin.html", error=error, name=name, codes=codes, wanted=wanted)

    @pages.get("/signin")
    def signin() -> BaseResponse | str:
        if signed_in():
            return redirect(url_for("dashboard.dashboard"), 303)
        return signin_page()

    @pages.post("/signin")
    def sign_in() -> BaseResponse | tuple[str, int]:
        name = request.form.get("username", FIRST_ADMIN).strip()[:MAX_NAME]
        found = backend.authenticate(
            name, request.form.get("password", ""), request.remote_addr or "unknown",
            request.form.get("code", "").strip() or None,
        )  # fmt: skip
        if found["retry_after"]:
            error = _("Too many wrong passwords. Try again in %(wait)s.", wait=age(found["retry_after"] + 1))
            return signin_page(error, name), 429
        if found["code_wanted"]:
            error = _("This account wants a one-time code too. Type the password again, and the code.")
            return signin_page(error, name, wanted=True), 422
        if not found["ok"]:
            return signin_page(_("This is not the password."), name), 422
        end()
        begin(found["admin"])
        return redirect(url_for("dashboard.dashboard"), 303)

    @pages.post("/signout")
    def sign_out() -> BaseResponse:
        end()
        return redirect(url_for("account.signin"), 303)

    @pages.post("/theme")
    def set_theme() -> BaseResponse:
        chosen = request.form.get("theme", "system")
        response = redirect(_local(request.form.get("here", "/")), 303)
        if chosen in THEMES:
            response.set_cookie("theme", chosen, max_age=365 * 86_400, secure=True, samesite="Strict")
        return response

    @pages.get("/authority.crt")
    def authority() -> Response:
        """For everybody: whoever has no session yet needs it to trust this page."""
        try:
            content = certificate.read_bytes() if certificate is not None else b""
        except OSError:
            content = b""
        if not content:
            raise NotFound
        # The type by which browsers and phones offer to trust it.
        return Response(content, mimetype="application/x-x509-ca-cert")

    return pages
