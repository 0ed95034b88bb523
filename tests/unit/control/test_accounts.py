"""Users and groups by control's verbs: what is written, and what is refused with nothing written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from appliance.config import load
from appliance.control.accounts import AccountError, Accounts
from appliance.control.verbs import refusal
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
    """A file, and who changed it, and why."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_text(TEXT)
        self.done: list[tuple[str, str]] = []
        self.accounts = Accounts(path, self._change, threading.RLock())

    def _change(self, text: str, author: str, comment: str) -> None:
        self.path.write_text(text)
        self.done.append((author, comment))


@pytest.fixture
def box(tmp_path: Path) -> Changed:
    """A school's configuration."""
    return Changed(tmp_path / "config.toml")


def test_add_change_remove(box: Changed) -> None:
    accounts = box.accounts
    accounts.set_user("ben", ["pupils", "pupils"], "correct horse", new=True, author="ann")
    assert box.done == [("ann", "Add user ben")]
    ben = load(box.path).user[1]
    assert (ben.name, ben.groups) == ("ben", ("pupils",))
    assert ben.password is not None
    assert ben.password.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert PasswordHasher().verify(ben.password, "correct horse")
    accounts.set_user("ben", ["staff", "pupils"], None, new=False, author="ann")
    assert load(box.path).user[1] == ben.model_copy(update={"groups": ("staff", "pupils")})
    accounts.set_group("guests", "ann")
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
    accounts.remove_group("guests", "ann")
    accounts.remove_user("ben", "ann")
    assert box.path.read_text().replace("\n\n", "\n") == TEXT.replace("\n\n", "\n")
    assert [comment for _author, comment in box.done] == [
        "Add user ben",
        "Change user ben",
        "Add group guests",
        "Remove group guests",
        "Remove user ben",
    ]


def test_what_is_refused_changes_nothing(box: Changed) -> None:
    accounts = box.accounts
    changes: list[tuple[Callable[[], None], str]] = [
        (lambda: accounts.set_user("ann", ["staff"], None, new=True, author="ann"), "already"),
        (lambda: accounts.set_user("eve", None, "correct horse", new=False, author="ann"), "no user “eve”"),
        (lambda: accounts.set_user("eve", ["nobodies"], None, new=True, author="ann"), "no group “nobodies”"),
        (lambda: accounts.set_user("eve", ["staff"], "short", new=True, author="ann"), "at least 10"),
        (lambda: accounts.set_user("eve", [], None, new=True, author="ann"), "no group"),
        (lambda: accounts.set_user("e ve", ["staff"], None, new=True, author="ann"), "“e ve” is no name"),
        (lambda: accounts.set_user('e"\n[wan]\nx="', ["staff"], None, new=True, author="ann"), ""),
        (lambda: accounts.set_group("staff", "ann"), "already"),
        (lambda: accounts.set_group("", "ann"), "no name"),
        (lambda: accounts.remove_group("staff", "ann"), "has 1 user: ann"),
        (lambda: accounts.remove_group("nobodies", "ann"), "There is: staff, pupils"),
        (lambda: accounts.remove_user("eve", "ann"), "There is: ann"),
        (
            lambda: accounts.remove_user("ann", "ann"),
            "explicit.listeners[0].authentication: there is no user yet",
        ),
    ]
    for change, words in changes:
        with pytest.raises((AccountError, ConfigError, PasswordTooWeakError)) as error:
            change()
        message, hint = refusal(error.value)
        assert words in f"{message} {hint}", message
    assert box.path.read_text() == TEXT
    assert not box.done


def test_a_file_with_a_mistake_is_not_touched(box: Changed) -> None:
    box.path.write_text(TEXT + "[wan]\nmode = 'pigeon'\n")
    with pytest.raises(ConfigError) as error:
        box.accounts.set_group("guests", "ann")
    assert refusal(error.value)[0].startswith("wan.mode: ")
    box.path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        box.accounts.set_group("guests", "ann")
