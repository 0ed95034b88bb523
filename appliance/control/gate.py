"""Who is who on the control socket, what each may ask, and what is written down of it.

A call may carry, beside its method and parameters, an ``actor``: in whose name the console calls. The console
is trusted to have looked at the password or the token; what that admin may do is looked at here.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.config.roles import BEFORE_A_ROLE, OWN, Role, least
from appliance.control.audit import Audit

GROUP = "isthmus"
WEB_USER = "isthmus-web"
# What only the console (and root) may ask: these decide who the admin is, who may use the proxy, and what
# the box does.
_WEB_ONLY = frozenset(
    {
        *("SetFirstPassword", "Authenticate", "GetAccess", "VerifyToken", "ListAudit", "VerifyAudit"),
        *("ListAdmins", "AddAdmin", "SetAdmin", "RemoveAdmin", "ListTokens", "AddToken", "RemoveToken"),
        *("ChangePassword", "BeginTotp", "ConfirmTotp", "EndTotp"),
        *("ListUsers", "SetUser", "RemoveUser", "AddGroup", "RemoveGroup"),
        *(
            "GetCandidate",
            "GetCandidateText",
            "ListCandidates",
            "PutCandidate",
            "MergeCandidate",
            "DiscardCandidate",
            "Restore",
        ),
        *("Commit", "Confirm", "Rollback", "Backup", "RestoreBackup"),
        *("InstallUpdate", "UploadUpdate", "Restart", "FactoryReset"),
        *("ListCertificates", "UploadCertificate", "RemoveCertificate", "RenewCertificates"),
        *("SearchHistory", "TopHistory", "HistorySeries", "EraseHistory", "KillSession", "ResetLimit"),
        *("ListRequests", "GrantRequest", "RefuseRequest"),
        *("Ping", "Trace", "LookUpName", "Cross", "StartCapture", "StopCapture", "GetCapture", "ReadCapture"),
    }
)
# What only root may, who is at the box itself: the console must not be able to give itself a password.
_ROOT_ONLY = frozenset({"ResetPassword"})


@dataclass(frozen=True, slots=True)
class Actor:
    """In whose name a call is made. ``role``: None where nobody has signed in yet. ``via``: console | api |
    box (root at the box) | local (another user of the box's)."""

    name: str
    role: Role | None
    via: str
    address: str = ""


class Gate:
    """Root and the daemon's own user may all, the console what its admin may, the group a little."""

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
        """True where the user may call the method, for some admin or other."""
        if uid in (0, self._own):
            return True
        if method in _ROOT_ONLY:
            return False
        if uid == self._web:
            return True
        return method not in _WEB_ONLY and uid in self._members

    def actor(self, uid: int, given: object, parameters: Mapping[str, Any]) -> Actor:
        """Who calls; ValueError where ``given`` is no actor."""
        trusted = uid in (0, self._own, self._web)
        if trusted and isinstance(given, dict):
            return Actor(
                str(given.get("name", ""))[:64],
                Role(given["role"]) if given.get("role") else None,
                str(given.get("via", "console"))[:16],
                str(given.get("address", ""))[:64],
            )
        if uid in (0, self._own):
            return Actor(str(parameters.get("author") or "root")[:64], Role.ADMIN, "box")
        return Actor(
            "", None if uid == self._web else Role.VIEWER, "console" if uid == self._web else "local"
        )


def refused(actor: Actor, method: str, parameters: Mapping[str, Any]) -> str | None:
    """Why this actor may not call the method; None where it may."""
    if method in BEFORE_A_ROLE:
        return None
    # The console asks in nobody's name for what stands around its pages, and for /metrics.
    role = actor.role or Role.VIEWER
    needed = least(method)
    if not role.may(needed):
        return f"This takes the role {needed}, and “{actor.name}” has the role {role}."
    if actor.via == "box":
        return None
    if method in OWN and (actor.via != "console" or parameters.get("name") != actor.name):
        return "Only who has signed in changes that of its own account."
    if "author" in parameters and needed is not Role.VIEWER and parameters["author"] != actor.name:
        return f"“{actor.name}” cannot change anything in the name of somebody else."
    return None


# What is written down of a verb: the action's name, and the parameters (never a password, a key or a token).
AUDITED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "SetFirstPassword": ("first-password", ()),
    "ResetPassword": ("password-reset", ()),
    "ChangePassword": ("password-change", ("name",)),
    "ConfirmTotp": ("totp-on", ("name",)),
    "EndTotp": ("totp-off", ("name",)),
    "AddAdmin": ("admin-add", ("name", "role")),
    "SetAdmin": ("admin-change", ("name", "role")),
    "RemoveAdmin": ("admin-remove", ("name",)),
    "AddToken": ("token-add", ("name", "role", "expires")),
    "RemoveToken": ("token-remove", ("name",)),
    "SetUser": ("user-set", ("name", "groups")),
    "RemoveUser": ("user-remove", ("name",)),
    "AddGroup": ("group-add", ("name",)),
    "RemoveGroup": ("group-remove", ("name",)),
    "Restore": ("revision-restore", ("number",)),
    "Commit": ("commit", ("revision", "comment", "confirm_seconds")),
    "Confirm": ("confirm", ("revision",)),
    "Rollback": ("rollback", ("revision",)),
    "Backup": ("backup", ()),
    "RestoreBackup": ("backup-restore", ("identity",)),
    "UploadCertificate": ("certificate-upload", ()),
    "RemoveCertificate": ("certificate-remove", ()),
    "RenewCertificates": ("certificate-renew", ()),
    "InstallUpdate": ("update-install", ("source", "restart")),
    "Restart": ("restart", ()),
    "FactoryReset": ("factory-reset", ()),
    "StartCapture": ("capture", ("device", "host", "port", "seconds")),
    "ReadCapture": ("capture-read", ()),
    "KillSession": ("session-kill", ("id", "killed")),
    "EraseHistory": ("history-erase", ()),
    "ResetLimit": ("limit-reset", ("limit", "subject")),
    "GrantRequest": ("request-grant", ("id", "seconds", "rule")),
    "RefuseRequest": ("request-refuse", ("id",)),
}
# A token's drafts are written down too: "token use that writes".
_DRAFTS = {
    "PutCandidate": ("candidate-put", ()),
    "MergeCandidate": ("candidate-merge", ("mine",)),
    "DiscardCandidate": ("candidate-discard", ()),
}


def _audited(actor: Actor, method: str) -> tuple[str, tuple[str, ...]] | None:
    return AUDITED.get(method) or (_DRAFTS.get(method) if actor.via == "api" else None)


def is_audited(actor: Actor, method: str) -> bool:
    """Whether the call is written down."""
    return _audited(actor, method) is not None


def write_down(
    audit: Audit, actor: Actor, method: str, parameters: Mapping[str, Any], reply: Mapping[str, Any]
) -> None:
    """What became of a call; nothing where it only looked."""
    known = _audited(actor, method)
    if known is None:
        return
    action, names = known
    if method == "ReadCapture" and parameters.get("offset"):
        return  # the file's other parts: who had the first is written down
    error = str(reply.get("error", "")).rpartition(".")[2]
    answer = reply.get("parameters") or {}
    both = {**parameters, **({} if error else answer)}
    about = " ".join(f"{name}={both[name]}" for name in names if both.get(name) not in (None, ""))
    who = {
        "who": actor.name, "role": str(actor.role or ""), "via": actor.via, "address": actor.address,
    }  # fmt: skip
    if method in OWN and not error and answer.get("ok") is False:
        audit.failed(action, about, **who)
    else:
        audit.note(f"refused: {error}" if error else "done", action, about, **who)
