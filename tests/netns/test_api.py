"""The HTTP API on a running box, from a host of the LAN: what a token changes, the next session meets."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from appliance.control.client import ControlClient
from tests.netns.conftest import SERVER6, Box, needs_root, wait_for
from tests.netns.hosts import connect, serving
from tests.netns.test_command_line import isthmus, table
from tests.netns.test_monitoring import start_history

pytestmark = [pytest.mark.netns, needs_root]

ADDRESS = "https://[fd00:1::1]"
CLIENT = "fd00:1::2"
NAMED = "named-pc"


class Answer(NamedTuple):
    """Of the API."""

    status: int
    content: Any


class Api:
    """curl at the client, with a token; the box's certificate is checked."""

    def __init__(self, box: Box, authority: Path, token: str) -> None:
        self._box = box
        self._words = ("--cacert", authority, "-H", f"Authorization: Bearer {token}")

    def raw(self, *words: str | Path) -> tuple[int, str]:
        """Status and content."""
        done = self._box.client.run(
            "curl", "-sS", "--max-time", "30", "-w", "\n%{http_code}", *self._words, *words
        )
        content, _newline, status = done.stdout.rpartition("\n")
        return int(status), content

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
        words = ["-X", method, f"{ADDRESS}/api/v1{path}"]
        if body is not None:
            words += ["-H", f"Content-Type: {kind}", "-d", json.dumps(body)]
        status, content = self.raw(*words)
        return Answer(status, json.loads(content) if content else None)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with console and history."""
    with Box(tmp_path_factory.mktemp("api")) as box, serving(box):
        (link,) = json.loads(box.client.run("ip", "-j", "link", "show", "eth0").stdout)
        device = f'[[device]]\nname = "{NAMED}"\nmacs = ["{link["address"]}"]\n'
        box.config.write_text(box.config.read_text() + device)
        box.start_control()
        box.start_proxy()
        start_history(box)
        box.start_web()
        ControlClient(box.runtime).set_first_password("correct horse battery")
        yield box


@pytest.fixture(scope="module")
def authority(own: Box, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The box's certificate, as a device gets it."""
    path = tmp_path_factory.mktemp("authority") / "authority.crt"
    own.client.run("curl", "-sSk", "--fail", "-o", path, f"{ADDRESS}/authority.crt")
    return path


@pytest.fixture(scope="module")
def api(own: Box, authority: Path) -> Api:
    """An admin's."""
    return Api(own, authority, token(own, "robot", "admin"))


def token(box: Box, name: str, role: str) -> str:
    """A new one."""
    made: str = table(box, "token", "add", name, "--role", role, "--expires", "1d", "--json")["token"]
    return made


def echoes(box: Box) -> bool:
    """Whether the client has the server's echo."""
    try:
        with connect(box, 7004) as sock:
            sock.sendall(b"hello")
            return sock.recv(5) == b"hello"
    except PermissionError:
        return False


def commit(api: Api) -> None:
    """What the token has changed is in force then."""
    made = api("POST", "/commits", {"comment": "by the API"})
    assert made.status == 201, made
    if made.content.get("pending"):
        assert api("POST", "/pending/confirm", {}).status == 200


def test_a_rule_holds_from_its_commit_to_its_end(own: Box, api: Api) -> None:
    assert echoes(own)
    rule = {"action": "deny", "ports": ["7004"], "note": "not here"}
    assert api("PUT", "/candidate/config/rule.no-echo", rule).status == 200
    assert echoes(own), "a candidate holds for nobody"
    commit(api)
    wait_for(lambda: not echoes(own), "the rule", 5)
    question = {"client": CLIENT, "target": f"[{SERVER6}]:7004"}
    why = api("POST", "/explain", question)
    assert why.content["explanation"]["rule"] == "no-echo", why
    (newest,) = api("GET", "/revisions?limit=1").content["revisions"]
    assert newest["author"] == "token robot"
    denied = f"/log?outcome=denied&rule=no-echo&client={CLIENT}"
    wait_for(lambda: len(api("GET", denied).content["rows"]) >= 1, "the history", 10)
    assert api("DELETE", "/candidate/config/rule.no-echo").status == 200
    commit(api)
    wait_for(lambda: echoes(own), "the rule's end", 5)


def test_a_mistake_is_told_by_its_path_and_changes_nothing(own: Box, api: Api) -> None:
    before = own.config.read_text()
    wrong = api("PUT", "/candidate/config/rule.bad", {"action": "deny", "ports": ["70000"]})
    assert wrong.status == 422
    assert any("rule" in one["path"] for one in wrong.content["problems"])
    assert own.config.read_text() == before
    assert api("DELETE", "/candidate").status == 204


def test_open_sessions_are_seen_and_ended(own: Box, api: Api) -> None:
    with connect(own, 7004) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
        (one,) = [row for row in api("GET", "/sessions").content["sessions"] if row["server_port"] == 7004]
        assert one["client"] == CLIENT
        assert api("DELETE", f"/sessions/{one['id']}").status in (200, 204)
        with pytest.raises(ConnectionResetError):
            sock.recv(5)


def test_a_viewer_sees_no_clients_where_they_are_not_to_be_seen(own: Box, api: Api, authority: Path) -> None:
    viewer = Api(own, authority, token(own, "screen", "viewer"))
    with connect(own, 7004) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5)
        wait_for(lambda: NAMED in str(api("GET", "/sessions").content), "the device", 5)
        assert CLIENT in str(viewer("GET", "/sessions").content)
        assert viewer("PUT", "/candidate/config/console.viewers_see_clients", True).status == 403
        assert api("PUT", "/candidate/config/console.viewers_see_clients", False).status == 200
        commit(api)
        top = f"/log/top?by=client&since=0&until={int(time.time()) + 60}"
        for path, status in (("/sessions", 200), ("/log", 200), (top, 403)):
            seen = viewer("GET", path)
            assert seen.status == status, path
            assert CLIENT not in str(seen.content) and NAMED not in str(seen.content), path
        assert CLIENT in str(api("GET", "/sessions").content)
    assert api("PUT", "/candidate/config/console.viewers_see_clients", True).status == 200
    commit(api)
    assert CLIENT in str(viewer("GET", "/log").content)


def test_metrics_for_who_has_the_token(own: Box, api: Api, authority: Path) -> None:
    secret = "not to be guessed"
    prometheus, stranger = Api(own, authority, secret), Api(own, authority, "guessed")
    assert prometheus.raw(f"{ADDRESS}/metrics")[0] == 404
    digest = f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"
    assert api("PUT", "/candidate/config/console.metrics_token", digest).status == 200
    commit(api)
    assert stranger.raw(f"{ADDRESS}/metrics")[0] == 401
    assert echoes(own)

    opened_total = 'isthmus_sessions_total{outcome="opened"}'

    def opened() -> float:
        status, text = prometheus.raw(f"{ADDRESS}/metrics")
        assert status == 200
        lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
        return sum(float(words[-1]) for words in lines if words[0] == opened_total)

    before = opened()
    assert echoes(own)
    wait_for(lambda: opened() == before + 1, "the session to be counted", 5)


def test_a_token_that_was_removed_opens_nothing(own: Box, authority: Path) -> None:
    short = Api(own, authority, token(own, "short", "viewer"))
    assert short("GET", "/status").status == 200
    assert isthmus(own, "token", "remove", "short").returncode == 0
    assert short("GET", "/status").status == 401
