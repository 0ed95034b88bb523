"""Commits that move the console's own address: the page with the links has to arrive before it goes."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Network

from appliance.config.effects import console_url
from appliance.control.client import ControlError
from webui.forms.plain import Plain, at

# Between the answer to the browser and the commit. Shorter, and a slow phone has not loaded the page with the
# new address when the old one is gone; longer, and people wonder whether anything happens.
LEAVE_SECONDS = 2.0
# How long an outcome that nobody fetched is kept: more than any deadline of a commit.
KEPT_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Leaving:
    """A commit on its way; ``error`` is why the box refused it, ``done`` that it answered."""

    old: str | None
    new: str | None
    started: float  # of the monotonic clock
    done: bool = False
    error: str = ""


def addresses(active: Plain, config: Plain, lan_prefix: str | None) -> tuple[str | None, str | None]:
    """The console's address before and after; ``lan_prefix``: the one that is in use."""
    running = IPv6Network(lan_prefix) if lan_prefix else None
    # Only the prefix that the box itself made stands for "generated".
    made = running if at(active, ("lan", "prefix")) == "generated" else None
    old, new = (
        console_url(
            str(at(plain, ("lan", "prefix"), "generated")), int(at(plain, ("console", "port"), 443)), made
        )
        for plain in (active, config)
    )
    return old, new


def moves(active: Plain, config: Plain) -> bool:
    """Whether this page's address may be another one after the commit."""
    return any(active.get(part) != config.get(part) for part in ("lan", "segment", "route", "console"))


class Leavings:
    """The commits on their way, one for each author."""

    def __init__(self, wait: Callable[[float], None] = time.sleep) -> None:
        self._wait = wait
        self._lock = threading.Lock()
        self._known: dict[str, Leaving] = {}

    def start(self, author: str, old: str | None, new: str | None, commit: Callable[[], object]) -> None:
        """Answer the browser first, then commit."""
        begun = Leaving(old, new, time.monotonic())
        with self._lock:
            self._known[author] = begun

        def run() -> None:
            self._wait(LEAVE_SECONDS)
            error = ""
            try:
                commit()
            except ControlError as failed:
                error = f"{failed.message} {failed.hint}".strip()
            with self._lock:
                if self._known.get(author) is begun:
                    self._known[author] = Leaving(old, new, begun.started, True, error)

        # In the name of whoever asked.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="commit", daemon=True).start()

    def of(self, author: str) -> Leaving | None:
        """The author's, while the box has not answered."""
        with self._lock:
            found = self._known.get(author)
        return found if found and not found.done else None

    def outcome(self, author: str) -> str | None:
        """Told once: why it failed, "" where it did not, None where there is nothing to tell."""
        with self._lock:
            found = self._known.get(author)
            if found is None or not found.done:
                return None
            del self._known[author]
        return found.error if time.monotonic() - found.started < KEPT_SECONDS else None
