"""What the console needs of control; appliance.control.client.ControlClient is one."""

from __future__ import annotations

from typing import Any, Protocol


class Backend(Protocol):
    """The verbs of org.isthmus.control that the console uses. Each raises ControlError."""

    def status(self) -> dict[str, Any]:
        """Type Status of org.isthmus.control."""

    def figures(self) -> dict[str, Any]:
        """Type Figures: of the status, what changes by the second."""

    def traffic(self) -> list[dict[str, Any]]:
        """Type Traffic: the last half hour, the oldest first."""

    def history_series(
        self, by: str | None, key: str | None, since: float, until: float, step: int
    ) -> list[dict[str, Any]]:
        """Type HistoryPoint."""

    def kill_session(self, number: str) -> bool:
        """End an open session by its ``id``; False where there is none."""

    def top_history(
        self, by: str, since: float, until: float, measure: str = "octets", limit: int = 10
    ) -> list[dict[str, Any]]:
        """Type HistorySum, most first."""

    def history_status(self) -> dict[str, Any]:
        """Type HistoryStatus."""

    def sessions(self, limit: int = 50, search: str | None = None) -> tuple[list[dict[str, Any]], int]:
        """The newest sessions and how many match."""

    def sessions_page(
        self, limit: int, search: str | None = None, cursor: str = ""
    ) -> tuple[list[dict[str, Any]], int, str]:
        """A page of them, how many match, and the next page's cursor or ""."""

    def password_set(self) -> bool:
        """False until the first boot's password was set."""

    def set_first_password(self, password: str) -> None:
        """Set it once."""

    def access(self, name: str | None = None) -> dict[str, Any]:
        """``password_set``, ``codes``, ``names``, ``admin``: type Admin of this name."""

    def authenticate(self, user: str, password: str, address: str, code: str | None = None) -> dict[str, Any]:
        """``ok``, ``retry_after``, ``code_wanted``, ``admin``."""

    def change_password(self, name: str, old: str, new: str, address: str) -> tuple[bool, float | None]:
        """(right, seconds to wait)."""

    def begin_totp(self, name: str) -> tuple[str, str]:
        """(secret, URI)."""

    def confirm_totp(self, name: str, code: str) -> list[str]:
        """Codes for a lost phone; empty where the code is wrong."""

    def end_totp(self, name: str, password: str, address: str) -> tuple[bool, float | None]:
        """(right, seconds to wait)."""

    def admins(self) -> list[dict[str, Any]]:
        """Type Admin of each."""

    def add_admin(self, name: str, password: str, role: str) -> None:
        """Add one."""

    def set_admin(
        self, name: str, password: str | None = None, role: str | None = None, without_totp: bool = False
    ) -> None:
        """Change what is given."""

    def remove_admin(self, name: str) -> None:
        """Remove one."""

    def tokens(self) -> list[dict[str, Any]]:
        """Type Token of each."""

    def add_token(self, name: str, role: str, expires: float | None, author: str | None = None) -> str:
        """The token, told this once."""

    def remove_token(self, name: str) -> None:
        """Remove one."""

    def verify_token(self, digest: str, address: str) -> dict[str, Any] | None:
        """Type Token whose SHA-256 this is."""

    def audit(
        self, filters: dict[str, Any], cursor: int | None = None, limit: int = 50
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Types AuditFilters and AuditEntry; the next page's cursor."""

    def verify_audit(self) -> dict[str, Any]:
        """``entries``, ``problem``, ``head``."""

    def active(self) -> dict[str, Any]:
        """``revision``, ``config`` and ``mark`` of what is in force."""

    def active_unless(self, known: str) -> dict[str, Any] | None:
        """As ``active``; None where it is as in the answer with this mark."""

    def candidate(self, author: str) -> dict[str, Any]:
        """Type Candidate: what the author changed, or the active configuration."""

    def candidate_unless(self, author: str, known: str) -> dict[str, Any] | None:
        """As ``candidate``; None where it is as in the answer with this mark."""

    def candidate_text(self, author: str) -> str:
        """The candidate's configuration as TOML."""

    def put_candidate(
        self, author: str, config: dict[str, Any], based_on: int, version: int | None = None
    ) -> dict[str, Any]:
        """Keep the configuration as the author's candidate; "Outdated" when another was kept meanwhile."""

    def merge_candidate(self, author: str, mine: list[str]) -> dict[str, Any]:
        """Merge with the active configuration; of what clashes ``mine`` stays the author's."""

    def discard_candidate(self, author: str) -> None:
        """Drop the author's changes."""

    def commit(
        self,
        author: str,
        comment: str,
        based_on: int,
        version: int | None = None,
        confirm_seconds: int | None = None,
    ) -> dict[str, Any]:
        """``revision``, and ``pending`` (type Pending) where it waits to be confirmed."""

    def confirm(self, author: str, revision: int | None = None) -> int:
        """Keep what waits."""

    def rollback(self, author: str, revision: int | None = None) -> int:
        """Take back what waits; the revision in force again."""

    def pending(self) -> dict[str, Any] | None:
        """Type Pending, if a commit waits to be confirmed."""

    def revisions(self, limit: int = 50, before: int | None = None) -> tuple[list[dict[str, Any]], bool]:
        """The newest first; whether there are older ones."""

    def revision(self, number: int) -> dict[str, Any]:
        """Its type Revision, toml, config and changes."""

    def restore(self, author: str, number: int) -> dict[str, Any]:
        """Make it the author's candidate."""

    def access_requests(self) -> list[dict[str, Any]]:
        """Type AccessRequest: those that wait, the oldest first."""

    def grant_request(self, number: str, seconds: int, author: str, comment: str = "") -> str:
        """Put an exception in force for so long; its rule's name."""

    def refuse_request(self, number: str) -> None:
        """Forget a request."""

    def hits(self) -> list[dict[str, Any]]:
        """Type Hit: how often rules and lists have decided."""

    def search_history(
        self, filters: dict[str, Any], cursor: str = "", limit: int = 50
    ) -> tuple[list[dict[str, Any]], str, float]:
        """Types HistoryFilters and HistoryRow: rows, the next page's cursor, how far was searched."""

    def explain(
        self,
        client: str | None,
        user: str | None,
        target: str,
        protocol: str = "tcp",
        addresses: list[str] | None = None,
        candidate_of: str | None = None,
    ) -> dict[str, Any]:
        """Type Explanation: what the policy says of a session, and why."""

    def users(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Types User and Group: those of the explicit proxy."""

    def set_user(
        self,
        name: str,
        groups: list[str] | None = None,
        password: str | None = None,
        new: bool = False,
        author: str | None = None,
    ) -> None:
        """Add a user, or change what is given."""

    def remove_user(self, name: str, author: str | None = None) -> None:
        """Remove it."""

    def add_group(self, name: str, author: str | None = None) -> None:
        """Add it."""

    def remove_group(self, name: str, author: str | None = None) -> None:
        """Remove it."""

    def certificates(self) -> list[dict[str, Any]]:
        """Type Certificate of each."""

    def upload_certificate(self, certificate: str, key: str, author: str | None = None) -> str | None:
        """Have the encrypted listeners serve it; what is to be known of it all the same."""

    def remove_certificate(self, author: str | None = None) -> None:
        """Have the box's own serve again."""

    def renew_certificates(self, author: str | None = None) -> None:
        """Have the box's own made anew."""

    def update(self) -> dict[str, Any]:
        """Type Update: what runs, what is at work, what became of earlier ones."""

    def install_update(self, source: str | None, restart: bool) -> None:
        """Begin to install from an address, or (None) what was uploaded."""

    def upload_update(self, offset: int, data: bytes) -> int:
        """The next part of a bundle; how much there is now."""

    def restart(self) -> None:
        """Restart the box."""

    def factory_reset(self) -> None:
        """Erase everything on the box, and restart it."""

    def backup(self, passphrase: str) -> bytes:
        """A backup, which the passphrase opens."""

    def restore_backup(self, author: str, data: bytes, passphrase: str, identity: bool) -> dict[str, Any]:
        """A backup's configuration as the author's candidate; ``identity``: the rest in force at once."""

    def ping(self, target: str) -> dict[str, Any]:
        """Type Tool."""

    def trace(self, target: str) -> dict[str, Any]:
        """Type Tool: the routers on the way."""

    def look_up(self, name: str, kind: str = "AAAA") -> dict[str, Any]:
        """Type LookUp: what the box's own DNS64 answers."""

    def cross(self, target: str, port: int = 80) -> dict[str, Any]:
        """Type Crossing: a session of the box's own through the proxy."""

    def start_capture(self, device: str, host: str, port: int | None, seconds: int, octets: int) -> None:
        """Begin to capture a device's frames."""

    def stop_capture(self) -> None:
        """End it before its time; what it has is kept."""

    def capture(self) -> dict[str, Any]:
        """The type Capture."""

    def read_capture(self, offset: int) -> bytes:
        """A part of the pcap file from ``offset`` on; none behind its end."""
