"""The page of figures: every line follows the grammar of Prometheus' text format, whatever the names are."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.session.metrics import MAX_RULES, exposition

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
VALUE = r'"(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(
    rf"({NAME})(\{{{LABEL}={VALUE}(?:,{LABEL}={VALUE})*\}})? (-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
)
COMMENT = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")


def parse(text: str) -> dict[str, tuple[str, dict[str, float]]]:
    """(kind, {labels as written: value}) by family; an AssertionError where a line is against the grammar."""
    families: dict[str, tuple[str, dict[str, float]]] = {}
    assert text.endswith("\n")
    current = ""
    helped: set[str] = set()
    for line in text.split("\n")[:-1]:
        comment = COMMENT.fullmatch(line)
        if comment is not None:
            kind, name, words = comment.groups()
            if kind == "HELP":
                assert name not in helped
                helped.add(name)
            else:
                assert words in ("counter", "gauge")
                assert name not in families, "a family comes once, in one piece"
                assert (words == "counter") is name.endswith("_total")
                families[name] = (words, {})
                current = name
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        name, labels, value = sample.groups()
        assert name == current, "samples stand behind their family's TYPE"
        samples = families[name][1]
        assert (labels or "") not in samples, "a sample comes once"
        samples[labels or ""] = float(value)
    assert helped == set(families)
    return families


def status(**changes: Any) -> dict[str, Any]:
    """GetStatus of a box that has some of everything."""
    return {
        "version": "1.0", "uptime": 12.5, "proxy_up": True, "console_port": 443,
        "checks": [
            {"id": "disk", "state": "warn"}, {"id": "clock", "state": "bad"}, {"id": "disk", "state": "ok"},
        ],
        "counters": {
            "tcp": 3, "udp": 2, "icmp": 1, "half_open": 0, "opened": 100, "refused": 5, "unreachable": 4,
            "denied": 3, "limited": 2, "bytes_to_wan": 1 << 60, "bytes_to_lan": 7, "dial_ms_median": 1.5,
        },
        "limits": [{"reason": "rate", "count": 2, "recent": True}],
        "passwords": {"right": 9, "wrong": 1, "locked": 0, "busy": 0, "failed": 0},
        "workers": [
            {"index": 0, "sessions": 4, "restarts": 0, "draining": False},
            {"index": 1, "sessions": 2, "restarts": 3, "draining": False},
            {"index": 0, "sessions": 1, "restarts": 0, "draining": True},
        ],
        "published": [{"name": "shop", "targets": [{"target": "[2001:db8::80]:443", "up": False}]}],
        "ports": [{"name": "lan0", "role": "lan", "carrier": True}],
        **changes,
    }  # fmt: skip


HISTORY = {
    "rows": 10, "octets": 4_096, "behind": 0, "problem": None,
    "exports": [{"kind": "syslog", "target": "tls://a.example:6514", "up": True, "sent": 8, "dropped": 1}],
}  # fmt: skip


def rule(key: str) -> dict[str, Any]:
    return {"key": key, "sessions": 5, "refused": 2, "bytes_to_wan": 10, "bytes_to_lan": 20}


def test_the_page_says_what_the_status_says() -> None:
    page = parse(exposition(status(), [rule("no-ads"), rule("default")], HISTORY))
    assert page["isthmus_sessions"] == ("gauge", {'{kind="tcp"}': 3, '{kind="udp"}': 2, '{kind="icmp"}': 1})
    assert page["isthmus_sessions_total"][1]['{outcome="denied"}'] == 3
    assert page["isthmus_bytes_total"][1]['{to="wan"}'] == 1 << 60
    assert page["isthmus_dial_seconds_median"][1] == {"": 0.0015}
    assert page["isthmus_check"][1] == {'{check="disk"}': 1, '{check="clock"}': 2}
    assert page["isthmus_worker_restarts_total"][1] == {'{worker="0"}': 0, '{worker="1"}': 3}
    assert page["isthmus_workers_draining"][1] == {"": 1}
    assert page["isthmus_target_up"][1] == {'{service="shop",target="[2001:db8::80]:443"}': 0}
    assert page["isthmus_rule_refused_total"][1] == {'{rule="no-ads"}': 2, '{rule="default"}': 2}
    assert page["isthmus_export_dropped_total"][1] == {'{kind="syslog",target="tls://a.example:6514"}': 1}
    assert page["isthmus_history_up"][1] == {"": 1}
    broken = parse(exposition(status(), (), {**HISTORY, "problem": "full"}))
    assert broken["isthmus_history_up"][1] == {"": 0}


def test_a_box_that_has_hardly_anything() -> None:
    counters = {**status()["counters"], "dial_ms_median": None}
    page = parse(
        exposition(status(counters=counters, limits=[], workers=[], published=[], ports=[], checks=[]))
    )
    assert page["isthmus_proxy_up"][1] == {"": 1}
    assert not [name for name in page if name.startswith(("isthmus_rule", "isthmus_history", "isthmus_dial"))]


def test_rules_are_bounded() -> None:
    page = parse(exposition(status(), [rule(f"rule-{number}") for number in range(MAX_RULES + 50)]))
    assert len(page["isthmus_rule_sessions_total"][1]) == MAX_RULES


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_cannot_write_lines_of_their_own(name: str, target: str) -> None:
    published = [{"name": name, "targets": [{"target": target, "up": True}]}]
    page = parse(exposition(status(published=published), [rule(name)]))
    assert len(page["isthmus_target_up"][1]) == len(page["isthmus_rule_sessions_total"][1]) == 1
