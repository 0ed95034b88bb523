"""The control socket's client: for the command line and the console."""

from __future__ import annotations

import json
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from appliance.errors import IsthmusError

# A status asks every worker and resolver; a password takes its 140 ms, and may wait in line.
CALL_TIMEOUT = 15.0
MAX_ANSWER = 16 << 20


class ControlError(IsthmusError):
    """Control is not there, or refused. ``code`` is Varlink's error name, or "unavailable"."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


def call(
    path: Path, method: str, parameters: dict[str, Any] | None = None, timeout: float = CALL_TIMEOUT
) -> dict[str, Any]:
    """One Varlink call on the Unix socket ``path``; the reply's parameters, or ControlError.

    ``timeout`` is for the whole call, in seconds.
    """
    message = json.dumps({"method": method, "parameters": parameters or {}}).encode() + b"\0"
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
        raise ControlError(name, words, str(details.get("hint") or ""))
    found: dict[str, Any] = reply.get("parameters") or {}
    return found


class ControlClient:
    """org.isthmus.control, method by method. ``runtime`` is the folder with control.sock."""

    def __init__(self, runtime: Path) -> None:
        self._path = runtime / "control.sock"

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return call(self._path, f"org.isthmus.control.{method}", parameters)

    def status(self) -> dict[str, Any]:
        """The type Status of the interface file."""
        status: dict[str, Any] = self._call("GetStatus")["status"]
        return status

    def sessions(self, limit: int = 50, search: str | None = None) -> tuple[list[dict[str, Any]], int]:
        """The newest sessions, and how many match."""
        found = self._call("ListSessions", limit=limit, search=search)
        return found["sessions"], found["total"]

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

    def authenticate(self, user: str, password: str, address: str) -> tuple[bool, float | None]:
        """(right, seconds to wait when throttled)."""
        found = self._call("Authenticate", user=user, password=password, address=address)
        return bool(found["ok"]), found.get("retry_after")

    def users(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Types User and Group of the interface file."""
        found = self._call("ListUsers")
        return found["users"], found["groups"]

    def set_user(
        self, name: str, groups: list[str] | None = None, password: str | None = None, new: bool = False
    ) -> None:
        """Add a user, or change what is given; ControlError with the reason when it is refused."""
        self._call("SetUser", name=name, groups=groups, password=password, new=new)

    def remove_user(self, name: str) -> None:
        """Remove it; ControlError with the reason when it is refused."""
        self._call("RemoveUser", name=name)

    def add_group(self, name: str) -> None:
        """Add it; ControlError with the reason when it is refused."""
        self._call("AddGroup", name=name)

    def remove_group(self, name: str) -> None:
        """Remove it; ControlError with the reason when it is refused."""
        self._call("RemoveGroup", name=name)
