"""Passwords: how new ones are hashed, and verified in the same time whether or not there is an account."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHash, VerificationError

from appliance.config.fields import MIN_PASSWORD
from appliance.errors import IsthmusError

# Longer input would only make hashing a lever for whoever sends it.
MAX_LENGTH = 1024
# RFC 9106's second recommendation, on one lane: 64 MiB, three passes, some 140 ms.
_HASHER = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)


class PasswordTooWeakError(IsthmusError):
    """The password is not taken; the message says why."""

    code = "password-too-weak"


def hashed(password: str) -> str:
    """The argon2id hash of a new password; PasswordTooWeakError where it is not to be taken."""
    if len(password) < MIN_PASSWORD:
        raise PasswordTooWeakError(
            f"The password has {len(password)} characters. It needs at least {MIN_PASSWORD}."
        )
    if len(password) > MAX_LENGTH:
        raise PasswordTooWeakError(f"The password is longer than {MAX_LENGTH} characters.")
    made: str = _HASHER.hash(password)
    return made


# Verified where there is no account, which then takes as long as one.
_DECOY: str = _HASHER.hash("no account has this")


def verified(kept: str | None, password: str) -> bool:
    """Whether this is the password of the hash; as slow, and False, where there is none."""
    try:
        _HASHER.verify(kept or _DECOY, password[: MAX_LENGTH + 1])
    except (VerificationError, InvalidHash):
        return False
    return kept is not None
