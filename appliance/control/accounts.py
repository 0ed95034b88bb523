"""Users and groups of the explicit proxy: changed in the configuration's file, and applied at once.

A change is made to the text, which keeps its comments; the whole file is validated before it is written, so
that nothing is half-applied. What else was changed in the file is applied with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from appliance.config import Config, parse
from appliance.config.codec import read_text
from appliance.config.edit import Value, remove_entry, set_entry
from appliance.config.fields import account_name
from appliance.config.schema import as_plain
from appliance.errors import IsthmusError
from appliance.system.passwords import hashed


class AccountError(IsthmusError):
    """The change is not made; the message says why, the hint what to do."""

    code = "account-refused"


class Accounts:
    """The users and groups of the file at ``path``.

    ``change`` puts a text in force, as the author's revision with a comment. ``line`` is held while the file
    is looked at and changed: one change at a time, and one hashing.
    """

    def __init__(
        self, path: Path, change: Callable[[str, str, str], None], line: AbstractContextManager[Any]
    ) -> None:
        self._path = path
        self._put_in_force = change
        self._line = line
        self._parsed: tuple[str, Config] | None = None  # the file as it was read last

    def listed(self) -> dict[str, Any]:
        """The varlink types ``User`` and ``Group``, of the file as it is."""
        config = self._read()[1]
        return {
            "users": [
                {"name": user.name, "groups": list(user.groups), "has_password": user.password is not None}
                for user in config.user
            ],
            "groups": [
                {"name": group.name, "users": sum(group.name in user.groups for user in config.user)}
                for group in config.group
            ],
        }

    def set_user(
        self, name: str, groups: list[str] | None, password: str | None, new: bool, author: str
    ) -> None:
        """Add a user, or change what is given of one; AccountError where nothing is changed."""
        _check_name(name)
        with self._line:
            text, config = self._read()
            known = any(user.name == name for user in config.user)
            if new and known:
                raise AccountError(
                    f"There is a user “{name}” already.",
                    f"`isthmus user passwd {name}` and `isthmus user groups {name}` change it.",
                )
            if not (new or known):
                raise _no_such("user", name, (user.name for user in config.user))
            values: dict[str, Value] = {}
            if groups is not None or new:
                values["groups"] = list(dict.fromkeys(groups or ()))
                self._check_groups(config, values["groups"])
            if password is not None:
                values["password"] = hashed(password)
            self._change(author, text, config, "user", name, values)

    def set_group(self, name: str, author: str) -> None:
        """Add a group."""
        _check_name(name)
        with self._line:
            text, config = self._read()
            if any(group.name == name for group in config.group):
                raise AccountError(f"There is a group “{name}” already.", "`isthmus group list` shows all.")
            self._change(author, text, config, "group", name, {})

    def remove_user(self, name: str, author: str) -> None:
        """Remove a user. What it opened goes on; nothing new is opened for it."""
        with self._line:
            text, config = self._read()
            if all(user.name != name for user in config.user):
                raise _no_such("user", name, (user.name for user in config.user))
            self._change(author, text, config, "user", name, None)

    def remove_group(self, name: str, author: str) -> None:
        """Remove a group that no user is in."""
        with self._line:
            text, config = self._read()
            if all(group.name != name for group in config.group):
                raise _no_such("group", name, (group.name for group in config.group))
            inside = [user.name for user in config.user if name in user.groups]
            if inside:
                raise AccountError(
                    f"Group “{name}” has {len(inside)} user{'s' if len(inside) != 1 else ''}: "
                    f"{', '.join(inside[:5])}{' …' if len(inside) > 5 else ''}.",
                    "Give them other groups first: `isthmus user groups NAME --group …`.",
                )
            self._change(author, text, config, "group", name, None)

    @staticmethod
    def _check_groups(config: Config, groups: Iterable[str]) -> None:
        known = [group.name for group in config.group]
        for group in groups:
            if group not in known:
                raise _no_such("group", group, known)

    def _read(self) -> tuple[str, Config]:
        text = read_text(self._path)
        known = self._parsed
        if known is None or known[0] != text:
            self._parsed = known = (text, parse(text))
        return known

    def _change(
        self,
        author: str,
        text: str,
        before: Config,
        table: str,
        name: str,
        values: Mapping[str, Value] | None,
    ) -> None:
        """Write the file with the entry set, or removed where ``values`` is None, and have it applied."""
        changed = remove_entry(text, table, name) if values is None else set_entry(text, table, name, values)
        after = parse(changed)
        if as_plain(after) != _expected(before, table, name, values):
            raise AccountError(
                f"The file {self._path} is written in a way that cannot be changed safely.",
                f"Change its [[{table}]] tables by hand, and reload isthmus-control.",
            )
        known = any(entry["name"] == name for entry in as_plain(before)[table])
        verb = "Remove" if values is None else "Change" if known else "Add"
        self._put_in_force(changed, author, f"{verb} {table} {name}")


def _check_name(name: str) -> None:
    try:
        account_name(name)
    except ValueError as error:
        raise AccountError(f"{error}.", "Choose another one.") from None


def _no_such(kind: str, name: str, known: Iterable[str]) -> AccountError:
    names = list(known)
    remedy = f"`isthmus {kind} add` makes one."
    if not names:
        return AccountError(f"There is no {kind} “{name}”, nor any other.", remedy)
    listed = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
    return AccountError(f"There is no {kind} “{name}”.", f"There is: {listed}. {remedy}")


def _expected(config: Config, table: str, name: str, values: Mapping[str, Value] | None) -> dict[str, Any]:
    """What the configuration is to be, in plain values."""
    plain = as_plain(config)
    entries: list[dict[str, Any]] = plain[table]
    found = next((entry for entry in entries if entry["name"] == name), None)
    if values is None:
        entries.remove(found or {})
    elif found is None:
        entries.append({"name": name, **values})
    else:
        found.update(values)
    return plain
