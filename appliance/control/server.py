"""The Varlink server on control.sock: who may ask what, and the answers."""

from __future__ import annotations

import contextlib
import grp
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import varlink

from appliance.config import Config, dump, parse
from appliance.config.roles import Role, for_admins
from appliance.config.schema import without_passwords
from appliance.control.access_verbs import AccessVerbs
from appliance.control.accounts import Accounts
from appliance.control.audit import Audit
from appliance.control.backup import Backups
from appliance.control.backup_verbs import BackupVerbs
from appliance.control.certificate_verbs import CertificateVerbs
from appliance.control.commits import Commits
from appliance.control.diagnostic_verbs import DiagnosticVerbs
from appliance.control.gate import GROUP, Actor, Gate, is_audited, refused, write_down
from appliance.control.monitoring import MonitoringVerbs
from appliance.control.policy_verbs import PolicyVerbs
from appliance.control.requests import RequestVerbs
from appliance.control.update_verbs import UpdateVerbs
from appliance.control.updates import Updates
from appliance.control.uploads import Certificates
from appliance.control.verbs import INTERFACE, ROOT, ConfigurationVerbs, problems_plain, refusals, refuse
from appliance.control.viewing import hides, without_clients, without_digests
from appliance.errors import ConfigError
from appliance.session.tables import Tables
from appliance.system.admins import Admins
from appliance.system.tokens import Tokens
from appliance.varlink_socket import VarlinkServer

MAX_MESSAGE = 24 << 20  # a candidate of the greatest size, quoted
MAX_LISTED = 1_000
# A reply in which something is left out of what viewers may see.
_CONFIGURATIONS = frozenset({"GetActive", "GetCandidate", "GetCandidateText", "GetRevision"})


