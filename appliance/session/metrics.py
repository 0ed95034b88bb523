"""The box's figures in Prometheus' text format (version 0.0.4), from the answers of control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Rules that have figures of their own, those with most sessions first. A monitoring system keeps a series for
# each for years; thousands would burden it more than they tell.
MAX_RULES = 200

Labels = Mapping[str, str]
Sample = tuple[Labels, float | int]


def exposition(
    status: Mapping[str, Any],
    rules: Sequence[Mapping[str, Any]] = (),
    history: Mapping[str, Any] | None = None,
    hits: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page of ``/metrics``.

    ``status``, ``rules``, ``history`` and ``hits`` are the types Status, HistorySum (by rule), HistoryStatus
    and Hit of org.isthmus.control. Names of clients, users or destinations are in none of it; names of rules
    are.
    """
    page = _Page()
    counters = status["counters"]
    page.add("isthmus_info", "gauge", "The version that runs.", [({"version": str(status["version"])}, 1)])
    page.add("isthmus_uptime_seconds", "gauge", "Since the box started.", [({}, status["uptime"])])
    page.add("isthmus_proxy_up", "gauge", "Whether the proxy answers.", [({}, int(bool(status["proxy_up"])))])
    page.add(
        "isthmus_check",
        "gauge",
        "Health: 0 is well, 1 a warning, 2 bad.",
        [({"check": name}, state) for name, state in _worst(status["checks"]).items()],
    )
    page.add(
        "isthmus_sessions",
        "gauge",
        "Sessions that are open.",
        [({"kind": kind}, counters[kind]) for kind in ("tcp", "udp", "icmp")],
    )
    page.add(
        "isthmus_half_open", "gauge", "Clients that wait for their origin.", [({}, counters["half_open"])]
    )
    page.add(
        "isthmus_sessions_total",
        "counter",
        "Sessions since the proxy started, by what became of them.",
        [
            ({"outcome": key}, counters[key])
            for key in ("opened", "refused", "unreachable", "denied", "limited")
        ],
    )
    page.add(
        "isthmus_bytes_total",
        "counter",
        "Payload since the proxy started.",
        [({"to": side}, counters[f"bytes_to_{side}"]) for side in ("wan", "lan")],
    )
    if counters.get("dial_ms_median") is not None:
        page.add(
            "isthmus_dial_seconds_median",
            "gauge",
            "How long origins take to answer; the median of the last dials.",
            [({}, counters["dial_ms_median"] / 1000)],
        )
    page.add(
        "isthmus_limited_total",
        "counter",
        "Sessions that a limit refused.",
        [({"reason": limit["reason"]}, limit["count"]) for limit in status["limits"]],
    )
    page.add(
        "isthmus_passwords_total",
        "counter",
        "Passwords of the explicit proxy's users, by what became of them.",
        [({"result": result}, count) for result, count in sorted(status["passwords"].items())],
    )
    _workers(page, status["workers"])
    page.add(
        "isthmus_target_up",
        "gauge",
        "Whether a server behind a published service answered last.",
        [
            ({"service": service["name"], "target": target["target"]}, int(target["up"]))
            for service in status["published"]
            for target in service["targets"]
        ],
    )
    page.add(
        "isthmus_port_carrier",
        "gauge",
        "Whether a port has a cable with a living far end.",
        [({"port": port["name"], "role": port["role"]}, int(port["carrier"])) for port in status["ports"]],
    )
    _rules(page, rules)
    most = sorted(hits, key=lambda hit: -hit["total"])
    for kind, words in (
        ("rule", "Sessions and questions that a rule decided on"),
        ("list", "Sessions and questions by a list's names"),
    ):
        page.add(
            f"isthmus_{kind}_hits_total",
            "counter",
            f"{words}, over all restarts.",
            [({kind: hit["name"]}, hit["total"]) for hit in most if hit["kind"] == kind][:MAX_RULES],
        )
    if history is not None:
        _history(page, history)
    return page.text()


_STATES = {"ok": 0, "warn": 1, "bad": 2}


def _worst(checks: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Several findings may have one name."""
    found: dict[str, int] = {}
    for check in checks:
        found[check["id"]] = max(_STATES.get(check["state"], 2), found.get(check["id"], 0))
    return found


def _workers(page: _Page, workers: Sequence[Mapping[str, Any]]) -> None:
    # Of those that drain there may be several by one number, and they go: no series of theirs.
    seated = [worker for worker in workers if not worker["draining"]]
    labelled = [({"worker": str(worker["index"])}, worker) for worker in seated]
    page.add(
        "isthmus_worker_sessions",
        "gauge",
        "Sessions of a worker.",
        [(labels, worker["sessions"]) for labels, worker in labelled],
    )
    page.add(
        "isthmus_worker_restarts_total",
        "counter",
        "Times that a worker died and was replaced.",
        [(labels, worker["restarts"]) for labels, worker in labelled],
    )
    page.add(
        "isthmus_workers_draining",
        "gauge",
        "Workers of an older program that carry their last sessions.",
        [({}, len(workers) - len(seated))],
    )


def _rules(page: _Page, rules: Sequence[Mapping[str, Any]]) -> None:
    named = rules[:MAX_RULES]
    # Sums of the history, which begin anew when it is erased, as counters may.
    for key, name, words in (
        ("sessions", "isthmus_rule_sessions_total", "Sessions that a rule decided on."),
        ("refused", "isthmus_rule_refused_total", "Those of them that did not come about."),
        ("bytes_to_wan", "isthmus_rule_bytes_to_wan_total", "Payload of a rule's sessions to the WAN."),
        ("bytes_to_lan", "isthmus_rule_bytes_to_lan_total", "Payload of a rule's sessions to the LAN."),
    ):
        page.add(name, "counter", words, [({"rule": rule["key"]}, rule[key]) for rule in named])


def _history(page: _Page, history: Mapping[str, Any]) -> None:
    page.add("isthmus_history_rows", "gauge", "Sessions that the history holds.", [({}, history["rows"])])
    page.add("isthmus_history_bytes", "gauge", "What they take.", [({}, history["octets"])])
    page.add(
        "isthmus_history_up",
        "gauge",
        "Whether the history is written.",
        [({}, int(not history.get("problem")))],
    )
    page.add(
        "isthmus_history_behind_bytes",
        "gauge",
        "Log that the history has yet to read.",
        [({}, history["behind"])],
    )
    exports = [({"kind": one["kind"], "target": one["target"]}, one) for one in history["exports"]]
    page.add(
        "isthmus_export_up",
        "gauge",
        "Whether an export of the log works.",
        [(labels, int(one["up"])) for labels, one in exports],
    )
    for key, words in (
        ("sent", "Lines that were exported."),
        ("dropped", "Lines that could not be exported."),
    ):
        page.add(
            f"isthmus_export_{key}_total", "counter", words, [(labels, one[key]) for labels, one in exports]
        )


class _Page:
    """Families of samples in the order in which they are added."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, words: str, samples: Iterable[Sample]) -> None:
        """One family; without a sample it is left out."""
        # By their labels: a name that is there twice would make the whole page invalid.
        values = {_labels(labels): value for labels, value in samples}
        if values:
            self._lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
            self._lines += [f"{name}{labels} {_number(value)}" for labels, value in values.items()]

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    """A label's value; the format knows these three escapes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float | int) -> str:
    return repr(float(value)) if isinstance(value, float) else str(int(value))
