"""What a granted request becomes: a rule for one client and one host, above the one that denied it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from appliance.config import parse
from appliance.config.codec import validate
from appliance.config.schema import as_plain
from appliance.control.candidates import Candidates
from appliance.control.commits import Commits
from appliance.control.requests import RequestVerbs, exception, with_exception
from appliance.control.revisions import Revisions
from appliance.policy.clock import Clock
from appliance.policy.decide import CompiledPolicy
from appliance.policy.request import Request

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
CONFIG = """
[[group]]
name = "staff"
[[user]]
name = "ann"
groups = ["staff"]
[[device]]
name = "tv"
macs = ["02:00:5e:10:00:01"]
[[rule]]
name = "first"
action = "deny"
ports = [25]
[[rule]]
name = "no-games"
action = "deny"
domains = ["games.example"]
"""
REQUEST: dict[str, Any] = {
    "id": "K7MQ-2XPA", "client": "fd00::2", "user": "", "device": "", "host": "www.games.example",
    "port": 80, "rule": "no-games", "note": "", "time": NOW.timestamp(),
}  # fmt: skip


def granted(request: dict[str, Any], text: str = CONFIG) -> dict[str, Any]:
    rule = exception(request, NOW + timedelta(hours=2))
    return as_plain(validate(with_exception(as_plain(parse(text)), rule, request["rule"], NOW)))


def verdict(
    plain: dict[str, Any], moment: datetime, client: str = "fd00::2", name: str = "www.games.example"
) -> str:
    config = validate(plain)
    request = Request("http", "tcp", ip_address(client).packed, 80, name=name)
    return CompiledPolicy(config).decide(request, Clock((), "UTC").at(moment.timestamp()), {}).rule


def test_it_stands_above_the_rule_and_holds_for_that_client_host_and_time() -> None:
    plain = granted(REQUEST)
    assert [rule["name"] for rule in plain["rule"]] == ["first", "access-k7mq2xpa", "no-games"]
    assert verdict(plain, NOW) == "access-k7mq2xpa"
    assert verdict(plain, NOW, client="fd00::3") == "no-games"
    assert verdict(plain, NOW, name="games.example") == "no-games"
    assert verdict(plain, NOW + timedelta(hours=3)) == "no-games"


@pytest.mark.parametrize(
    ("changes", "key", "values"),
    [
        ({"user": "ann"}, "users", ["ann"]),
        ({"device": "tv"}, "devices", ["tv"]),
        ({"host": "192.31.196.80"}, "destinations", ["192.31.196.80/32"]),
        ({"host": "2001:db8::1"}, "destinations", ["2001:db8::1/128"]),
    ],
)
def test_whose_it_is_and_whereto(changes: dict[str, str], key: str, values: list[str]) -> None:
    rule = granted({**REQUEST, **changes})["rule"][1]
    assert rule[key] == values


def test_where_the_default_or_a_rule_that_is_gone_has_denied_it() -> None:
    assert granted({**REQUEST, "rule": "default"})["rule"][-1]["name"] == "access-k7mq2xpa"
    assert granted({**REQUEST, "rule": "gone"})["rule"][0]["name"] == "access-k7mq2xpa"


def test_exceptions_that_are_over_go() -> None:
    old = '[[rule]]\nname = "access-0"\naction = "allow"\nuntil = 2026-11-25T11:59:00Z\n'
    kept = '[[rule]]\nname = "access-1"\naction = "allow"\nuntil = 2026-11-25T12:30:00Z\n'
    names = [rule["name"] for rule in granted(REQUEST, CONFIG + old + kept)["rule"]]
    assert "access-0" not in names and "access-1" in names


def test_what_was_changed_by_hand_meanwhile_stays(tmp_path: Path) -> None:
    """A rule of the file that nobody has reloaded yet is there after a grant too."""
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    revisions = Revisions(file, tmp_path / "revisions")
    commits = Commits(revisions, Candidates(tmp_path / "candidates"), lambda: None, lambda: None)
    commits.revisions.recover()
    commits.adopt()
    file.write_text(CONFIG + '[[rule]]\nname = "no-ads"\naction = "deny"\ndomains = ["ads.example"]\n')
    verbs = RequestVerbs(commits)
    verbs.ask_proxy = lambda method, **_words: (
        {"requests": [REQUEST]} if method == "ListRequests" else {"problem": ""}
    )
    rule = verbs.GrantRequest(REQUEST["id"], 3_600, "ann", "")["rule"]
    assert [one.name for one in parse(file.read_text()).rule] == ["first", rule, "no-games", "no-ads"]
    assert [one.author for one in commits.revisions.ledger.records][-1] == "ann"
