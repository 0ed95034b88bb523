"""Commits: candidates, two admins, what has to be confirmed, and what is rolled back by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.config import Config, load
from appliance.config.ground import Ground
from appliance.config.paths import Plain
from appliance.config.transaction import Moment, Phase, TransitionError
from appliance.control.candidates import MAX_CANDIDATE_BYTES, MAX_CANDIDATES, CandidateError, Candidates
from appliance.control.commits import Commits, ConflictError, NotAppliedError
from appliance.control.drafting import CommitError, OutdatedError
from appliance.control.revisions import LATE, REBOOTED, RESTARTED, Revisions
from appliance.errors import ConfigError
from appliance.system.certificates import Names, make_authority

HASH = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
TEXT = f"""\
# By hand
[lan]
prefix = "fd00:1::/64"

[[group]]
name = "staff"

[[user]]
name = "ann"
password = "{HASH}"
groups = ["staff"]

[[rule]]
name = "no-ads"
action = "deny"
domains = ["ads.example"]
"""


class Bench:
    """Commits over a folder, with a clock that is set and an ``apply`` that can fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.toml"
        self.now = Moment(1_000_000.0, 500.0, "boot 1")
        self.applied: list[str] = []
        self.answer: Callable[[], str | None] = lambda: None
        self.ground: Callable[[Config], Ground] = lambda _config: Ground()
        if not self.file.exists():
            self.file.write_text(TEXT)
        self.start()

    def start(self) -> None:
        """Control, anew."""
        revisions = Revisions(self.file, self.folder / "revisions", lambda: self.now)
        revisions.recover()
        candidates = Candidates(self.folder / "candidates")
        self.commits = Commits(
            revisions,
            candidates,
            self._apply,
            lambda: IPv6Network("fd99::/64"),
            lambda config: self.ground(config),
        )
        self.commits.adopt()
        self.drafting = self.commits.drafting

    def _apply(self) -> str | None:
        self.applied.append(self.file.read_text())
        return self.answer()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now = replace(self.now, wall=self.now.wall + seconds, uptime=self.now.uptime + seconds)

    def edit(self, author: str, change: Callable[[Plain], None]) -> None:
        """Change the author's candidate as the console does."""
        view = self.drafting.view(author)
        config = json.loads(json.dumps(view.config))
        change(config)
        self.drafting.put(author, config, view.candidate.based_on, view.candidate.version)

    def commit(self, author: str, confirm: int | None = None, comment: str = "") -> int:
        """Commit what the author has."""
        candidate = self.drafting.view(author).candidate
        return self.commits.commit(author, comment, candidate.based_on, candidate.version, confirm)[0]

    def states(self) -> list[str]:
        """Of the revisions, oldest first."""
        ledger = self.commits.revisions.ledger
        return [ledger.state(record) for record in ledger.records]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A box with one revision, made by hand."""
    return Bench(tmp_path)


def move_lan(plain: Plain) -> None:
    plain["lan"]["prefix"] = "fd00:2::/64"


def deny_default(plain: Plain) -> None:
    plain["policy"]["default"] = "deny"


def test_the_first_file_is_the_first_revision(bench: Bench) -> None:
    [record] = bench.commits.revisions.ledger.records
    assert (record.number, record.author, record.based_on) == (1, "file", None)
    assert bench.commits.revisions.text(1) == TEXT
    bench.start()
    assert bench.states() == ["active"]


def test_a_harmless_change_is_in_force_at_once(bench: Bench) -> None:
    bench.edit("ann", deny_default)
    view = bench.drafting.view("ann")
    assert [(c.path, c.before, c.after) for c in view.changes] == [("policy.default", '"allow"', '"deny"')]
    assert not view.cuts and view.problems == ()
    assert bench.commit("ann", comment="tighter") == 2
    assert load(bench.file).policy.default == "deny" and len(bench.applied) == 1
    assert bench.commits.waiting() is None and bench.states() == ["replaced", "active"]
    record, _plain, found = bench.drafting.revision(2)
    assert (record.author, record.comment, record.changes) == ("ann", "tighter", 1)
    assert [change.path for change in found] == ["policy.default"]
    assert bench.drafting.view("ann").candidate.version == 0


def test_what_cuts_waits_for_a_word_and_stays_then(bench: Bench) -> None:
    bench.edit("ann", move_lan)
    view = bench.drafting.view("ann")
    assert view.cuts and "the console moves to https://[fd00:2::1]/" in view.effects[0].text
    with pytest.raises(CommitError, match="has to be confirmed"):
        bench.commit("ann", confirm=0)
    for seconds in (9, 3_601, -1):
        with pytest.raises(CommitError, match="no time to confirm in"):
            bench.commit("ann", confirm=seconds)
    bench.commit("ann")
    waiting = bench.commits.waiting()
    assert waiting is not None
    assert (waiting.record.number, waiting.back_to, waiting.remaining) == (2, 1, 90.0)
    assert waiting.deadline == bench.now.wall + 90
    assert (waiting.old_console, waiting.new_console) == ("https://[fd00:1::1]/", "https://[fd00:2::1]/")
    bench.wait(89)
    assert not bench.commits.tick()
    with pytest.raises(OutdatedError):
        bench.commits.confirm("ann", 1)
    assert bench.commits.confirm("ann", 2) == 2
    bench.wait(10)
    assert not bench.commits.tick() and bench.states() == ["replaced", "active"]
    with pytest.raises(TransitionError, match="No commit waits"):
        bench.commits.confirm("ann", None)


def test_nobodys_word_rolls_back(bench: Bench) -> None:
    bench.edit("ann", move_lan)
    bench.commit("ann", confirm=30)
    bench.wait(30)
    with pytest.raises(CommitError, match="is over"):
        bench.commits.confirm("ann", None)
    assert bench.commits.tick()
    assert bench.file.read_text() == TEXT and bench.states() == ["active", "rolled-back"]
    assert bench.commits.revisions.ledger.records[1].ended == LATE
    # What was rolled back can be had again.
    bench.drafting.restore("ann", 2)
    assert [change.path for change in bench.drafting.view("ann").changes] == ["lan.prefix"]


def test_a_word_against_it_rolls_back_at_once(bench: Bench) -> None:
    bench.edit("ann", deny_default)
    bench.commit("ann", confirm=60)
    assert bench.commits.roll_back("bob", None) == 1
    assert bench.file.read_text() == TEXT == bench.applied[-1]
    assert bench.commits.revisions.ledger.records[1].ended == "bob rolled it back."


def test_the_wall_clock_may_jump(bench: Bench) -> None:
    bench.edit("ann", move_lan)
    bench.commit("ann")
    bench.now = replace(bench.now, wall=9e9)
    assert not bench.commits.tick()
    bench.now = replace(bench.now, wall=0.0, uptime=bench.now.uptime + 91)
    assert bench.commits.tick() and bench.states() == ["active", "rolled-back"]


@pytest.mark.parametrize(
    ("later", "boot", "why"),
    [(5, "boot 1", None), (91, "boot 1", LATE), (-400, "boot 2", REBOOTED), (5, "boot 2", REBOOTED)],
)
def test_a_start_ends_what_its_deadline_says(bench: Bench, later: float, boot: str, why: str | None) -> None:
    bench.edit("ann", move_lan)
    bench.commit("ann")
    bench.wait(later)
    bench.now = replace(bench.now, boot=boot)
    bench.start()
    if why is None:
        waiting = bench.commits.waiting()
        assert waiting is not None and waiting.remaining == 85.0
    else:
        assert bench.file.read_text() == TEXT and bench.commits.waiting() is None
        assert bench.commits.revisions.ledger.records[1].ended == why


def test_a_commit_that_ended_control_is_rolled_back(bench: Bench) -> None:
    def die() -> str | None:
        raise KeyboardInterrupt

    bench.answer = die
    bench.edit("ann", deny_default)
    with pytest.raises(KeyboardInterrupt):
        bench.commit("ann")
    assert load(bench.file).policy.default == "deny"
    bench.start()
    assert bench.file.read_text() == TEXT
    assert bench.commits.revisions.ledger.records[1].ended == RESTARTED


def test_what_the_network_refuses_is_rolled_back_at_once(bench: Bench) -> None:
    answers = iter(["there is no port “eth9”.", None])
    bench.answer = lambda: next(answers)
    bench.edit("ann", lambda plain: plain["lan"].update(interface="eth9"))
    with pytest.raises(CommitError, match="no port “eth9”"):
        bench.commit("ann")
    assert bench.file.read_text() == TEXT == bench.applied[-1] and bench.states() == ["active", "rolled-back"]
    assert bench.drafting.view("ann").candidate.config["lan"]["interface"] == "eth9"  # it is not lost


def test_a_box_that_is_held_up(bench: Bench) -> None:
    def late() -> str | None:
        raise NotAppliedError("not in force yet")

    bench.answer = late
    bench.edit("ann", deny_default)
    with pytest.raises(NotAppliedError):
        bench.commit("ann")
    assert bench.states() == ["replaced", "active"]
    bench.edit("ann", move_lan)
    bench.commit("ann")
    assert bench.commits.waiting() is not None


def test_while_one_waits_no_other_is_begun(bench: Bench) -> None:
    bench.edit("ann", move_lan)
    bench.commit("ann")
    bench.edit("bob", deny_default)
    with pytest.raises(TransitionError, match="Revision 2 waits to be confirmed"):
        bench.commit("bob")
    with pytest.raises(TransitionError, match="Revision 2 waits"):
        bench.commits.change_file(TEXT + "[console]\nport = 8443\n", "root", "")


def test_two_admins_changes_are_merged(bench: Bench) -> None:
    bench.edit("ann", deny_default)
    bench.edit("bob", lambda plain: plain["rule"].append({"name": "more", "action": "deny"}))
    bench.commit("ann")
    view = bench.drafting.view("bob")
    assert view.candidate.based_on == 1 and view.active == 2
    assert [change.path for change in view.changes] == ["rule.more"]
    bench.commit("bob")
    config = load(bench.file)
    assert config.policy.default == "deny" and [rule.name for rule in config.rule] == ["no-ads", "more"]


def test_two_admins_in_conflict(bench: Bench) -> None:
    bench.edit("ann", lambda plain: plain["rule"][0].update(domains=["ann.example"]))
    bench.edit("bob", lambda plain: plain["rule"][0].update(domains=["bob.example"], note="bob"))
    bench.commit("ann")
    with pytest.raises(ConflictError) as caught:
        bench.commit("bob")
    [clash] = caught.value.clashes
    assert clash.path == "rule.no-ads.domains"
    assert (clash.base, clash.mine, clash.theirs) == ('["ads.example"]', '["bob.example"]', '["ann.example"]')
    assert load(bench.file).rule[0].domains == ("ann.example",)
    merged = bench.drafting.merge("bob", [])
    assert [change.path for change in merged.changes] == ["rule.no-ads.note"]
    bench.edit("bob", lambda plain: plain["rule"][0].update(domains=["bob.example"]))
    bench.commit("bob")
    assert load(bench.file).rule[0].domains == ("bob.example",)


def test_a_conflict_may_be_won(bench: Bench) -> None:
    bench.edit("ann", lambda plain: plain["rule"][0].update(domains=["ann.example"]))
    bench.edit("bob", lambda plain: plain["rule"][0].update(domains=["bob.example"]))
    bench.commit("ann")
    view = bench.drafting.merge("bob", ["rule.no-ads.domains"])
    assert view.candidate.based_on == 2 and view.clashes == ()
    bench.commit("bob")
    assert load(bench.file).rule[0].domains == ("bob.example",)


def test_a_stale_tab_loses_nothing(bench: Bench) -> None:
    tab = bench.drafting.view("ann")
    bench.edit("ann", deny_default)
    with pytest.raises(OutdatedError):
        bench.drafting.put("ann", tab.config, tab.candidate.based_on, tab.candidate.version)
    with pytest.raises(OutdatedError):
        bench.commits.commit("ann", "", tab.candidate.based_on, tab.candidate.version, None)
    seen = bench.drafting.view("ann").candidate.version
    bench.drafting.discard("ann")
    bench.wait(1)
    bench.edit("ann", move_lan)
    assert bench.drafting.view("ann").candidate.version > seen
    bench.drafting.put("ann", tab.config, tab.candidate.based_on, None)  # the last word
    assert bench.drafting.view("ann").changes == ()


def test_a_form_that_was_opened_before_others_committed_is_merged(bench: Bench) -> None:
    tab = bench.drafting.view("ann")
    bench.edit("bob", deny_default)
    bench.commit("bob")
    config = json.loads(json.dumps(tab.config))
    config["policy"]["privacy"] = "counters"
    view = bench.drafting.put("ann", config, tab.candidate.based_on, tab.candidate.version)
    assert [change.path for change in view.changes] == ["policy.privacy"]
    bench.commit("ann")
    assert load(bench.file).policy.default == "deny"
    with pytest.raises(OutdatedError):
        bench.drafting.put("ann", config, 77, None)


def test_a_candidate_with_problems_is_kept_and_not_committed(bench: Bench) -> None:
    def half(plain: Plain) -> None:
        plain["wan"] = {"mode": "static", "address": "192.0.2.2/24"}
        plain["lan"]["prefix"] = "fd00::/48"
        plain["rule"][0]["lists"] = ["none"]

    bench.edit("ann", half)
    view = bench.drafting.view("ann")
    assert {problem.path for problem in view.problems} >= {"wan", "lan.prefix"}
    with pytest.raises(ConfigError):
        bench.commit("ann")
    assert bench.file.read_text() == TEXT and not bench.applied
    bench.start()
    assert bench.drafting.view("ann").candidate.config["wan"]["mode"] == "static"


def authority_file(bench: Bench) -> Path:
    """An authority's certificate, good for ten years from this code on."""
    key, names = ec.generate_private_key(ec.SECP256R1()), Names("isthmus", IPv6Address("fd00:1::1"))
    authority = make_authority(key, names, datetime(2026, 11, 1, tzinfo=UTC))
    path = bench.folder / "authority.crt"
    path.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return path


