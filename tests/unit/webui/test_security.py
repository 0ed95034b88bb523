"""The console's security, case by case, over a real control socket (docs/security.md names these tests)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from appliance.config.roles import Role
from appliance.system import admins as accounts
from appliance.system import totp
from appliance.system.passwords import MAX_LENGTH, verified
from tests.unit.webui.api.conftest import PASSWORD, Served
from webui.access import least_of

BASE = "https://[fd00:1::1]"
OTHER = "another sentence"


class Browser:
    """One browser of one host."""

    def __init__(self, served: Served, address: str = "fd00:1::2") -> None:
        self.client: FlaskClient = served.app.test_client()
        self.client.environ_base["REMOTE_ADDR"] = address

    def get(self, url: str, **more: Any) -> Any:
        """Load a page."""
        return self.client.get(url, base_url=BASE, **more)

    def post(self, page: str, url: str, **fields: str) -> Any:
        """Load a page, and send its form."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(page).text)
        assert found, page
        return self.client.post(url, data={"csrf": found[1], **fields}, base_url=BASE)

    def sign_in(self, name: str = "admin", password: str = PASSWORD, **more: str) -> int:
        """The status: 303 where it is let in."""
        status: int = self.post("/signin", "/signin", username=name, password=password, **more).status_code
        return status


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Served]:
    """A box that was set up."""
    made = Served(tmp_path)
    yield made
    made.close()


@pytest.fixture
def admin(box: Served) -> Browser:
    """Signed in."""
    made = Browser(box)
    assert made.sign_in() == 303
    return made


def written(box: Served, **wanted: str) -> list[dict[str, Any]]:
    """Entries of the audit log, the newest first."""
    return box.root.audit(wanted)[0]


def test_the_sessions_cookie_is_for_this_host_tls_and_http_alone(box: Served) -> None:
    answer = Browser(box).get("/signin")
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["__Host-isthmus"]
    assert cookie["secure"] and cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert (cookie["path"], cookie["domain"]) == ("/", "")


def test_signing_in_makes_a_new_session_and_signing_out_ends_it(box: Served) -> None:
    browser = Browser(box)
    browser.get("/signin")
    before = browser.client.get_cookie("__Host-isthmus", "fd00:1::1")
    assert browser.sign_in() == 303
    after = browser.client.get_cookie("__Host-isthmus", "fd00:1::1")
    assert before is None or after is None or before.value != after.value
    kept = after.value if after else ""
    browser.post("/", "/signout")
    # The cookie of before is of no use to whoever has it.
    browser.client.set_cookie("__Host-isthmus", kept, domain="fd00:1::1", secure=True)
    assert browser.get("/").location == "/signin"


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("[fd00:1::1]", True), ("[fd00:1::1]:443", True), ("203.0.113.2", True), ("isthmus", True),
        ("isthmus.home.arpa", True), ("ISTHMUS.local.", True), ("rebound.attacker.example", False),
        ("isthmus.attacker.example", False), ("fd00-1--1.attacker.example", False), ("", False),
        ("[fd00:1::1].attacker.example", False), ("isthmus.local@attacker.example", False),
    ],
)  # fmt: skip
def test_a_name_that_leads_to_the_box_opens_nothing(
    admin: Browser, box: Served, host: str, taken: bool
) -> None:
    for url in ("/", "/api/v1/status", "/setup"):
        answer = admin.client.get(url, base_url=BASE, headers={"Host": host})
        assert (answer.status_code != 421) is taken, url
        if not taken:
            assert "64:ff9b" not in answer.text


