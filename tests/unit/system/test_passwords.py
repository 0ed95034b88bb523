"""Passwords and the throttle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.policy.throttle import FIRST_WAIT, FREE_FAILURES
from appliance.system.admins import Admins, PasswordAlreadySetError, SignIn
from appliance.system.passwords import PasswordTooWeakError
from appliance.system.principals import Principals


def test_first_password_once(tmp_path: Path) -> None:
    passwords = Admins(Principals(tmp_path / "users.json"))
    assert not passwords.is_set()
    with pytest.raises(PasswordTooWeakError, match="at least 10"):
        passwords.set_first("short")
    passwords.set_first("correct horse")
    assert (tmp_path / "users.json").stat().st_mode & 0o777 == 0o600
    assert "correct" not in (tmp_path / "users.json").read_text()
    with pytest.raises(PasswordAlreadySetError):
        passwords.set_first("another one")
    assert Admins(Principals(tmp_path / "users.json")).authenticate("admin", "correct horse", "::1").right


def test_wrong_passwords_cost_a_wait(tmp_path: Path) -> None:
    passwords = Admins(Principals(tmp_path / "users.json"))
    passwords.set_first("correct horse")
    for _ in range(FREE_FAILURES):
        assert passwords.authenticate("admin", "wrong", "::1") == SignIn()
    found = passwords.authenticate("admin", "correct horse", "::2")
    assert not found.right
    assert found.wait is not None
    assert 0 < found.wait <= FIRST_WAIT
    assert passwords.authenticate("nobody", "x", "::1").wait  # the address waits too


def at_once(count: int, action: Callable[[int], None]) -> None:
    """Run the action in so many threads that start together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        action(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_parallel_tries_do_not_pass_the_throttle_together(tmp_path: Path) -> None:
    passwords = Admins(Principals(tmp_path / "users.json"))
    passwords.set_first("correct horse")
    waits: list[float | None] = []
    at_once(
        FREE_FAILURES * 4, lambda n: waits.append(passwords.authenticate("admin", f"guess {n}", "::1").wait)
    )
    assert waits.count(None) == FREE_FAILURES


def test_only_one_of_many_sets_the_first_password(tmp_path: Path) -> None:
    passwords = Admins(Principals(tmp_path / "users.json"))
    winners: list[int] = []

    def set_it(number: int) -> None:
        try:
            passwords.set_first(f"password {number}")
        except PasswordAlreadySetError:
            return
        winners.append(number)

    at_once(6, set_it)
    (winner,) = winners
    assert passwords.authenticate("admin", f"password {winner}", "::1").right
