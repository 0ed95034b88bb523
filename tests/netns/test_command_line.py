"""Options of the command line that look, filter and test: what each does on a running box."""

from __future__ import annotations

import json
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.conftest import BIN, SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import FILES_ADDRESS, NAME, SCHEMES, curl, running
from tests.netns.hosts import connect, udp_socket
from tests.netns.test_lifecycle import reload
from tests.netns.test_monitoring import start_history

pytestmark = [pytest.mark.netns, needs_root]

FILES6 = "64:ff9b::c01f:c451"
RULES = f"""
[[rule]]
name = "no-echo"
action = "deny"
destinations = ["{FILES_ADDRESS}/32"]
ports = [7004, 81]
[[device]]
name = "pc"
macs = ["%s"]
"""
KINDS = ("tcp", "udp", "icmp")
BY = ("clients", "users", "devices", "names", "rules", "services")
MEASURES = ("octets", "sessions", "refused", "to_wan", "to_lan")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with a history of some sessions of each kind."""
    with running(tmp_path_factory.mktemp("command-line")) as box:
        (link,) = json.loads(box.client.run("ip", "-j", "link", "show", "eth0").stdout)
        box.config.write_text(box.config.read_text() + RULES % link["address"])
        box.processes["control"].send_signal(signal.SIGHUP)
        time.sleep(2)
        assert reload(box) is None
        box.start("dns64", BIN / "isthmus-dns64", "--config", box.config, "--runtime", box.runtime)
        start_history(box)
        with connect(box, 7004, SERVER6) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5)
        with udp_socket(box) as sock:
            sock.sendto(b"hello", (SERVER6, 7101))
            assert sock.recv(100)
        assert box.client.run("ping", "-c1", "-W3", SERVER6).returncode == 0
        for scheme in ("http", "user-http"):
            assert curl(box, "-x", SCHEMES[scheme], "--fail", f"http://{NAME}/").returncode == 0
        curl(box, "-x", SCHEMES["user-http"], f"http://{FILES_ADDRESS}:81/")
        with pytest.raises(PermissionError):
            connect(box, 7004, FILES6)
        for one in table(box, "sessions", "--json")["sessions"]:
            assert isthmus(box, "sessions", "kill", one["id"]).returncode == 0
        wait_for(lambda: len(rows(box)) >= 7, "the history")
        yield box


def isthmus(box: Box, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """The command line."""
    command: list[str | Path] = [BIN / "isthmus", "--runtime", box.runtime, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=said, timeout=60)


def table(box: Box, *words: str, said: str = "") -> Any:
    """What it answers to programs."""
    done = isthmus(box, *words, said=said)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(box: Box, *words: str) -> list[dict[str, Any]]:
    """`isthmus log` with such words."""
    done = isthmus(box, "log", "--json", "--limit", "1000", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_log_by_kind(own: Box, kind: str) -> None:
    found = rows(own, "--kind", kind)
    assert found and {one["kind"] for one in found} == {kind}
    assert len(found) == sum(one["kind"] == kind for one in rows(own))


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("--client", "client", "fd00:1::2"),
        ("--user", "user", "alice"),
        ("--device", "device", "pc"),
        ("--rule", "rule", "no-echo"),
        ("--service", "service", "plain"),
        ("--name", "name", NAME),
        ("--outcome", "outcome", "denied"),
    ],
)
def test_the_log_by_one_of_its_columns(own: Box, option: str, key: str, value: str) -> None:
    found = rows(own, option, value)
    every = rows(own)
    assert found and {one[key] for one in found} == {value}
    assert len(found) == sum(one[key] == value for one in every) < len(every) + (option == "--device")


def test_the_log_by_a_reference(own: Box) -> None:
    (reference,) = {one["reference"] for one in rows(own) if one["reference"]}
    (found,) = rows(own, "--reference", reference)
    assert (found["user"], found["rule"]) == ("alice", "no-echo")
    assert not rows(own, "--reference", "AAAA-AAAA")


def test_the_log_by_its_time(own: Box) -> None:
    every = rows(own)
    assert rows(own, "--since", "1h") == every
    assert not rows(own, "--until", "1h")
    middle = every[len(every) // 2]["time"]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(middle))
    before, after = rows(own, "--until", stamp), rows(own, "--since", stamp)
    assert before + after == every


def test_the_log_goes_on(own: Box) -> None:
    """Also where it is erased meanwhile."""
    command: list[str | Path] = [
        BIN / "isthmus",
        "--runtime",
        own.runtime,
        "log",
        "-f",
        "--json",
        "--rule",
        "no-echo",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        heard: list[dict[str, Any]] = []

        def listen() -> None:
            assert process.stdout is not None
            heard.extend(json.loads(line) for line in process.stdout)

        def deny() -> None:
            with pytest.raises(PermissionError):
                connect(own, 7004, FILES6)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            wait_for(lambda: len(heard) >= 2, "what there is")
            deny()
            wait_for(lambda: len(heard) == 3, "what comes")
            assert isthmus(own, "log", "erase").returncode == 0
            time.sleep(3)
            deny()
            wait_for(lambda: len(heard) == 4, "what comes after an erasure")
        finally:
            process.terminate()
            listener.join(5)
    assert len(rows(own)) == 1


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("by", BY)
def test_who_had_most(own: Box, by: str, measure: str) -> None:
    curl(own, "-x", SCHEMES["user-http"], "--fail", f"http://{NAME}/")
    wait_for(lambda: bool(rows(own, "--user", "alice")), "the history")
    found = table(own, "top", by, "--measure", measure, "--since", "1h", "--json")
    assert found
    amounts = [
        one["bytes_to_wan"] + one["bytes_to_lan"] if measure == "octets"
        else one[measure.replace("to_", "bytes_to_")]
        for one in found
    ]  # fmt: skip
    assert amounts == sorted(amounts, reverse=True)
    keys = {one["key"] for one in found}
    wanted = {"clients": "fd00:1::2", "users": "alice", "devices": "pc", "names": NAME, "rules": "default"}
    assert wanted.get(by, "plain") in keys
    assert len(table(own, "top", by, "--limit", "1", "--json")) == 1
    assert table(own, "top", by, "--until", "2020-01-01", "--since", "2019-01-01", "--json") == []


# -- who did what ----------------------------------------------------------------------------------


def test_the_audit_log(own: Box) -> None:
    begun = time.time()
    for number in range(3):
        assert isthmus(own, "set", "policy.retention_days", str(10 + number)).returncode == 0
        done = isthmus(own, "commit", "-m", f"number {number}")
        assert done.returncode == 0, done.stderr
    whole = table(own, "audit", "--json")["entries"]
    assert len([one for one in whole if one["action"] == "commit"]) == 3
    assert {one["action"] for one in table(own, "audit", "--action", "commit", "--json")["entries"]} == {
        "commit"
    }
    who = whole[0]["who"]
    assert table(own, "audit", "--who", who, "--json")["entries"]
    assert not table(own, "audit", "--who", "nobody", "--json")["entries"]
    (one,) = table(own, "audit", "--action", "commit", "--text", "number 1", "--json")["entries"]
    assert one["time"] >= begun - 1
    assert len(table(own, "audit", "--since", "1h", "--json")["entries"]) == len(whole)
    page = table(own, "audit", "--limit", "2", "--json")
    following = table(own, "audit", "--limit", "2", "--cursor", str(page["cursor"]), "--json")
    assert [one["seq"] for one in page["entries"] + following["entries"]] == [one["seq"] for one in whole[:4]]
    assert "each following from the one before" in isthmus(own, "audit", "--verify").stdout


def test_admins_and_tokens(own: Box) -> None:
    added = isthmus(own, "admin", "add", "eve", "--role", "viewer", "--stdin", said="quite a long one\n")
    assert added.returncode == 0, added.stderr
    assert isthmus(own, "admin", "role", "eve", "operator").returncode == 0
    assert isthmus(own, "admin", "no-totp", "eve").returncode == 0
    assert isthmus(own, "admin", "passwd", "eve", "--stdin", said="another long one\n").returncode == 0
    (eve,) = [one for one in table(own, "admin", "list", "--json") if one["name"] == "eve"]
    assert (eve["role"], eve["totp"]) == ("operator", False)
    made = table(own, "token", "add", "backup", "--role", "viewer", "--expires", "2h", "--json")
    assert 7_000 < made["expires"] - time.time() < 7_300
    (token,) = table(own, "token", "list", "--json")
    assert (token["name"], token["role"]) == ("backup", "viewer")
    assert made["token"] not in json.dumps(token)
    for words in (("admin", "remove", "eve"), ("token", "remove", "backup")):
        assert isthmus(own, *words).returncode == 0
    assert table(own, "token", "list", "--json") == table(own, "admin", "list", "--json") == []


def test_a_candidate_is_explained(own: Box) -> None:
    words = ("--client", "fd00:1::2", "--to", f"{SERVER}:7004", "--json")
    assert isthmus(own, "add", "rule", "new", "action=deny", f"destinations={SERVER}/32").returncode == 0
    assert table(own, "explain", *words)["allow"]
    found = table(own, "explain", "--candidate", *words)
    assert (found["allow"], found["rule"]) == (False, "new")
    assert isthmus(own, "discard").returncode == 0


# -- tests from the box ----------------------------------------------------------------------------


def test_a_capture_of_one_port_and_host(own: Box, tmp_path: Path) -> None:
    file = tmp_path / "some.pcap"
    capture = threading.Thread(
        target=isthmus,
        args=(own, "capture", "wan0", str(file), "--port", "7004", "--host", SERVER, "--seconds", "3"),
    )
    begun = time.monotonic()
    capture.start()
    while capture.is_alive() and time.monotonic() - begun < 20:  # it takes a while to begin
        for port in (7001, 7004):
            with connect(own, port) as sock:
                sock.sendall(b"hello" if port == 7004 else b"")
                sock.recv(100)
        time.sleep(0.5)
    capture.join(20)
    assert time.monotonic() - begun < 20
    data = file.read_bytes()
    assert data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1")
    assert struct.pack("!H", 7004) in data and b"hello" in data
    assert b"203.0.113.2" not in data, "what the other port's server says"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("lookup", NAME), "64:ff9b::c01f:c450"),
        (("lookup", NAME, "--type", "A"), SERVER),
        (("lookup", SERVER6, "--type", "PTR"), "records"),
        (("ping", SERVER), "1 received|bytes from"),
        (("trace", SERVER), SERVER.replace(".", r"\.")),
        (("cross", SERVER, "--port", "7001"), "open after"),
        (("cross", NAME), "open after"),
    ],
)
def test_questions_to_the_network(own: Box, words: tuple[str, ...], told: str) -> None:
    done = isthmus(own, *words)
    assert re.search(told, done.stdout), done.stdout + done.stderr
    assert json.loads(isthmus(own, *words, "--json").stdout)


def test_a_backup_and_back(own: Box, tmp_path: Path) -> None:
    file = tmp_path / "box.backup"
    made = table(own, "backup", str(file), "--stdin", "--json", said="a good deal of words\n")
    assert file.stat().st_size == made["bytes"]
    assert b"no-echo" not in file.read_bytes(), "it is encrypted"
    assert isthmus(own, "set", "policy.retention_days", "77").returncode == 0
    assert isthmus(own, "commit").returncode == 0
    wrong = isthmus(own, "restore", str(file), "--stdin", said="another deal of words\n")
    assert wrong.returncode == 1
    found = table(own, "restore", str(file), "--stdin", "--json", said="a good deal of words\n")
    assert [one["path"] for one in found["changes"]] == ["policy.retention_days"]
    assert isthmus(own, "discard").returncode == 0
