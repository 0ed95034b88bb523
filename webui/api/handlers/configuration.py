"""The configuration in force, the token's candidate, commits and revisions."""

from __future__ import annotations

from typing import Any

from appliance.config.paths import PathError, Plain
from appliance.control.client import ControlError
from appliance.errors import IsthmusError
from webui.api.bodies import Commit, Merge, RevisionsQuery, Which
from webui.api.editing import brought, found, patch, put, without
from webui.api.problems import ApiError, of_control, plain
from webui.api.route import MAX_LARGE_BODY, PATCH, Answer, Call, Route
from webui.api.schemas import REF, reply_of

_CONFIG = {"$ref": f"{REF}Config"}
_ANY: dict[str, Any] = {"description": "What is there: a value, a table or a list."}
_REVISION = {"$ref": f"{REF}Revision"}
_PENDING = {"anyOf": [{"$ref": f"{REF}Pending"}, {"type": "null"}]}
_WAITING = {"type": "object", "required": ["pending"], "properties": {"pending": _PENDING}}
_NUMBER = {"type": "object", "required": ["revision"], "properties": {"revision": {"type": "integer"}}}
CANDIDATE: dict[str, Any] = {"$ref": f"{REF}Draft_"}
# Candidate without the configuration itself, which GET /candidate/config has.
_BUT = ("config", "toml", "mark")


def _tag(candidate: dict[str, Any]) -> str:
    """Of a candidate: another one after each change of it, and of what it is based on."""
    return f"c{candidate['version']}-{candidate['based_on']}-{candidate['active']}"


def _summary(candidate: dict[str, Any], status: int = 200) -> Answer:
    return Answer({k: v for k, v in candidate.items() if k not in _BUT}, status, _tag(candidate))


def _mine(call: Call) -> dict[str, Any]:
    """The candidate; ApiError 412 where the client has seen another one."""
    candidate = call.backend.candidate(call.author)
    check(call, _tag(candidate))
    return candidate


def check(call: Call, tag: str) -> None:
    """If-Match (RFC 9110 section 13.1.1)."""
    if call.if_match is None or call.if_match.strip() == "*":
        return
    if f'"{tag}"' not in (one.strip() for one in call.if_match.split(",")):
        raise ApiError(412, "It is another by now.", "GET it again, and make the change anew.")


# -- what is in force ------------------------------------------------------------------------------


def get_config(call: Call) -> Answer:
    active = call.backend.active()
    return Answer(active["config"], etag=f"r{active['revision']}")


def get_config_at(call: Call) -> Answer:
    active = call.backend.active()
    return Answer(_at(active["config"], call.path["path"]), etag=f"r{active['revision']}")


def _at(config: Plain, path: str) -> Any:
    try:
        return found(config, path)
    except PathError as error:
        raise ApiError(404, error.message, error.hint) from None


# -- the candidate ---------------------------------------------------------------------------------


def get_candidate(call: Call) -> Answer:
    return _summary(call.backend.candidate(call.author))


def get_candidate_config(call: Call) -> Answer:
    candidate = call.backend.candidate(call.author)
    return Answer(candidate["config"], etag=_tag(candidate))


def get_candidate_at(call: Call) -> Answer:
    candidate = call.backend.candidate(call.author)
    return Answer(_at(candidate["config"], call.path["path"]), etag=_tag(candidate))


def put_candidate_config(call: Call) -> Answer:
    return _keep(call, _mine(call), call.body, "")


def put_candidate_at(call: Call) -> Answer:
    return _edit(call, lambda config, path: put(config, path, call.body))


def patch_candidate_at(call: Call) -> Answer:
    return _edit(call, lambda config, path: patch(config, path, call.body))


def delete_candidate_at(call: Call) -> Answer:
    return _edit(call, without)


def _edit(call: Call, how: Any) -> Answer:
    candidate, path = _mine(call), call.path["path"]
    try:
        config = how(candidate["config"], path)
    except PathError as error:
        raise ApiError(404, error.message, error.hint) from None
    except IsthmusError as error:  # a setting that has to have a value
        raise ApiError(409, error.message, error.hint) from None
    return _keep(call, candidate, config, path)


def _keep(call: Call, candidate: dict[str, Any], config: Plain, path: str) -> Answer:
    """A value that cannot be is refused; what only does not fit to others yet is kept, and told."""
    wrong = brought(candidate["config"], config, path)
    if wrong:
        raise ApiError(422, "The value cannot be.", "Nothing was changed.", plain(wrong))
    return _summary(
        call.backend.put_candidate(call.author, config, candidate["based_on"], candidate["version"])
    )


def delete_candidate(call: Call) -> Answer:
    _mine(call)
    call.backend.discard_candidate(call.author)
    return Answer(status=204)


def merge_candidate(call: Call) -> Answer:
    _mine(call)
    return _summary(call.backend.merge_candidate(call.author, call.body.mine))


# -- commits ---------------------------------------------------------------------------------------


def commit(call: Call) -> Answer:
    candidate = _mine(call)
    made = call.backend.commit(
        call.author, call.body.comment, candidate["based_on"], candidate["version"], call.body.confirm_seconds
    )
    return Answer({"revision": made["revision"], "pending": made.get("pending")}, 201)


