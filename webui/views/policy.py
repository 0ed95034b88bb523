"""The policy's page: the rules in their order, and the box that says why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import request

from appliance.control.client import ControlError
from webui.desk import Desk
from webui.figures import moment
from webui.forms.plain import Plain, at
from webui.security import author
from webui.summary import what, when, who
from webui.views.requests import waiting
from webui.words import _, later

MAX_ASKED = 256
# Of a trace at each end. Fewer hides neighbours; more is a page of thousands of rules that say no.
STEPS_SHOWN = 20
TEXTS = ("client", "user", "to", "port", "addresses")
# The way that a session comes by, as control names it.
PROTOCOLS = {
    "tcp": later("TCP"), "udp": later("UDP"), "icmp": later("Ping"), "http": later("Proxy, plain HTTP"),
    "connect": later("Proxy, CONNECT"), "socks": later("Proxy, SOCKS"), "dns": later("DNS question"),
    "published": later("Published service"),
}  # fmt: skip


def _until(desk: Desk, rule: Plain) -> str:
    try:
        end = datetime.fromisoformat(str(rule.get("until", "")))
    except ValueError:
        return ""
    return moment(end.timestamp(), desk.zone())


def _asked() -> dict[str, str]:
    """What the why-box was asked; of the address line, so that an answer can be linked to."""
    asked = {name: request.args.get(name, "").strip()[:MAX_ASKED] for name in TEXTS}
    protocol = request.args.get("protocol", "tcp")
    asked["protocol"] = protocol if protocol in PROTOCOLS else "tcp"
    asked["against"] = "live" if request.args.get("against") == "live" else "candidate"
    return asked


def _answered(desk: Desk, asked: dict[str, str]) -> tuple[dict[str, Any] | None, str]:
    """(the explanation, why there is none)."""
    target = asked["to"]
    if asked["port"] and asked["protocol"] != "icmp":
        target = f"[{target}]:{asked['port']}" if ":" in target else f"{target}:{asked['port']}"
    try:
        found = desk.backend.explain(
            asked["client"] or None, asked["user"] or None, target, asked["protocol"],
            asked["addresses"].replace(",", " ").split() or None,
            author() if asked["against"] == "candidate" else None,
        )  # fmt: skip
    except ControlError as failed:
        if failed.code == "unavailable":
            raise
        return None, f"{failed.message} {failed.hint}".strip()
    return {**found, "steps": _shortened(found["steps"])}, ""


def _shortened(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first and the last of many, and how many between them say only that they do not match."""
    head, between, tail = steps[:STEPS_SHOWN], steps[STEPS_SHOWN:-STEPS_SHOWN], steps[-STEPS_SHOWN:]
    if len(steps) <= 2 * STEPS_SHOWN or any(step["matched"] is not False for step in between):
        return steps
    return [*head, {"skipped": len(between)}, *tail]


def hits(desk: Desk, kind: str = "rule") -> dict[str, dict[str, Any]]:
    """How often each rule (or list) has decided; nothing where that is not told."""
    try:
        return {hit["name"]: hit for hit in desk.backend.hits() if hit["kind"] == kind}
    except ControlError as failed:
        if failed.code == "unavailable":
            raise
        return {}


def around_rules(desk: Desk) -> dict[str, Any]:
    """What the page of rules shows beside their table."""
    values: dict[str, Any] = {
        "hits": hits(desk), "waiting": len(waiting(desk)),
        "default": at(desk.config(), ("policy", "default"), "allow"),
        "who": who, "what": what, "when": lambda rule: when(rule, _until(desk, rule)),
        "asked": _asked(), "answer": None, "no_answer": "", "protocols": PROTOCOLS,
    }  # fmt: skip
    if request.args.get("to") is not None:
        if values["asked"]["to"]:
            values["answer"], values["no_answer"] = _answered(desk, values["asked"])
        else:
            values["no_answer"] = _("Say where to: a name or an address.")
    return values
