"""The set-up behind the password: LAN and WAN, policy, test. Each step can be skipped, and come back to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, redirect, request, session, url_for
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import ControlError
from webui.desk import Desk, done, told
from webui.forms.form import Form
from webui.forms.plain import problems
from webui.layouts.first import NETWORK_STEP, POLICY_STEP
from webui.views.sections import Page
from webui.words import _, later

MAX_TARGET = 255
# Where the last step's session goes unless somebody says otherwise: a name with an IPv4 address, kept for
# examples (RFC 2606).
EXAMPLE = "example.com"
STEPS = {
    "password": later("Password"), "network": later("LAN and WAN"), "policy": later("Policy"),
    "test": later("Test"),
}  # fmt: skip


def after_commit() -> str:
    """Where to go when a commit is done: on with the set-up, or to the history."""
    return url_for("first.test") if session.get("first") else url_for("changes.history")


class First:
    """The three steps."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    # -- the steps that ask --------------------------------------------------------------------------------

    def _form(self, page: Page) -> Form:
        desk = self.desk
        suggested = {name: list(find(desk)) for name, find in page.suggested.items()}
        return Form(page.parts, page.roots, desk.config(), None, desk.zone(), suggested=suggested)

    def _drawn(self, page: Page, form: Form, of: str, errors: Sequence[Any] = ()) -> str:
        session["first"] = True
        return self.desk.page(
            "first_step.html", step=page.key, steps=STEPS, title=page.title, about=page.about,
            action=page.url, parts=form.shown(errors), unplaced=form.unplaced(errors), of=of,
            back=url_for("first.network") if page is POLICY_STEP else "",
            onward=_("Continue to policy") if page is NETWORK_STEP else _("Continue to the test"),
        )  # fmt: skip

    def _show(self, page: Page) -> str:
        form = self._form(page)
        return self._drawn(page, form, form.token())

    def _save(self, page: Page, onward: str) -> BaseResponse | tuple[str, int]:
        form = self._form(page)
        typed = form.typed(request.form)
        errors = typed.ours(problems(typed.config))
        if errors:
            return self._drawn(page, typed, form.token(), errors), 422
        if typed.config != form.config:
            self.desk.keep(typed.config)
        return redirect(url_for(onward), 303)

    def network(self) -> str:
        """LAN and WAN."""
        return self._show(NETWORK_STEP)

    def save_network(self) -> BaseResponse | tuple[str, int]:
        """Keep them in the candidate."""
        return self._save(NETWORK_STEP, "first.policy")

    def policy(self) -> str:
        """What crosses, and what is written down."""
        return self._show(POLICY_STEP)

    def save_policy(self) -> BaseResponse | tuple[str, int]:
        """Keep that in the candidate."""
        return self._save(POLICY_STEP, "first.test")

    # -- the last one ---------------------------------------------------------------------------------------

    def _last(self, **found: Any) -> str:
        session["first"] = True
        self.desk.forget_status()
        return self.desk.page(
            "first_test.html", step="test", steps=STEPS,
            **{"where": EXAMPLE, "crossed": None, "denied_by": "", "error": "", **found},
        )  # fmt: skip

    def test(self) -> str:
        """Apply what was chosen; then what works, and what does not."""
        return self._last()

    def cross(self) -> str | tuple[str, int]:
        """A session through the box."""
        where = request.form.get("where", "").strip()[:MAX_TARGET]
        try:
            crossed = self.desk.backend.cross(where)
        except ControlError as failed:
            return self._last(where=where, error=told(failed)), 422
        return self._last(where=where, crossed=crossed, denied_by=self._denied_by(where, crossed))

    def _denied_by(self, where: str, crossed: dict[str, Any]) -> str:
        """The rule that does not let this session through, if one does not."""
        if crossed["ok"]:
            return ""
        try:
            said = self.desk.backend.explain(
                crossed["client"], None, f"{where}:80", "tcp", [crossed["origin"]], None
            )
        except ControlError:
            return ""
        return "" if said["allow"] else str(said["rule"])

    def finish(self) -> BaseResponse:
        """The end of it."""
        session.pop("first", None)
        done(_("The box is set up. Everything else is on its own page."))
        return redirect(url_for("dashboard.dashboard"), 303)

    def blueprint(self) -> Blueprint:
        """Their addresses."""
        pages = Blueprint("first", __name__)
        for name, view, method in (
            ("network", self.network, "GET"), ("save_network", self.save_network, "POST"),
            ("policy", self.policy, "GET"), ("save_policy", self.save_policy, "POST"),
            ("test", self.test, "GET"), ("cross", self.cross, "POST"),
        ):  # fmt: skip
            step = {"save_network": "network", "save_policy": "policy", "cross": "test"}.get(name, name)
            pages.add_url_rule(f"/setup/{step}", name, view, methods=[method])
        pages.add_url_rule("/setup/finish", "finish", self.finish, methods=["POST"])
        return pages