def test_an_authority_that_nobody_could_sign_in_by_is_refused(bench: Bench) -> None:
    def name(path: Path) -> None:
        bench.edit("ann", lambda config: config["explicit"].update(client_authority=str(path)))

    name(bench.folder / "missing.crt")
    with pytest.raises(ConfigError) as caught:
        bench.commit("ann")
    (problem,) = caught.value.problems
    assert problem.path == "explicit.client_authority" and "cannot be read" in problem.message
    good = authority_file(bench)
    name(good)
    bench.commit("ann")
    assert load(bench.file).explicit.client_authority == str(good)
    good.unlink()  # what is in force already stands in the way of nothing else
    bench.edit("ann", lambda config: config["explicit"].update(pac_port=8080))
    bench.commit("ann")


def test_an_expired_authority_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return cls(2060, 1, 1, tzinfo=tz)

    path = authority_file(bench)
    monkeypatch.setattr("appliance.control.commits.datetime", Later)
    bench.edit("ann", lambda config: config["explicit"].update(client_authority=str(path)))
    with pytest.raises(ConfigError, match="expired on"):
        bench.commit("ann")
    assert "client_authority" not in bench.file.read_text()


def test_no_hash_leaves_and_each_is_kept(bench: Bench) -> None:
    view = bench.drafting.view("ann")
    assert HASH not in json.dumps(view.config) and view.config["user"][0]["password"] == "$kept$ann"

    def rename(plain: Plain) -> None:
        plain["user"][0]["name"] = "anna"

    bench.edit("ann", rename)
    assert HASH not in repr(bench.drafting.view("ann").changes)
    bench.commit("ann")
    assert [(user.name, user.password) for user in load(bench.file).user] == [("anna", HASH)]
    assert HASH not in json.dumps(bench.drafting.revision(2)[1])

    bench.edit("ann", lambda plain: plain["user"][0].update(password="$kept$nobody"))
    [problem] = bench.drafting.view("ann").problems
    assert problem.path == "user[0].password" and "no password of “nobody”" in problem.message
    with pytest.raises(ConfigError):
        bench.commit("ann")


