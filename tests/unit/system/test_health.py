"""The health checks that look at nothing but what they are given."""

from __future__ import annotations

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
