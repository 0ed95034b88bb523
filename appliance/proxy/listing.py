"""The open sessions as a list: which match a search, and a page of them, the newest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from appliance.session.record import Session, address_text

MAX_LISTED = 1_000
_IN_ADDRESSES = frozenset("0123456789abcdef:.")
# A session's place in the list, the greatest first: when it began in microseconds, and its number.
Place = tuple[int, int]
# In a described session, for whoever puts the lists of several workers together.
PLACE = "place"


def place_of(session: Session) -> Place:
    """Where it stands."""
    return int(session.started * 1e6), session.number


def cursor_of(place: Place) -> str:
    """As text, for the next page."""
    return f"{place[0]}-{place[1]}"


def place_at(cursor: str) -> Place | None:
    """The place that a cursor says; None for none, and for what is no cursor."""
    began, dash, number = cursor.partition("-")
    if not dash or len(cursor) > 40 or not all(one.isascii() and one.isdecimal() for one in (began, number)):
        return None
    return int(began), int(number)


class Search:
    """What sessions are looked for: a part of an address or a name, or a user, a device, a kind, a port.

    All sessions are gone through, while packets wait: what cannot match is not looked at.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._may_be_address = not set(text.lower()) - _IN_ADDRESSES
        self._port = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else -1

    def matches(self, session: Session) -> bool:
        """Whether it is one of them."""
        text = self._text
        return (
            text == session.kind
            or text in session.name
            or text == session.user
            or text == session.device
            or text in session.origin
            or session.server_port == self._port
            or (
                self._may_be_address
                and (text in address_text(session.client) or text in address_text(session.server))
            )
        )


def page(
    sessions: dict[int, Session], worker: int, now: float, limit: int, search: str, before: Place | None
) -> dict[str, Any]:
    """``sessions``: at most ``limit`` that stand behind ``before``; ``total``: how many match, wherever."""
    limit = min(limit, MAX_LISTED + 1)  # one more says that there is a next page
    wanted: Iterable[Session] = reversed(sessions.values())
    total = len(sessions)
    if search:
        matches = Search(search).matches
        wanted = [session for session in wanted if matches(session)]
        total = len(wanted)
    found: list[dict[str, Any]] = []
    for session in wanted:
        place = place_of(session)
        if before is not None and place >= before:
            continue
        if len(found) >= limit:
            break
        found.append({**session.describe(worker, now), PLACE: place})
    return {"sessions": found, "total": total}
