"""What an explanation says where a name may lead to a denied one."""

from __future__ import annotations

import pytest

from appliance.config.codec import parse
from appliance.control.explain import Compiled, explain, question

LISTED = """
[[name_list]]
name = "ads"
source = "/nowhere"
[[rule]]
name = "no-ads"
action = "deny"
lists = ["ads"]
"""
WRITTEN = """
[[rule]]
name = "no-ads"
action = "deny"
domains = ["ads.example"]
"""


@pytest.mark.parametrize(
    ("rules", "aliases", "target", "told"),
    [
        (LISTED, "lists", "www.example:443", True),
        (WRITTEN, "lists", "www.example:443", False),
        (WRITTEN, "all", "www.example:443", True),
        (WRITTEN, "off", "www.example:443", False),
        (WRITTEN, "all", "192.0.2.1:443", False),
        (WRITTEN, "all", "ads.example:443", False),
    ],
)
def test_what_may_yet_be_seen_is_told(rules: str, aliases: str, target: str, told: bool) -> None:
    config = parse(f'[policy]\naliases = "{aliases}"\n{rules}')
    found = explain(config, question("tcp", "2001:db8::1", None, target, []), {}, Compiled())
    assert any(step["rule"] == "policy.aliases" for step in found["steps"]) is told
