"""One's own account: password, one-time codes, the browsers that are signed in."""

from __future__ import annotations

import segno
from flask import Blueprint, g, redirect, request
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from appliance.config.fields import MIN_PASSWORD
from appliance.control.client import ControlError
from webui.desk import Desk, done, refused
from webui.figures import age
from webui.security import author, registry
from webui.words import _, n_


def qr_code(text: str) -> Markup:
    """As SVG for the page itself: no style in it, which the console's policy would refuse."""
    made: str = segno.make(text, error="m", micro=False).svg_inline(
        scale=5, border=4, dark="#000", light="#fff", omitsize=False, title=_("QR code")
    )
    return Markup(made)  # noqa: S704 - a library's drawing; the text is black squares in it


def blueprint(desk: Desk) -> Blueprint:
    """Its pages."""
    pages = Blueprint("me", __name__)
    backend = desk.backend

    def page(errors: dict[str, str] | None = None, recovery: list[str] | None = None) -> str:
        return desk.page(
            "me.html", area="me", sessions=registry().of(author()), mine=g.session, errors=errors or {},
            recovery=recovery or [], minimum=MIN_PASSWORD,
        )  # fmt: skip

    def address() -> str:
        return request.remote_addr or "unknown"

    def verdict(right: bool, wait: float | None, field: str) -> dict[str, str]:
        if wait:
            return {field: _("Too many wrong passwords. Try again in %(wait)s.", wait=age(wait + 1))}
        return {} if right else {field: _("This is not your password.")}

    @pages.get("/account")
    def show() -> str:
        return page()

    @pages.post("/account/password")
    def password() -> BaseResponse | tuple[str, int]:
        fresh, again = request.form.get("password", ""), request.form.get("again", "")
        errors = {}
        if len(fresh) < MIN_PASSWORD:
            errors["password"] = _("A password needs at least %(min)s characters.", min=MIN_PASSWORD)
        elif fresh != again:
            errors["password"] = _("The two differ. Type the same password twice.")
        if not errors:
            found = backend.change_password(author(), request.form.get("old", ""), fresh, address())
            errors = verdict(*found, "old")
        if errors:
            return page(errors), 422
        registry().end_of(author(), but=g.session.id)
        registry().renew(g.session.id, backend.access(author())["admin"]["epoch"])
        done(_("Your password is changed. Other browsers are signed out."))
        return redirect("/account", 303)

    def enrol(error: str = "") -> str | BaseResponse:
        try:
            secret, uri = backend.begin_totp(author())
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            refused(failed.message)
            return redirect("/account", 303)
        spaced = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
        return desk.page("totp.html", area="me", secret=spaced, code=qr_code(uri), error=error)

    @pages.get("/account/totp")
    def totp() -> str | BaseResponse:
        return enrol()

    @pages.post("/account/totp")
    def confirm_totp() -> str | BaseResponse | tuple[str | BaseResponse, int]:
        try:
            recovery = backend.confirm_totp(author(), request.form.get("code", "").strip())
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            return enrol(failed.message), 422
        if not recovery:
            return enrol(_("This is not the code of now. Is the phone’s clock right?")), 422
        g.admin = backend.access(author())["admin"]
        return page(recovery=recovery)

    @pages.post("/account/totp/end")
    def end_totp() -> BaseResponse | tuple[str, int]:
        errors = verdict(*backend.end_totp(author(), request.form.get("old", ""), address()), "totp")
        if errors:
            return page(errors), 422
        done(_("You sign in without one-time codes now."))
        return redirect("/account", 303)

    @pages.post("/account/sessions")
    def end_sessions() -> BaseResponse:
        asked = request.form.get("id", "")
        if asked:
            # Only one's own: another's id is no secret that has to be kept for it.
            ended = [one.id for one in registry().of(author()) if one.id == asked]
            for number in ended:
                registry().end(number)
            count = len(ended)
        else:
            count = registry().end_of(author(), but=g.session.id)
        done(n_("%(num)s browser signed out.", "%(num)s browsers signed out.", count))
        return redirect("/account", 303)

    return pages
