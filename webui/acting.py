"""In whose name the request at hand asks control."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

_ACTOR: ContextVar[Mapping[str, str] | None] = ContextVar("actor", default=None)


def act_for(actor: Mapping[str, str] | None) -> None:
    """From here on in this request; None for nobody, which every request begins with."""
    _ACTOR.set(actor)


def actor() -> dict[str, str] | None:
    """For the control client."""
    found = _ACTOR.get()
    return dict(found) if found is not None else None
