"""The health checks that look at nothing but what they are given."""

from __future__ import annotations

import json
import time
from pathlib import Path

from appliance.system import health


def test_a_network_that_is_not_in_force_is_said() -> None:
    assert health.network(None).state == "ok"
    found = health.network("nft failed: no such file.")
    assert found.state == "bad"
    assert "nft failed" in found.detail


def test_a_missing_port_is_named_unless_the_box_was_to_choose() -> None:
    assert "“lan7”" in health.port("lan", "lan7", False, False).detail
    left = health.port("lan", "auto", False, False).detail
    assert "auto" not in left
    assert "No wired port is left for the LAN" in left
    assert health.port("wan", "wan0", True, False).state == "bad"
    assert health.port("wan", "wan0", True, True).state == "ok"


def test_upstreams_proxy_and_configuration() -> None:
    assert [health.upstreams(found).state for found in ([], ["192.0.2.1"], ["192.0.2.1", "192.0.2.2"])] == [
        "ok",
        "warn",
        "ok",
    ]
    assert health.proxy(None).state == "bad"
    assert health.proxy({"workers": [{"index": 0, "pid": 0}], "warnings": []}).state == "warn"
    assert health.proxy({"workers": [{"index": 0, "pid": 7}], "warnings": []}).state == "ok"
    assert "And 1 more." in health.configuration(["a", "b"]).detail


def test_limits_and_devices() -> None:
    """Only what happened in the last minute; which limit it was, and what helps against it."""
    past = {"reason": "rate", "count": 3, "recent": False}
    assert health.limits([]) == health.limits([past]) == health.devices(True) == []
    (cap,) = health.limits([past, {"reason": "half-open", "count": 2, "recent": True}])
    assert cap.state == "warn" and "oo many half-open sessions (2 since the start)" in cap.detail
    assert "[proxy]" in cap.fix and "new sessions" not in cap.detail
    (short,) = health.limits([{"reason": "ports", "count": 1, "recent": True}])
    assert "Out of ports" in short.detail and "source addresses" in short.fix
    (bare,) = health.devices(False)
    assert "Ping is refused" in bare.detail


def test_lists(tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    assert health.lists(status, []) == []
    (down,) = health.lists(status, ["ads"])
    assert (down.id, down.state) == ("lists", "warn")
    rows = [
        {"name": "ads", "state": "old", "problem": "the server says nothing; the copy of 2026-11-18 stays"},
        {"name": "new", "state": "none", "problem": "the server answers 404 Not Found"},
        {"name": "good", "state": "good", "problem": ""},
        {"name": "full", "state": "good", "problem": "it is in use, but cannot be kept"},
        {"name": "gone", "state": "none", "problem": "is configured no longer"},
    ]
    status.write_text(json.dumps({"lists": rows}))
    old, new, full = health.lists(status, ["ads", "new", "good", "full"])
    assert (old.state, old.title) == ("warn", "List “ads” could not be renewed")
    assert old.detail == "The server says nothing; the copy of 2026-11-18 stays."
    assert (new.state, new.title) == ("bad", "List “new” could not be fetched")
    assert (full.state, full.title) == ("warn", "List “full” would not outlive a restart")


def test_a_listener_of_the_lans_that_is_dead_is_said(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    assert health.lan_daemon(path, expected=False, now=time.time()) == []
    assert [one.id for one in health.lan_daemon(path, expected=True, now=time.time())] == ["lan-daemon"]
    path.write_text("{}")
    assert health.lan_daemon(path, expected=True, now=time.time()) == []
    late = time.time() + health.LAN_SILENT + 1
    [dead] = health.lan_daemon(path, expected=False, now=late)
    assert dead.state == "warn"
    assert "systemctl status isthmus-lan" in dead.fix
