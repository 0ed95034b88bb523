"""Users and groups of the explicit proxy. What is done here is in force at once."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from appliance.config.fields import MIN_PASSWORD
from appliance.control.client import ControlError
from webui.desk import Desk, done, refused
from webui.security import author
from webui.words import _, n_

# Rows of a page; a search finds the others.
USERS_SHOWN = 200
MAX_SEARCH = 64


class Users:
    """The pages of users and groups."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.backend = desk.backend

    # -- users ------------------------------------------------------------------------------------------

    def _page(self, errors: dict[str, str] | None = None, typed: dict[str, Any] | None = None) -> str:
        users, groups = self.backend.users()
        search = request.args.get("q", "").strip()[:MAX_SEARCH]
        found = [user for user in users if not search or _matches(user, search)]
        return self.desk.page(
            "users.html", area="users", key="users", users=found[:USERS_SHOWN], matching=len(found),
            total=len(users), groups=groups, search=search, errors=errors or {}, typed=typed or {},
            minimum=MIN_PASSWORD,
        )  # fmt: skip

    def listing(self) -> str:
        """All of them, and the form for a new one."""
        return self._page()

    def add(self) -> BaseResponse | tuple[str, int]:
        """Add one."""
        name, groups = request.form.get("name", "").strip(), request.form.getlist("groups")
        password = request.form.get("password", "")
        typed = {"name": name, "groups": groups}
        errors = _wrong(name, groups, password)
        if not errors:
            try:
                self.backend.set_user(name, groups, password or None, new=True, author=author())
            except ControlError as failed:
                errors = _as_error(failed, "name")
        if errors:
            return self._page(errors, typed), 422
        done(_("User “%(name)s” added.", name=name))
        return redirect("/users", 303)

    def _edit(self, errors: dict[str, str] | None = None) -> BaseResponse | str:
        name = request.args.get("name", "")
        users, groups = self.backend.users()
        user = next((user for user in users if user["name"] == name), None)
        if user is None:
            refused(_("There is no user “%(name)s” any more.", name=name))
            return redirect("/users", 303)
        chosen = request.form.getlist("groups") if errors else user["groups"]
        return self.desk.page(
            "user.html", area="users", key="users", user=user, chosen=chosen, groups=groups,
            errors=errors or {}, minimum=MIN_PASSWORD,
        )  # fmt: skip

    def edit(self) -> BaseResponse | str:
        """One of them."""
        return self._edit()

    def save(self) -> BaseResponse | str | tuple[BaseResponse | str, int]:
        """Change its groups, and its password where one is given."""
        name, groups = request.args.get("name", ""), request.form.getlist("groups")
        password = request.form.get("password", "")
        errors = _wrong(name, groups, password)
        if not errors:
            try:
                self.backend.set_user(name, groups, password or None, author=author())
            except ControlError as failed:
                errors = _as_error(failed, "groups")
        if errors:
            return self._edit(errors), 422
        done(_("User “%(name)s” changed.", name=name))
        return redirect("/users", 303)

    def remove(self) -> BaseResponse:
        """Remove one."""
        name = request.form.get("name", "")
        try:
            self.backend.remove_user(name, author=author())
        except ControlError as failed:
            refused(_as_error(failed, "name")["name"])
            return redirect(f"/users/edit?name={quote(name, safe='')}", 303)
        done(_("User “%(name)s” removed.", name=name))
        return redirect("/users", 303)

    # -- groups -----------------------------------------------------------------------------------------

    def _groups(self, error: str = "", typed: str = "") -> str:
        users, groups = self.backend.users()
        return self.desk.page(
            "groups.html", area="users", key="groups", groups=groups, total=len(users), error=error,
            typed=typed,
        )  # fmt: skip

    def groups(self) -> str:
        """All groups."""
        return self._groups()

    def add_group(self) -> BaseResponse | tuple[str, int]:
        """Add one."""
        name = request.form.get("name", "").strip()
        error = "" if name else _("A group needs a name.")
        if not error:
            try:
                self.backend.add_group(name, author=author())
            except ControlError as failed:
                error = _as_error(failed, "name")["name"]
        if error:
            return self._groups(error, name), 422
        done(_("Group “%(name)s” added.", name=name))
        return redirect("/users/groups", 303)

    def remove_group(self) -> BaseResponse:
        """Remove one that nobody is in."""
        name = request.form.get("name", "")
        try:
            self.backend.remove_group(name, author=author())
        except ControlError as failed:
            refused(_as_error(failed, "name")["name"])
        else:
            done(_("Group “%(name)s” removed.", name=name))
        return redirect("/users/groups", 303)

    def blueprint(self) -> Blueprint:
        """Their addresses."""
        pages = Blueprint("users", __name__)
        for url, endpoint, view, method in (
            ("/users", "listing", self.listing, "GET"),
            ("/users", "add", self.add, "POST"),
            ("/users/edit", "edit", self.edit, "GET"),
            ("/users/edit", "save", self.save, "POST"),
            ("/users/remove", "remove", self.remove, "POST"),
            ("/users/groups", "groups", self.groups, "GET"),
            ("/users/groups", "add_group", self.add_group, "POST"),
            ("/users/groups/remove", "remove_group", self.remove_group, "POST"),
        ):
            pages.add_url_rule(url, endpoint, view, methods=[method])
        return pages


def _matches(user: dict[str, Any], search: str) -> bool:
    return any(search.lower() in text.lower() for text in (user["name"], *user["groups"]))


def _wrong(name: str, groups: list[str], password: str) -> dict[str, str]:
    """What can be told before the box is asked, by field."""
    errors = {}
    if not name:
        errors["name"] = _("A user needs a name.")
    if password and len(password) < MIN_PASSWORD:
        has = n_("This has %(num)s character.", "This has %(num)s characters.", len(password))
        errors["password"] = _("%(has)s A password needs at least %(min)s.", has=has, min=MIN_PASSWORD)
    if not groups:
        errors["groups"] = _("Choose at least one group: rules speak of groups.")
    return errors


def _as_error(failed: ControlError, field: str) -> dict[str, str]:
    """Control's refusal at its field; its hint is for the command line."""
    if failed.code == "unavailable":
        raise failed
    return {"password" if "password" in failed.message.lower() else field: failed.message}
