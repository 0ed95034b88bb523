"""The API over a real control socket: everything of control but the network, in a temporary folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance.config import parse
from appliance.control.accounts import Accounts
from appliance.control.audit import Audit
from appliance.control.backup import Backups
from appliance.control.candidates import Candidates
from appliance.control.client import ControlClient
from appliance.control.commits import Commits
from appliance.control.monitoring import Monitor
from appliance.control.revisions import Revisions
from appliance.control.server import ControlServer, Interface
from appliance.control.updates import Updates
from appliance.control.uploads import Certificates
from appliance.session.tables import Tables
from appliance.system.admins import Admins
from appliance.system.principals import Principals
from appliance.system.tokens import Tokens
from tests.unit.webui.fake import CONFIG, FIGURES, SESSION, STATUS
from webui.acting import actor
from webui.app import create_app

PASSWORD = "correct horse"


class StillUpdates(Updates):
    """A box that is not to go down."""

    def restart(self) -> None:
        """Stay."""

    def factory_reset(self) -> None:
        """Stay."""

    def start(self, source: str | None, restart: bool) -> None:
        """Fetch nothing."""


class KnownHistory(Monitor):
    """A history with one row."""

    def history(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What each verb answers."""
        row = {
            "id": 1, "time": 1.8e9, "kind": "tcp", "outcome": "carried", "reason": "closed",
            "client": "fd00:1::2", "client_port": 4, "server": None, "server_port": 443, "origin": None,
            "origin_port": 443, "service": None, "name": "a.example", "named_by": "dns", "user": "ann",
            "rule": "time", "device": None, "dns_name": None, "reference": None, "age": 1.0,
            "bytes_to_wan": 1, "bytes_to_lan": 2,
        }  # fmt: skip
        sums = {"sessions": 1, "refused": 0, "bytes_to_wan": 1, "bytes_to_lan": 2}
        answers: dict[str, dict[str, Any]] = {
            "Search": {"rows": [row], "cursor": "", "searched": 0.0},
            "Top": {"sums": [{"key": "fd00:1::2", **sums}]},
            "Series": {"points": [{"start": 1.8e9, **sums}]},
            "Erase": {},
            "GetStatus": {
                "status": {
                    "rows": 1, "octets": 1, "retention_days": 30, "taken_in": 1, "behind": 0, "garbage": 0,
                    "lost": 0, "moved_aside": 0, "problem": None, "exports": [],
                }
            },
        }  # fmt: skip
        return answers[method]


def ask_proxy(method: str, **parameters: Any) -> dict[str, Any] | None:
    """A proxy with one session."""
    answers: dict[str, dict[str, Any]] = {
        "EraseLog": {}, "Kill": {"killed": parameters.get("id") == "0-1"}, "ListRequests": {"requests": []},
        "ListHits": {"hits": []}, "GetHits": {"hits": []},
    }  # fmt: skip
    return answers.get(method)


class Served:
    """Control's socket, and the console with its API before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.toml"
        self.file.write_text(CONFIG)
        commits = Commits(
            Revisions(self.file, folder / "revisions"),
            Candidates(folder / "candidates"),
            lambda: None,
            lambda: None,
        )
        commits.revisions.recover()
        commits.adopt()
        principals = Principals(folder / "console-users.json")
        self.audit = Audit(folder / "audit")
        self.interface = Interface(
            lambda: parse(self.file.read_text()),
            lambda: {**STATUS, "lans": []},
            lambda: {name: STATUS[name] for name in FIGURES},
            lambda limit, search, cursor: {"sessions": [self.session()], "total": 1, "cursor": ""},
            Admins(principals),
            Tokens(principals, folder / "tokens-used.json"),
            self.audit,
            lambda: None,
            Accounts(self.file, commits.change_file, commits.line),
            commits,
            Tables(folder / "tables"),
            folder / "proxy" / "meters",
            Backups(folder, commits.drafting, lambda: None),
            StillUpdates(folder, folder),
            Certificates(folder, lambda: parse(self.file.read_text()), lambda: None, commits.line),
        )
        self.interface.monitor = KnownHistory(folder, ask_proxy)
        self.interface.ask_proxy = ask_proxy
        self.server = ControlServer(folder / "control.sock", self.interface)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.root = ControlClient(folder)
        self.root.set_first_password(PASSWORD)
        api = ControlClient(folder, actor)
        self.app: Flask = create_app(api, b"k" * 32, None, api)

    @staticmethod
    def session() -> dict[str, Any]:
        """An open one, with all its fields."""
        more = {
            "name": None,
            "named_by": None,
            "user": "ann",
            "rule": "time",
            "device": None,
            "dns_name": None,
        }
        return {**SESSION, **more, "user": "ann", "rule": "time"}

    def token(self, role: str, name: str = "", expires: float | None = None) -> str:
        """A new token of the role."""
        return self.root.add_token(name or role, role, expires)

    def close(self) -> None:
        """End the socket."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Api:
    """A client with a token."""

    def __init__(self, app: Flask, token: str | None) -> None:
        self.client: FlaskClient = app.test_client(use_cookies=False)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """One request; ``more`` are header fields, with _ for -."""
        headers = {**self.headers, **{name.replace("_", "-"): one for name, one in more.items()}}
        return self.client.open(
            f"/api/v1{path}", method=method, json=body, headers=headers, base_url="https://[fd00:1::1]"
        )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A box that was set up."""
    made = Served(tmp_path)
    yield made
    made.close()


@pytest.fixture
def api(served: Served) -> Api:
    """With an admin's token."""
    return Api(served.app, served.token("admin"))
