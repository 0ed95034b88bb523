"""The policy's page: the rules in their order, and the box that says why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import request

from appliance.control.client import ControlError
from webui.desk import Desk
from webui.figures import moment
from webui.forms.plain import Plain, at
from webui.summary import what, when, who
from webui.words import _

MAX_ASKED = 256
PROTOCOLS = ("tcp", "udp", "icmp")


def _until(desk: Desk, rule: Plain) -> str:
    try:
        end = datetime.fromisoformat(str(rule.get("until", "")))
    except ValueError:
        return ""
    return moment(end.timestamp(), desk.zone())


def can_explain(desk: Desk) -> bool:
    """Whether this box's control daemon can say why."""
    return hasattr(desk.backend, "explain")


def _asked() -> dict[str, str]:
    """What the why-box was asked; of the address line, so that an answer can be linked to."""
    asked = {
        name: request.args.get(name, "").strip()[:MAX_ASKED] for name in ("client", "user", "to", "port")
    }
    protocol = request.args.get("protocol", "tcp")
    asked["protocol"] = protocol if protocol in PROTOCOLS else "tcp"
    asked["against"] = "live" if request.args.get("against") == "live" else "candidate"
    return asked


def _answered(desk: Desk, asked: dict[str, str]) -> tuple[dict[str, Any] | None, str]:
    """(verdict, rule and steps, why there are none)."""
    target = asked["to"]
    if asked["port"] and asked["protocol"] != "icmp":
        target = f"[{target}]:{asked['port']}" if ":" in target else f"{target}:{asked['port']}"
    explain = getattr(desk.backend, "explain")  # noqa: B009 - not of every control daemon
    try:
        found: dict[str, Any] = explain(
            asked["client"] or None, asked["user"] or None, target, asked["protocol"],
            candidate=asked["against"] == "candidate",
        )  # fmt: skip
    except ControlError as failed:
        if failed.code == "unavailable":
            raise
        return None, f"{failed.message} {failed.hint}".strip()
    return found, ""


def around_rules(desk: Desk) -> dict[str, Any]:
    """What the page of rules shows beside their table."""
    values: dict[str, Any] = {
        "default": at(desk.config(), ("policy", "default"), "allow"),
        "who": who, "what": what, "when": lambda rule: when(rule, _until(desk, rule)),
        "why": can_explain(desk), "asked": _asked(), "answer": None, "no_answer": "",
    }  # fmt: skip
    if values["why"] and request.args.get("to") is not None:
        if values["asked"]["to"]:
            values["answer"], values["no_answer"] = _answered(desk, values["asked"])
        else:
            values["no_answer"] = _("Say where to: a name or an address.")
    return values
