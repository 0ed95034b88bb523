"""Admins' one-time codes: whose secret it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config.roles import Role
from appliance.system.admins import AdminError, Admins
from appliance.system.principals import Principals


@pytest.fixture
def admins(tmp_path: Path) -> Admins:
    made = Admins(Principals(tmp_path / "console-users.json"))
    made.set_first("correct horse battery")
    return made


def test_a_page_that_is_loaded_again_shows_the_same_secret(admins: Admins) -> None:
    assert admins.begin_totp("admin") == admins.begin_totp("admin")


def test_a_secret_ends_with_the_sessions(admins: Admins) -> None:
    """Whoever saw it in a session that was stolen must not know the second factor."""
    stolen, _uri = admins.begin_totp("admin")
    admins.change("admin", "another good password", None, False)
    with pytest.raises(AdminError):
        admins.confirm_totp("admin", "000000")
    assert admins.begin_totp("admin")[0] != stolen


def test_an_account_made_anew_has_a_secret_of_its_own(admins: Admins) -> None:
    admins.add("bob", "another good password", Role.VIEWER)
    before = admins.begin_totp("bob")
    admins.remove("bob")
    admins.add("bob", "yet another password", Role.VIEWER)
    assert admins.begin_totp("bob") != before