def test_passwords_are_kept_as_argon2id_and_cost_what_they_should(box: Served) -> None:
    admin = box.interface._admins.find("admin")
    assert admin is not None
    found = re.fullmatch(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$.+", admin.password)
    assert found
    memory, times, _lanes = map(int, found.groups())
    assert memory >= 19_456 and times >= 2  # OWASP's least
    assert PASSWORD not in (box.folder / "console-users.json").read_text()


def test_wrong_passwords_are_throttled_by_account_and_by_address(box: Served) -> None:
    one = Browser(box, "fd00:1::66")
    tries = [one.sign_in(password="wrong " * 2) for _try in range(12)]
    assert tries[0] == 422
    assert tries[-1] == 429
    # The account: another host is held back too, even with the right password.
    assert Browser(box, "fd00:1::67").sign_in() == 429
    # The address: this host is held back at other accounts too.
    box.root.add_admin("ann", OTHER, "viewer")
    assert one.sign_in("ann", OTHER) == 429
    assert Browser(box, "fd00:1::68").sign_in("ann", OTHER) == 303


def test_a_name_that_is_nobodys_takes_as_long(box: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work is done: one hash is compared, whether there is such an account or not."""
    asked: list[bool] = []

    def counted(kept: str | None, password: str) -> bool:
        asked.append(kept is not None)
        return verified(kept, password)

    monkeypatch.setattr(accounts, "verified", counted)
    spent = {}
    for name in ("admin", "nobody"):
        browser = Browser(box, f"fd00:1::{len(name)}")
        browser.get("/signin")
        started = time.perf_counter()
        assert browser.sign_in(name, "not the password") == 422
        spent[name] = time.perf_counter() - started
    assert asked == [True, False]
    assert spent["nobody"] > spent["admin"] / 5  # no answer without a hash


def test_a_password_that_is_endless_is_not_hashed(box: Served) -> None:
    started = time.perf_counter()
    assert Browser(box).sign_in(password="x" * (MAX_LENGTH + 1)) in (413, 422)
    assert time.perf_counter() - started < 5


def _clock(box: Served, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1.8e9]
    monkeypatch.setattr(box.interface._admins, "_wall", lambda: now[0])
    return now


def _enrol(browser: Browser, now: list[float]) -> tuple[str, list[str]]:
    """(the secret, the codes for a lost phone)."""
    page = browser.get("/account/totp").text
    secret = re.search(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", page)
    assert secret, page
    bare = secret[0].replace(" ", "")
    answer = browser.post(
        "/account/totp", "/account/totp", code=totp.code_at(bare, int(now[0]) // totp.PERIOD)
    )
    assert answer.status_code == 200
    return bare, re.findall(r"\b[0-9a-f]{5}-[0-9a-f]{5}-[0-9a-f]{5}-[0-9a-f]{5}\b", answer.text)


def test_one_time_codes_are_asked_for_and_count_once(
    admin: Browser, box: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = _clock(box, monkeypatch)
    secret, recovery = _enrol(admin, now)
    assert len(recovery) == accounts.RECOVERY_CODES
    now[0] += 60
    code = totp.code_at(secret, int(now[0]) // totp.PERIOD)
    browser = Browser(box, "fd00:1::9")
    assert browser.sign_in() == 422  # the password alone
    assert browser.get("/").location == "/signin"
    assert browser.sign_in(code="000000" if code != "000000" else "111111") == 422
    assert browser.sign_in(password="wrong password", code=code) == 422
    assert browser.sign_in(code=code) == 303
    assert Browser(box, "fd00:1::a").sign_in(code=code) == 422  # over a shoulder
    assert Browser(box, "fd00:1::b").sign_in(code=recovery[0]) == 303
    assert Browser(box, "fd00:1::c").sign_in(code=recovery[0]) == 422
    now[0] += 3_600
    assert Browser(box, "fd00:1::d").sign_in(code=code) == 422  # of an hour ago
    kept = (box.folder / "console-users.json").read_text()
    assert recovery[1] not in kept and recovery[1].replace("-", "") not in kept


def test_one_time_codes_are_switched_off_by_the_password_alone(
    admin: Browser, box: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _enrol(admin, _clock(box, monkeypatch))
    assert admin.post("/account", "/account/totp/end", old="not the password").status_code == 422
    assert admin.post("/account", "/account/totp/end", old=PASSWORD).status_code == 303
    assert Browser(box, "fd00:1::9").sign_in() == 303


def _routes(box: Served, method: str) -> list[tuple[str, str]]:
    """(endpoint, address) of each page of the console."""
    rules = box.app.url_map.iter_rules()
    return sorted(
        (rule.endpoint, rule.rule.replace("<int:number>", "1"))
        for rule in rules
        if method in (rule.methods or ()) and not rule.endpoint.startswith(("api.", "static"))
    )


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR], ids=str)
def test_a_role_opens_what_is_its_own_and_nothing_else(box: Served, role: Role) -> None:
    box.root.add_admin("ann", OTHER, str(role))
    browser = Browser(box)
    assert browser.sign_in("ann", OTHER) == 303
    closed = set()
    for endpoint, url in _routes(box, "GET"):
        status = browser.get(url).status_code
        assert (status == 403) is not role.may(least_of(endpoint, "GET")), url
        closed |= {url} if status == 403 else set()
    assert {"/system/admins", "/system/tokens", "/system/audit", "/system/backup"} <= closed
    for endpoint, url in _routes(box, "POST"):
        if least_of(endpoint, "POST") is Role.ADMIN or (
            role is Role.VIEWER and not endpoint.startswith(("me.", "account."))
        ):
            assert browser.post("/account", url).status_code == 403, url
    assert box.root.candidates() == []


def test_a_role_that_was_taken_away_counts_at_once(admin: Browser, box: Served) -> None:
    box.root.add_admin("ann", OTHER, "admin")
    browser = Browser(box, "fd00:1::5")
    assert browser.sign_in("ann", OTHER) == 303
    assert browser.get("/system/admins").status_code == 200
    box.root.set_admin("ann", role="viewer")
    assert browser.get("/system/admins").location == "/signin"


def test_each_sign_in_and_each_change_is_written_down_without_secrets(admin: Browser, box: Served) -> None:
    Browser(box, "fd00:1::66").sign_in(password="a wrong sentence")
    admin.post("/users/groups", "/users/groups", name="guests")
    admin.post("/users", "/users", name="bob", groups="staff", password="bobs sentence")
    admin.post("/policy", "/policy/act", name="time", act="delete")
    page = admin.get("/changes").text
    version = re.search(r'name="version" value="(\d+)"', page)
    assert version
    assert admin.post("/changes", "/changes", version=version[1], comment="less time").status_code == 303
    entries = written(box)
    told = [(one["action"], one["outcome"], one["address"]) for one in entries]
    for wanted in (
        ("sign-in", "done", "fd00:1::2"), ("sign-in", "failed", "fd00:1::66"),
        ("group-add", "done", "fd00:1::2"),
        ("user-set", "done", "fd00:1::2"), ("commit", "done", "fd00:1::2"),
    ):  # fmt: skip
        assert wanted in told, told
    text = (box.folder / "audit").glob("*")
    kept = "".join(path.read_text() for path in text if path.is_file())
    for secret in (PASSWORD, "a wrong sentence", "bobs sentence"):
        assert secret not in kept
    assert box.root.verify_audit()["problem"] is None


def test_a_capture_and_who_had_it_are_written_down(admin: Browser, box: Served) -> None:
    box.interface.captures = _Captured()  # type: ignore[assignment]
    fields = {"device": "wan0", "host": "192.0.2.1", "port": "443", "seconds": "5"}
    assert admin.post("/account", "/system/diagnostics/capture", **fields).status_code == 303
    assert admin.get("/system/diagnostics/capture.pcap").data == b"pcap" * 2
    told = [(one["action"], one["about"], one["who"]) for one in written(box)]
    assert ("capture", "device=wan0 host=192.0.2.1 port=443 seconds=5", "admin") in told
    assert [one[0] for one in told].count("capture-read") == 1


class _Captured:
    """Two parts of a file."""

    def start(self, *_asked: object) -> None:
        """Begin."""

    def read(self, offset: int) -> bytes:
        """Four octets each."""
        return b"pcap" if offset < 8 else b""


def test_an_admin_cannot_be_made_by_a_page_from_elsewhere(admin: Browser, box: Served) -> None:
    """A form of another site's has no token, whatever cookie the browser sends along."""
    fields = {"name": "eve", "password": "eves own sentence", "role": "admin"}
    for extra in ({}, {"csrf": "x" * 43}):
        answer = admin.client.post(
            "/system/admins", data={**fields, **extra}, base_url=BASE,
            headers={"Origin": "https://attacker.example", "Referer": "https://attacker.example/"},
        )  # fmt: skip
        assert answer.status_code == 400
    # Nor does the token of another browser's session do.
    stranger = Browser(box, "fd00:1::9")
    theirs = re.search(r'name="csrf" value="([^"]+)"', stranger.get("/signin").text)
    assert theirs
    assert (
        admin.client.post("/system/admins", data={**fields, "csrf": theirs[1]}, base_url=BASE).status_code
        == 400
    )
    assert [one["name"] for one in box.root.admins()] == ["admin"]


def test_nothing_is_kept_by_caches_or_told_to_other_sites(admin: Browser) -> None:
    for url in ("/", "/log", "/system/audit", "/account", "/live.json"):
        headers = admin.get(url).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert int(headers["Strict-Transport-Security"].partition("max-age=")[2]) >= 15_768_000
