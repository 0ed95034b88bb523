"""The control socket's client: for the command line and the console."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from appliance.errors import IsthmusError

# A status asks every worker and resolver; a password takes its 140 ms, and may wait in line.
CALL_TIMEOUT = 15.0
# A candidate of the greatest size, as an object and as text.
MAX_ANSWER = 64 << 20
# An update's phases in which it is at work.
UPDATING = frozenset({"starting", "fetching", "verifying", "writing"})


class ControlError(IsthmusError):
    """Control is not there, or refused.

    ``code`` is Varlink's error name, or "unavailable"; ``details`` the error's parameters: ``problems`` of
    Invalid, ``conflicts`` of Conflict.
    """

    def __init__(
        self, code: str, message: str, hint: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.code = code
        self.details = details or {}


def call(
    path: Path,
    method: str,
    parameters: dict[str, Any] | None = None,
    timeout: float = CALL_TIMEOUT,
    actor: dict[str, str] | None = None,
) -> dict[str, Any]:
    """One Varlink call on the Unix socket ``path``; the reply's parameters, or ControlError.

    ``timeout`` is for the whole call, in seconds. ``actor``: in whose name, for control.
    """
    asked: dict[str, Any] = {"method": method, "parameters": parameters or {}}
    if actor is not None:
        asked["actor"] = actor
    message = json.dumps(asked).encode() + b"\0"
    answer = b""
    deadline = time.monotonic() + timeout
    try:
        with socket(AF_UNIX, SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            sock.connect(str(path))
            sock.sendall(message)
            while not answer.endswith(b"\0"):
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
                data = sock.recv(1 << 16)
                if not data or len(answer) > MAX_ANSWER:
                    raise ConnectionResetError("the answer broke off")
                answer += data
    except OSError as error:
        raise ControlError(
            "unavailable", f"{path} does not answer: {error}", "Is the daemon behind it running?"
        ) from None
    try:
        reply = json.loads(answer[:-1])
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise ControlError("unavailable", f"{path} answers what is no Varlink") from None
    if "error" in reply:
        details = reply.get("parameters") or {}
        name = str(reply["error"])
        words = str(details.get("message") or name.rpartition(".")[2])
        raise ControlError(name, words, str(details.get("hint") or ""), details)
    found: dict[str, Any] = reply.get("parameters") or {}
    return found


class ControlClient:
    """org.isthmus.control, method by method. ``runtime`` is the folder with control.sock.

    ``actor`` says in whose name a call is made; without it, in that of the process's user.
    """

    def __init__(self, runtime: Path, actor: Callable[[], dict[str, str] | None] = lambda: None) -> None:
        self._path = runtime / "control.sock"
        self._actor = actor

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return call(self._path, f"org.isthmus.control.{method}", parameters, actor=self._actor())

    def status(self) -> dict[str, Any]:
        """The type Status of the interface file."""
        status: dict[str, Any] = self._call("GetStatus")["status"]
        return status

    def figures(self) -> dict[str, Any]:
        """The type Figures: a status without the health checks, at once."""
        figures: dict[str, Any] = self._call("GetFigures")["figures"]
        return figures

    def traffic(self) -> list[dict[str, Any]]:
        """The type Traffic: the last half hour, the oldest first."""
        points: list[dict[str, Any]] = self._call("GetTraffic")["points"]
        return points

    def sessions(self, limit: int = 50, search: str | None = None) -> tuple[list[dict[str, Any]], int]:
        """The newest sessions, and how many match."""
        found, total, _cursor = self.sessions_page(limit, search)
        return found, total

    def sessions_page(
        self, limit: int, search: str | None = None, cursor: str = ""
    ) -> tuple[list[dict[str, Any]], int, str]:
        """A page of them, how many match in all, and the next page's cursor or ""."""
        found = self._call("ListSessions", limit=limit, search=search, cursor=cursor or None)
        return found["sessions"], found["total"], found["cursor"]

    def kill_session(self, number: str) -> bool:
        """End an open session by its ``id``; False where there is none."""
        return bool(self._call("KillSession", id=number)["killed"])

    def search_history(
        self, filters: dict[str, Any], cursor: str = "", limit: int = 50
    ) -> tuple[list[dict[str, Any]], str, float]:
        """Types HistoryFilters and HistoryRow: (rows, the next page's cursor or "", searched)."""
        found = self._call("SearchHistory", filters=filters, cursor=cursor or None, limit=limit)
        return found["rows"], found["cursor"], float(found["searched"])

    def top_history(
        self, by: str, since: float, until: float, measure: str = "octets", limit: int = 10
    ) -> list[dict[str, Any]]:
        """The type HistorySum, most first."""
        sums: list[dict[str, Any]] = self._call(
            "TopHistory", by=by, since=since, until=until, measure=measure, limit=limit
        )["sums"]
        return sums

    def history_series(
        self, by: str | None, key: str | None, since: float, until: float, step: int
    ) -> list[dict[str, Any]]:
        """The type HistoryPoint."""
        points: list[dict[str, Any]] = self._call(
            "HistorySeries", by=by, key=key, since=since, until=until, step=step
        )["points"]
        return points

    def erase_history(self) -> None:
        """Forget the log and the history; ControlError where something is left."""
        self._call("EraseHistory")

    def history_status(self) -> dict[str, Any]:
        """The type HistoryStatus."""
        status: dict[str, Any] = self._call("GetHistoryStatus")["status"]
        return status

    def certificates(self) -> list[dict[str, Any]]:
        """The type Certificate of each."""
        found: list[dict[str, Any]] = self._call("ListCertificates")["certificates"]
        return found

    def upload_certificate(self, certificate: str, key: str, author: str | None = None) -> str | None:
        """Have the encrypted listeners serve it (PEM both); what is to be known of it all the same.

        ControlError "…Invalid" whose ``details`` have the problems.
        """
        found = self._call("UploadCertificate", certificate=certificate, key=key, author=author)
        warning: str | None = found["warning"]
        return warning

    def remove_certificate(self, author: str | None = None) -> None:
        """Have the box's own serve again."""
        self._call("RemoveCertificate", author=author)

    def renew_certificates(self, author: str | None = None) -> None:
        """Have the box's own made anew."""
        self._call("RenewCertificates", author=author)

    def config(self) -> str:
        """The active configuration as TOML."""
        return str(self._call("GetConfig")["toml"])

    def check_config(self, toml: str) -> list[dict[str, str]]:
        """Every problem of a candidate."""
        problems: list[dict[str, str]] = self._call("CheckConfig", toml=toml)["problems"]
        return problems

    def password_set(self) -> bool:
        """False until the first boot's password was set."""
        return bool(self._call("GetSetup")["password_set"])

    def set_first_password(self, password: str) -> None:
        """Set it; ControlError with the reason when it is refused."""
        self._call("SetFirstPassword", password=password)

    def reset_password(self, password: str) -> None:
        """Set it whatever there was; for root. ControlError with the reason when it is refused."""
        self._call("ResetPassword", password=password)

    def access(self, name: str | None = None) -> dict[str, Any]:
        """``password_set``, ``codes``, ``names``, and ``admin``: the type Admin of this name, or None."""
        return self._call("GetAccess", name=name)

    def authenticate(self, user: str, password: str, address: str, code: str | None = None) -> dict[str, Any]:
        """``ok``, ``retry_after`` (seconds to wait when throttled), ``code_wanted``, ``admin``."""
        return self._call("Authenticate", user=user, password=password, address=address, code=code)

    def change_password(self, name: str, old: str, new: str, address: str) -> tuple[bool, float | None]:
        """One's own: (right, seconds to wait when throttled)."""
        found = self._call("ChangePassword", name=name, old=old, new=new, address=address)
        return bool(found["ok"]), found.get("retry_after")

    def begin_totp(self, name: str) -> tuple[str, str]:
        """(secret, URI) of new one-time codes, which confirm_totp puts in force."""
        found = self._call("BeginTotp", name=name)
        return str(found["secret"]), str(found["uri"])

    def confirm_totp(self, name: str, code: str) -> list[str]:
        """Codes for a lost phone; empty where the code is wrong."""
        return list(self._call("ConfirmTotp", name=name, code=code)["recovery"])

    def end_totp(self, name: str, password: str, address: str) -> tuple[bool, float | None]:
        """Switch them off: (right, seconds to wait when throttled)."""
        found = self._call("EndTotp", name=name, password=password, address=address)
        return bool(found["ok"]), found.get("retry_after")

    def admins(self) -> list[dict[str, Any]]:
        """The type Admin of each account."""
        found: list[dict[str, Any]] = self._call("ListAdmins")["admins"]
        return found

    def add_admin(self, name: str, password: str, role: str) -> None:
        """Add an account; ControlError with the reason when it is refused."""
        self._call("AddAdmin", name=name, password=password, role=role)

    def set_admin(
        self, name: str, password: str | None = None, role: str | None = None, without_totp: bool = False
    ) -> None:
        """Change what is given; the account's sessions end."""
        self._call("SetAdmin", name=name, password=password, role=role, without_totp=without_totp)

    def remove_admin(self, name: str) -> None:
        """Remove an account."""
        self._call("RemoveAdmin", name=name)

    def tokens(self) -> list[dict[str, Any]]:
        """The type Token of each."""
        found: list[dict[str, Any]] = self._call("ListTokens")["tokens"]
        return found

    def add_token(self, name: str, role: str, expires: float | None, author: str | None = None) -> str:
        """Make one; the token, told this once."""
        return str(self._call("AddToken", name=name, role=role, expires=expires, author=author)["token"])

    def remove_token(self, name: str) -> None:
        """It counts no longer."""
        self._call("RemoveToken", name=name)

    def verify_token(self, digest: str, address: str) -> dict[str, Any] | None:
        """The type Token whose SHA-256 this is, or None."""
        found: dict[str, Any] | None = self._call("VerifyToken", digest=digest, address=address).get("token")
        return found

    def audit(
        self, filters: dict[str, Any], cursor: int | None = None, limit: int = 50
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Types AuditFilters and AuditEntry, the newest first; the next page's cursor, or None."""
        found = self._call("ListAudit", filters=filters, cursor=cursor, limit=limit)
        return found["entries"], found.get("cursor")

    def verify_audit(self) -> dict[str, Any]:
        """``entries``, ``problem`` (or None) and ``head``."""
        return self._call("VerifyAudit")

    def explain(
        self,
        client: str | None,
        user: str | None,
        target: str,
        protocol: str = "tcp",
        addresses: list[str] | None = None,
        candidate_of: str | None = None,
    ) -> dict[str, Any]:
        """The type Explanation: what the policy says of a session, and why."""
        found: dict[str, Any] = self._call(
            "Explain",
            client=client,
            user=user,
            target=target,
            protocol=protocol,
            addresses=addresses,
            candidate_of=candidate_of,
        )["explanation"]
        return found

    def access_requests(self) -> list[dict[str, Any]]:
        """The type AccessRequest, the oldest first."""
        found: list[dict[str, Any]] = self._call("ListRequests")["requests"]
        return found

    def grant_request(self, number: str, seconds: int, author: str, comment: str = "") -> str:
        """Grant one for so long; the name of the rule that does."""
        return str(
            self._call("GrantRequest", id=number, seconds=seconds, author=author, comment=comment)["rule"]
        )

    def refuse_request(self, number: str) -> None:
        """Forget one."""
        self._call("RefuseRequest", id=number)

    def hits(self) -> list[dict[str, Any]]:
        """The type Hit: how often rules and lists have decided."""
        found: list[dict[str, Any]] = self._call("ListHits")["hits"]
        return found

    def limits(self) -> list[dict[str, Any]]:
        """The type Meter for each subject of each limit."""
        found: list[dict[str, Any]] = self._call("ListLimits")["meters"]
        return found

    def reset_limit(self, limit: str, subject: str) -> None:
        """The day and the month begin anew for this subject."""
        self._call("ResetLimit", limit=limit, subject=subject)

    def users(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Types User and Group of the interface file."""
        found = self._call("ListUsers")
        return found["users"], found["groups"]

    def set_user(
        self,
        name: str,
        groups: list[str] | None = None,
        password: str | None = None,
        new: bool = False,
        author: str | None = None,
    ) -> None:
        """Add a user, or change what is given; ControlError with the reason when it is refused."""
        self._call("SetUser", name=name, groups=groups, password=password, new=new, author=author)

    def remove_user(self, name: str, author: str | None = None) -> None:
        """Remove it; ControlError with the reason when it is refused."""
        self._call("RemoveUser", name=name, author=author)

    def add_group(self, name: str, author: str | None = None) -> None:
        """Add it; ControlError with the reason when it is refused."""
        self._call("AddGroup", name=name, author=author)

    def remove_group(self, name: str, author: str | None = None) -> None:
        """Remove it; ControlError with the reason when it is refused."""
        self._call("RemoveGroup", name=name, author=author)

    # -- the configuration: the interface file says what each does, and what it is refused with --------------

    def active(self) -> dict[str, Any]:
        """``revision``, ``config`` and ``mark`` of what is in force."""
        return self._call("GetActive")

    def active_unless(self, known: str) -> dict[str, Any] | None:
        """As ``active``; None where it is as it was in the answer with this mark."""
        found = self._call("GetActive", known=known)
        return found if found.get("config") is not None else None

    def candidate(self, author: str) -> dict[str, Any]:
        """The type Candidate: the author's, or one without a change."""
        return self._candidate("GetCandidate", author=author)

    def candidate_unless(self, author: str, known: str) -> dict[str, Any] | None:
        """As ``candidate``; None where it is as it was in the answer with this mark."""
        found: dict[str, Any] | None = self._call("GetCandidate", author=author, known=known).get("candidate")
        return found

    def candidate_text(self, author: str) -> str:
        """The candidate's configuration as TOML."""
        return str(self._call("GetCandidateText", author=author)["toml"])

    def candidates(self) -> list[dict[str, Any]]:
        """The type Draft of each author that has one."""
        found: list[dict[str, Any]] = self._call("ListCandidates")["candidates"]
        return found

    def put_candidate(
        self, author: str, config: dict[str, Any], based_on: int, version: int | None = None
    ) -> dict[str, Any]:
        """Keep ``config`` as the author's candidate; the type Candidate with its problems."""
        return self._candidate(
            "PutCandidate", author=author, config=config, based_on=based_on, version=version
        )

    def merge_candidate(self, author: str, mine: list[str]) -> dict[str, Any]:
        """Merge with the active configuration, the author's value at the paths in ``mine``."""
        return self._candidate("MergeCandidate", author=author, mine=mine)

    def restore(self, author: str, number: int) -> dict[str, Any]:
        """That revision as the author's candidate."""
        return self._candidate("Restore", author=author, number=number)

    def discard_candidate(self, author: str) -> None:
        """Drop the author's candidate."""
        self._call("DiscardCandidate", author=author)

    def _candidate(self, method: str, **parameters: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._call(method, **parameters)["candidate"]
        return found

    def commit(
        self,
        author: str,
        comment: str,
        based_on: int,
        version: int | None = None,
        confirm_seconds: int | None = None,
    ) -> dict[str, Any]:
        """``revision``, and ``pending`` (the type Pending) or None where the commit is final."""
        return self._call(
            "Commit",
            author=author,
            comment=comment,
            based_on=based_on,
            version=version,
            confirm_seconds=confirm_seconds,
        )

    def confirm(self, author: str, revision: int | None = None) -> int:
        """The pending commit stays; its revision."""
        return int(self._call("Confirm", author=author, revision=revision)["revision"])

    def rollback(self, author: str, revision: int | None = None) -> int:
        """The pending commit is taken back; the revision that is in force again."""
        return int(self._call("Rollback", author=author, revision=revision)["revision"])

    def pending(self) -> dict[str, Any] | None:
        """The type Pending, or None."""
        return self._call("GetPending").get("pending")

    def revisions(self, limit: int = 50, before: int | None = None) -> tuple[list[dict[str, Any]], bool]:
        """The type Revision, the newest first; True where there are older ones."""
        found = self._call("ListRevisions", limit=limit, before=before)
        return found["revisions"], bool(found["more"])

    def revision(self, number: int) -> dict[str, Any]:
        """``revision``, ``toml``, ``config`` and ``changes`` of one."""
        return self._call("GetRevision", number=number)

    def update(self) -> dict[str, Any]:
        """The type Update of the interface file."""
        found: dict[str, Any] = self._call("GetUpdate")["update"]
        return found

    def install_update(self, source: str | None, restart: bool) -> None:
        """Begin to install from a path on the box, an address, or (None) what was uploaded."""
        self._call("InstallUpdate", source=source, restart=restart)

    def upload_update(self, offset: int, data: bytes) -> int:
        """The next part of a bundle, of at most 8 MiB; how much there is now."""
        return int(self._call("UploadUpdate", offset=offset, data=base64.b64encode(data).decode())["length"])

    def restart(self) -> None:
        """Restart the box."""
        self._call("Restart")

    def factory_reset(self) -> None:
        """Erase everything on the box, and restart it."""
        self._call("FactoryReset")

    def backup(self, passphrase: str) -> bytes:
        """A backup, which the passphrase opens."""
        return base64.b64decode(self._call("Backup", passphrase=passphrase)["data"])

    def restore_backup(self, author: str, data: bytes, passphrase: str, identity: bool) -> dict[str, Any]:
        """A backup's configuration as the author's candidate; ``identity``: the rest in force at once."""
        text = base64.b64encode(data).decode()
        return self._candidate(
            "RestoreBackup", author=author, data=text, passphrase=passphrase, identity=identity
        )

    # -- tests from the box --------------------------------------------------------------------------------

    def ping(self, target: str) -> dict[str, Any]:
        """The type Tool; ControlError where the target makes no sense, or another test is under way."""
        result: dict[str, Any] = self._call("Ping", target=target)["result"]
        return result

    def trace(self, target: str) -> dict[str, Any]:
        """As ``ping``: the routers on the way."""
        result: dict[str, Any] = self._call("Trace", target=target)["result"]
        return result

    def look_up(self, name: str, kind: str = "AAAA") -> dict[str, Any]:
        """The type LookUp: what the box's own DNS64 answers."""
        result: dict[str, Any] = self._call("LookUpName", name=name, type=kind)["result"]
        return result

    def cross(self, target: str, port: int = 80) -> dict[str, Any]:
        """The type Crossing: a session of the box's own through the proxy."""
        result: dict[str, Any] = self._call("Cross", target=target, port=port)["result"]
        return result

    def start_capture(self, device: str, host: str, port: int | None, seconds: int, octets: int) -> None:
        """Begin to capture a device's frames."""
        self._call("StartCapture", device=device, host=host, port=port, seconds=seconds, octets=octets)

    def stop_capture(self) -> None:
        """End it before its time; what it has is kept."""
        self._call("StopCapture")

    def capture(self) -> dict[str, Any]:
        """The type Capture."""
        found: dict[str, Any] = self._call("GetCapture")["capture"]
        return found

    def read_capture(self, offset: int) -> bytes:
        """A part of the pcap file from ``offset`` on; none behind its end."""
        return base64.b64decode(self._call("ReadCapture", offset=offset)["data"])