def test_an_edit_by_hand_is_a_revision_and_merged(bench: Bench) -> None:
    bench.edit("ann", deny_default)
    bench.file.write_text(TEXT + "[console]\nport = 8443\n")
    bench.commit("ann")
    config = load(bench.file)
    assert config.console.port == 8443 and config.policy.default == "deny"
    assert [record.author for record in bench.commits.revisions.ledger.records] == ["file", "file", "ann"]


def test_an_edit_by_hand_while_a_commit_waits_is_kept_in_the_history(bench: Bench) -> None:
    bench.edit("ann", move_lan)
    bench.commit("ann")
    bench.file.write_text(TEXT + "[console]\nport = 8443\n")
    bench.commits.adopt()
    waiting = bench.commits.waiting()
    assert waiting is not None and waiting.record.number == 3
    bench.wait(91)
    assert bench.commits.tick() and bench.file.read_text() == TEXT
    assert bench.states() == ["active", "replaced", "rolled-back"]
    assert "8443" in (bench.commits.revisions.text(3) or "")


def test_a_file_with_mistakes_is_put_aside_before_it_is_overwritten(bench: Bench) -> None:
    bench.edit("ann", deny_default)
    bench.file.write_text("[wan\n")
    bench.commit("ann")
    assert load(bench.file).policy.default == "deny"
    assert (bench.folder / "config.rejected.toml").read_text() == "[wan\n"


