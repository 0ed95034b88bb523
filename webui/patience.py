"""A request that is at work may ask for more time than the worker gives to one; webui.worker listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_more: ContextVar[Callable[[], None] | None] = ContextVar("more", default=None)


@contextmanager
def granting(more: Callable[[], None]) -> Iterator[None]:
    """Within it, ``more_time`` of this thread calls ``more``."""
    token = _more.set(more)
    try:
        yield
    finally:
        _more.reset(token)


def more_time() -> None:
    """This request goes on, and is not to be cut off for now; nothing where no worker listens."""
    more = _more.get()
    if more is not None:
        more()
