"""Users and groups by control's verbs: what is written, and what is refused with nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from appliance.config import load
from appliance.control.accounts import AccountError, Accounts, refusal
from appliance.errors import ConfigError
from appliance.system.passwords import PasswordTooWeakError

TEXT = """\
# The school's box
[[group]]
name = "staff"   # teachers

[[group]]
name = "pupils"

[[user]]
name = "ann"
groups = ["staff"]

[[explicit.listeners]]
name = "users"
port = 3128
tls = true
authentication = ["password"]
"""


class Changed:
    """A file, and how often it was applied."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_text(TEXT)
        self.applied = 0
        self.accounts = Accounts(path, self._apply)

    def _apply(self) -> None:
        self.applied += 1


@pytest.fixture
def box(tmp_path: Path) -> Changed:
    """A school's configuration."""
    return Changed(tmp_path / "config.toml")


def test_add_change_remove(box: Changed) -> None:
    accounts = box.accounts
    accounts.set_user("ben", ["pupils", "pupils"], "correct horse", new=True)
    assert box.applied == 1
    assert box.path.stat().st_mode & 0o777 == 0o600
    ben = load(box.path).user[1]
    assert (ben.name, ben.groups) == ("ben", ("pupils",))
    assert ben.password is not None
    assert ben.password.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert PasswordHasher().verify(ben.password, "correct horse")
    accounts.set_user("ben", ["staff", "pupils"], None, new=False)
    assert load(box.path).user[1] == ben.model_copy(update={"groups": ("staff", "pupils")})
    accounts.set_group("guests")
    assert accounts.listed() == {
        "users": [
            {"name": "ann", "groups": ["staff"], "has_password": False},
            {"name": "ben", "groups": ["staff", "pupils"], "has_password": True},
        ],
        "groups": [
            {"name": "staff", "users": 2},
            {"name": "pupils", "users": 1},
            {"name": "guests", "users": 0},
        ],
    }
    accounts.remove_group("guests")
    accounts.remove_user("ben")
    assert box.path.read_text().replace("\n\n", "\n") == TEXT.replace("\n\n", "\n")
    assert box.applied == 5


def test_what_is_refused_changes_nothing(box: Changed) -> None:
    accounts = box.accounts
    changes: list[tuple[Callable[[], None], str]] = [
        (lambda: accounts.set_user("ann", ["staff"], None, new=True), "already"),
        (lambda: accounts.set_user("eve", None, "correct horse", new=False), "no user “eve”"),
        (lambda: accounts.set_user("eve", ["nobodies"], None, new=True), "no group “nobodies”"),
        (lambda: accounts.set_user("eve", ["staff"], "short", new=True), "at least 10"),
        (lambda: accounts.set_user("eve", [], None, new=True), "no group"),
        (lambda: accounts.set_user("e ve", ["staff"], None, new=True), "“e ve” is no name"),
        (lambda: accounts.set_user('e"\n[wan]\nx="', ["staff"], None, new=True), ""),
        (lambda: accounts.set_group("staff"), "already"),
        (lambda: accounts.set_group(""), "no name"),
        (lambda: accounts.remove_group("staff"), "has 1 user: ann"),
        (lambda: accounts.remove_group("nobodies"), "There is: staff, pupils"),
        (lambda: accounts.remove_user("eve"), "There is: ann"),
        (lambda: accounts.remove_user("ann"), "explicit.listeners[0].authentication: there is no user yet"),
    ]
    for change, words in changes:
        with pytest.raises((AccountError, ConfigError, PasswordTooWeakError)) as error:
            change()
        message, hint = refusal(error.value)
        assert words in f"{message} {hint}", message
    assert box.path.read_text() == TEXT
    assert not box.applied


def test_a_file_with_a_mistake_is_not_touched(box: Changed) -> None:
    box.path.write_text(TEXT + "[wan]\nmode = 'pigeon'\n")
    with pytest.raises(ConfigError) as error:
        box.accounts.set_group("guests")
    assert refusal(error.value)[0].startswith("wan.mode: ")
    box.path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        box.accounts.set_group("guests")
