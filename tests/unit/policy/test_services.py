"""Where a published service leads, by name."""

from __future__ import annotations

import pytest

from appliance.config.codec import parse
from appliance.control.explain import Compiled, QuestionError, explain, question
from appliance.policy.services import TargetsByName

CONFIG = parse(
    """
[[published]]
name = "web"
port = 443
route = "sni"
targets = ["[2001:db8::9]:443"]
names = [
  { hosts = ["www.example.org"], targets = ["[2001:db8::1]:443"] },
  { hosts = ["*.example.org"], targets = ["[2001:db8::2]:443"] },
  { hosts = ["*.deep.example.org"], targets = ["[2001:db8::3]:443"] },
]
[[published]]
name = "mail"
port = 25
targets = ["[2001:db8::25]:25"]
[[published]]
name = "closed"
port = 8443
route = "sni"
names = [{ hosts = ["a.example"], targets = ["[2001:db8::1]:443"] }]
[[rule]]
name = "no-deep"
action = "deny"
ways = ["published"]
destinations = ["2001:db8::3/128"]
[[rule]]
name = "no-stranger"
action = "deny"
ways = ["published"]
sources = ["203.0.113.9/32"]
"""
)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("www.example.org", "1"),
        ("a.example.org", "2"),
        ("a.www.example.org", "2"),
        ("a.deep.example.org", "3"),
        ("example.org", "9"),
        ("", "9"),
    ],
)
def test_the_longest_pattern_that_fits(name: str, last: str) -> None:
    assert TargetsByName(CONFIG.published[0]).find(name) == (f"[2001:db8::{last}]:443",)


@pytest.mark.parametrize(
    ("target", "client", "allow", "rule"),
    [
        ("www.example.org:443", "203.0.113.8", True, "default"),
        ("a.deep.example.org:443", "203.0.113.8", False, "no-deep"),
        ("203.0.113.2:25", "203.0.113.8", True, "default"),
        ("203.0.113.2:25", "203.0.113.9", False, "no-stranger"),
        ("b.example:8443", "203.0.113.8", False, "always"),
    ],
)
def test_explained(target: str, client: str, allow: bool, rule: str) -> None:
    found = explain(CONFIG, question("published", client, None, target, []), {}, Compiled())
    assert (found["allow"], found["rule"]) == (allow, rule)


def test_a_port_of_no_service() -> None:
    with pytest.raises(QuestionError, match="Nothing is published at port 80"):
        explain(CONFIG, question("published", None, None, "a.example:80", []), {}, Compiled())
