"""Admins, tokens of the API, and the audit log: who may do what, and who did."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from appliance.config.fields import MIN_PASSWORD
from appliance.control.client import ControlError
from webui.desk import Desk, done, refused
from webui.security import author, registry
from webui.views.account import MAX_NAME
from webui.words import _, later, n_

ROLES = {
    "viewer": later("Viewer: looks, and changes nothing"),
    "operator": later("Operator: changes settings, users and sessions"),
    "admin": later("Admin: all there is"),
}
# For how long a token counts, in days.
ENDS = {
    "30": later("30 days"), "90": later("90 days"), "365": later("1 year"), "": later("Without end"),
}  # fmt: skip
DAY = 86_400.0
ROWS_SHOWN = 100
MAX_TYPED = 128
FILTERS = ("text", "who", "action", "outcome")


def _told(failed: ControlError) -> str:
    if failed.code == "unavailable":
        raise failed
    return failed.message


def admins(desk: Desk) -> Blueprint:
    """The page of accounts."""
    pages = Blueprint("admins", __name__)
    backend = desk.backend

    def page(errors: dict[str, str] | None = None, typed: dict[str, str] | None = None) -> str:
        found = backend.admins()
        counts = {one["name"]: len(registry().of(one["name"])) for one in found}
        return desk.page(
            "admins.html", area="system", key="admins", admins=found, counts=counts, roles=ROLES,
            errors=errors or {}, typed=typed or {}, minimum=MIN_PASSWORD,
        )  # fmt: skip

    @pages.get("/system/admins")
    def listing() -> str:
        return page()

    @pages.post("/system/admins")
    def add() -> BaseResponse | tuple[str, int]:
        name, role = request.form.get("name", "").strip()[:MAX_NAME], request.form.get("role", "")
        password = request.form.get("password", "")
        errors = {} if name else {"name": _("An account needs a name.")}
        if len(password) < MIN_PASSWORD:
            errors["password"] = _("A password needs at least %(min)s characters.", min=MIN_PASSWORD)
        if not errors:
            try:
                backend.add_admin(name, password, role)
            except ControlError as failed:
                errors["name"] = _told(failed)
        if errors:
            return page(errors, {"name": name, "role": role}), 422
        done(_("Admin “%(name)s” added.", name=name))
        return redirect("/system/admins", 303)

    def one(errors: dict[str, str] | None = None) -> BaseResponse | str:
        name = request.args.get("name", "")
        found = next((one for one in backend.admins() if one["name"] == name), None)
        if found is None:
            refused(_("There is no admin “%(name)s” any more.", name=name))
            return redirect("/system/admins", 303)
        return desk.page(
            "admin.html", area="system", key="admins", admin=found, roles=ROLES, errors=errors or {},
            sessions=registry().of(name), minimum=MIN_PASSWORD,
        )  # fmt: skip

    @pages.get("/system/admins/edit")
    def edit() -> BaseResponse | str:
        return one()

    @pages.post("/system/admins/edit")
    def save() -> BaseResponse | str | tuple[BaseResponse | str, int]:
        name, password = request.args.get("name", ""), request.form.get("password", "")
        errors: dict[str, str] = {}
        if password and len(password) < MIN_PASSWORD:
            errors["password"] = _("A password needs at least %(min)s characters.", min=MIN_PASSWORD)
        if not errors:
            try:
                backend.set_admin(
                    name, password or None, request.form.get("role") or None, "without_totp" in request.form
                )
            except ControlError as failed:
                errors["role"] = _told(failed)
        if errors:
            return one(errors), 422
        done(_("Admin “%(name)s” changed; its browsers are signed out.", name=name))
        return redirect("/system/admins", 303)

    @pages.post("/system/admins/remove")
    def remove() -> BaseResponse:
        name = request.form.get("name", "")
        try:
            backend.remove_admin(name)
        except ControlError as failed:
            refused(_told(failed))
            return redirect(f"/system/admins/edit?name={quote(name, safe='')}", 303)
        registry().end_of(name)
        done(_("Admin “%(name)s” removed.", name=name))
        return redirect("/system/admins", 303)

    @pages.post("/system/admins/signout")
    def sign_out() -> BaseResponse:
        name = request.form.get("name", "")
        count = registry().end_of(name)
        done(n_("%(num)s browser signed out.", "%(num)s browsers signed out.", count))
        return redirect(f"/system/admins/edit?name={quote(name, safe='')}", 303)

    return pages


def tokens(desk: Desk) -> Blueprint:
    """The page of the API's tokens."""
    pages = Blueprint("tokens", __name__)
    backend = desk.backend

    def page(error: str = "", typed: dict[str, str] | None = None, made: dict[str, str] | None = None) -> str:
        return desk.page(
            "tokens.html", area="system", key="tokens", tokens=backend.tokens(), roles=ROLES, ends=ENDS,
            error=error, typed=typed or {}, made=made,
        )  # fmt: skip

    @pages.get("/system/tokens")
    def listing() -> str:
        return page()

    @pages.post("/system/tokens")
    def add() -> str | tuple[str, int]:
        name, role = request.form.get("name", "").strip()[:MAX_NAME], request.form.get("role", "")
        days = request.form.get("days", "")
        days = days if days in ENDS else "90"
        expires = time.time() + int(days) * DAY if days else None
        error = "" if name else _("A token needs a name: what it is for.")
        token = ""
        if not error:
            try:
                token = backend.add_token(name, role, expires, author())
            except ControlError as failed:
                error = _told(failed)
        if error:
            return page(error, {"name": name, "role": role, "days": days}), 422
        # Not after a redirect: it would have to be kept somewhere until then.
        return page(made={"name": name, "token": token})

    @pages.post("/system/tokens/remove")
    def remove() -> BaseResponse:
        name = request.form.get("name", "")
        try:
            backend.remove_token(name)
        except ControlError as failed:
            refused(_told(failed))
        else:
            done(_("Token “%(name)s” counts no longer.", name=name))
        return redirect("/system/tokens", 303)

    return pages


def audit(desk: Desk) -> Blueprint:
    """The page of the audit log."""
    pages = Blueprint("audit", __name__)
    backend = desk.backend

    @pages.get("/system/audit")
    def listing() -> str:
        asked = {name: request.args.get(name, "").strip()[:MAX_TYPED] for name in FILTERS}
        filters: dict[str, Any] = {name: text for name, text in asked.items() if text}
        at = request.args.get("cursor", "")
        cursor = int(at) if at.isdecimal() and len(at) < 16 else None
        entries, following = backend.audit(filters, cursor, ROWS_SHOWN)
        whole = backend.verify_audit() if "verify" in request.args else None
        return desk.page(
            "audit.html", area="system", key="audit", entries=entries, asked=asked, filters=filters,
            cursor=following, whole=whole,
        )  # fmt: skip

    return pages
