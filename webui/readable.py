"""A change's two sides for people who do not read TOML."""

from __future__ import annotations

import tomllib
from typing import Any

from webui.summary import what, when, who
from webui.words import _


def readable(text: str | None, path: str = "") -> str | None:
    """Control's text of a value (in TOML's manner) as a sentence; what is no TOML (cut short) as it is."""
    if text is None:
        return None
    for form in (f"x = {text}", f"x = {{ {text} }}"):
        try:
            value = tomllib.loads(form)["x"]
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
        return _rule(value) if path.startswith("rule.") and isinstance(value, dict) else _said(value)
    return text


def _rule(rule: dict[str, Any]) -> str:
    conditions = who(rule) + what(rule) + when(rule, str(rule.get("until", "")))
    told = ", ".join(f"{words} {names}" for words, names in conditions) or _("everybody, anything, always")
    action = _("Deny") if rule.get("action") == "deny" else _("Allow")
    off = "" if rule.get("enabled", True) else _(" (off)")
    return f"{action}{off}: {told}"


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')}: {_said(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_said(one) for one in value) or _("none")
    return str(value) if value != "" else _("none")
