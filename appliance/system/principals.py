"""Admins and tokens, in one file of control's own: who may use the console and the API.

They are no part of the configuration: a rollback or an old revision would bring back a password that was
changed, or a token that was removed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.config.roles import Role
from appliance.files import put

FIRST_ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Admin:
    """An account of the console. ``epoch`` grows with each change that ends its sessions.

    ``totp`` is its secret, ``totp_step`` the last step whose code was used; ``recovery`` are digests.
    """

    name: str
    role: Role
    password: str
    epoch: int = 1
    totp: str | None = None
    totp_step: int = 0
    recovery: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """Of the API. ``digest`` is SHA-256 of the token; ``created`` and ``expires`` are seconds since 1970."""

    name: str
    role: Role
    digest: str
    created: float
    expires: float | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """All of them, by name."""

    admins: Mapping[str, Admin] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)

    def with_admin(self, admin: Admin) -> Known:
        """With the account added or changed."""
        return replace(self, admins={**self.admins, admin.name: admin})

    def with_token(self, token: Token) -> Known:
        """With the token added."""
        return replace(self, tokens={**self.tokens, token.name: token})


def read(text: str) -> Known:
    """What the file holds. A single password of the first releases is the account “admin”."""
    plain: dict[str, Any] = json.loads(text)
    if isinstance(plain.get(FIRST_ADMIN), str):
        return Known({FIRST_ADMIN: Admin(FIRST_ADMIN, Role.ADMIN, plain[FIRST_ADMIN])})
    admins = {
        name: Admin(
            **{**one, "name": name, "role": Role(one["role"]), "recovery": tuple(one.get("recovery", ()))}
        )
        for name, one in plain.get("admins", {}).items()
    }
    tokens = {
        name: Token(**{**one, "name": name, "role": Role(one["role"])})
        for name, one in plain.get("tokens", {}).items()
    }
    return Known(admins, tokens)


def written(known: Known) -> str:
    """The file's text."""
    return json.dumps(
        {
            "admins": {name: asdict(one) for name, one in known.admins.items()},
            "tokens": {name: asdict(one) for name, one in known.tokens.items()},
        }
    )


class Principals:
    """The file, for one process: whoever changes it holds ``line``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.line = threading.RLock()
        self._seen: tuple[object, Known] = (None, Known())

    def known(self) -> Known:
        """As the file is now; a restored backup replaces it under us."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return Known()
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if self._seen[0] != stamp:
            self._seen = (stamp, read(self._path.read_text()))
        return self._seen[1]

    def change(self, how: Callable[[Known], Known]) -> None:
        """Put the file in its changed form; whole, and on the disk when this returns."""
        with self.line:
            put(self._path, written(how(self.known())))  # a box is switched off by its plug
