"""Users and groups of the proxy, admins, tokens, the audit log; certificates and backups."""

from __future__ import annotations

import base64
from typing import Any

from webui.api.bodies import (
    AdminChange,
    AuditQuery,
    NewAdmin,
    NewGroup,
    NewToken,
    NewUser,
    Pair,
    Passphrase,
    Restoring,
    UserChange,
)
from webui.api.handlers.configuration import CANDIDATE
from webui.api.problems import ApiError
from webui.api.route import MAX_LARGE_BODY, OCTETS, Answer, Call, Route
from webui.api.schemas import REF, reply_of


def _one(entries: list[dict[str, Any]], call: Call, what: str) -> dict[str, Any]:
    name = call.path["name"]
    for one in entries:
        if one["name"] == name:
            return one
    raise ApiError(404, f"There is no {what} of this name.", f"GET /{what}s shows those there are.")


def list_users(call: Call) -> Answer:
    return Answer({"users": call.backend.users()[0]})


def add_user(call: Call) -> Answer:
    b = call.body
    call.backend.set_user(b.name, b.groups, b.password, new=True, author=call.author)
    return Answer(_of(call.backend.users()[0], b.name), 201)


def _of(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in entries if one["name"] == name)


def get_user(call: Call) -> Answer:
    return Answer(_one(call.backend.users()[0], call, "user"))


def change_user(call: Call) -> Answer:
    _one(call.backend.users()[0], call, "user")
    call.backend.set_user(call.path["name"], call.body.groups, call.body.password, author=call.author)
    return Answer(_one(call.backend.users()[0], call, "user"))


def remove_user(call: Call) -> Answer:
    _one(call.backend.users()[0], call, "user")
    call.backend.remove_user(call.path["name"], call.author)
    return Answer(status=204)


def list_groups(call: Call) -> Answer:
    return Answer({"groups": call.backend.users()[1]})


def add_group(call: Call) -> Answer:
    call.backend.add_group(call.body.name, call.author)
    return Answer(_of(call.backend.users()[1], call.body.name), 201)


def remove_group(call: Call) -> Answer:
    _one(call.backend.users()[1], call, "group")
    call.backend.remove_group(call.path["name"], call.author)
    return Answer(status=204)


def list_admins(call: Call) -> Answer:
    return Answer({"admins": call.backend.admins()})


def add_admin(call: Call) -> Answer:
    call.backend.add_admin(call.body.name, call.body.password, call.body.role)
    return Answer(_of(call.backend.admins(), call.body.name), 201)


def change_admin(call: Call) -> Answer:
    _one(call.backend.admins(), call, "admin")
    call.backend.set_admin(call.path["name"], call.body.password, call.body.role, call.body.without_totp)
    return Answer(_one(call.backend.admins(), call, "admin"))


def remove_admin(call: Call) -> Answer:
    _one(call.backend.admins(), call, "admin")
    call.backend.remove_admin(call.path["name"])
    return Answer(status=204)


def this_token(call: Call) -> Answer:
    return Answer(dict(call.token))


def list_tokens(call: Call) -> Answer:
    return Answer({"tokens": call.backend.tokens()})


def add_token(call: Call) -> Answer:
    b = call.body
    return Answer({"token": call.backend.add_token(b.name, b.role, b.expires, call.author)}, 201)


def remove_token(call: Call) -> Answer:
    _one(call.backend.tokens(), call, "token")
    call.backend.remove_token(call.path["name"])
    return Answer(status=204)


def list_audit(call: Call) -> Answer:
    asked = call.query.model_dump(exclude_none=True, exclude={"limit", "cursor"})
    entries, cursor = call.backend.audit(asked, call.query.cursor, call.query.limit)
    return Answer({"entries": entries, "cursor": cursor})


def verify_audit(call: Call) -> Answer:
    return Answer(call.backend.verify_audit())


def list_certificates(call: Call) -> Answer:
    return Answer({"certificates": call.backend.certificates()})


def upload_certificate(call: Call) -> Answer:
    warning = call.backend.upload_certificate(call.body.certificate, call.body.key, call.author)
    return Answer({"warning": warning})


def remove_certificate(call: Call) -> Answer:
    call.backend.remove_certificate(call.author)
    return Answer(status=204)


def renew_certificates(call: Call) -> Answer:
    call.backend.renew_certificates(call.author)
    return Answer(status=204)


def make_backup(call: Call) -> Answer:
    return Answer(
        call.backend.backup(call.body.passphrase),
        headers={"Content-Disposition": 'attachment; filename="isthmus.backup"'},
    )


def restore_backup(call: Call) -> Answer:
    try:
        data = base64.b64decode(call.body.data, validate=True)
    except ValueError:
        raise ApiError(422, "The data is no base64.") from None
    found = call.backend.restore_backup(call.author, data, call.body.passphrase, call.body.identity)
    return Answer({k: v for k, v in found.items() if k not in ("config", "toml")})


