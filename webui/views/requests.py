"""Requests for access, granted or refused; and the log's rows, which the policy's figures lead to."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import ControlError
from webui.desk import Desk, done, refused
from webui.security import author
from webui.words import _, later

# For how long a request can be granted here; the command line takes any time.
TIMES = {
    "3600": later("1 hour"), "14400": later("4 hours"), "86400": later("1 day"), "604800": later("1 week"),
}  # fmt: skip
ROWS_SHOWN = 100
MAX_TYPED = 256
# What rows can be searched by, in the address line.
FILTERS = ("text", "client", "user", "device", "name", "rule", "reference", "outcome")
OUTCOMES = {
    "": later("Any end"), "carried": later("Carried"), "denied": later("Denied"), "refused": later("Refused"),
    "limited": later("Over a limit"), "failed": later("Not reached"),
}  # fmt: skip


def waiting(desk: Desk) -> list[dict[str, Any]]:
    """The requests that wait; none where the proxy does not say."""
    try:
        return desk.backend.access_requests()
    except ControlError as failed:
        if failed.code == "unavailable":
            raise
        return []


def _answer(desk: Desk) -> None:
    """Do what was asked with one request."""
    number, act = request.form.get("id", ""), request.form.get("act", "")
    try:
        if act == "grant":
            seconds = request.form.get("time", "")
            if seconds in TIMES:
                rule = desk.backend.grant_request(number, int(seconds), author())
                done(_("Granted: rule “%(rule)s” allows it.", rule=rule))
        elif act == "refuse":
            desk.backend.refuse_request(number)
            done(_("Refused. The request is forgotten."))
    except ControlError as failed:
        if failed.code == "unavailable":
            raise
        refused(f"{failed.message} {failed.hint}".strip())


def blueprint(desk: Desk) -> Blueprint:
    """The two pages."""
    pages = Blueprint("requests", __name__)

    @pages.get("/policy/requests")
    def listing() -> str:
        return desk.page("requests.html", area="policy", key="requests", requests=waiting(desk), times=TIMES)

    @pages.post("/policy/requests")
    def answer() -> BaseResponse:
        _answer(desk)
        return redirect("/policy/requests", 303)

    @pages.get("/log")
    def log() -> str:
        asked = {name: request.args.get(name, "").strip()[:MAX_TYPED] for name in FILTERS}
        if asked["outcome"] not in OUTCOMES:
            asked["outcome"] = ""
        filters = {name: text for name, text in asked.items() if text}
        rows: list[dict[str, Any]] = []
        cursor, problem = "", ""
        try:
            cursor = request.args.get("cursor", "")[:MAX_TYPED]
            rows, cursor, _searched = desk.backend.search_history(filters, cursor, ROWS_SHOWN)
        except ControlError as failed:
            if failed.code == "unavailable":
                raise
            cursor, problem = "", f"{failed.message} {failed.hint}".strip()
        return desk.page(
            "log.html", rows=rows, asked=asked, filters=filters, cursor=cursor, problem=problem,
            outcomes=OUTCOMES,
        )  # fmt: skip

    return pages
