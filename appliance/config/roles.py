"""Who may do what: the one table that the console, the API, the command line's help and control go by. Pure.

A *role* is an admin's or a token's. A *verb* is a method of org.isthmus.control; each has the least role that
may call it, and a verb that is not in the table is for admins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Role(StrEnum):
    """The least first."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may(self, least: Role) -> bool:
        """Whether what needs ``least`` is allowed to this one."""
        return _RANK[self] >= _RANK[least]


_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}

ABOUT: Mapping[Role, str] = {
    Role.VIEWER: "looks at everything but secrets, and changes nothing",
    Role.OPERATOR: "changes the configuration, users, rules and sessions; no admins, tokens, backups, "
    "updates or certificates",
    Role.ADMIN: "all there is",
}

_VIEWER = (
    *("GetStatus", "GetFigures", "GetTraffic", "ListSessions", "SearchHistory", "TopHistory"),
    *("HistorySeries", "GetHistoryStatus", "GetConfig", "CheckConfig", "GetSetup", "ListUsers", "GetActive"),
    *("GetPending", "ListRevisions", "GetRevision", "GetCandidate", "GetCandidateText", "ListCandidates"),
    *("Explain", "ListLimits", "ListHits", "ListRequests"),
    *("ListCertificates", "GetUpdate", "GetAccess", "GetCapture"),
    # One's own account, which the gate sees to.
    *("ChangePassword", "BeginTotp", "ConfirmTotp", "EndTotp"),
)
_OPERATOR = (
    *("PutCandidate", "MergeCandidate", "DiscardCandidate", "Restore", "Commit", "Confirm", "Rollback"),
    *("SetUser", "RemoveUser", "AddGroup", "RemoveGroup", "KillSession", "EraseHistory", "ResetLimit"),
    *("GrantRequest", "RefuseRequest", "Ping", "Trace", "LookUpName", "Cross"),
)
_ADMIN = (
    *("ListAdmins", "AddAdmin", "SetAdmin", "RemoveAdmin", "ListTokens", "AddToken", "RemoveToken"),
    *("ListAudit", "VerifyAudit", "Backup", "RestoreBackup", "ResetPassword"),
    *("UploadCertificate", "RemoveCertificate", "RenewCertificates"),
    *("InstallUpdate", "UploadUpdate", "Restart", "FactoryReset"),
    *("StartCapture", "StopCapture", "ReadCapture"),
)
VERBS: Mapping[str, Role] = {
    **dict.fromkeys(_VIEWER, Role.VIEWER),
    **dict.fromkeys(_OPERATOR, Role.OPERATOR),
    **dict.fromkeys(_ADMIN, Role.ADMIN),
}
# What comes before anybody has a role: the console asks these in nobody's name.
BEFORE_A_ROLE = frozenset({"GetSetup", "GetAccess", "SetFirstPassword", "Authenticate", "VerifyToken"})
# Of one's own account: the verb's ``name`` has to be who asks.
OWN = frozenset({"ChangePassword", "BeginTotp", "ConfirmTotp", "EndTotp"})
# Settings that only admins commit: they decide who sees what, and which program runs.
ADMIN_PATHS = ("console.metrics_token", "console.viewers_see_clients", "console.names", "update")


def least(verb: str) -> Role:
    """The role that a verb of org.isthmus.control takes."""
    return VERBS.get(verb, Role.ADMIN)


def for_admins(paths: Iterable[str]) -> list[str]:
    """Those of the changed paths that only admins commit."""
    return [
        path
        for path in paths
        if any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in ADMIN_PATHS)
    ]