def test_an_edit_while_control_was_down_counts_more_than_the_rollback(bench: Bench) -> None:
    bench.edit("ann", move_lan)
    bench.commit("ann")
    by_hand = TEXT + "[console]\nport = 8443\n"
    bench.file.write_text(by_hand)
    bench.now = replace(bench.now, boot="boot 2")
    bench.start()
    assert bench.file.read_text() == by_hand and bench.states() == ["replaced", "rolled-back", "active"]


def test_an_edit_that_nobody_took_up_is_put_aside_by_a_rollback(bench: Bench) -> None:
    bench.edit("ann", move_lan)
    bench.commit("ann")
    bench.file.write_text("# half an edit")
    bench.wait(91)
    assert bench.commits.tick() and bench.file.read_text() == TEXT
    assert (bench.folder / "config.rejected.toml").read_text() == "# half an edit"


def test_a_change_of_the_file_keeps_its_comments(bench: Bench) -> None:
    bench.commits.change_file(TEXT.replace("ads.example", "more.example"), "root", "Change it")
    assert bench.file.read_text().startswith("# By hand")
    record = bench.commits.revisions.ledger.records[-1]
    assert (record.number, record.author, record.comment, record.changes) == (2, "root", "Change it", 1)
    bench.commits.change_file(bench.file.read_text(), "root", "again")
    assert bench.commits.revisions.ledger.active == 2


