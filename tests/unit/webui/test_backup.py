"""The page of backups: what is downloaded, restored and refused; the reset that needs its word."""

from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient

from appliance.config.fields import MIN_PASSWORD
from appliance.control.backup import MAX_BACKUP
from appliance.system import passwords
from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl
from webui.security import LARGER, MAX_REQUEST

PAGE = "/system/backup"
PASSPHRASE = "a long enough one"


def test_a_backup_is_downloaded(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/download", passphrase=PASSPHRASE, again=PASSPHRASE)
    assert answer.status_code == 200
    assert answer.data == b"sealed by " + PASSPHRASE.encode()
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=isthmus-20")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_passphrase_is_typed_twice_and_long_enough(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/download", passphrase=PASSPHRASE, again="another one")
    assert answer.status_code == 422
    assert 'id="b-again-e"' in answer.text
    assert PASSPHRASE not in answer.text
    answer = post(client, PAGE, f"{PAGE}/download", passphrase="short", again="short")
    assert answer.status_code == 422
    assert 'id="b-passphrase-e"' in answer.text


def test_a_backup_becomes_the_pending_changes(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    file = (io.BytesIO(b"x" * 100_000), "a.backup")  # more than any other form of the console takes
    done = post(client, PAGE, f"{PAGE}/restore", file=file, opens=PASSPHRASE, identity="1")
    assert (done.status_code, done.location) == (303, "/changes")
    assert ("restore_backup", "admin", 100_000, True) in control.calls
    page = get(client, "/changes").text
    assert "admins are in force" in page
    assert "0 changes are pending" in page


def test_a_wrong_passphrase_is_told_and_not_shown_again(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    file = (io.BytesIO(b"x"), "a.backup")
    answer = post(client, PAGE, f"{PAGE}/restore", file=file, opens="wrong secret")
    assert answer.status_code == 422
    assert "The passphrase does not open it. Type the right one." in answer.text
    assert "wrong secret" not in answer.text
    answer = post(client, PAGE, f"{PAGE}/restore")
    assert answer.status_code == 422
    assert 'id="b-file-e"' in answer.text
    assert 'id="b-opens-e"' in answer.text


def test_the_pages_limits_are_controls() -> None:
    with pytest.raises(passwords.PasswordTooWeakError):
        passwords.hashed("x" * (MIN_PASSWORD - 1))
    passwords.hashed("x" * MIN_PASSWORD)
    assert LARGER["backup.restore"] >= MAX_BACKUP + MAX_REQUEST


def test_nothing_is_erased_without_the_word(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/reset", word="yes")
    assert answer.status_code == 422
    assert "Nothing was erased." in answer.text
    assert ("factory_reset",) not in control.calls
    answer = post(client, PAGE, f"{PAGE}/reset", word="erase")
    assert answer.status_code == 200
    assert "The box restarts" in answer.text
    assert ("factory_reset",) in control.calls
