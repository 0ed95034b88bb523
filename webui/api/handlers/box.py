"""The box at a glance, its sessions, the log of those that were, the policy's answers and figures."""

from __future__ import annotations

import base64
from typing import Any

from webui.api.bodies import (
    Grant,
    Install,
    LogQuery,
    Part,
    Question,
    SeriesQuery,
    SessionsQuery,
    Subject,
    Sure,
    TopQuery,
)
from webui.api.problems import ApiError
from webui.api.route import MAX_LARGE_BODY, TEXT, Answer, Call, Route
from webui.api.schemas import REF, reply_of
from webui.views.metrics import exposed

_EMPTY: dict[str, Any] = {"type": "object"}


def _list(name: str, kind: str) -> dict[str, Any]:
    items = {"type": "array", "items": {"$ref": f"{REF}{kind}"}}
    return {"type": "object", "required": [name], "properties": {name: items}}


def get_status(call: Call) -> Answer:
    return Answer(call.backend.status())


def get_health(call: Call) -> Answer:
    checks = call.backend.status()["checks"]
    return Answer({"ok": all(one["state"] != "bad" for one in checks), "checks": checks})


def list_published(call: Call) -> Answer:
    return Answer({"published": call.backend.status()["published"]})


def list_devices(call: Call) -> Answer:
    return Answer({"devices": call.backend.active()["config"]["device"]})


def get_metrics(call: Call) -> Answer:
    return Answer(exposed(call.backend).encode())


def list_sessions(call: Call) -> Answer:
    q = call.query
    sessions, total, cursor = call.backend.sessions_page(q.limit, q.search, q.cursor or "")
    return Answer({"sessions": sessions, "total": total, "cursor": cursor})


def kill_session(call: Call) -> Answer:
    if not call.backend.kill_session(call.path["id"]):
        raise ApiError(404, "There is no open session with this id.", "GET /sessions shows those there are.")
    return Answer(status=204)


def search_log(call: Call) -> Answer:
    asked = call.query.model_dump(exclude_none=True, exclude={"limit", "cursor"})
    rows, cursor, searched = call.backend.search_history(asked, call.query.cursor or "", call.query.limit)
    return Answer({"rows": rows, "cursor": cursor, "searched": searched})


def top_log(call: Call) -> Answer:
    q = call.query
    return Answer({"sums": call.backend.top_history(q.by, q.since, q.until, q.measure, q.limit)})


def log_series(call: Call) -> Answer:
    q = call.query
    return Answer({"points": call.backend.history_series(q.by, q.key, q.since, q.until, q.step)})


def log_status(call: Call) -> Answer:
    return Answer({"status": call.backend.history_status()})


def erase_log(call: Call) -> Answer:
    call.backend.erase_history()
    return Answer(status=204)


def explain(call: Call) -> Answer:
    q = call.body
    found = call.backend.explain(
        q.client, q.user, q.target, q.protocol, q.addresses, call.author if q.candidate else None
    )
    return Answer({"explanation": found})


def list_limits(call: Call) -> Answer:
    return Answer({"meters": call.backend.limits()})


def reset_limit(call: Call) -> Answer:
    call.backend.reset_limit(call.body.limit, call.body.subject)
    return Answer(status=204)


def list_hits(call: Call) -> Answer:
    return Answer({"hits": call.backend.hits()})


def list_requests(call: Call) -> Answer:
    return Answer({"requests": call.backend.access_requests()})


def _is_waiting(call: Call) -> str:
    number = str(call.path["id"])
    if all(one["id"] != number.upper() for one in call.backend.access_requests()):
        raise ApiError(404, "There is no such request.", "GET /requests shows those that wait.")
    return number


def grant_request(call: Call) -> Answer:
    number = _is_waiting(call)
    rule = call.backend.grant_request(number, call.body.seconds, call.author, call.body.comment)
    return Answer({"rule": rule}, 201)


def refuse_request(call: Call) -> Answer:
    call.backend.refuse_request(_is_waiting(call))
    return Answer(status=204)


def get_update(call: Call) -> Answer:
    return Answer({"update": call.backend.update()})


def install_update(call: Call) -> Answer:
    call.backend.install_update(call.body.source, call.body.restart)
    return Answer(status=202)


def upload_update(call: Call) -> Answer:
    try:
        data = base64.b64decode(call.body.data, validate=True)
    except ValueError:
        raise ApiError(422, "The data is no base64.") from None
    return Answer({"length": call.backend.upload_update(call.body.offset, data)})


def restart(call: Call) -> Answer:
    call.backend.restart()
    return Answer(status=202)


def factory_reset(call: Call) -> Answer:
    call.backend.factory_reset()
    return Answer(status=202)


