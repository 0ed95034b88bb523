"""Diagnostics: ping, trace, look-up and packet capture; the page that a test answers with has its result."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import ControlError
from webui.desk import Desk, refused, told
from webui.words import _

BASE = "/system/diagnostics"
# As control has them.
MAX_TARGET = 253
TYPES = ("AAAA", "A", "PTR", "MX", "NS", "TXT", "HTTPS")
MAX_SECONDS = 60
MAX_OCTETS = 8 << 20


class DiagnosticsPage:
    """The page of tests."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.backend = desk.backend

    def _page(self, **found: Any) -> str:
        around: dict[str, Any] = {"typed": {}, "errors": {}, "tool": None, "answer": None, "kind": "AAAA"}
        around["capture"] = self.backend.capture()
        around["devices"] = [port["name"] for port in self.desk.status()["ports"]]
        return self.desk.page(
            "diagnostics.html",
            area="system",
            key="diagnostics",
            types=list(TYPES),
            longest=MAX_SECONDS,
            **{**around, **found},
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

    def start(self) -> BaseResponse | tuple[str, int]:
        """Begin a capture."""
        typed = {
            name: request.form.get(name, "").strip()[:MAX_TARGET] for name in ("host", "port", "seconds")
        }
        device = request.form.get("device", "")
        errors = {}
        if typed["port"] and not (typed["port"].isdecimal() and 1 <= int(typed["port"]) <= 65_535):
            errors["port"] = _("A port is 1 to 65535.")
        if not (typed["seconds"].isdecimal() and 1 <= int(typed["seconds"]) <= MAX_SECONDS):
            errors["seconds"] = _("Capture for 1 to %(num)s seconds.", num=MAX_SECONDS)
        if not errors:
            port = int(typed["port"]) if typed["port"] else None
            try:
                self.backend.start_capture(device, typed["host"], port, int(typed["seconds"]), MAX_OCTETS)
            except ControlError as failed:
                errors["host"] = told(failed)
        if errors:
            return self._page(typed=typed, errors=errors, device=device), 422
        return redirect(BASE + "#capture", 303)

    def stop(self) -> BaseResponse:
        """End it."""
        self.backend.stop_capture()
        return redirect(BASE + "#capture", 303)

    def download(self) -> BaseResponse:
        """The pcap file."""
        data = b""
        try:
            while part := self.backend.read_capture(len(data)):
                data += part
        except ControlError as failed:
            refused(told(failed))
            return redirect(BASE, 303)
        answer = Response(data, content_type="application/vnd.tcpdump.pcap")
        answer.headers.set("Content-Disposition", "attachment", filename="isthmus.pcap")
        return answer

    def blueprint(self) -> Blueprint:
        """Their addresses."""
        pages = Blueprint("diagnostics", __name__)
        pages.add_url_rule(BASE, "listing", self.listing, methods=["GET"])
        pages.add_url_rule(f"{BASE}/reach", "reach", self.reach, methods=["POST"])
        pages.add_url_rule(f"{BASE}/lookup", "look_up", self.look_up, methods=["POST"])
        pages.add_url_rule(f"{BASE}/capture", "start", self.start, methods=["POST"])
        pages.add_url_rule(f"{BASE}/capture/stop", "stop", self.stop, methods=["POST"])
        pages.add_url_rule(f"{BASE}/capture.pcap", "download", self.download, methods=["GET"])
        return pages
