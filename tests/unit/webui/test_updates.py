"""The page of updates: a bundle that is handed on in parts, an address, what is refused, the restart."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl
from webui.streams import BrokenFormError, read_form

PAGE = "/system/updates"
BOUNDARY = "----line"


def test_a_bundle_is_handed_on_in_parts_and_installed(
    client: FlaskClient, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webui.streams.PART", 10_000)
    signed_in(client, control)
    bundle = random.Random(6).randbytes(24_711)
    file = (io.BytesIO(bundle), "isthmus-0.2.0.update")
    done = post(client, PAGE, f"{PAGE}/upload", restart="1", file=file)
    assert (done.status_code, done.location) == (303, PAGE)
    assert control.bundle == bundle
    assert control.parts == [10_000, 10_000, 4_711]
    assert ("install", None, True) in control.calls
    page = get(client, PAGE).text
    assert "Writing" in page
    assert "10 B of 100 B" in page
    state = get(client, f"{PAGE}/state.json").json
    assert (state["busy"], state["done"], state["total"]) == (True, 10, 100)


def test_an_upload_without_the_token_is_not_taken(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    data = {"csrf": "wrong", "file": (io.BytesIO(b"bundle"), "a.update")}
    assert client.post(f"{PAGE}/upload", data=data, base_url="https://box").status_code == 400
    # The token after the file is too late: the file would have been taken by then.
    body = _form(b"bundle").replace(b'name="csrf"', b'name="restart"')
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    answer = client.post(f"{PAGE}/upload", data=body, content_type=kind, base_url="https://box")
    assert answer.status_code == 400
    assert control.bundle == b""
    assert not [call for call in control.calls if call[0] == "install"]


def test_what_control_refuses_stands_at_the_file(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    control.room = 3
    answer = post(client, PAGE, f"{PAGE}/upload", file=(io.BytesIO(b"bundle"), "a.update"))
    assert answer.status_code == 422
    assert "There is no room for the update. Erase old logs." in answer.text
    answer = post(client, PAGE, f"{PAGE}/upload", file=(io.BytesIO(b""), ""))
    assert answer.status_code == 422
    assert "Choose the update’s file." in answer.text


def test_an_address_is_installed_from(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/install", address="/etc/passwd")
    assert answer.status_code == 422
    assert "begins with https://" in answer.text
    done = post(client, PAGE, f"{PAGE}/install", address="https://updates.example/a.update")
    assert (done.status_code, done.location) == (303, PAGE)
    assert ("install", "https://updates.example/a.update", False) in control.calls
    # The buttons wait; who sends the form all the same is told why.
    answer = post(client, PAGE, f"{PAGE}/install", address="https://updates.example/a.update")
    assert answer.status_code == 422
    assert "An update is at work already." in answer.text


def test_what_became_of_updates_is_told(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    page = get(client, PAGE).text
    assert "0.1.0 → 0.1.1" in page
    assert "the &lt;proxy&gt; did not answer" in page
    control.updating |= {"phase": "failed", "message": "Its signature is wrong.", "hint": "Get it again."}
    assert "Its signature is wrong. Get it again." in get(client, PAGE).text


def test_a_restart(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/restart")
    assert answer.status_code == 200
    assert "The box restarts" in answer.text
    assert ("restart",) in control.calls


def _form(content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="csrf"\r\n\r\nT\r\n'
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    return head.encode() + file.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


class _Dribble:
    """A stream that gives so many octets at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        self._left, self._step = data, step

    def read(self, most: int) -> bytes:
        """The next ones."""
        step = min(self._step, most)
        found, self._left = self._left[:step], self._left[step:]
        return found


def _taken(data: bytes, step: int) -> bytes:
    taken: list[bytes] = []

    def begin(fields: dict[str, str], filename: str) -> Callable[[bytes], None]:
        assert (fields, filename) == ({"csrf": "T"}, "f")
        return taken.append

    read_form(_Dribble(data, step), BOUNDARY, begin)
    return b"".join(taken)


TRICKY = [b"\r\n--", b"\r\n--" + BOUNDARY.encode()[:5], b"\r", b"\n"]


@given(content=st.lists(st.binary(max_size=99) | st.sampled_from(TRICKY)).map(b"".join),
       step=st.integers(1, 400))  # fmt: skip
@settings(max_examples=200)
def test_a_file_is_whole_however_it_arrives(content: bytes, step: int) -> None:
    assert _taken(_form(content), step) == content


@pytest.mark.parametrize("cut", range(3, 60, 7))
def test_a_form_that_breaks_off_is_refused(cut: int) -> None:
    with pytest.raises(BrokenFormError):
        _taken(_form(b"content")[: -4 - cut], 16)