def _ref(kind: str) -> dict[str, Any]:
    return {"$ref": f"{REF}{kind}"}


_NAME = {"name": "ann"}
ROUTES = (
    Route("GET", "/users", "listUsers", "users", "Users of the explicit proxy", "ListUsers", list_users,
          reply_of("ListUsers", "groups")),
    Route("POST", "/users", "addUser", "users", "Add a user; in force at once", "SetUser", add_user,
          _ref("User"), 201, body=NewUser, example={"name": "ann", "groups": ["staff"], "password": "…"}),
    Route("GET", "/users/{name}", "getUser", "users", "A user", "ListUsers", get_user, _ref("User"),
          ids=_NAME),
    Route("PATCH", "/users/{name}", "changeUser", "users", "Change a user's groups or password", "SetUser",
          change_user, _ref("User"), body=UserChange, example={"groups": ["staff"]}, ids=_NAME),
    Route("DELETE", "/users/{name}", "removeUser", "users", "Remove a user", "RemoveUser", remove_user,
          status=204, ids=_NAME),
    Route("GET", "/groups", "listGroups", "users", "Groups of users", "ListUsers", list_groups,
          reply_of("ListUsers", "users")),
    Route("POST", "/groups", "addGroup", "users", "Add a group", "AddGroup", add_group, _ref("Group"), 201,
          body=NewGroup, example={"name": "staff"}),
    Route("DELETE", "/groups/{name}", "removeGroup", "users", "Remove a group that nobody is in",
          "RemoveGroup",
          remove_group, status=204, ids={"name": "staff"}),
    Route("GET", "/admins", "listAdmins", "access", "Accounts of the console", "ListAdmins", list_admins,
          reply_of("ListAdmins")),
    Route("POST", "/admins", "addAdmin", "access", "Add an account", "AddAdmin", add_admin, _ref("Admin"),
          201,
          body=NewAdmin, example={"name": "bob", "password": "…", "role": "operator"}),
    Route("PATCH", "/admins/{name}", "changeAdmin", "access", "Change an account; its sessions end",
          "SetAdmin",
          change_admin, _ref("Admin"), body=AdminChange, example={"role": "viewer"}, ids={"name": "bob"}),
    Route("DELETE", "/admins/{name}", "removeAdmin", "access", "Remove an account", "RemoveAdmin",
          remove_admin,
          status=204, ids={"name": "bob"}),
    Route("GET", "/token", "thisToken", "access", "The token that asks", "GetStatus", this_token,
          _ref("Token")),
    Route("GET", "/tokens", "listTokens", "access", "Tokens of the API", "ListTokens", list_tokens,
          reply_of("ListTokens")),
    Route("POST", "/tokens", "addToken", "access", "Make a token; it is told this once", "AddToken",
          add_token,
          reply_of("AddToken"), 201, body=NewToken, example={"name": "poller", "role": "viewer"}),
    Route("DELETE", "/tokens/{name}", "removeToken", "access", "A token counts no longer", "RemoveToken",
          remove_token, status=204, ids={"name": "poller"}),
    Route("GET", "/audit", "listAudit", "access", "Who did what, the newest first", "ListAudit", list_audit,
          reply_of("ListAudit"), query=AuditQuery),
    Route("GET", "/audit/whole", "verifyAudit", "access", "Whether the audit log is whole", "VerifyAudit",
          verify_audit, reply_of("VerifyAudit")),
    Route("GET", "/certificates", "listCertificates", "certificates", "Certificates, and what they serve",
          "ListCertificates", list_certificates, reply_of("ListCertificates")),
    Route("PUT", "/certificates/uploaded", "uploadCertificate", "certificates",
          "Have the encrypted listeners serve one of yours", "UploadCertificate", upload_certificate,
          reply_of("UploadCertificate"), body=Pair),
    Route("DELETE", "/certificates/uploaded", "removeCertificate", "certificates",
          "Serve the box's own again",
          "RemoveCertificate", remove_certificate, status=204),
    Route("POST", "/certificates/renew", "renewCertificates", "certificates", "Make the box's own anew",
          "RenewCertificates", renew_certificates, status=204),
    Route("POST", "/backup", "makeBackup", "backups", "A backup, which the passphrase opens", "Backup",
          make_backup, {"type": "string", "format": "binary"}, media=OCTETS, body=Passphrase,
          example={"passphrase": "…"}),
    Route("POST", "/backup/restore", "restoreBackup", "backups",
          "A backup's configuration as the candidate; with identity, the rest of it at once", "RestoreBackup",
          restore_backup, CANDIDATE, body=Restoring, most=MAX_LARGE_BODY),
)  # fmt: skip
