"""The control socket: who may ask what, and what a caller reads when it is refused."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, parse
from appliance.control.accounts import Accounts
from appliance.control.audit import Audit
from appliance.control.backup import Backups
from appliance.control.candidates import Candidates
from appliance.control.client import ControlClient, ControlError, call
from appliance.control.commits import Commits
from appliance.control.revisions import Revisions
from appliance.control.server import ControlServer, Interface
from appliance.control.updates import Updates
from appliance.control.uploads import Certificates
from appliance.policy.throttle import FREE_FAILURES
from appliance.session.tables import Tables
from appliance.system.admins import Admins
from appliance.system.principals import Principals
from appliance.system.tokens import Tokens

STRANGER = 54_321


def no_status() -> dict[str, Any]:
    """A status that nobody asks for here."""
    raise AssertionError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    """A served control.sock over a default configuration."""
    commits = Commits(
        Revisions(tmp_path / "config.toml", tmp_path / "revisions"),
        Candidates(tmp_path / "candidates"),
        lambda: (tmp_path / "applied").touch(),
        lambda: None,
    )
    commits.revisions.recover()
    interface = Interface(
        Config,
        no_status,
        no_status,
        lambda limit, search, cursor: {"sessions": [], "total": 0, "cursor": ""},
        Admins(Principals(tmp_path / "users")),
        Tokens(Principals(tmp_path / "users"), tmp_path / "used"),
        Audit(tmp_path / "audit"),
        lambda: (tmp_path / "signed-out").touch(),
        Accounts(tmp_path / "config.toml", commits.change_file, commits.line),
        commits,
        Tables(tmp_path / "tables"),
        tmp_path / "proxy" / "meters",
        Backups(tmp_path, commits.drafting, (tmp_path / "renewed").touch),
        Updates(tmp_path, tmp_path),
        Certificates(tmp_path, Config, (tmp_path / "applied").touch, commits.line),
    )
    with ControlServer(tmp_path / "control.sock", interface) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: ControlServer, uid: int, method: str, **parameters: Any) -> dict[str, Any]:
    """One message as if from the user."""
    message = json.dumps({"method": f"org.isthmus.control.{method}", "parameters": parameters})
    (answer,) = server.answer(uid, message.encode())
    found: dict[str, Any] = json.loads(answer)
    return found


@pytest.mark.parametrize(
    "method",
    [
        *("GetSetup", "GetConfig", "Authenticate", "SetFirstPassword", "ResetPassword"),
        *("ListUsers", "SetUser", "RemoveUser", "AddGroup", "RemoveGroup"),
        *("GetCandidate", "PutCandidate", "Commit", "Confirm", "Rollback", "Restore", "GetRevision"),
        *("ListCertificates", "UploadCertificate", "RemoveCertificate", "RenewCertificates"),
        *("Ping", "Trace", "LookUpName", "StartCapture", "StopCapture", "GetCapture", "ReadCapture"),
    ],
)
def test_a_stranger_is_refused(server: ControlServer, method: str) -> None:
    found = ask(server, STRANGER, method)
    assert found["error"] == "org.isthmus.control.PermissionDenied"
    assert str(STRANGER) in found["parameters"]["message"]


def test_the_client_end_to_end(server: ControlServer, tmp_path: Path) -> None:
    client = ControlClient(tmp_path)
    assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o660
    assert not client.password_set()
    with pytest.raises(ControlError, match="at least 10"):
        client.set_first_password("short")
    client.set_first_password("correct horse")
    assert client.password_set()
    with pytest.raises(ControlError) as refused:
        client.set_first_password("another horse")
    assert refused.value.code == "org.isthmus.control.PasswordAlreadySet"
    assert client.authenticate("admin", "correct horse", "::1")["ok"] is True
    assert client.authenticate("nobody", "correct horse", "::1")["ok"] is False
    assert parse(client.config()) == Config()
    (problem,) = client.check_config("[proxy]\nworkers = -1")
    assert problem["path"] == "proxy.workers"
    with pytest.raises(ControlError, match="1 to 1000"):
        client.sessions(limit=0)


def test_a_lost_password_is_roots_to_replace(server: ControlServer, tmp_path: Path) -> None:
    client = ControlClient(tmp_path)
    client.set_first_password("correct horse")
    for _ in range(FREE_FAILURES):
        assert client.authenticate("admin", "wrong", "::2")["ok"] is False
    with pytest.raises(ControlError, match="at least 10"):
        client.reset_password("short")
    assert not (tmp_path / "signed-out").exists()
    client.reset_password("another horse")
    assert (tmp_path / "signed-out").exists()
    assert client.authenticate("admin", "another horse", "::1")["ok"] is True
    assert client.authenticate("admin", "correct horse", "::1")["ok"] is False


def test_the_web_console_may_not_replace_the_password(server: ControlServer) -> None:
    gate = server._gate
    gate._web, gate._members = STRANGER, {STRANGER}
    assert gate.allows(STRANGER, "Authenticate")
    assert not gate.allows(STRANGER, "ResetPassword")


def test_rubbish_ends_the_connection_and_nothing_else(server: ControlServer, tmp_path: Path) -> None:
    for rubbish in (b"\0", b"not json\0", b"[]\0", b'{"method": 3}\0', b"\xff\xfe\0"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(tmp_path / "control.sock"))
            sock.sendall(rubbish)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
    assert not ControlClient(tmp_path).password_set()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as gone:
        ControlClient(tmp_path).status()
    assert gone.value.code == "unavailable"
    assert os.fspath(tmp_path) in gone.value.message


def listener(path: Path) -> socket.socket:
    """A Unix socket that takes calls and says nothing."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def test_a_daemon_that_hangs_costs_its_timeout_and_no_more(tmp_path: Path) -> None:
    with listener(tmp_path / "hung.sock"):
        begun = time.monotonic()
        with pytest.raises(ControlError) as hung:
            call(tmp_path / "hung.sock", "org.isthmus.proxy.GetStatus", timeout=0.2)
    assert hung.value.code == "unavailable"
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("answer", [b"not json\0", b"[]\0", b"\xff\0"])
def test_an_answer_that_is_no_varlink_is_an_error_in_words(tmp_path: Path, answer: bytes) -> None:
    with listener(tmp_path / "odd.sock") as sock:

        def reply() -> None:
            peer, _ = sock.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(ControlError, match="no Varlink"):
            call(tmp_path / "odd.sock", "org.isthmus.proxy.GetStatus", timeout=5)
        thread.join()


