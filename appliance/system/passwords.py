"""Passwords: how new ones are hashed; the console's, in a file of control's own, with a throttle."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHash, VerificationError

from appliance.errors import IsthmusError
from appliance.policy.throttle import Throttle

FIRST_USER = "admin"
MIN_LENGTH = 10
# Longer input would only make hashing a lever for whoever sends it.
MAX_LENGTH = 1024
# RFC 9106's second recommendation, on one lane: 64 MiB, three passes, some 140 ms.
_HASHER = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)


class PasswordTooWeakError(IsthmusError):
    """The password is not taken; the message says why."""

    code = "password-too-weak"


class PasswordAlreadySetError(IsthmusError):
    """There is a first password already."""

    code = "password-already-set"


def hashed(password: str) -> str:
    """The argon2id hash of a new password; PasswordTooWeakError where it is not to be taken."""
    if len(password) < MIN_LENGTH:
        raise PasswordTooWeakError(
            f"The password has {len(password)} characters. It needs at least {MIN_LENGTH}."
        )
    if len(password) > MAX_LENGTH:
        raise PasswordTooWeakError(f"The password is longer than {MAX_LENGTH} characters.")
    made: str = _HASHER.hash(password)
    return made


class Passwords:
    """The file of hashes: ``{"admin": "$argon2id$…"}``, root's alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # One at a time: each hashing takes 64 MiB, a throttle that parallel tries pass together is
        # none, and there is only one first password. A try that is throttled costs the line nothing.
        self._line = threading.Lock()
        self._throttle = Throttle()
        # Verified for unknown users, so that they take as long as known ones.
        self._decoy = _HASHER.hash("no user has this")

    def _load(self) -> dict[str, str]:
        try:
            users: dict[str, str] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        return users

    def is_set(self) -> bool:
        """True once the first password was set."""
        return FIRST_USER in self._load()

    def set_first(self, password: str) -> None:
        """Set the first password; refused once there is one."""
        with self._line:
            if FIRST_USER in self._load():
                raise PasswordAlreadySetError("The password is set already.", "Sign in with it.")
            self._set(password)

    def reset(self, password: str) -> None:
        """Set the password in place of whatever there is. Its failures so far are forgotten."""
        with self._line:
            self._set(password)
            self._throttle.succeeded(f"user {FIRST_USER}")

    def _set(self, password: str) -> None:
        users = {FIRST_USER: hashed(password)}
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.unlink(missing_ok=True)  # of a run that was cut off; its mode need not be ours
        fresh.touch(mode=0o600)
        with fresh.open("w") as stream:
            stream.write(json.dumps(users))
            stream.flush()
            os.fsync(stream.fileno())  # a box is switched off by its plug, right after the first boot too
        fresh.replace(self._path)

    def authenticate(self, user: str, password: str, address: str) -> tuple[bool, float | None]:
        """(right, seconds to wait when throttled). A throttled try is not looked at."""
        with self._line:
            return self._authenticate(user, password, address)

    def _authenticate(self, user: str, password: str, address: str) -> tuple[bool, float | None]:
        now = time.monotonic()
        keys = (f"user {user[:64]}", f"address {address[:64]}")
        wait = max(self._throttle.wait(key, now) for key in keys)
        if wait > 0:
            return False, wait
        known = self._load().get(user)
        try:
            _HASHER.verify(known or self._decoy, password[: MAX_LENGTH + 1])
            right = known is not None
        except (VerificationError, InvalidHash):
            right = False
        for key in keys:
            if right:
                self._throttle.succeeded(key)
            else:
                self._throttle.failed(key, now)
        return right, None
