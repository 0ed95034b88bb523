"""Configurations that control has told before: asked for again only where they are others by now.

With two thousand rules one has a megabyte, and every page needs it. What is kept here is shared by requests:
nobody changes it, a form makes a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

# Of admins at work at once; each costs some ten MB with thousands of rules. More ask for the whole each time.
MAX_KEPT = 8


class Memory:
    """Answers of control that bear a ``mark``, by whatever they are asked for by."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, dict[str, Any]] = {}

    def get(
        self,
        key: object,
        whole: Callable[[], dict[str, Any]],
        unless: Callable[[str], dict[str, Any] | None],
    ) -> dict[str, Any]:
        """The answer of now: what is kept where ``unless`` says that it still holds, else a new one."""
        with self._lock:
            kept = self._kept.get(key)
        if kept is None:
            return self.keep(key, whole())
        found = unless(str(kept["mark"]))
        return kept if found is None else self.keep(key, found)

    def keep(self, key: object, answer: dict[str, Any]) -> dict[str, Any]:
        """Remember it, in the place of the one longest kept where there are too many."""
        with self._lock:
            self._kept.pop(key, None)
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = answer
        return answer
