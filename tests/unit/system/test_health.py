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
