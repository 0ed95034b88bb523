"""The console's admins: passwords, roles, one-time codes; a throttle by account and by address."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from appliance.config.fields import account_name
from appliance.config.roles import Role
from appliance.errors import IsthmusError
from appliance.policy.throttle import Throttle
from appliance.system import totp
from appliance.system.passwords import hashed, verified
from appliance.system.principals import FIRST_ADMIN, Admin, Principals

# Of accounts. More is a directory's matter; each costs a line of a file that is read whole.
MAX_ADMINS = 64
# Codes for a lost phone, each good once. Fewer are soon used up, more are a page that nobody keeps.
RECOVERY_CODES = 10
_RECOVERY_OCTETS = 10  # 80 bits: nobody guesses them, so that a plain digest will do
# A secret that was shown and not yet confirmed. Shorter ends while somebody installs an authenticator.
ENROL_SECONDS = 900.0
ISSUER = "Isthmus"


class AdminError(IsthmusError):
    """The account is not changed; the message says why."""

    code = "admin-refused"


class PasswordAlreadySetError(IsthmusError):
    """There is a first password already."""

    code = "password-already-set"


def _new_epoch() -> int:
    """An account's first one: a browser of an earlier account of that name is not this one's."""
    return secrets.randbits(40) + 1


@dataclass(frozen=True, slots=True)
class SignIn:
    """What became of a try. ``wait``: it was throttled, and not looked at. ``code_wanted``: the password is
    right, and the account wants a code too."""

    right: bool = False
    wait: float | None = None
    code_wanted: bool = False


def public(admin: Admin) -> dict[str, Any]:
    """The varlink type ``Admin``: nothing secret."""
    return {
        "name": admin.name,
        "role": str(admin.role),
        "epoch": admin.epoch,
        "totp": admin.totp is not None,
        "recovery_left": len(admin.recovery),
    }


class Admins:
    """The accounts of ``principals``. ``wall`` is the clock that codes go by."""

    def __init__(self, principals: Principals, wall: Callable[[], float] = time.time) -> None:
        self._principals = principals
        self._wall = wall
        # One at a time: each hashing takes 64 MiB, and a throttle that parallel tries pass together is none.
        # A try that is throttled costs the line nothing.
        self._line = threading.Lock()
        self._throttle = Throttle()
        self._enrolling: dict[str, tuple[float, str, int]] = {}  # when, the secret, the account's epoch

    # -- looking ---------------------------------------------------------------------------------

    def is_set(self) -> bool:
        """True once the first password was set."""
        return bool(self._principals.known().admins)

    def find(self, name: str) -> Admin | None:
        """The account."""
        return self._principals.known().admins.get(name)

    def all(self) -> list[Admin]:
        """By name."""
        return [one for _name, one in sorted(self._principals.known().admins.items())]

    def _get(self, name: str) -> Admin:
        found = self.find(name)
        if found is None:
            raise AdminError(f"There is no admin “{name}”.", "`isthmus admin list` shows all.")
        return found

    # -- changing --------------------------------------------------------------------------------

    def set_first(self, password: str) -> None:
        """Make the first account; refused once there is one."""
        with self._line:
            if self.is_set():
                raise PasswordAlreadySetError("The password is set already.", "Sign in with it.")
            self._keep(Admin(FIRST_ADMIN, Role.ADMIN, hashed(password)))

    def reset(self, password: str) -> None:
        """Let “admin” in by this password alone, whatever there was. Its failures so far are forgotten."""
        with self._line:
            before = self.find(FIRST_ADMIN)
            epoch = before.epoch + 1 if before else _new_epoch()
            self._keep(Admin(FIRST_ADMIN, Role.ADMIN, hashed(password), epoch))
            self._throttle.succeeded(f"user {FIRST_ADMIN}")

    def add(self, name: str, password: str, role: Role) -> None:
        """Add an account."""
        try:
            account_name(name)
        except ValueError as error:
            raise AdminError(f"{error}.", "Choose another one.") from None
        with self._line:
            if self.find(name) is not None:
                raise AdminError(f"There is an admin “{name}” already.", "`isthmus admin list` shows all.")
            if len(self.all()) >= MAX_ADMINS:
                raise AdminError(f"There are {MAX_ADMINS} admins already.", "Remove one first.")
            self._keep(Admin(name, role, hashed(password), _new_epoch()))

    def change(self, name: str, password: str | None, role: Role | None, without_totp: bool) -> None:
        """What one admin changes of another's; its sessions end."""
        with self._line:
            admin = self._get(name)
            if role is not None and role is not Role.ADMIN:
                self._check_another(name)
            changed = replace(admin, epoch=admin.epoch + 1, role=role or admin.role)
            if password is not None:
                changed = replace(changed, password=hashed(password))
                self._throttle.succeeded(f"user {name}")
            if without_totp:
                changed = replace(changed, totp=None, totp_step=0, recovery=())
            self._keep(changed)

    def remove(self, name: str) -> None:
        """Remove an account; never the last that may do all."""
        with self._line:
            self._get(name)
            self._check_another(name)
            self._principals.change(
                lambda known: replace(
                    known, admins={key: one for key, one in known.admins.items() if key != name}
                )
            )

    def _check_another(self, name: str) -> None:
        others = [one for one in self.all() if one.name != name]
        if self._get(name).role is Role.ADMIN and all(one.role is not Role.ADMIN for one in others):
            raise AdminError(
                f"“{name}” is the last account with the role admin.", "Give another one that role first."
            )

    def _keep(self, admin: Admin) -> None:
        self._principals.change(lambda known: known.with_admin(admin))

    # -- signing in ------------------------------------------------------------------------------

    def authenticate(self, name: str, password: str, address: str, code: str | None = None) -> SignIn:
        """Whether name, password and, where the account has one, code are right."""
        with self._line:
            now = time.monotonic()
            keys = _throttled_by(name, address)
            wait = self._wait(keys, now)
            if wait > 0:
                return SignIn(wait=wait)
            admin = self.find(name)
            right = verified(admin.password if admin else None, password)
            if right and admin is not None and admin.totp is not None:
                if not code:
                    return SignIn(code_wanted=True)
                right = self._use_code(admin, code)
            for key in keys:
                if right:
                    self._throttle.succeeded(key)
                else:
                    self._throttle.failed(key, now)
            return SignIn(right=right)

    def _use_code(self, admin: Admin, code: str) -> bool:
        """Take a one-time code, or one for a lost phone; neither counts again."""
        assert admin.totp is not None
        step = totp.matching(admin.totp, code, self._wall(), admin.totp_step)
        if step is not None:
            self._keep(replace(admin, totp_step=step))
            return True
        digest = _digest(code)
        if digest in admin.recovery:
            left = tuple(one for one in admin.recovery if one != digest)
            self._keep(replace(admin, recovery=left))
            return True
        return False

    def change_password(self, name: str, old: str, new: str, address: str) -> SignIn:
        """One's own; other sessions end. PasswordTooWeakError where the new one is not to be taken."""
        return self._change_own(
            name, old, address, lambda admin: replace(admin, password=hashed(new), epoch=admin.epoch + 1)
        )

    def _change_own(self, name: str, password: str, address: str, how: Callable[[Admin], Admin]) -> SignIn:
        """Change the account for whoever knows its password; a wrong one counts as at the sign-in, a right
        one does not make up for wrong ones."""
        with self._line:
            now = time.monotonic()
            keys = _throttled_by(name, address)
            wait = self._wait(keys, now)
            if wait > 0:
                return SignIn(wait=wait)
            admin = self._get(name)
            if not verified(admin.password, password):
                for key in keys:
                    self._throttle.failed(key, now)
                return SignIn()
            self._keep(how(admin))
            return SignIn(right=True)

    def _wait(self, keys: tuple[str, str], now: float) -> float:
        return max(self._throttle.wait(key, now) for key in keys)

    # -- one-time codes --------------------------------------------------------------------------

    def begin_totp(self, name: str) -> tuple[str, str]:
        """(secret, URI for an authenticator); in force once a code of it was typed."""
        admin = self._get(name)
        if admin.totp is not None:
            raise AdminError("This account has one-time codes already.", "Switch them off first.")
        now = time.monotonic()
        with self._line:
            # The same for a page that is loaded again.
            secret = self._begun(admin, now) or totp.new_secret()
            self._enrolling[name] = (now, secret, admin.epoch)
        return secret, totp.uri(secret, name, ISSUER)

    def _begun(self, admin: Admin, now: float) -> str:
        """The secret that is still to be confirmed, empty where there is none: it ends with the sessions."""
        since, secret, epoch = self._enrolling.get(admin.name, (now, "", admin.epoch))
        return secret if epoch == admin.epoch and now - since <= ENROL_SECONDS else ""

    def confirm_totp(self, name: str, code: str) -> list[str]:
        """Codes for a lost phone, told this once; empty where the code is wrong."""
        with self._line:
            admin = self._get(name)
            secret = self._begun(admin, time.monotonic())
            if not secret:
                raise AdminError("The secret is too old.", "Begin anew.")
            step = totp.matching(secret, code, self._wall(), 0)
            if step is None:
                return []
            del self._enrolling[name]
            made = [_recovery_code() for _ in range(RECOVERY_CODES)]
            digests = tuple(_digest(one) for one in made)
            self._keep(replace(admin, totp=secret, totp_step=step, recovery=digests))
            return made

    def end_totp(self, name: str, password: str, address: str) -> SignIn:
        """Switch them off; takes the password, for a session that was left open must not do."""
        return self._change_own(
            name, password, address, lambda admin: replace(admin, totp=None, totp_step=0, recovery=())
        )


def _throttled_by(name: str, address: str) -> tuple[str, str]:
    """What wrong passwords are counted by."""
    return f"user {name[:64]}", f"address {address[:64]}"


def _recovery_code() -> str:
    text = secrets.token_hex(_RECOVERY_OCTETS)
    return "-".join(text[at : at + 5] for at in range(0, len(text), 5))


def _digest(code: str) -> str:
    bare = code.strip().lower().replace("-", "").replace(" ", "")
    return hashlib.sha256(bare.encode()).hexdigest()
