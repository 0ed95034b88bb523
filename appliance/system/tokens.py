"""Tokens of the API: random, shown once, kept as digests, with a role and an end."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.config.fields import account_name
from appliance.config.roles import Role
from appliance.errors import IsthmusError
from appliance.system.principals import Principals, Token

# What a token begins with, so that people and scanners of repositories know it by sight.
PREFIX = "isthmus_"
# 256 bits: nobody guesses one, so that a plain digest will do.
TOKEN_OCTETS = 32
MAX_TOKENS = 256
# Seconds between two writes of when tokens were used last. Shorter writes the disk at each call of a poller;
# what a power cut loses is as long.
USED_INTERVAL = 60.0


class TokenError(IsthmusError):
    """The token is not made, or not removed; the message says why."""

    code = "token-refused"


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Tokens:
    """The tokens of ``principals``; ``used`` is the file with when each was used last."""

    def __init__(self, principals: Principals, used: Path, wall: Callable[[], float] = time.time) -> None:
        self._principals = principals
        self._path = used
        self._wall = wall
        self._line = threading.Lock()
        self._used: dict[str, float] = {}
        try:
            found = json.loads(used.read_text())
            self._used = {str(name): float(when) for name, when in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            pass  # nobody has used one, or it is damaged: no more than a figure is lost
        self._written = 0.0

    def listed(self) -> list[dict[str, Any]]:
        """The varlink type ``Token`` of each, by name."""
        return [self.public(one) for _name, one in sorted(self._principals.known().tokens.items())]

    def public(self, token: Token) -> dict[str, Any]:
        """The varlink type ``Token``: nothing secret."""
        return {
            "name": token.name, "role": str(token.role), "created": token.created, "expires": token.expires,
            "last_used": self._used.get(token.name), "by": token.by,
        }  # fmt: skip

    def add(self, name: str, role: Role, expires: float | None, by: str) -> str:
        """Make one; the token itself, told this once. ``expires``: seconds since 1970."""
        try:
            account_name(name)
        except ValueError as error:
            raise TokenError(f"{error}.", "Choose another one.") from None
        now = self._wall()
        if expires is not None and expires <= now:
            raise TokenError("The token would have ended already.", "Give it an end that is to come.")
        with self._line:
            known = self._principals.known().tokens
            if name in known:
                raise TokenError(
                    f"There is a token “{name}” already.", "`isthmus token remove` takes it away."
                )
            if len(known) >= MAX_TOKENS:
                raise TokenError(f"There are {MAX_TOKENS} tokens already.", "Remove one first.")
            token = PREFIX + secrets.token_urlsafe(TOKEN_OCTETS)
            made = Token(name, role, digest_of(token), now, expires, by)
            self._used.pop(name, None)
            self._principals.change(lambda before: before.with_token(made))
        return token

    def remove(self, name: str) -> None:
        """It counts no longer."""
        with self._line:
            if name not in self._principals.known().tokens:
                raise TokenError(f"There is no token “{name}”.", "`isthmus token list` shows all.")
            self._used.pop(name, None)
            self._principals.change(
                lambda known: replace(
                    known, tokens={key: one for key, one in known.tokens.items() if key != name}
                )
            )

    def find(self, digest: str) -> Token | None:
        """The token of this digest, if it counts now. One with an end does not while the clock is before its
        making: a box without battery begins in 1970."""
        now = self._wall()
        found = None
        for token in self._principals.known().tokens.values():
            if hmac.compare_digest(token.digest.encode(), digest.encode("utf-8", "replace")):
                found = token
        if found is None or (found.expires is not None and not found.created <= now < found.expires):
            return None
        with self._line:
            self._used[found.name] = now
            if abs(now - self._written) >= USED_INTERVAL:
                self._written = now
                try:
                    self._path.write_text(json.dumps(self._used))
                except OSError:
                    pass  # a full disk stops nobody's work
        return found
