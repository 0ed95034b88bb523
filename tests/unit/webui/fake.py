"""Control as a value: a configuration, a candidate for each author, revisions, a commit that waits."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import asdict
from typing import Any

import tomli_w

from appliance.config import parse
from appliance.config.diff import changes
from appliance.config.masking import masked
from appliance.config.schema import as_plain
from appliance.control.client import ControlError
from appliance.errors import ConfigError

NAME = "org.isthmus.control."
REQUEST: dict[str, Any] = {
    "id": "K7MQ-2XPA", "client": "fd00:1::7", "user": "", "device": "tablet", "host": "games.example",
    "port": 80, "rule": "no-trackers", "note": "<b>please</b>", "time": 1.8e9 - 60,
}  # fmt: skip
ROW: dict[str, Any] = {
    "id": 1, "time": 1.8e9, "kind": "tcp", "outcome": "denied", "reason": "denied", "client": "fd00:1::7",
    "client_port": 40_000, "origin": "192.0.2.1", "origin_port": 443, "name": "<i>.example",
    "rule": "no-trackers",
    "device": "tablet", "dns_name": "shop.example", "reference": "K7MQ-2XPA", "user": None, "age": 0.0,
    "bytes_to_wan": 0, "bytes_to_lan": 0,
}  # fmt: skip
STATUS: dict[str, Any] = {
    "version": "0.1.0", "hostname": "isthmus", "time": 1.8e9, "uptime": 3725.0,
    "lan_interface": "lan0", "lan_prefix": "fd00:1::/64", "lan_address": "fd00:1::1",
    "lans": [
        {"name": "lan", "device": "lan0", "vlan": None, "prefix": "fd00:1::/64", "address": "fd00:1::1",
         "leaving": [], "console": True},
        {"name": "guests", "device": "lan0.20", "vlan": 20, "prefix": "fd00:3::/64", "address": "fd00:3::1",
         "leaving": [], "console": False},
    ],
    "wan_interface": "wan0", "wan_address": "203.0.113.2/24", "wan_gateway": "203.0.113.1",
    "dns_upstreams": ["203.0.113.1"], "translation": ["64:ff9b::/96"],
    "ports": [
        {"name": "lan0", "role": "lan", "carrier": True, "speed_mbit": 2500, "addresses": ["fd00:1::1/64"]},
        {"name": "wan0", "role": "wan", "carrier": False, "speed_mbit": None, "addresses": []},
    ],
    "published": [], "workers": [],
    "counters": {
        "tcp": 3, "udp": 2, "icmp": 1, "half_open": 0, "opened": 9, "refused": 1, "unreachable": 0,
        "denied": 0, "limited": 0, "bytes_to_wan": 1_900_000, "bytes_to_lan": 5, "dial_ms_median": 1.0,
    },
    "limits": [], "passwords": {"right": 0, "wrong": 0, "locked": 0, "busy": 0, "failed": 0},
    "checks": [
        {"id": "disk", "state": "ok", "title": "Disk has room", "detail": "", "fix": ""},
        {"id": "resolver", "state": "bad", "title": "The resolver does not answer",
         "detail": "unbound is down.", "fix": "Look at its log."},
    ],
    "proxy_up": True, "console_port": 443,
}  # fmt: skip
FIGURES = ("time", "uptime", "workers", "counters", "limits", "passwords", "proxy_up")
SESSION = {
    "id": "0-1", "kind": "tcp", "state": "open", "worker": 0, "client": "fd00:1::2", "client_port": 40000,
    "server": "64:ff9b::c01f:c450", "server_port": 443, "origin": "192.31.196.80", "origin_port": 443,
    "service": None, "age": 134.0, "bytes_to_wan": 1, "bytes_to_lan": 2,
}  # fmt: skip
SUM: dict[str, Any] = {
    "key": "<u>.example", "sessions": 9, "refused": 2, "bytes_to_wan": 1_000, "bytes_to_lan": 2_000_000,
}  # fmt: skip
UPDATE: dict[str, Any] = {
    "phase": "idle", "version": "", "done": 0, "total": 0, "code": "", "message": "", "hint": "",
    "running": "0.1.0", "trial": None, "available": None, "checked": None, "check_problem": None,
    "history": [{"time": 1.8e9, "version": "0.1.1", "before": "0.1.0", "result": "fell-back",
                 "reason": "the <proxy> did not answer"}],
}  # fmt: skip
CONFIG = """
[system]
timezone = "Europe/Vienna"
[[group]]
name = "staff"
[[user]]
name = "ann@home.example"
groups = ["staff"]
[[name_list]]
name = "trackers"
source = "https://lists.example.org/trackers.txt"
[[schedule]]
name = "nights"
since = "22:00"
until = "06:00"
[[rule]]
name = "no-trackers"
action = "deny"
lists = ["trackers"]
[[rule]]
name = "time"
action = "allow"
domains = ["time.example.org"]
ports = [123]
protocols = ["udp"]
[[rule]]
name = "nights-off"
action = "deny"
groups = ["staff"]
schedules = ["nights"]
until = 2027-03-01T06:00:00Z
[[limit]]
name = "staff-data"
groups = ["staff"]
mib_per_day = 20480
"""


class FakeControl:
    """A box without a password, with the configuration above as revision 1."""

    def __init__(self) -> None:
        self.password: str | None = None
        self.accounts: dict[str, dict[str, Any]] = {}
        self.tokens_made: dict[str, dict[str, Any]] = {}
        self.down = False
        self.wait: float | None = None
        self.plain = masked(as_plain(parse(CONFIG)))
        self.number = 1
        self.waiting: dict[str, Any] | None = None
        self.candidates: dict[str, dict[str, Any]] = {}
        self.versions = 0
        self.clashes: list[dict[str, Any]] = []
        self.cuts = False
        self.uploaded: tuple[str, str] | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.requests = [REQUEST]
        self.updating = dict(UPDATE)
        self.captured: dict[str, Any] = {
            "busy": False, "device": "", "frames": 0, "lost": 0, "octets": 0, "problem": None,
        }  # fmt: skip
        self.bundle, self.parts, self.room = b"", list[int](), 1 << 30
        self.explanation: dict[str, Any] = {
            "allow": False, "rule": "no-trackers", "pending": False, "note": "",
            "steps": [{"rule": "time", "matched": False, "why": "port 443 is not 123"},
                      {"rule": "no-trackers", "matched": True, "why": "all of its conditions hold"}],
        }  # fmt: skip

    def _up(self) -> None:
        if self.down:
            raise ControlError("unavailable", "control.sock does not answer")

    def status(self) -> dict[str, Any]:
        self._up()
        return STATUS

    def figures(self) -> dict[str, Any]:
        self._up()
        return {name: STATUS[name] for name in FIGURES}

    def candidate_text(self, author: str) -> str:
        return tomli_w.dumps(self.candidate(author)["config"])

    def top_history(
        self, by: str, since: float, until: float, measure: str = "octets", limit: int = 10
    ) -> list[dict[str, Any]]:
        self._up()
        assert since < until
        if by == "rule":
            assert measure == "sessions"
            return []
        return [SUM][:limit]

    def history_series(
        self, by: str | None, key: str | None, since: float, until: float, step: int
    ) -> list[dict[str, Any]]:
        assert since < until
        return [{**SUM, "start": 1.8e9 // 3_600 * 3_600 + hour * 3_600} for hour in range(24)]

    def traffic(self) -> list[dict[str, Any]]:
        self._up()
        return [
            {
                "time": 1.8e9 - at * 5,
                "open": 6,
                "opened": 2.0,
                "to_wan": 1.5e6,
                "to_lan": 8e6,
                "not_carried": 1,
            }
            for at in range(40, -1, -1)
        ]

    def kill_session(self, number: str) -> bool:
        self.calls.append(("kill", number))
        return number == SESSION["id"]

    def access_requests(self) -> list[dict[str, Any]]:
        self._up()
        return list(self.requests)

    def grant_request(self, number: str, seconds: int, author: str, comment: str = "") -> str:
        self.refuse_request(number)
        self.calls.append(("grant", number, seconds, author))
        return "access-1"

    def refuse_request(self, number: str) -> None:
        if number not in [one["id"] for one in self.requests]:
            raise ControlError(NAME + "Refused", f"No request “{number}” waits.", "")
        self.requests = [one for one in self.requests if one["id"] != number]

    def hits(self) -> list[dict[str, Any]]:
        self._up()
        return [{"kind": "rule", "name": "no-trackers", "today": 7, "total": 77},
                {"kind": "list", "name": "trackers", "today": 7, "total": 77}]  # fmt: skip

    def search_history(
        self, filters: dict[str, Any], cursor: str = "", limit: int = 50
    ) -> tuple[list[dict[str, Any]], str, float]:
        self._up()
        self.calls.append(("search", filters))
        return [ROW], "5-5", 0.0

    def history_status(self) -> dict[str, Any]:
        raise ControlError(NAME + "Refused", "The history does not answer.", "")

    def sessions(self, limit: int = 50, search: str | None = None) -> tuple[list[dict[str, Any]], int]:
        self._up()
        return ([SESSION], 1) if not search or search in SESSION["origin"] else ([], 0)  # type: ignore[operator]

    def sessions_page(
        self, limit: int, search: str | None = None, cursor: str = ""
    ) -> tuple[list[dict[str, Any]], int, str]:
        return (*self.sessions(limit, search), "" if cursor else "1-1")

    def password_set(self) -> bool:
        self._up()
        return self.password is not None

    def set_first_password(self, password: str) -> None:
        self.password = password
        self.accounts["admin"] = {
            "name": "admin", "role": "admin", "epoch": 1, "totp": False, "recovery_left": 0
        }  # fmt: skip

    # -- admins, tokens, the audit log ------------------------------------------------------------------

    def access(self, name: str | None = None) -> dict[str, Any]:
        self._up()
        if self.password is not None and "admin" not in self.accounts:
            self.set_first_password(self.password)
        codes = any(one["totp"] for one in self.accounts.values())
        return {
            "password_set": self.password is not None, "codes": codes, "names": ["isthmus"],
            "admin": self.accounts.get(name or ""),
        }  # fmt: skip

    def authenticate(self, user: str, password: str, address: str, code: str | None = None) -> dict[str, Any]:
        self.access()
        admin = self.accounts.get(user)
        ok = admin is not None and password == self.password and not self.wait
        wanted = ok and admin is not None and admin["totp"] and not code
        if ok and admin is not None and admin["totp"] and code and code != "123456":
            ok = False
        return {
            "ok": ok and not wanted, "retry_after": self.wait, "code_wanted": wanted,
            "admin": admin if ok and not wanted else None,
        }  # fmt: skip

    def change_password(self, name: str, old: str, new: str, address: str) -> tuple[bool, float | None]:
        if old != self.password:
            return False, None
        self.password = new
        self.accounts[name]["epoch"] += 1
        return True, None

    def begin_totp(self, name: str) -> tuple[str, str]:
        return "JBSWY3DPEHPK3PXP", f"otpauth://totp/Isthmus:{name}?secret=JBSWY3DPEHPK3PXP"

    def confirm_totp(self, name: str, code: str) -> list[str]:
        if code != "123456":
            return []
        self.accounts[name].update(totp=True, recovery_left=2)
        return ["aaaaa-bbbbb", "ccccc-ddddd"]

    def end_totp(self, name: str, password: str, address: str) -> tuple[bool, float | None]:
        if password != self.password:
            return False, None
        self.accounts[name].update(totp=False, recovery_left=0)
        return True, None

    def admins(self) -> list[dict[str, Any]]:
        return list(self.accounts.values())

    def add_admin(self, name: str, password: str, role: str) -> None:
        if name in self.accounts:
            raise ControlError(f"{NAME}Refused", f"There is an admin “{name}” already.")
        self.accounts[name] = {"name": name, "role": role, "epoch": 1, "totp": False, "recovery_left": 0}

    def set_admin(
        self, name: str, password: str | None = None, role: str | None = None, without_totp: bool = False
    ) -> None:
        if name == "admin" and role != "admin":
            raise ControlError(f"{NAME}Refused", "“admin” is the last account with the role admin.")
        self.accounts[name].update(role=role, epoch=self.accounts[name]["epoch"] + 1)

    def remove_admin(self, name: str) -> None:
        if name == "admin":
            raise ControlError(f"{NAME}Refused", "“admin” is the last account with the role admin.")
        del self.accounts[name]

    def tokens(self) -> list[dict[str, Any]]:
        return list(self.tokens_made.values())

    def add_token(self, name: str, role: str, expires: float | None, author: str | None = None) -> str:
        if name in self.tokens_made:
            raise ControlError(f"{NAME}Refused", f"There is a token “{name}” already.")
        self.tokens_made[name] = {
            "name": name, "role": role, "created": 1.8e9, "expires": expires, "last_used": None,
            "by": author,
        }  # fmt: skip
        return f"isthmus_{name}"

    def remove_token(self, name: str) -> None:
        del self.tokens_made[name]

    def verify_token(self, digest: str, address: str) -> dict[str, Any] | None:
        for name, token in self.tokens_made.items():
            if hashlib.sha256(f"isthmus_{name}".encode()).hexdigest() == digest:
                return token
        return None

    def audit(
        self, filters: dict[str, Any], cursor: int | None = None, limit: int = 50
    ) -> tuple[list[dict[str, Any]], int | None]:
        self.calls.append(("audit", filters, cursor))
        entry = {
            "seq": 7, "time": 1.8e9, "who": "admin", "role": "admin", "via": "console",
            "address": "fd00:1::2", "action": "commit", "about": "revision=2 comment=<b>no</b>",
            "outcome": "done",
        }  # fmt: skip
        return [entry], 7

    def verify_audit(self) -> dict[str, Any]:
        return {"entries": 7, "problem": None, "head": "0" * 64}

    # -- the configuration ------------------------------------------------------------------------------

    def active(self) -> dict[str, Any]:
        config = copy.deepcopy(self.plain)
        return {
            "revision": self.number, "config": config, "mark": str(self.number),
        }  # fmt: skip

    def active_unless(self, known: str) -> dict[str, Any] | None:
        return None if known == str(self.number) else self.active()

    def candidate_unless(self, author: str, known: str) -> dict[str, Any] | None:
        found = self.candidate(author)
        return None if found["mark"] == known else found

    def candidate(self, author: str) -> dict[str, Any]:
        self._up()
        kept = self.candidates.get(author)
        config = copy.deepcopy(kept["config"] if kept else self.plain)
        found = [asdict(change) for change in changes(self.plain, config)]
        problems = []
        try:
            parse(tomli_w.dumps({**config, "user": []}) if not config["user"] else _without_hashes(config))
        except ConfigError as error:
            problems = [asdict(problem) for problem in error.problems]
        effects = [{"text": "reloads the proxy: sessions stay", "cut": False}] if found else []
        if self.cuts and found:
            effects.append({"text": "the console moves to https://[fd00:2::1]/", "cut": True})
        made = {
            "author": author, "version": kept["version"] if kept else 0, "touched": None, "config": config,
            "based_on": kept["based_on"] if kept else self.number,
            "active": self.number, "stale": bool(kept and kept["based_on"] != self.number),
            "conflicts": list(self.clashes), "changes": found, "problems": problems, "effects": effects,
            "needs_confirmation": self.cuts and bool(found),
        }  # fmt: skip
        return {**made, "mark": hashlib.sha256(repr(made).encode()).hexdigest()}

    def put_candidate(
        self, author: str, config: dict[str, Any], based_on: int, version: int | None = None
    ) -> dict[str, Any]:
        kept = self.candidates.get(author)
        if version is not None and version != (kept["version"] if kept else 0):
            raise ControlError(f"{NAME}Outdated", "The candidate is another by now.", "Get it again.")
        self.versions += 1
        made = {"config": copy.deepcopy(config), "version": self.versions, "based_on": based_on}
        self.candidates[author] = made
        return self.candidate(author)

    def merge_candidate(self, author: str, mine: list[str]) -> dict[str, Any]:
        self.calls.append(("merge", author, mine))
        self.clashes = []
        return self.candidate(author)

    def discard_candidate(self, author: str) -> None:
        self.candidates.pop(author, None)

    def commit(
        self,
        author: str,
        comment: str,
        based_on: int,
        version: int | None = None,
        confirm_seconds: int | None = None,
    ) -> dict[str, Any]:
        if self.clashes:
            details = {"conflicts": self.clashes}
            raise ControlError(f"{NAME}Conflict", "Both changed the same.", "Merge.", details)
        self.calls.append(("commit", author, comment, version, confirm_seconds))
        self.plain = self.candidates.pop(author)["config"]
        self.number += 1
        if self.cuts:
            self.waiting = {
                "revision": self.number, "back_to": self.number - 1, "author": author, "comment": comment,
                "deadline": 1.8e9, "remaining": 71.4, "old_console": "https://[fd00:1::1]/",
                "new_console": "https://[fd00:2::1]/",
            }  # fmt: skip
        return {"revision": self.number, "pending": self.waiting}

    def _answered(self, revision: int | None) -> dict[str, Any]:
        if self.waiting is None or revision not in (None, self.waiting["revision"]):
            raise ControlError(f"{NAME}Refused", "No commit waits to be confirmed.", "It was rolled back.")
        waiting, self.waiting = self.waiting, None
        return waiting

    def confirm(self, author: str, revision: int | None = None) -> int:
        found: int = self._answered(revision)["revision"]
        return found

    def rollback(self, author: str, revision: int | None = None) -> int:
        found: int = self._answered(revision)["back_to"]
        return found

    def pending(self) -> dict[str, Any] | None:
        return self.waiting

    def _revision(self, number: int) -> dict[str, Any]:
        return {
            "number": number, "based_on": number - 1 or None, "author": "admin", "comment": f"why {number}",
            "time": 1.8e9 - 7_200, "state": "active" if number == self.number else "replaced", "ended": "",
            "changes": 1,
        }  # fmt: skip

    def revisions(self, limit: int = 50, before: int | None = None) -> tuple[list[dict[str, Any]], bool]:
        numbers = range(min(self.number, (before or self.number + 1) - 1), 0, -1)
        return [self._revision(number) for number in numbers][:limit], len(numbers) > limit

    def revision(self, number: int) -> dict[str, Any]:
        if not 1 <= number <= self.number:
            raise ControlError(f"{NAME}InvalidArgument", "There is no such revision.")
        one = {"path": "rule.time.action", "kind": "set", "before": '"deny"', "after": '"allow"'}
        return {"revision": self._revision(number), "toml": CONFIG, "config": self.plain, "changes": [one]}

    def restore(self, author: str, number: int) -> dict[str, Any]:
        self.calls.append(("restore", author, number))
        return self.candidate(author)

    def explain(
        self,
        client: str | None,
        user: str | None,
        target: str,
        protocol: str = "tcp",
        addresses: list[str] | None = None,
        candidate_of: str | None = None,
    ) -> dict[str, Any]:
        if "/" in target:
            raise ControlError(f"{NAME}Refused", f"“{target}” is no destination.", "Write it otherwise.")
        self.calls.append(("explain", client, user, target, protocol, addresses, candidate_of))
        return self.explanation

    # -- users ------------------------------------------------------------------------------------------

    def users(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        users = [
            {"name": user["name"], "groups": list(user["groups"]), "has_password": "password" in user}
            for user in self.plain["user"]
        ]
        groups = [
            {"name": group["name"], "users": sum(group["name"] in user["groups"] for user in users)}
            for group in self.plain["group"]
        ]
        return users, groups

    def set_user(
        self,
        name: str,
        groups: list[str] | None = None,
        password: str | None = None,
        new: bool = False,
        author: str | None = None,
    ) -> None:
        found = next((user for user in self.plain["user"] if user["name"] == name), None)
        if new and found:
            raise ControlError(f"{NAME}Refused", f"There is a user “{name}” already.", "`isthmus user`")
        if found is None:
            found = {"name": name}
            self.plain["user"].append(found)
        found["groups"] = groups
        if password:
            found["password"] = f"$kept${name}"
        self.calls.append(("set_user", name, author))

    def remove_user(self, name: str, author: str | None = None) -> None:
        self.plain["user"] = [user for user in self.plain["user"] if user["name"] != name]

    def add_group(self, name: str, author: str | None = None) -> None:
        self.plain["group"].append({"name": name})

    def remove_group(self, name: str, author: str | None = None) -> None:
        if any(name in user["groups"] for user in self.plain["user"]):
            raise ControlError(
                f"{NAME}Refused", f"Group “{name}” has users.", "Give them other groups first."
            )
        self.plain["group"] = [group for group in self.plain["group"] if group["name"] != name]

    # -- certificates -----------------------------------------------------------------------------------

    def certificates(self) -> list[dict[str, Any]]:
        own = {
            "subject": "isthmus", "issuer": "Isthmus box 12ab", "names": ["isthmus", "fd00:1::1"],
            "since": 1.7e9, "until": 1.85e9, "key": "ECDSA secp256r1", "fingerprint": "AB:CD",
            "problem": None,
        }  # fmt: skip
        found = [
            {**own, "name": "authority", "names": [], "used_by": []},
            {**own, "name": "console", "used_by": ["console"]},
            {**own, "name": "proxy", "used_by": [] if self.uploaded else ["listener https"]},
        ]
        if self.uploaded:
            found.append({**own, "name": "uploaded", "used_by": ["listener https"]})
        return found

    def upload_certificate(self, certificate: str, key: str, author: str | None = None) -> str | None:
        if "KEY" not in key:
            problem = {
                "path": "key",
                "message": "belongs to another.",
                "hint": "Upload its own.",
                "code": "m",
            }
            raise ControlError(f"{NAME}Invalid", "key: belongs to another.", "", {"problems": [problem]})
        self.uploaded = (certificate, key)
        self.calls.append(("upload_certificate", certificate, key, author))
        return None

    def remove_certificate(self, author: str | None = None) -> None:
        if not self.uploaded:
            raise ControlError(f"{NAME}Refused", "There is no uploaded certificate.", "")
        self.uploaded = None

    def renew_certificates(self, author: str | None = None) -> None:
        self.calls.append(("renew_certificates", author))

    # -- updates ----------------------------------------------------------------------------------------

    def update(self) -> dict[str, Any]:
        self._up()
        return dict(self.updating)

    def install_update(self, source: str | None, restart: bool) -> None:
        if self.updating["phase"] in ("fetching", "writing"):
            raise ControlError(f"{NAME}Refused", "An update is at work already.", "Wait.")
        self.calls.append(("install", source, restart))
        self.updating |= {"phase": "writing", "version": "0.2.0", "done": 10, "total": 100}

    def upload_update(self, offset: int, data: bytes) -> int:
        assert offset == len(self.bundle)
        if offset + len(data) > self.room:
            raise ControlError(f"{NAME}Refused", "There is no room for the update.", "Erase old logs.")
        self.bundle += data
        self.parts.append(len(data))
        return len(self.bundle)

    def restart(self) -> None:
        self.calls.append(("restart",))

    # -- backups ----------------------------------------------------------------------------------------

    def factory_reset(self) -> None:
        self.calls.append(("factory_reset",))

    def backup(self, passphrase: str) -> bytes:
        return b"sealed by " + passphrase.encode()

    def restore_backup(self, author: str, data: bytes, passphrase: str, identity: bool) -> dict[str, Any]:
        if "wrong" in passphrase:
            raise ControlError(f"{NAME}Refused", "The passphrase does not open it.", "Type the right one.")
        self.calls.append(("restore_backup", author, len(data), identity))
        return self.candidate(author)

    # -- tests from the box -----------------------------------------------------------------------------

    def ping(self, target: str) -> dict[str, Any]:
        if target.startswith("-"):
            raise ControlError(f"{NAME}Refused", "That is no address and no name.", "Write it otherwise.")
        self.calls.append(("ping", target))
        return {"ok": True, "output": "64 bytes from <192.0.2.1>\n"}

    def trace(self, target: str) -> dict[str, Any]:
        self.calls.append(("trace", target))
        return {"ok": False, "output": " 1  *\n"}

    def look_up(self, name: str, kind: str = "AAAA") -> dict[str, Any]:
        self.calls.append(("look_up", name, kind))
        record = {"name": name, "type": kind, "ttl": 60, "data": "64:ff9b::c000:201", "made_of": "192.0.2.1"}
        return {"server": "fd00:1::1", "code": "NOERROR", "truncated": False, "records": [record]}

    def cross(self, target: str, port: int = 80) -> dict[str, Any]:
        self._up()
        if "." not in target:
            raise ControlError(f"{NAME}Refused", "That is no address and no name.", "Write it otherwise.")
        self.calls.append(("cross", target, port))
        ok = target != "denied.example"
        return {
            "ok": ok, "client": "fd00:1::1", "address": "64:ff9b::c000:250", "origin": "192.0.2.80",
            "milliseconds": 12.5 if ok else 0.0, "said": "HTTP/1.1 200 <OK>" if ok else "",
            "problem": "" if ok else "The session was refused: by a rule, or by the server.",
        }  # fmt: skip

    def start_capture(self, device: str, host: str, port: int | None, seconds: int, octets: int) -> None:
        if "x" in host:
            raise ControlError(f"{NAME}Refused", "“x” is no address.", "Write it otherwise.")
        self.calls.append(("capture", device, host, port, seconds, octets))
        self.captured |= {"busy": True, "device": device}

    def stop_capture(self) -> None:
        self.captured |= {"busy": False, "frames": 3, "octets": 300}

    def capture(self) -> dict[str, Any]:
        return dict(self.captured)

    def read_capture(self, offset: int) -> bytes:
        return (b"pcap" * 75)[offset : offset + 128]


def _without_hashes(config: dict[str, Any]) -> str:
    users = [{k: v for k, v in user.items() if k != "password"} for user in config["user"]]
    return tomli_w.dumps({**config, "user": users})