def get_pending(call: Call) -> Answer:
    return Answer({"pending": call.backend.pending()})


def confirm(call: Call) -> Answer:
    return Answer({"revision": call.backend.confirm(call.author, call.body.revision)})


def rollback(call: Call) -> Answer:
    return Answer({"revision": call.backend.rollback(call.author, call.body.revision)})


def list_revisions(call: Call) -> Answer:
    revisions, more = call.backend.revisions(call.query.limit, call.query.before)
    return Answer({"revisions": revisions, "more": more})


def _known(call: Call) -> dict[str, Any]:
    try:
        return call.backend.revision(call.path["number"])
    except ControlError as error:
        refused = of_control(error)
        raise ApiError(404, error.message, error.hint) from None if refused.status == 409 else refused


def get_revision(call: Call) -> Answer:
    return Answer(_known(call), etag=f"r{call.path['number']}")


def restore_revision(call: Call) -> Answer:
    _known(call)
    return _summary(call.backend.restore(call.author, call.path["number"]))


_PATH = {"path": "rule.no-ads.action"}
ROUTES = (
    Route("GET", "/config", "getConfig", "configuration", "The configuration in force", "GetActive",
          get_config,
          _CONFIG),
    Route("GET", "/config/{path}", "getConfigAt", "configuration", "A setting, a table or an entry of it",
          "GetActive", get_config_at, _ANY, ids={"path": "lan.prefix"}),
    Route("GET", "/candidate", "getCandidate", "candidate",
          "What the token's candidate changes, what is wrong with it, and what a commit of it does",
          "GetCandidate", get_candidate, CANDIDATE),
    Route("GET", "/candidate/config", "getCandidateConfig", "candidate", "The candidate itself",
          "GetCandidate",
          get_candidate_config, _CONFIG),
    Route("PUT", "/candidate/config", "putCandidateConfig", "candidate", "Replace the whole candidate",
          "PutCandidate", put_candidate_config, CANDIDATE, body=_CONFIG, if_match="required",
          most=MAX_LARGE_BODY),
    Route("GET", "/candidate/config/{path}", "getCandidateAt", "candidate", "A part of the candidate",
          "GetCandidate", get_candidate_at, _ANY, ids=_PATH),
    Route("PUT", "/candidate/config/{path}", "putCandidateAt", "candidate",
          "Set a setting, or replace or add an entry of a list", "PutCandidate", put_candidate_at, CANDIDATE,
          body=_ANY, if_match="optional", example={"action": "deny", "domains": ["ads.example"]},
          ids={"path": "rule.no-ads"}),
    Route("PATCH", "/candidate/config/{path}", "patchCandidateAt", "candidate",
          "Change some settings of a table (RFC 7396; null: the default)", "PutCandidate", patch_candidate_at,
          CANDIDATE, body={"type": "object"}, takes=PATCH, if_match="optional",
          example={"upstreams": ["192.0.2.53"]}, ids={"path": "dns"}),
    Route("DELETE", "/candidate/config/{path}", "deleteCandidateAt", "candidate",
          "Remove an entry, or give a setting its default", "PutCandidate", delete_candidate_at, CANDIDATE,
          if_match="optional", ids={"path": "rule.no-ads"}),
    Route("DELETE", "/candidate", "deleteCandidate", "candidate", "Forget the candidate", "DiscardCandidate",
          delete_candidate, status=204, if_match="optional"),
    Route("POST", "/candidate/merge", "mergeCandidate", "candidate",
          "Bring the candidate up to date with what is in force", "MergeCandidate", merge_candidate,
          CANDIDATE,
          body=Merge, if_match="optional", example={"mine": []}),
    Route("POST", "/commits", "commit", "commits", "Put the candidate in force", "Commit", commit,
          reply_of("Commit"), 201, body=Commit, if_match="optional",
          example={"comment": "no ads", "confirm_seconds": 90}),
    Route("GET", "/pending", "getPending", "commits", "The commit that waits to be confirmed, if one does",
          "GetPending", get_pending, _WAITING),
    Route("POST", "/pending/confirm", "confirm", "commits", "Keep it", "Confirm", confirm, _NUMBER,
          body=Which,
          example={"revision": 7}),
    Route("POST", "/pending/rollback", "rollback", "commits", "Take it back", "Rollback", rollback, _NUMBER,
          body=Which, example={"revision": 7}),
    Route("GET", "/revisions", "listRevisions", "commits", "Revisions: who, when, why", "ListRevisions",
          list_revisions, reply_of("ListRevisions"), query=RevisionsQuery),
    Route("GET", "/revisions/{number}", "getRevision", "commits", "A revision, and what it changed",
          "GetRevision", get_revision, reply_of("GetRevision"), ids={"number": "7"}),
    Route("POST", "/revisions/{number}/restore", "restoreRevision", "commits",
          "Make a revision the candidate; a commit then puts it in force", "Restore", restore_revision,
          CANDIDATE, ids={"number": "7"}),
)  # fmt: skip
