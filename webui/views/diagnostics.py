"""Diagnostics: ping, trace and look-up from the box. The page that a test answers with has its result."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from appliance.control.client import ControlError
from appliance.control.diagnostics import MAX_TARGET, TYPES
from webui.desk import Desk, told

BASE = "/system/diagnostics"


class DiagnosticsPage:
    """The page of tests."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.backend = desk.backend

    def _page(self, **found: Any) -> str:
        around: dict[str, Any] = {"typed": {}, "errors": {}, "tool": None, "answer": None, "kind": "AAAA"}
        return self.desk.page(
            "diagnostics.html", area="system", key="diagnostics", types=list(TYPES), **{**around, **found}
        )

    def listing(self) -> str:
        """The forms."""
        return self._page()

    def reach(self) -> str | tuple[str, int]:
        """Ping or trace, by the button."""
        target = request.form.get("where", "").strip()[: MAX_TARGET + 2]
        trace = request.form.get("act") == "trace"
        typed = {"where": target}
        try:
            tool = self.backend.trace(target) if trace else self.backend.ping(target)
        except ControlError as failed:
            return self._page(typed=typed, errors={"where": told(failed)}), 422
        return self._page(typed=typed, tool=tool, trace=trace)

    def look_up(self) -> str | tuple[str, int]:
        """Ask the box's DNS64."""
        name = request.form.get("name", "").strip()[: MAX_TARGET + 2]
        kind = request.form.get("kind", "AAAA")
        typed = {"name": name}
        try:
            answer = self.backend.look_up(name, kind if kind in TYPES else "AAAA")
        except ControlError as failed:
            return self._page(typed=typed, kind=kind, errors={"name": told(failed)}), 422
        return self._page(typed=typed, kind=kind, answer=answer)

    def blueprint(self) -> Blueprint:
        """Their addresses."""
        pages = Blueprint("diagnostics", __name__)
        pages.add_url_rule(BASE, "listing", self.listing, methods=["GET"])
        pages.add_url_rule(f"{BASE}/reach", "reach", self.reach, methods=["POST"])
        pages.add_url_rule(f"{BASE}/lookup", "look_up", self.look_up, methods=["POST"])
        return pages
