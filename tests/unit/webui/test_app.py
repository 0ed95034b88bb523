"""The console without a browser: the first boot's gate, CSRF, the throttle, headers, control being down."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.unit.webui.conftest import post, signed_in
from tests.unit.webui.fake import FakeControl
from webui.app import create_app
from webui.figures import age, milliseconds, size, speed
from webui.security import HEADERS, MAX_REQUEST, SESSION_SECONDS
from webui.views.dashboard import CHARTS, REGIONS


def test_until_there_is_a_password_only_its_page_is_served(client: FlaskClient) -> None:
    for path in ("/", "/sessions", "/live.json", "/signin"):
        answer = client.get(path, base_url="https://box")
        assert (answer.status_code, answer.location) == (303, "/setup")


@pytest.mark.parametrize(
    ("password", "again", "words"),
    [("short", "short", "at least 10"), ("correct horse", "correct hors", "The two differ")],
)
def test_a_first_password_that_is_not_taken(
    client: FlaskClient, control: FakeControl, password: str, again: str, words: str
) -> None:
    done = post(client, "/setup", "/setup", password=password, again=again)
    assert done.status_code == 422
    assert words in done.text
    assert control.password is None


def test_pages_and_figures(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    page = client.get("/", base_url="https://box").text
    for words in (
        "Crossing open",
        "The resolver does not answer",
        "fd00:1::/64",
        "<b>1.5</b><span>Mbit/s</span>",
        "50 % of all",
        "1:02:05",
        "2:14",
    ):
        assert words in page
    assert client.get("/setup", base_url="https://box").location == "/signin"
    live = client.get("/live.json", base_url="https://box").get_json()
    assert live["counters"]["tcp"] == 3
    assert (live["open"], live["not_carried"], live["total"]) == (6, 1, 1)
    assert [row["lane"] for row in live["kinds"]] == [2, 2, 2]
    assert set(live["regions"]) == {*REGIONS, *CHARTS}
    assert "unbound is down." in live["regions"]["health"]
    assert "192.31.196.80" in client.get("/sessions?q=192.31", base_url="https://box").text
    assert "No session matches" in client.get("/sessions?q=%3Cb%3E", base_url="https://box").text


def test_sign_in_out_and_throttle(client: FlaskClient, control: FakeControl) -> None:
    control.password = "correct horse"
    assert client.get("/", base_url="https://box").location == "/signin"
    assert post(client, "/signin", "/signin", password="wrong").status_code == 422
    assert post(client, "/signin", "/signin", password="correct horse").status_code == 303
    cookie = client.get_cookie("__Host-isthmus", "box")
    assert cookie is not None
    assert (cookie.secure, cookie.http_only, cookie.same_site) == (True, True, "Strict")
    assert post(client, "/", "/signout").location == "/signin"
    assert client.get("/", base_url="https://box").location == "/signin"
    control.wait = 63.0
    throttled = post(client, "/signin", "/signin", password="correct horse")
    assert throttled.status_code == 429
    assert "1:04" in throttled.text


def test_a_post_without_its_token_does_nothing(client: FlaskClient, control: FakeControl) -> None:
    for fields in ({}, {"csrf": ""}, {"csrf": "x" * 43}):
        done = client.post(
            "/setup", data={**fields, "password": "correct horse", "again": "correct horse"},
            base_url="https://box",
        )  # fmt: skip
        assert done.status_code == 400
    assert control.password is None


def test_headers_on_every_answer(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    for path in ("/", "/nothing", "/static/tokens.css", "/live.json"):
        with client.get(path, base_url="https://box") as answer:
            for name, value in HEADERS.items():
                assert answer.headers[name] == value
    page = client.get("/", base_url="https://box").text
    assert " style=" not in page
    assert not re.search(r"<script(?! src=)", page)


def test_control_down_is_a_page_in_words(client: FlaskClient, control: FakeControl) -> None:
    control.down = True
    answer = client.get("/", base_url="https://box")
    assert answer.status_code == 503
    assert "control daemon does not answer" in answer.text


def test_theme_goes_back_only_to_this_console(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    for target, wanted in (
        ("/sessions", "/sessions"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
    ):
        done = post(client, "/", "/theme", theme="dark", here=target)
        assert done.location == wanted
    assert 'data-theme="dark"' in client.get("/", base_url="https://box").text


def test_a_poll_does_not_keep_a_session_alive(
    client: FlaskClient, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in(client, control)
    start = time.time()
    for passed in (0.4, 0.8):
        monkeypatch.setattr(
            "webui.security.time.time", lambda passed=passed: start + passed * SESSION_SECONDS
        )
        assert client.get("/live.json", base_url="https://box").status_code == 200
    monkeypatch.setattr("webui.security.time.time", lambda: start + 1.1 * SESSION_SECONDS)
    assert client.get("/live.json", base_url="https://box").status_code == 401
    assert client.get("/", base_url="https://box").location == "/signin"


def test_a_page_keeps_a_session_alive(
    client: FlaskClient, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in(client, control)
    start = time.time()
    for passed in (0.8, 1.6):
        monkeypatch.setattr(
            "webui.security.time.time", lambda passed=passed: start + passed * SESSION_SECONDS
        )
        assert client.get("/", base_url="https://box").status_code == 200


def test_a_poll_is_told_in_json_what_is_wrong(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    control.down = True
    answer = client.get("/live.json", base_url="https://box")
    assert answer.status_code == 503
    assert "does not answer" in answer.get_json()["problem"]


def test_errors_are_pages_in_words(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    for method, path, code, words in (
        ("GET", "/nothing", 404, "There is no such page"),
        ("GET", "/signout", 405, "takes no such request"),
    ):
        answer = client.open(path, method=method, base_url="https://box")
        assert answer.status_code == code
        assert words in answer.text
    large = client.post("/signin", data={"csrf": "x" * (MAX_REQUEST + 1)}, base_url="https://box")
    assert large.status_code == 413
    assert "too large" in large.text


def test_the_themes_form_keeps_the_search(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    page = client.get("/sessions?q=a%26b", base_url="https://box").text
    assert 'name="here" value="/sessions?q=a%26b"' in page


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (size(999), "999 B"), (size(1_900_000_000), "1.90 GB"), (size(76_210_000), "76.2 MB"),
        (size(999_900), "1.00 MB"), (speed(100), "100 Mbit/s"), (speed(2500), "2.5 Gbit/s"),
        (age(134), "2:14"), (age(9 * 86_400), "9 days"), (milliseconds(None), "–"),
        (milliseconds(0.04), "0.04"), (milliseconds(11.82), "11.8"),
    ],
)  # fmt: skip
def test_figures(made: str, wanted: str) -> None:
    assert made == wanted


def test_the_authority_is_there_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "authority.crt"
    path.write_text("-----BEGIN CERTIFICATE-----")
    client = create_app(FakeControl(), b"key", path).test_client()  # not even set up yet
    answer = client.get("/authority.crt", base_url="https://box")
    assert answer.status_code == 200
    assert answer.content_type == "application/x-x509-ca-cert"
    assert answer.data == path.read_bytes()
    path.unlink()
    assert client.get("/authority.crt", base_url="https://box").status_code == 404
