"""The verbs of org.isthmus.control about who may use the console and the API, and what was done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appliance.config import Config
from appliance.config.roles import Role
from appliance.control.audit import MAX_PAGE, Audit
from appliance.control.verbs import refusals, refuse
from appliance.errors import IsthmusError
from appliance.system.admins import Admins, PasswordAlreadySetError, SignIn, public
from appliance.system.passwords import PasswordTooWeakError
from appliance.system.tokens import Tokens


class RoleError(IsthmusError):
    """There is no such role."""

    code = "role"


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        roles = ", ".join(Role)
        raise RoleError(f"“{name}” is no role.", f"There is: {roles}.") from None


def _told(found: SignIn) -> dict[str, Any]:
    return {"ok": found.right, "retry_after": found.wait}


class AccessVerbs:
    """Methods are named as in the interface file.

    ``config``: the one in force; ``discard``: somebody's candidate.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        admins: Admins,
        tokens: Tokens,
        audit: Audit,
        end_sessions: Callable[[], None],
        discard: Callable[[str], None],
    ) -> None:
        self._access_config = config
        self._admins = admins
        self._tokens = tokens
        self.audit = audit
        self._end_sessions = end_sessions
        self._discard = discard

    # -- the first boot, and signing in ------------------------------------------------------------

    def GetSetup(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """Whether the first boot is done."""
        return {"password_set": self._admins.is_set()}

    def GetAccess(self, name: str | None) -> dict[str, Any]:  # noqa: N802
        """What the console has to know at each request."""
        config = self._access_config()
        admin = self._admins.find(name) if name else None
        return {
            "password_set": self._admins.is_set(),
            "codes": any(one.totp is not None for one in self._admins.all()),
            "names": [config.system.hostname, *config.console.names],
            "admin": public(admin) if admin else None,
        }

    def SetFirstPassword(self, password: str) -> dict[str, Any]:  # noqa: N802
        """The first boot."""
        try:
            self._admins.set_first(password)
        except PasswordAlreadySetError:
            raise refuse("PasswordAlreadySet") from None
        except PasswordTooWeakError as error:
            raise refuse("PasswordTooWeak", message=error.message) from None
        return {}

    def ResetPassword(self, password: str) -> dict[str, Any]:  # noqa: N802
        """A lost password, or one that others know."""
        try:
            self._admins.reset(password)
        except PasswordTooWeakError as error:
            raise refuse("PasswordTooWeak", message=error.message) from None
        self._end_sessions()
        return {}

    def Authenticate(  # noqa: N802
        self, user: str, password: str, address: str, code: str | None
    ) -> dict[str, Any]:
        """Whether these are the admin's password and code."""
        found = self._admins.authenticate(user, password, address, code)
        known = self._admins.find(user)
        # Who types a password where the name belongs must not find it in the log.
        who = {"who": user if known else "(nobody)", "via": "console", "address": address}
        if found.right:
            self.audit.note("done", "sign-in", role=str(known.role) if known else "", **who)
        elif not found.code_wanted and found.wait is None:
            self.audit.failed("sign-in", **who)
        admin = public(known) if known and found.right else None
        return {**_told(found), "code_wanted": found.code_wanted, "admin": admin}

    # -- one's own account -------------------------------------------------------------------------

    def ChangePassword(self, name: str, old: str, new: str, address: str) -> dict[str, Any]:  # noqa: N802
        """One's own."""
        with refusals():
            return _told(self._admins.change_password(name, old, new, address))

    def BeginTotp(self, name: str) -> dict[str, Any]:  # noqa: N802
        """A secret to be confirmed."""
        with refusals():
            secret, uri = self._admins.begin_totp(name)
        return {"secret": secret, "uri": uri}

    def ConfirmTotp(self, name: str, code: str) -> dict[str, Any]:  # noqa: N802
        """From now on sign-in takes a code."""
        with refusals():
            recovery = self._admins.confirm_totp(name, code)
        return {"ok": bool(recovery), "recovery": recovery}

    def EndTotp(self, name: str, password: str, address: str) -> dict[str, Any]:  # noqa: N802
        """From now on it does not."""
        with refusals():
            return _told(self._admins.end_totp(name, password, address))

    # -- admins ------------------------------------------------------------------------------------

    def ListAdmins(self) -> dict[str, Any]:  # noqa: N802
        """All accounts."""
        return {"admins": [public(one) for one in self._admins.all()]}

    def AddAdmin(self, name: str, password: str, role: str) -> dict[str, Any]:  # noqa: N802
        """One more."""
        with refusals():
            self._admins.add(name, password, _role(role))
        return {}

    def SetAdmin(  # noqa: N802
        self, name: str, password: str | None, role: str | None, without_totp: bool
    ) -> dict[str, Any]:
        """Change what is given."""
        with refusals():
            self._admins.change(name, password, _role(role) if role is not None else None, without_totp)
        return {}

    def RemoveAdmin(self, name: str) -> dict[str, Any]:  # noqa: N802
        """One less."""
        with refusals():
            self._admins.remove(name)
            self._discard(name)  # the next of that name begins with nothing
        return {}

    # -- tokens ------------------------------------------------------------------------------------

    def ListTokens(self) -> dict[str, Any]:  # noqa: N802
        """All tokens, without themselves."""
        return {"tokens": self._tokens.listed()}

    def AddToken(  # noqa: N802
        self, name: str, role: str, expires: float | None, author: str | None
    ) -> dict[str, Any]:
        """A new one, told this once."""
        with refusals():
            return {"token": self._tokens.add(name, _role(role), expires, author or "root")}

    def RemoveToken(self, name: str) -> dict[str, Any]:  # noqa: N802
        """It counts no longer."""
        with refusals():
            self._tokens.remove(name)
        return {}

    def VerifyToken(self, digest: str, address: str) -> dict[str, Any]:  # noqa: N802
        """Whose digest this is."""
        found = self._tokens.find(digest)
        if found is None:
            self.audit.failed("token-use", via="api", address=address)
        return {"token": self._tokens.public(found) if found else None}

    # -- the audit log -----------------------------------------------------------------------------

    def ListAudit(self, filters: dict[str, Any], cursor: int | None, limit: int) -> dict[str, Any]:  # noqa: N802
        """A page of it."""
        if not 1 <= limit <= MAX_PAGE:
            raise refuse("InvalidArgument", name="limit", message=f"{limit} is not 1 to {MAX_PAGE}.")
        entries, following = self.audit.page(filters, cursor, limit)
        return {"entries": entries, "cursor": following}

    def VerifyAudit(self) -> dict[str, Any]:  # noqa: N802
        """Whether it is whole."""
        found = self.audit.verify()
        return {"entries": found.entries, "problem": found.problem, "head": found.head}