class Interface(
    AccessVerbs,
    ConfigurationVerbs,
    PolicyVerbs,
    RequestVerbs,
    BackupVerbs,
    CertificateVerbs,
    MonitoringVerbs,
    UpdateVerbs,
    DiagnosticVerbs,
):
    """org.isthmus.control, method by method."""

    def __init__(
        self,
        config: Callable[[], Config],
        status: Callable[[], dict[str, Any]],
        figures: Callable[[], dict[str, Any]],
        sessions: Callable[[int, str | None, str | None], dict[str, Any]],
        admins: Admins,
        tokens: Tokens,
        audit: Audit,
        end_sessions: Callable[[], None],
        accounts: Accounts,
        commits: Commits,
        tables: Tables,
        meters: Path,
        backups: Backups,
        updates: Updates,
        certificates: Certificates,
    ) -> None:
        AccessVerbs.__init__(self, config, admins, tokens, audit, end_sessions, commits.drafting.discard)
        ConfigurationVerbs.__init__(self, commits)
        PolicyVerbs.__init__(self, config, commits.drafting, tables, meters)
        RequestVerbs.__init__(self, commits)
        BackupVerbs.__init__(self, backups)
        UpdateVerbs.__init__(self, updates)
        CertificateVerbs.__init__(self, certificates)
        self._config = config
        self._status = status
        self._figures = figures
        self._sessions = sessions
        self._accounts = accounts

    def GetStatus(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """The box at a glance."""
        return {"status": self._status()}

    def GetFigures(self) -> dict[str, Any]:  # noqa: N802
        """What changes by the second."""
        return {"figures": self._figures()}

    def ListSessions(  # noqa: N802
        self, limit: int, search: str | None, cursor: str | None
    ) -> dict[str, Any]:
        """The newest sessions."""
        if not 1 <= limit <= MAX_LISTED:
            raise refuse("InvalidArgument", name="limit", message=f"{limit} is not 1 to {MAX_LISTED}.")
        return self._sessions(limit, search, cursor)

    def viewers_see_clients(self) -> bool:
        """Whether the configuration in force lets them."""
        return self._config().console.viewers_see_clients

    def GetConfig(self) -> dict[str, Any]:  # noqa: N802
        """The configuration in force, without the users' hashes."""
        return {"toml": dump(without_passwords(self._config()))}

    def CheckConfig(self, toml: str) -> dict[str, Any]:  # noqa: N802
        """Every problem of a candidate."""
        try:
            parse(toml)
        except ConfigError as error:
            return {"problems": problems_plain(error.problems)}
        return {"problems": []}

    def ListUsers(self) -> dict[str, Any]:  # noqa: N802
        """Users and groups of the proxy."""
        with refusals():
            return self._accounts.listed()

    def SetUser(  # noqa: N802
        self, name: str, groups: list[str] | None, password: str | None, new: bool, author: str | None
    ) -> dict[str, Any]:
        """Add or change one."""
        with refusals():
            self._accounts.set_user(name, groups, password, new, author or ROOT)
        return {}

    def RemoveUser(self, name: str, author: str | None) -> dict[str, Any]:  # noqa: N802
        """Remove one."""
        with refusals():
            self._accounts.remove_user(name, author or ROOT)
        return {}

    def AddGroup(self, name: str, author: str | None) -> dict[str, Any]:  # noqa: N802
        """Add one."""
        with refusals():
            self._accounts.set_group(name, author or ROOT)
        return {}

    def RemoveGroup(self, name: str, author: str | None) -> dict[str, Any]:  # noqa: N802
        """Remove one without users."""
        with refusals():
            self._accounts.remove_group(name, author or ROOT)
        return {}


class ControlServer(VarlinkServer):
    """control.sock, for those whom the gate lets through. What changes the box is written down."""

    request_queue_size = 64

    def __init__(self, path: Path, interface: Interface) -> None:
        super().__init__(path, INTERFACE, interface, Path(__file__).parent, MAX_MESSAGE)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        path.chmod(0o660)
        self._gate = Gate()
        self._interface = interface

    def answer(self, uid: int, message: bytes) -> Iterable[bytes]:
        """The replies to one message of the user's."""
        asked = json.loads(message)
        method = _method_of(asked)
        if not method:
            return super().answer(uid, message)
        parameters = asked.get("parameters") or {}
        carried = asked.pop("actor", None)
        actor = self._gate.actor(uid, carried, parameters)
        if not self._gate.allows(uid, method):
            return [_denied(f"User {uid} may not call {method}.")]
        problem = refused(actor, method, parameters) or self._not_committed(actor, method, parameters)
        if problem is None and self._hides_clients(actor) and hides(method, parameters):
            problem = "A viewer does not see here who the clients are."
        if problem is not None:
            replies = [_denied(problem)]
        else:
            replies = list(super().answer(uid, message if carried is None else json.dumps(asked).encode()))
        is_partial = actor.role is Role.VIEWER and actor.via != "local"
        if not (is_partial or is_audited(actor, method)):
            return replies  # megabytes, some of them: read by nobody here
        reply = json.loads(replies[-1]) if replies else {}
        write_down(self._interface.audit, actor, method, parameters, reply)
        if not is_partial or problem is not None or "error" in reply:
            return replies
        return [json.dumps(self._seen_by_viewer(method, reply)).encode()]

    def _not_committed(self, actor: Actor, method: str, parameters: dict[str, Any]) -> str | None:
        """Why a commit has what this actor may not change; None where it may."""
        if method != "Commit" or actor.role in (None, Role.ADMIN):
            return None
        paths = for_admins(self._interface.changed_paths(str(parameters.get("author"))))
        return f"Only an admin changes {', '.join(paths)}." if paths else None

    def _hides_clients(self, actor: Actor) -> bool:
        return actor.role is Role.VIEWER and not self._interface.viewers_see_clients()

    def _seen_by_viewer(self, method: str, reply: dict[str, Any]) -> dict[str, Any]:
        """The reply, without what a viewer is not shown."""
        answer = reply.get("parameters") or {}
        if method in _CONFIGURATIONS:
            reply["parameters"] = without_digests(answer)
        elif not self._interface.viewers_see_clients():
            reply["parameters"] = without_clients(method, answer)
        return reply


def _denied(words: str) -> bytes:
    encoded: str = varlink.VarlinkEncoder().encode(refuse("PermissionDenied", message=words))
    return encoded.encode()


def _method_of(asked: object) -> str:
    """The method's name where the call is one of our interface; ValueError where it is no call."""
    if not isinstance(asked, dict) or not isinstance(asked.get("method"), str):
        raise ValueError("not a Varlink call")
    if not isinstance(asked.get("parameters") or {}, dict):
        raise ValueError("not a Varlink call")
    interface, _, method = asked["method"].rpartition(".")
    return method if interface == INTERFACE else ""
