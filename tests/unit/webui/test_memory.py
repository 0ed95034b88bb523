"""What control told is kept, and asked for again only where it is another by now."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl
from webui.memory import MAX_KEPT, Memory


class _Box:
    """An answer, and how often the whole of it was told."""

    def __init__(self) -> None:
        self.answer = {"mark": "1"}
        self.told = 0

    def whole(self) -> dict[str, Any]:
        self.told += 1
        return dict(self.answer)

    def unless(self, known: str) -> dict[str, Any] | None:
        return None if known == self.answer["mark"] else self.whole()


def test_an_answer_is_told_once_until_it_changes() -> None:
    memory, box = Memory(), _Box()
    first = memory.get("admin", box.whole, box.unless)
    assert memory.get("admin", box.whole, box.unless) is first
    assert box.told == 1
    box.answer = {"mark": "2"}
    assert memory.get("admin", box.whole, box.unless) == {"mark": "2"}
    assert box.told == 2
    assert memory.get("viewer", box.whole, box.unless) == {"mark": "2"}
    assert box.told == 3


def test_what_is_kept_is_bounded() -> None:
    memory, box = Memory(), _Box()
    for number in range(MAX_KEPT + 1):
        memory.get(number, box.whole, box.unless)
    memory.get(MAX_KEPT, box.whole, box.unless)
    assert box.told == MAX_KEPT + 1
    memory.get(0, box.whole, box.unless)  # the oldest was forgotten
    assert box.told == MAX_KEPT + 2


class _Counting(FakeControl):
    """Counts how often the whole configuration is told."""

    told = 0

    def candidate(self, author: str) -> dict[str, Any]:
        self.told += 1
        return super().candidate(author)

    def candidate_unless(self, author: str, known: str) -> dict[str, Any] | None:
        before = self.told
        found = super().candidate_unless(author, known)
        if found is None:
            self.told = before
        return found


def test_pages_ask_for_the_configuration_once_and_see_each_change() -> None:
    from webui.app import create_app

    control = _Counting()
    client: FlaskClient = create_app(control, b"k" * 32).test_client()
    client.environ_base["wsgi.url_scheme"] = "https"
    signed_in(client, control)
    get(client, "/policy")
    told = control.told
    for page in ("/policy", "/network", "/system", "/policy"):
        assert get(client, page).status_code == 200
    assert control.told == told
    post(client, "/policy", "/policy/act", name="time", act="delete")
    assert 'data-name="time"' not in get(client, "/policy").text
    other = control.candidate("admin")
    other["config"]["rule"][0]["note"] = "by another tab"
    control.put_candidate("admin", other["config"], other["based_on"])
    assert "by another tab" in get(client, "/policy/edit?name=no-trackers").text
