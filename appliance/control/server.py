"""The Varlink server on control.sock: who may ask what, and the answers."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import varlink

from appliance.config import Config, dump, parse
from appliance.config.schema import without_passwords
from appliance.control.accounts import Accounts
from appliance.control.backup import Backups
from appliance.control.backup_verbs import BackupVerbs
from appliance.control.certificate_verbs import CertificateVerbs
from appliance.control.commits import Commits
from appliance.control.diagnostic_verbs import DiagnosticVerbs
from appliance.control.monitoring import MonitoringVerbs
from appliance.control.policy_verbs import PolicyVerbs
from appliance.control.requests import RequestVerbs
from appliance.control.update_verbs import UpdateVerbs
from appliance.control.updates import Updates
from appliance.control.uploads import Certificates
from appliance.control.verbs import INTERFACE, ROOT, ConfigurationVerbs, problems_plain, refusals, refuse
from appliance.errors import ConfigError
from appliance.session.tables import Tables
from appliance.system.passwords import PasswordAlreadySetError, Passwords, PasswordTooWeakError
from appliance.varlink_socket import VarlinkServer

MAX_MESSAGE = 24 << 20  # a candidate of the greatest size, quoted
MAX_LISTED = 1_000
GROUP = "isthmus"
WEB_USER = "isthmus-web"
# What only the console (and root) may ask: these decide who the admin is, who may use the proxy, and what
# the box does.
_WEB_ONLY = frozenset(
    {
        *("SetFirstPassword", "Authenticate"),
        *("ListUsers", "SetUser", "RemoveUser", "AddGroup", "RemoveGroup"),
        *("GetCandidate", "ListCandidates", "PutCandidate", "MergeCandidate", "DiscardCandidate", "Restore"),
        *("Commit", "Confirm", "Rollback", "Backup", "RestoreBackup"),
        *("InstallUpdate", "UploadUpdate", "Restart", "FactoryReset"),
        *("ListCertificates", "UploadCertificate", "RemoveCertificate", "RenewCertificates"),
        *("SearchHistory", "TopHistory", "HistorySeries", "EraseHistory", "KillSession", "ResetLimit"),
        *("ListRequests", "GrantRequest", "RefuseRequest"),
        *("Ping", "Trace", "LookUpName", "StartCapture", "StopCapture", "GetCapture", "ReadCapture"),
    }
)
# What only root may, who is at the box itself: the console must not be able to give itself a password.
_ROOT_ONLY = frozenset({"ResetPassword"})


class Gate:
    """Who is who on the socket: root and the daemon's own user may all, the console its part."""

    def __init__(self) -> None:
        self._own = os.geteuid()
        self._web = -1
        self._members: set[int] = set()
        with contextlib.suppress(KeyError):
            self._web = pwd.getpwnam(WEB_USER).pw_uid
        with contextlib.suppress(KeyError):
            group = grp.getgrnam(GROUP)
            self._members = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == group.gr_gid}
            for name in group.gr_mem:
                with contextlib.suppress(KeyError):
                    self._members.add(pwd.getpwnam(name).pw_uid)

    def allows(self, uid: int, method: str) -> bool:
        """True where the user may call the method."""
        if uid in (0, self._own):
            return True
        if method in _ROOT_ONLY:
            return False
        if uid == self._web:
            return True
        return method not in _WEB_ONLY and uid in self._members


class Interface(
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
        sessions: Callable[[int, str | None], dict[str, Any]],
        passwords: Passwords,
        end_sessions: Callable[[], None],
        accounts: Accounts,
        commits: Commits,
        tables: Tables,
        meters: Path,
        backups: Backups,
        updates: Updates,
        certificates: Certificates,
    ) -> None:
        ConfigurationVerbs.__init__(self, commits)
        PolicyVerbs.__init__(self, config, commits.drafting, tables, meters)
        RequestVerbs.__init__(self, commits)
        BackupVerbs.__init__(self, backups)
        UpdateVerbs.__init__(self, updates)
        CertificateVerbs.__init__(self, certificates)
        self._config = config
        self._status = status
        self._sessions = sessions
        self._passwords = passwords
        self._end_sessions = end_sessions
        self._accounts = accounts

    def GetStatus(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """The box at a glance."""
        return {"status": self._status()}

    def ListSessions(self, limit: int, search: str | None) -> dict[str, Any]:  # noqa: N802
        """The newest sessions."""
        if not 1 <= limit <= MAX_LISTED:
            raise refuse("InvalidArgument", name="limit", message=f"{limit} is not 1 to {MAX_LISTED}.")
        return self._sessions(limit, search)

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

    def GetSetup(self) -> dict[str, Any]:  # noqa: N802
        """Whether the first boot is done."""
        return {"password_set": self._passwords.is_set()}

    def SetFirstPassword(self, password: str) -> dict[str, Any]:  # noqa: N802
        """The first boot."""
        try:
            self._passwords.set_first(password)
        except PasswordAlreadySetError:
            raise refuse("PasswordAlreadySet") from None
        except PasswordTooWeakError as error:
            raise refuse("PasswordTooWeak", message=error.message) from None
        return {}

    def ResetPassword(self, password: str) -> dict[str, Any]:  # noqa: N802
        """A lost password, or one that others know."""
        try:
            self._passwords.reset(password)
        except PasswordTooWeakError as error:
            raise refuse("PasswordTooWeak", message=error.message) from None
        self._end_sessions()
        return {}

    def Authenticate(self, user: str, password: str, address: str) -> dict[str, Any]:  # noqa: N802
        """Whether this is the user's password."""
        right, wait = self._passwords.authenticate(user, password, address)
        return {"ok": right, "retry_after": wait}

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
    """control.sock, for those whom the gate lets through."""

    request_queue_size = 64

    def __init__(self, path: Path, interface: Interface) -> None:
        super().__init__(path, INTERFACE, interface, Path(__file__).parent, MAX_MESSAGE)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        path.chmod(0o660)
        self._gate = Gate()

    def answer(self, uid: int, message: bytes) -> Iterable[bytes]:
        """The replies to one message of the user's."""
        method = _method_of(message)
        if method and not self._gate.allows(uid, method):
            error = refuse("PermissionDenied", message=f"User {uid} may not call {method}.")
            return [varlink.VarlinkEncoder().encode(error).encode()]
        return super().answer(uid, message)


def _method_of(message: bytes) -> str:
    """The method's name where the call is one of our interface; ValueError where it is no call."""
    call = json.loads(message)
    if not isinstance(call, dict) or not isinstance(call.get("method"), str):
        raise ValueError("not a Varlink call")
    interface, _, method = call["method"].rpartition(".")
    return method if interface == INTERFACE else ""
