"""The configuration on the command line, against a served control socket."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import cli
from appliance.cli import _parser
from appliance.complete_cli import for_bash, offers
from appliance.control.client import ControlClient
from appliance.control.server import ControlServer
from tests.unit.control.test_server import server

__all__ = ["server"]

ROOT = Path(__file__).resolve().parents[2]


class Shell:
    """`isthmus` in a folder with control.sock."""

    def __init__(self, runtime: Path, capture: pytest.CaptureFixture[str]) -> None:
        self._runtime = runtime
        self._capture = capture
        self.client = ControlClient(runtime)

    def __call__(self, *words: str, status: int = 0) -> str:
        """What a command prints, on either stream; its exit status has to be this."""
        try:
            found = cli.main(["--runtime", str(self._runtime), *words])
        except SystemExit as error:
            found = int(error.code or 0)
        said = self._capture.readouterr()
        assert found == status, said
        return said.out + said.err

    def json(self, *words: str) -> Any:
        """A command's --json."""
        return json.loads(self(*words, "--json"))


@pytest.fixture
def shell(
    server: ControlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """With one revision, whose file has a comment."""
    monkeypatch.setenv("SUDO_USER", "ann")
    (tmp_path / "config.toml").write_text(
        '# by hand\n[lan]\nprefix = "fd00:1::/64"\n[[rule]]\nname = "all"\naction = "allow"\n'
    )
    made = Shell(tmp_path, capsys)
    made("group", "add", "staff")
    return made


def test_from_set_to_history(shell: Shell) -> None:
    assert shell("diff") == "Nothing is changed.\n"
    shell("set", "policy.default", "deny")
    shell("add", "rule", "no-ads", "action=deny", "domains=ads.example", "--before", "all")
    shell("set", "rule.no-ads.note", "no ads here")
    assert shell("show", "rule.no-ads.note") == "no ads here\n"
    assert shell("show", "policy.default", "--active") == "allow\n"
    assert shell("diff").splitlines() == [
        '  policy.default: "allow" → "deny"',
        '+ rule.no-ads: name = "no-ads", action = "deny", enabled = true, domains = ["ads.example"], '
        'note = "no ads here"',
        "then    Rules hold for new sessions and requests at once; open sessions stay.",
    ]
    assert shell("commit", "-m", "no ads") == "Revision 3 is in force.\n"
    assert [rule["name"] for rule in shell.json("show", "rule")] == ["no-ads", "all"]
    shell("move", "rule.no-ads", "--after", "all")
    assert '  rule: ["no-ads", "all"] → ["all", "no-ads"]' in shell("diff")
    shell("discard")
    shell("remove", "rule.no-ads")
    shell("unset", "policy.default")
    assert shell("commit", "--confirm", "60").splitlines() == [
        "Revision 4 is in force.",
        "It is rolled back in 60 s, unless: isthmus confirm",
    ]
    assert shell("confirm") == "Revision 4 stays.\n"
    history = shell("history", "--limit", "2").splitlines()
    assert history[0].split()[0] == "4" and "ann" in history[0] and "active" in history[0]
    assert history[1].endswith("replaced     no ads") and history[2] == "There are older ones: --before 3"
    assert '- rule.no-ads: name = "no-ads"' in shell("diff", "4")
    assert shell.json("diff", "4")["changes"][0]["path"] == "policy.default"
    assert shell("show", "policy.default", "--revision", "3") == "deny\n"


def test_a_commit_that_cuts(shell: Shell) -> None:
    shell("set", "lan.prefix", "fd00:2::/64")
    assert "CUTS    Changes the LAN's address" in shell("diff")
    assert "has to be confirmed" in shell("commit", "--confirm", "0", status=1)
    said = shell("commit")
    assert "The console is at https://[fd00:2::1]/ now." in said
    assert "in 90 s, unless: isthmus confirm" in said
    assert "Revision 3 waits." in shell("history")
    assert "waits to be confirmed" in shell(
        "user", "add", "bob", "--group", "staff", "--no-password", status=1
    )
    assert shell("rollback") == "Revision 2 is in force again.\n"
    assert "No commit waits" in shell("confirm", status=1)
    assert "rolled-back" in shell("history")


def test_back_to_a_revision(shell: Shell) -> None:
    shell("set", "policy.default", "deny")
    shell("commit")
    shell("set", "policy.ech", "block")
    assert "would be lost" in shell("rollback", "2", status=1)
    shell("discard")
    assert shell("rollback", "2") == "Revision 4 is in force.\n"
    assert shell("show", "policy.default") == "allow\n"
    assert "Back to revision 2" in shell("history")
    assert "cannot be restored" in shell("rollback", "77", status=1)


def test_what_is_refused_is_not_kept(shell: Shell) -> None:
    for words, said in (
        (("set", "lan.prefix", "fd00::/48"), "a LAN prefix is a /64"),
        (("set", "proxy.workers", "9999"), "is too large"),
        (("set", "lan.prefx", "x"), "there is no setting “lan.prefx”"),
        (("set", "rule.none.action", "deny"), "There is: all."),
        (("add", "rule", "Not A Name", "action=deny"), "is no name"),
    ):
        assert said in shell(*words, status=1)
        assert shell("diff") == "Nothing is changed.\n"
    shell("set", "policy.default", "deny")
    assert "a LAN prefix is a /64" in shell("set", "lan.prefix", "fd00::/48", status=1)
    assert shell("show", "policy.default") == "deny\n"


def test_what_takes_two_steps_is_kept_and_said(shell: Shell) -> None:
    said = shell("set", "wan.mode", "static")
    assert "still to be put right: wan: static mode needs both address and gateway." in said
    assert "PROBLEM wan" in shell("diff")
    assert "The candidate has problems" in shell("commit", status=1)
    shell("set", "wan.address", "192.0.2.2/24")
    assert shell("set", "wan.gateway", "192.0.2.1") == ""
    assert "by way of 192.0.2.1" in shell("diff")


def test_two_admins(shell: Shell) -> None:
    shell("set", "policy.privacy", "counters")
    shell("set", "policy.default", "deny")
    shell("set", "policy.privacy", "no-destinations", "--author", "bob")
    shell("commit", "--author", "bob")
    assert 'BOTH    policy.privacy: "full" → yours "counters", theirs "no-destinations"' in shell("diff")
    said = shell("commit", status=1)
    assert "BOTH    policy.privacy" in said and "isthmus merge" in said
    assert "based on revision 3 now" in shell("merge", "--mine", "policy.privacy")
    shell("commit")
    assert shell("show", "policy.privacy") == "counters\n"


def test_show(shell: Shell) -> None:
    assert 'prefix = "fd00:1::/64"' in shell("show")
    assert shell.json("show")["lan"]["prefix"] == "fd00:1::/64"
    assert shell("show", "lan").startswith('interface = "auto"\nprefix = "fd00:1::/64"\n')
    assert shell("show", "wan.address") == "wan.address is not set.\n"
    assert shell("show", "dns.dnssec") == "false\n"
    assert shell("show", "explicit.connect_ports") == "443\n"
    assert "[[rule]]" in shell("show", "rule")
    assert "There is no rule.none.action" in shell("show", "rule.none.action", status=1)


@pytest.mark.parametrize(
    ("line", "word", "found"),
    [
        ("isthmus his", "his", ["history"]),
        ("isthmus set lan.pref", "lan.pref", ["lan.prefix", "lan.pref64_lifetime"]),
        ("isthmus set policy.default ", "", ["allow", "deny"]),
        ("isthmus set policy.default d", "d", ["deny"]),
        ("isthmus set dns.dnssec ", "", ["true", "false"]),
        ("isthmus show rule.", "rule.", ["rule.all."]),
        ("isthmus show translation.64", "translation.64", ["translation.64:ff9b::/96."]),
        ("isthmus show translation.64:ff", "ff", ["ff9b::/96."]),
        ("isthmus add rule x act", "act", ["action="]),
        ("isthmus add rule x action=", "", ["allow", "deny"]),
        ("isthmus add rule x action=a", "a", ["allow"]),
        ("isthmus rollback ", "", ["2", "1"]),
        ("isthmus user p", "p", ["passwd"]),
        ("isthmus group remove ", "", ["staff"]),
        ("isthmus user add ", "", [""]),
        ("isthmus user add bob --gr", "--gr", ["--group"]),
        ("isthmus user add bob -g ", "", ["staff"]),
        ("isthmus --runtime /run/x certificate u", "u", ["upload"]),
        ("isthmus requests g", "g", ["grant"]),
        ("isthmus log --outcome d", "d", ["denied"]),
        ("isthmus log --outcome denied --rule ", "", ["all"]),
        ("isthmus log e", "e", ["erase"]),
        ("isthmus top cl", "cl", ["clients"]),
        ("isthmus admin role admin ", "", ["viewer", "operator", "admin"]),
        ("isthmus lookup www.example.org --type A", "A", ["AAAA", "A"]),
        ("isthmus update ", "", ["check", "install", "status"]),
        ("isthmus cr", "cr", ["cross"]),
        ("isthmus sessions --s", "--s", ["--search"]),
        ("isthmus comp", "comp", [""]),
        ("isthmus ping x y", "y", [""]),
        ("isthmus set nowhere ", "", [""]),
        ("isthmus show 'x", "x", [""]),
    ],
)
def test_tab(shell: Shell, line: str, word: str, found: list[str]) -> None:
    assert shell("complete", "--", line, word).split("\n")[:-1] == found


def test_tab_without_control(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(tmp_path, capsys)
    assert shell("complete", "isthmus set lan.i", "lan.i") == "lan.interface\n"
    assert shell("complete", "isthmus rollback ", "") == "\n"


@given(st.text(max_size=60), st.text(max_size=10))
def test_tab_on_anything(rest: str, word: str) -> None:
    line = f"isthmus {rest}"
    offered = offers(line, _parser(), ControlClient(Path("/nowhere")), "ann")
    assert len(for_bash(offered, line, word)) == len(offered)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_completion_of_bash(tmp_path: Path) -> None:
    """bash's own function, with an isthmus that says what it was asked."""
    fake = tmp_path / "isthmus"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$3" "$4" lan.\n')
    fake.chmod(0o755)
    script = f"""
compopt() {{ echo "compopt $*"; }}
source {ROOT}/rootfs-overlay/usr/share/bash-completion/completions/isthmus
COMP_LINE='isthmus set lan.p more' COMP_POINT=17
_isthmus isthmus lan.p set
printf '<%s>' "${{COMPREPLY[@]}}"
"""
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    words = ["bash", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=path)
    assert done.stdout == "compopt -o nospace\n<isthmus set lan.p><lan.p><lan.>"


def test_mistakes_say_what_is(shell: Shell) -> None:
    assert shell("set", "console.port", "99999", status=1).endswith("at most 65535. (It is 99999.)\n")
    assert "no other than the one that is moved" in shell("move", "rule.all", "--before", "x", status=1)
    assert "Is that where it lies?" in shell("check", "/nowhere.toml", status=2)
