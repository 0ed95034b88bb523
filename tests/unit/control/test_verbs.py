"""The verbs over the socket: as the interface file has them, with errors that say everything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from varlink.scanner import Interface as Description

from appliance.control import verbs
from appliance.control.client import ControlClient, ControlError
from appliance.control.server import ControlServer
from appliance.control.verbs import ConfigurationVerbs
from tests.unit.control.test_server import server

__all__ = ["server"]

IDL = Path(verbs.__file__).with_name("org.isthmus.control.varlink")


@pytest.fixture
def client(server: ControlServer, tmp_path: Path) -> ControlClient:
    """Of a served socket with one revision."""
    (tmp_path / "config.toml").write_text('[lan]\nprefix = "fd00:1::/64"\n')
    client = ControlClient(tmp_path)
    client.add_group("staff")
    client.set_user("ann", ["staff"], "correct horse", new=True)
    return client


def put(client: ControlClient, **tables: Any) -> dict[str, Any]:
    candidate = client.candidate("ann")
    config = candidate["config"]
    for table, settings in tables.items():
        config[table] = {**config[table], **settings} if isinstance(settings, dict) else settings
    return client.put_candidate("ann", config, candidate["based_on"], candidate["version"])


def code(error: pytest.ExceptionInfo[ControlError]) -> str:
    return error.value.code.removeprefix("org.isthmus.control.")


def test_a_change_from_candidate_to_history(client: ControlClient) -> None:
    active = client.active()
    assert "argon2" not in str(active) and active["config"]["user"][0]["password"] == "$kept$ann"
    assert client.candidate("ann")["config"] == active["config"]
    candidate = put(client, policy={"default": "deny"}, lan={"prefix": "fd00:2::/64"})
    assert [change["path"] for change in candidate["changes"]] == ["lan.prefix", "policy.default"]
    assert candidate["needs_confirmation"] and candidate["effects"][0]["cut"] and not candidate["stale"]
    assert [draft["author"] for draft in client.candidates()] == ["ann"]
    done = client.commit("ann", "why", candidate["based_on"], candidate["version"])
    pending = done["pending"]
    assert pending == {**client.pending(), "remaining": pending["remaining"]}  # type: ignore[dict-item]
    assert pending["revision"] == done["revision"] and 80 < pending["remaining"] <= 90
    assert abs(pending["deadline"] - time.time() - pending["remaining"]) < 5
    assert client.rollback("bob") == active["revision"]
    assert client.pending() is None
    candidate = client.restore("ann", done["revision"])
    client.commit("ann", "again", candidate["based_on"], confirm_seconds=60)
    assert client.confirm("bob") == done["revision"] + 1
    found, more = client.revisions(2)
    assert more and [one["state"] for one in found] == ["active", "rolled-back"]
    assert found[1]["ended"] == "bob rolled it back."
    older, more = client.revisions(50, before=found[1]["number"])
    assert not more and [one["author"] for one in older] == ["root", "root", "file"]
    one = client.revision(done["revision"] + 1)
    assert one["revision"]["comment"] == "again" and "argon2" not in str(one)
    assert [change["path"] for change in one["changes"]] == ["lan.prefix", "policy.default"]
    assert 'default = "deny"' in one["toml"]
    client.discard_candidate("ann")


def test_what_is_refused_says_all(client: ControlClient) -> None:
    candidate = put(client, lan={"prefix": "fd00::/48"}, console={"port": 0})
    paths = {problem["path"] for problem in candidate["problems"]}
    assert paths == {"lan.prefix", "console.port"}
    with pytest.raises(ControlError) as invalid:
        client.commit("ann", "", candidate["based_on"])
    assert code(invalid) == "Invalid"
    assert {problem["path"] for problem in invalid.value.details["problems"]} == paths
    with pytest.raises(ControlError) as outdated:
        client.commit("ann", "", candidate["based_on"], candidate["version"] - 1)
    assert code(outdated) == "Outdated"
    with pytest.raises(ControlError) as refused:
        client.confirm("ann")
    assert code(refused) == "Refused" and "No commit waits" in refused.value.message
    with pytest.raises(ControlError, match="1 to 200"):
        client.revisions(0)
    with pytest.raises(ControlError, match="to be an object"):
        client._call("PutCandidate", author="ann", config=3, based_on=1)
    with pytest.raises(ControlError, match="is no author"):
        client.candidate("")


def test_a_conflict_names_both_values(client: ControlClient) -> None:
    candidate = put(client, policy={"privacy": "counters"})
    other = client.candidate("bob")
    other["config"]["policy"]["privacy"] = "no-destinations"
    client.put_candidate("bob", other["config"], other["based_on"])
    client.commit("bob", "", other["based_on"])
    with pytest.raises(ControlError) as conflict:
        client.commit("ann", "", candidate["based_on"])
    assert code(conflict) == "Conflict"
    assert conflict.value.details["conflicts"] == [
        {"path": "policy.privacy", "base": '"full"', "mine": '"counters"', "theirs": '"no-destinations"'}
    ]
    assert client.candidate("ann")["conflicts"] == conflict.value.details["conflicts"]
    merged = client.merge_candidate("ann", ["policy.privacy"])
    assert not merged["stale"] and merged["conflicts"] == []
    client.commit("ann", "", merged["based_on"])
    assert client.active()["config"]["policy"]["privacy"] == "counters"


def test_a_long_diff_is_cut(client: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "MAX_CHANGES", 2)
    rules = [{"name": f"r{number}", "action": "deny"} for number in range(5)]
    changes = put(client, rule=rules)["changes"]
    assert [change["path"] for change in changes] == ["rule.r0", "rule.r1", "…"]
    assert changes[-1]["after"] == "and 3 more"


def test_every_answer_is_what_the_interface_says(client: ControlClient) -> None:
    """The library does not check answers: a field that is missing or unknown would be found by a client."""
    description = Description(IDL.read_text())
    candidate = put(client, lan={"prefix": "fd00:2::/64"}, rule=[{"name": "a"}])
    answers: dict[str, dict[str, Any]] = {
        "GetCandidate": {"author": "ann"},
        "ListCandidates": {},
        "GetActive": {},
        "MergeCandidate": {"author": "ann", "mine": []},
        "Restore": {"author": "eve", "number": 1},
        "GetRevision": {"number": 2},
        "ListRevisions": {"limit": 5},
        "DiscardCandidate": {"author": "bob"},
        "PutCandidate": {"author": "new", "config": {}, "based_on": candidate["active"]},
    }
    for method, parameters in answers.items():
        answer = client._call(method, **parameters)
        kind = description.get_method(method).out_type
        assert description.filter_params(method, kind, False, answer, None) == _without_none(answer), method


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_none(one) for one in value]
    return value


def test_every_verb_of_the_interface_is_there() -> None:
    verbs_here = {name for name in vars(ConfigurationVerbs) if name[0].isupper()}
    methods = {
        name
        for name, member in Description(IDL.read_text()).members.items()
        if type(member).__name__ == "_Method"
    }
    assert verbs_here <= methods and len(verbs_here) == 14


def test_what_a_caller_has_is_not_told_again(client: ControlClient) -> None:
    active, candidate = client.active(), client.candidate("ann")
    assert client.active_unless(active["mark"]) is None
    assert client.candidate_unless("ann", candidate["mark"]) is None
    changed = put(client, policy={"default": "deny"})
    told = client.candidate_unless("ann", candidate["mark"])
    assert told == changed
    assert client.candidate_unless("ann", changed["mark"]) is None
    # Another's commit changes what a candidate is compared with.
    other = client.candidate("bob")
    other["config"]["policy"]["privacy"] = "counters"
    client.put_candidate("bob", other["config"], other["based_on"])
    client.commit("bob", "", other["based_on"])
    stale = client.candidate_unless("ann", changed["mark"])
    assert stale is not None and stale["stale"]
    now = client.active_unless(active["mark"])
    assert now is not None and now["config"]["policy"]["privacy"] == "counters"
    # A mark of somebody's else, or of a control that was restarted, is none.
    assert client.candidate_unless("bob", changed["mark"]) is not None
    assert client.active_unless("") is not None
