"""Errors as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from flask import Response

from appliance.control.client import ControlError
from appliance.errors import Problem

MEDIA = "application/problem+json"
# What control refuses with, by the last part of its error's name.
_STATUS = {
    "unavailable": 503, "PermissionDenied": 403, "Outdated": 409, "Conflict": 409, "Invalid": 422,
    "Refused": 409, "PasswordTooWeak": 422, "PasswordAlreadySet": 409, "InvalidArgument": 422,
    "InvalidParameter": 422,
}  # fmt: skip

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["title", "status"],
    "properties": {
        "title": {"type": "string", "description": "What kind of error it is."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What is wrong, in words."},
        "hint": {"type": "string", "description": "What to do."},
        "problems": {
            "type": "array",
            "description": "Each value that is wrong.",
            "items": {
                "type": "object",
                "required": ["path", "message", "hint"],
                "properties": {name: {"type": "string"} for name in ("path", "message", "hint", "code")},
            },
        },
        "conflicts": {"type": "array", "items": {"$ref": "#/components/schemas/Clash"}},
    },
}


class ApiError(Exception):
    """What a handler refuses with. ``problems``: path, message and hint of each value that is wrong."""

    def __init__(
        self,
        status: int,
        detail: str,
        hint: str = "",
        problems: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body: dict[str, Any] = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        if hint:
            self.body["hint"] = hint
        if problems:
            self.body["problems"] = [dict(one) for one in problems]
        self.body.update(more)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """As it goes out."""
        return Response(
            json.dumps(self.body, ensure_ascii=False), self.status, self.headers, content_type=MEDIA
        )


def of_control(error: ControlError) -> ApiError:
    """Control's refusal."""
    word = error.code.rpartition(".")[2]
    more = {"conflicts": error.details["conflicts"]} if error.details.get("conflicts") else {}
    return ApiError(
        _STATUS.get(word, 500), error.message, error.hint, error.details.get("problems") or (), **more
    )


def plain(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """As a body has them."""
    return [{"path": p.path, "message": p.message, "hint": p.hint, "code": p.code} for p in problems]