def test_a_configuration_that_the_box_could_not_read_is_not_written(bench: Bench) -> None:
    rule = {"action": "deny", "note": "x" * 500}
    many = [{"name": f"r{number}", **rule} for number in range(9_000)]
    bench.edit("ann", lambda plain: plain.update(rule=many))
    with pytest.raises(ConfigError, match="of at most"):
        bench.commit("ann")
    assert bench.file.read_text() == TEXT and bench.states() == ["active"]


def test_nothing_to_commit(bench: Bench) -> None:
    for _turn in range(2):
        with pytest.raises(CommitError, match="nothing to commit"):
            bench.commit("ann")
        bench.edit("ann", lambda plain: None)


def test_a_revision_that_is_not_there(bench: Bench) -> None:
    with pytest.raises(CommitError, match="no revision 7"):
        bench.drafting.revision(7)
    with pytest.raises(CommitError, match="Revision 7 cannot be restored"):
        bench.drafting.restore("ann", 7)


def test_restore_goes_back_without_what_came_later(bench: Bench) -> None:
    bench.edit("ann", deny_default)
    bench.commit("ann")
    bench.edit("ann", move_lan)
    bench.commit("ann")
    bench.commits.confirm("ann", None)
    bench.drafting.restore("bob", 1)
    assert [change.path for change in bench.drafting.view("bob").changes] == ["lan.prefix", "policy.default"]
    bench.commit("bob")
    assert load(bench.file).user[0].password == HASH


def nested(levels: int) -> Any:
    made: Any = 1
    for _level in range(levels):
        made = {"x": made}
    return made


def test_what_is_no_candidate_is_refused(bench: Bench) -> None:
    for config, words in (
        (nested(900), "nested too deeply"),
        ({"x": "y" * MAX_CANDIDATE_BYTES}, "larger than"),
    ):
        with pytest.raises(CandidateError, match=words):
            bench.drafting.put("ann", config, 1, None)
    for author in ("", "a\nb", "x" * 65):
        with pytest.raises(CandidateError, match="is no author"):
            bench.drafting.put(author, {}, 1, None)
    for number in range(MAX_CANDIDATES):
        bench.drafting.put(f"../{number}", {}, 1, None)
    with pytest.raises(CandidateError, match="open already"):
        bench.drafting.put("one more", {}, 1, None)
    assert len(bench.drafting.drafts()) == MAX_CANDIDATES
    bench.drafting.discard("../0")
    bench.drafting.put("one more", {}, 1, None)
    assert {path.parent for path in bench.folder.rglob("*.json")} == {
        bench.folder / "candidates",
        bench.folder / "revisions",
    }


def test_odd_values_have_problems_and_no_crash(bench: Bench) -> None:
    for config in (
        {"user": 3},
        {"rule": [None, 3, {"name": 4}]},
        {"rule": {"a": 1}},
        {"lan": None},
        {"schema_version": 2},
        {"x": [[[1]], {}]},
        {"user": [{"name": "ann", "password": 3}]},
    ):
        view = bench.drafting.put("ann", config, 1, None)
        assert view.problems, config
        with pytest.raises((ConfigError, ConflictError)):
            bench.commit("ann")


def test_the_phase_is_settled_in_the_end(bench: Bench) -> None:
    assert bench.commits.revisions.ledger.phase is Phase.SETTLED
    bench.edit("ann", deny_default)
    bench.commit("ann")
    assert bench.commits.revisions.ledger.phase is Phase.SETTLED
