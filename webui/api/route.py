"""What a route is, and what a handler is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from appliance.config.roles import Role, least
from appliance.control.client import ControlClient

PREFIX = "/api/v1"
JSON = "application/json"
OCTETS = "application/octet-stream"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
PATCH = "application/merge-patch+json"
# Of a body. A rule with a thousand names is some 30 KB; the configuration of the greatest size some MB.
MAX_BODY = 256 << 10
MAX_LARGE_BODY = 16 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was let in. ``author``: in whose name it changes what it changes."""

    backend: ControlClient
    author: str
    role: Role
    token: Mapping[str, Any]
    path: Mapping[str, Any]
    query: Any
    body: Any
    if_match: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """``value`` is JSON, or octets; ``etag`` without its quotes."""

    value: Any = None
    status: int = 200
    etag: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """``verb``: of control, for its role. ``answer``: JSON Schema of what comes back, None for nothing."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str  # "/users/{name}"
    id: str
    tag: str
    summary: str
    verb: str
    handler: Callable[[Call], Answer]
    answer: Mapping[str, Any] | None = None
    status: int = 200
    query: type[BaseModel] | None = None
    body: type[BaseModel] | Mapping[str, Any] | None = None
    if_match: Literal["", "optional", "required"] = ""
    media: str = JSON
    takes: str = JSON
    most: int = MAX_BODY
    free: bool = False  # without a token
    refuses: tuple[int, ...] = ()  # statuses of its own, beside those that follow from the rest
    example: Any = None
    ids: Mapping[str, str] = field(default_factory=dict)  # of a path's parts, for the examples

    @property
    def role(self) -> Role:
        """The least that may."""
        return least(self.verb)

    def statuses(self) -> list[int]:
        """Every status that it answers with."""
        found = {self.status, 400, 421, 503, *self.refuses}
        if not self.free:
            found |= {401, 403}
        if self.body is not None:
            found |= {411, 413, 415, 422}
        if self.query is not None:
            found.add(422)
        if "{" in self.path:
            found.add(404)
        if self.method != "GET":
            found.add(409)
        if self.if_match:
            found.add(412)
        if self.if_match == "required":
            found.add(428)
        return sorted(found)