def test_users_by_the_client(server: ControlServer, tmp_path: Path) -> None:
    client = ControlClient(tmp_path)
    with pytest.raises(ControlError, match="cannot be read"):
        client.users()
    (tmp_path / "config.toml").write_text("# mine\n")
    client.add_group("staff")
    client.set_user("ann", ["staff"], "correct horse", new=True)
    assert client.users() == (
        [{"name": "ann", "groups": ["staff"], "has_password": True}],
        [{"name": "staff", "users": 1}],
    )
    assert (tmp_path / "applied").exists()
    with pytest.raises(ControlError) as refused:
        client.remove_group("staff")
    assert refused.value.code == "org.isthmus.control.Refused"
    assert "has 1 user: ann" in refused.value.message
    assert "isthmus user groups" in refused.value.hint
    with pytest.raises(ControlError, match="at least 10"):
        client.set_user("ann", password="short")
    client.remove_user("ann")
    client.remove_group("staff")
    assert (tmp_path / "config.toml").read_text().strip() == "# mine"


def test_members_of_the_group_do_not_decide_who_may_use_the_proxy(server: ControlServer) -> None:
    gate = server._gate
    gate._web, gate._members = 1, {STRANGER}
    assert gate.allows(STRANGER, "GetStatus")
    for method in (
        *("ListUsers", "SetUser", "RemoveUser", "AddGroup", "RemoveGroup"),
        *("GetCandidate", "PutCandidate", "MergeCandidate", "DiscardCandidate", "Restore"),
        *("Commit", "Confirm", "Rollback", "Backup", "RestoreBackup"),
    ):
        assert not gate.allows(STRANGER, method)
        assert gate.allows(1, method)