_HEALTH = {
    "type": "object", "required": ["ok", "checks"],
    "properties": {
        "ok": {"type": "boolean"}, "checks": {"type": "array", "items": {"$ref": f"{REF}Check"}}
    },
}  # fmt: skip
ROUTES = (
    Route("GET", "/status", "getStatus", "box", "The box at a glance", "GetStatus", get_status,
          {"$ref": f"{REF}Status"}),
    Route("GET", "/health", "getHealth", "box", "What is well and what is not, with what to do", "GetStatus",
          get_health, _HEALTH),
    Route("GET", "/published", "listPublished", "box", "Published services, and whether their targets answer",
          "GetStatus", list_published, _list("published", "Service")),
    Route("GET", "/devices", "listDevices", "box", "Devices that are known by name", "GetActive",
          list_devices, _list("devices", "ConfigDevice")),
    Route("GET", "/metrics", "getMetrics", "box", "Figures for Prometheus", "GetStatus", get_metrics,
          {"type": "string"}, media=TEXT),
    Route("GET", "/sessions", "listSessions", "sessions", "Open sessions, the newest first", "ListSessions",
          list_sessions, reply_of("ListSessions"), query=SessionsQuery),
    Route("DELETE", "/sessions/{id}", "killSession", "sessions", "End an open session", "KillSession",
          kill_session, status=204, ids={"id": "0-17"}),
    Route("GET", "/log", "searchLog", "log", "Sessions that are over, the newest first", "SearchHistory",
          search_log, reply_of("SearchHistory"), query=LogQuery, refuses=(409,)),
    Route("GET", "/log/top", "topLog", "log", "Who, or what, had most", "TopHistory", top_log,
          reply_of("TopHistory"), query=TopQuery, refuses=(409,)),
    Route("GET", "/log/series", "logSeries", "log", "Sums over time", "HistorySeries", log_series,
          reply_of("HistorySeries"), query=SeriesQuery, refuses=(409,)),
    Route("GET", "/log/status", "logStatus", "log", "How the history goes", "GetHistoryStatus", log_status,
          reply_of("GetHistoryStatus"), refuses=(409,)),
    Route("DELETE", "/log", "eraseLog", "log", "Forget all sessions that are over", "EraseHistory", erase_log,
          status=204),
    Route("POST", "/explain", "explain", "policy", "Would this be let through, and why", "Explain", explain,
          reply_of("Explain"), body=Question, example={"client": "fd00:1::2", "target": "ads.example:443"}),
    Route("GET", "/limits", "listLimits", "policy", "What is used of each limit", "ListLimits", list_limits,
          reply_of("ListLimits")),
    Route("POST", "/limits/reset", "resetLimit", "policy", "Begin a subject's day and month anew",
          "ResetLimit",
          reset_limit, status=204, body=Subject, example={"limit": "guests", "subject": "fd00:1::2"}),
    Route("GET", "/hits", "listHits", "policy", "How often rules and lists have decided", "ListHits",
          list_hits,
          reply_of("ListHits"), refuses=(409,)),
    Route("GET", "/requests", "listRequests", "policy", "Requests for access that wait", "ListRequests",
          list_requests, reply_of("ListRequests"), refuses=(409,)),
    Route("POST", "/requests/{id}/grant", "grantRequest", "policy", "Grant one for a time", "GrantRequest",
          grant_request, reply_of("GrantRequest"), 201, body=Grant, example={"seconds": 3600},
          ids={"id": "ABCD-1234"}),
    Route("DELETE", "/requests/{id}", "refuseRequest", "policy", "Forget one", "RefuseRequest",
          refuse_request,
          status=204, ids={"id": "ABCD-1234"}),
    Route("GET", "/update", "getUpdate", "updates", "The version that runs, and the one that comes",
          "GetUpdate",
          get_update, reply_of("GetUpdate")),
    Route("POST", "/update", "installUpdate", "updates", "Begin to install a version", "InstallUpdate",
          install_update, _EMPTY, 202, body=Install, example={"source": None, "restart": True}),
    Route("PUT", "/update/bundle", "uploadUpdate", "updates", "A part of a bundle (8 MiB at most)",
          "UploadUpdate", upload_update, reply_of("UploadUpdate"), body=Part, most=MAX_LARGE_BODY),
    Route("POST", "/restart", "restart", "updates", "Restart the box", "Restart", restart, _EMPTY, 202,
          body=Sure,
          example={"sure": True}),
    Route("POST", "/factory-reset", "factoryReset", "updates", "Erase everything on the box", "FactoryReset",
          factory_reset, _EMPTY, 202, body=Sure, example={"sure": True}),
)  # fmt: skip
