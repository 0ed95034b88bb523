"""References of denials, and the form by which a client asks for access.

The form is at ASK_PATH of whatever was denied, by plain HTTP: the client's way to that leads through this
proxy already, and who it is goes along. The proxy answers there itself, and no origin is contacted. A form
has to bear the reference of a denial that its client was told of lately: no other page can ask in its name.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from enum import Enum
from urllib.parse import parse_qs

from appliance.session.access import MAX_NOTE, AccessRequest, AccessRequests, Taken
from appliance.session.record import address_text

ASK_PATH = b"/.isthmus/ask"
# Octets of a form: a note, each of its octets as three, and what stands around it.
MAX_FORM = 3 * MAX_NOTE + 512
# Denials that may still be asked about, by a worker. Fewer, and a busy site's page is forgotten before a
# person has read it; each takes 400 octets.
MAX_REFERENCES = 4_096
# Seconds for which they may.
GOOD_FOR = 3_600.0
# Requests that one client may make in so many seconds: each is a write to the disk.
MAX_ASKED, ASKED_SECONDS = 5, 60.0
# Clients whose last requests are remembered.
MAX_CLIENTS = 4_096
# Crockford's digits: none is mistaken for another when it is read out.
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Answer(Enum):
    """What a form is answered with."""

    TAKEN = "taken"
    ALREADY = "already"
    FULL = "full"
    TOO_OFTEN = "too often"
    UNKNOWN = "unknown"  # no such denial, or not this client's
    BROKEN = "broken"  # it cannot be kept


def new_reference() -> str:
    """Eight signs, of 40 random bits: K7MQ-2XPA."""
    number = int.from_bytes(secrets.token_bytes(5), "big")
    signs = "".join(_DIGITS[number >> shift & 31] for shift in range(35, -1, -5))
    return f"{signs[:4]}-{signs[4:]}"


class Access:
    """A worker's part. ``requests``: where those that were asked for are kept."""

    def __init__(self, requests: AccessRequests) -> None:
        self._requests = requests
        self.asks = True  # a request is written down with its client and host: not where privacy forbids that
        self._told: dict[str, AccessRequest] = {}  # the oldest first
        self._asked: dict[str, deque[float]] = {}

    def denied(self, client: bytes, user: str, device: str, host: str, port: int, rule: str) -> str:
        """The reference of a denial that the client is about to be told of."""
        reference = new_reference()
        if not self.asks:
            return reference
        if len(self._told) >= MAX_REFERENCES:
            del self._told[next(iter(self._told))]
        self._told[reference] = AccessRequest(
            reference, address_text(client), user, device, host, port, rule, "", time.time()
        )
        return reference

    def ask(self, client: bytes, user: str, host: str, form: bytes) -> Answer:
        """Take a form that was sent to ``host``."""
        try:
            given = parse_qs(form.decode(), max_num_fields=8)
        except ValueError:  # no text, or too many fields
            return Answer.UNKNOWN
        if not self.asks:
            return Answer.UNKNOWN
        now = time.time()
        denial = self._told.get(given.get("reference", [""])[0])
        if denial is None or denial.time < now - GOOD_FOR:
            return Answer.UNKNOWN
        if (denial.client, denial.user, denial.host) != (address_text(client), user, host):
            return Answer.UNKNOWN
        if self._too_often(denial.client, now):
            return Answer.TOO_OFTEN
        note = "".join(sign if sign.isprintable() else " " for sign in given.get("note", [""])[0])
        note = note.strip().encode()[:MAX_NOTE].decode("utf-8", "ignore")
        request = AccessRequest(
            denial.id, denial.client, user, denial.device, host, denial.port, denial.rule, note, now
        )
        try:
            taken = self._requests.add(request)
        except OSError:
            return Answer.BROKEN
        return {Taken.YES: Answer.TAKEN, Taken.ALREADY: Answer.ALREADY, Taken.FULL: Answer.FULL}[taken]

    def _too_often(self, client: str, now: float) -> bool:
        asked = self._asked.get(client)
        if asked is None:
            if len(self._asked) >= MAX_CLIENTS:
                self._asked.clear()
            asked = self._asked[client] = deque(maxlen=MAX_ASKED)
        if len(asked) == MAX_ASKED and asked[0] > now - ASKED_SECONDS:
            return True
        asked.append(now)
        return False
