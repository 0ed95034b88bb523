"""Users' hashes stay with control: whoever edits a configuration gets marks in their place. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from appliance.config.paths import Plain
from appliance.errors import Problem

# Followed by the name of the user whose hash it stands for, so that a user may be renamed.
KEPT = "$kept$"


def masked(plain: Plain) -> Plain:
    """The configuration with a mark for each hash; what it is made of is not changed."""
    users = plain.get("user")
    if not isinstance(users, list):
        return plain
    return {**plain, "user": [_masked(user) for user in users]}


def _masked(user: Any) -> Any:
    if not isinstance(user, dict) or "password" not in user:
        return user
    # What is no hash may be a password that somebody put there by mistake: shown to nobody either.
    return {**user, "password": f"{KEPT}{user.get('name', '')}"}


def unmasked(plain: Plain, known: Iterable[Plain]) -> tuple[Plain, list[Problem]]:
    """The configuration with the hashes back, each from the first of ``known`` that has the user.

    Where none has, the mark stays, and a problem says so.
    """
    users = plain.get("user")
    if not isinstance(users, list):
        return plain, []
    hashes: dict[str, str] = {}
    for source in known:
        for user in source.get("user", ()):
            if isinstance(user, dict) and isinstance(user.get("password"), str):
                hashes.setdefault(str(user.get("name")), user["password"])
    out: list[Any] = []
    problems = []
    for index, user in enumerate(users):
        mark = user.get("password") if isinstance(user, dict) else None
        if not isinstance(mark, str) or not mark.startswith(KEPT):
            out.append(user)
            continue
        user = dict(user)
        name = mark.removeprefix(KEPT)
        if name in hashes:
            user["password"] = hashes[name]
        else:
            words = f"there is no password of “{name}” to keep."
            hint = f"`isthmus user passwd {user.get('name', 'NAME')}` gives the user one."
            problems.append(Problem(f"user[{index}].password", words, hint, "password"))
        out.append(user)
    return {**plain, "user": out}, problems
