"""What a viewer is not shown: digests of tokens; where the configuration says so, who the clients are."""

from __future__ import annotations

from typing import Any

from appliance.config.paths import Plain

HIDDEN = "(hidden)"
# Answers that name clients, by their lists and the fields that do.
_LISTS = {
    "ListSessions": "sessions",
    "SearchHistory": "rows",
    "ListRequests": "requests",
    "ListLimits": "meters",
}
_FIELDS = ("client", "user", "device", "subject")
# What would tell by being asked for whether there is such a client.
_FILTERS = ("client", "user", "device", "text")


def hides(method: str, parameters: dict[str, Any]) -> bool:
    """Whether an answer would name a client, or tell of one, so that it is not to be given at all."""
    if method == "SearchHistory":
        return any((parameters.get("filters") or {}).get(name) for name in _FILTERS)
    if method in ("TopHistory", "HistorySeries"):
        return parameters.get("by") in ("client", "user", "device")
    return method == "ListSessions" and bool(parameters.get("search"))


def without_clients(method: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer's parameters without who the clients are."""
    name = _LISTS.get(method)
    if name is None:
        return answer
    return {**answer, name: [_without(one) for one in answer.get(name, ())]}


def _without(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: (HIDDEN if one else one) if key in _FIELDS else one for key, one in entry.items()}


def without_digests(answer: dict[str, Any]) -> dict[str, Any]:
    """GetActive, GetCandidate, GetRevision: the configuration without the digest of a token."""
    out = dict(answer)
    for key in ("candidate", "config"):
        if isinstance(out.get(key), dict):
            out[key] = without_digests(out[key]) if key == "candidate" else _masked(out[key])
    if isinstance(out.get("toml"), str):
        out["toml"] = "\n".join(
            line for line in out["toml"].split("\n") if not line.startswith("metrics_token = ")
        )
    return out


def _masked(config: Plain) -> Plain:
    console = config.get("console")
    if not isinstance(console, dict) or "metrics_token" not in console:
        return config
    return {**config, "console": {**console, "metrics_token": HIDDEN}}
