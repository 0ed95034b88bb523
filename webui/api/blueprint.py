"""The API in Flask: who asks, what is asked, the answer or the problem."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from appliance.config.roles import Role
from appliance.control.client import ControlClient, ControlError
from webui.acting import act_for
from webui.api.problems import ApiError, of_control
from webui.api.route import JSON, PREFIX, Answer, Call, Route
from webui.api.table import ROUTES
from webui.digests import digest_of

_SCHEME = "bearer"
# Of a JSON text. Ours have ten; more is meant for somebody's recursion.
MAX_LEVELS = 32
_CONVERTERS = {"path": "path:path", "number": "int:number", "id": "id", "name": "name"}
_INT64 = 2**63


def rule_of(path: str) -> str:
    """A route's path as Flask has it."""
    return re.sub(r"{(\w+)}", lambda found: f"<{_CONVERTERS[found[1]]}>", path)


def blueprint(backend: ControlClient) -> Blueprint:
    """Every route of the table. Nothing here knows a cookie."""
    pages = Blueprint("api", __name__, url_prefix=PREFIX)
    for route in ROUTES:
        pages.add_url_rule(
            rule_of(route.path), route.id, _view(route, backend), methods=[route.method],
            provide_automatic_options=False,
        )  # fmt: skip
    return pages


def _view(route: Route, backend: ControlClient) -> Callable[..., Response]:
    def view(**path: Any) -> Response:
        try:
            token = {} if route.free else _admitted(route, backend)
            call = Call(
                backend, f"token {token['name']}" if token else "", Role(token.get("role", "viewer")), token,
                path, _query(route), _body(route), _if_match(route),
            )  # fmt: skip
            return _response(route, route.handler(call))
        except ControlError as error:
            raise of_control(error) from None

    view.__name__ = route.id
    return view


def _admitted(route: Route, backend: ControlClient) -> dict[str, Any]:
    """The type Token of whoever asks; ApiError 401 or 403."""
    scheme, _space, given = request.headers.get("Authorization", "").partition(" ")
    token = None
    if scheme.lower() == _SCHEME and given.strip():
        token = backend.verify_token(digest_of(given.strip()), request.remote_addr or "")
    if token is None:
        raise ApiError(
            401, "This takes a token that counts.", "Authorization: Bearer TOKEN. `isthmus token` makes one.",
            headers={"WWW-Authenticate": 'Bearer realm="isthmus"'},
        )  # fmt: skip
    if not Role(token["role"]).may(route.role):
        raise ApiError(403, f"This takes the role {route.role}; the token has the role {token['role']}.")
    act_for(
        {"name": f"token {token['name']}", "role": token["role"], "via": "api",
         "address": request.remote_addr or ""}
    )  # fmt: skip
    return token


def _query(route: Route) -> Any:
    given: dict[str, str] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise ApiError(422, f"“{name}” is there {len(values)} times.", "Give it once.")
        given[name] = values[0]
    if route.query is None:
        if given:
            raise ApiError(400, f"This takes no “{next(iter(given))}” in its address.", "Leave it out.")
        return None
    return _validated(route.query, given)


def _validated(model: type[BaseModel], given: Any, text: bool = True) -> BaseModel:
    try:
        return model.model_validate(given) if text else model.model_validate_json(given)
    except ValidationError as error:
        raise ApiError(
            422, "This is not what is taken here.", "Nothing was changed.", _problems(error)
        ) from None


def _problems(error: ValidationError) -> list[dict[str, str]]:
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False)[:100]:
        path = ".".join(str(part) for part in one["loc"])
        found.append({"path": path, "message": one["msg"], "hint": "", "code": one["type"]})
    return found


def _body(route: Route) -> Any:
    request.max_content_length = route.most
    if route.body is None:
        if request.content_length or "Transfer-Encoding" in request.headers:
            request.get_data(cache=False)
        return None
    if request.mimetype not in (route.takes, JSON):
        raise ApiError(415, f"This takes {route.takes}.", f"Content-Type: {route.takes}")
    try:
        data = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise ApiError(413, f"The body has more than {route.most} octets.") from None
    value = _json(data)
    if isinstance(route.body, type) and issubclass(route.body, BaseModel):
        return _validated(route.body, data, text=False)
    if not isinstance(value, dict) and (route.body.get("type") == "object" or "$ref" in route.body):
        raise ApiError(422, "The body is to be an object.")
    return value


def _json(data: bytes) -> Any:
    """The value of a JSON text (RFC 8259); no NaN, no key twice, no half of a surrogate pair."""
    try:
        value = json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_once)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(
            400, f"The body is no JSON that is taken here: {error}".replace("\n", " ")[:200]
        ) from None
    level = [value]
    for _depth in range(MAX_LEVELS):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        if not level:
            return value
    raise ApiError(400, f"The body is nested more than {MAX_LEVELS} levels deep.")


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is there twice")
    if any(isinstance(one, int) and not -_INT64 <= one < _INT64 for one in made.values()):
        raise ValueError("a number is too large")
    return made


def _if_match(route: Route) -> str | None:
    given = request.headers.get("If-Match") if route.if_match else None
    if given is None and route.if_match == "required":
        raise ApiError(428, "This takes If-Match.", "GET it first; its ETag says which one you change.")
    return given


def _response(route: Route, answer: Answer) -> Response:
    headers = dict(answer.headers)
    if answer.etag:
        headers["ETag"] = f'"{answer.etag}"'
    if answer.status == 204:
        return Response(None, 204, headers)
    if isinstance(answer.value, bytes):
        return Response(answer.value, answer.status, headers, content_type=route.media)
    value = {} if answer.value is None and route.status == 202 else answer.value
    return Response(json.dumps(value, ensure_ascii=False), answer.status, headers, content_type=route.media)


def of_http(error: HTTPException) -> Response:
    """What the framework refuses with, for the API's addresses."""
    status = error.code or 500
    hints = {404: "/api/v1/openapi.json has all there is.", 405: "Allow says what this address takes."}
    kept = {name: value for name, value in error.get_headers() if name == "Allow"}
    return ApiError(
        status, str(error.description or error.name), hints.get(status, ""), headers=kept
    ).response()
