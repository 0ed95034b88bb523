"""The API, route by route, over a real control socket."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from appliance.config.roles import Role
from tests.unit.webui.api.conftest import Api, Served
from webui.api.route import Route
from webui.api.table import ROUTES


def test_nothing_without_a_token_that_counts(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in (None, "", "isthmus_wrong", "x" * 4_000):
        answer = Api(served.app, token)("GET", "/status")
        assert answer.status_code == 401
        assert answer.content_type == "application/problem+json"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    short = served.token("viewer", "short", time.time() + 60)
    assert Api(served.app, short)("GET", "/status").status_code == 200
    later = time.time() + 61
    monkeypatch.setattr(served.interface._tokens, "_wall", lambda: later)
    assert Api(served.app, short)("GET", "/status").status_code == 401
    # A clock that went back to before the token was made does not lengthen its life.
    monkeypatch.setattr(served.interface._tokens, "_wall", lambda: 1_000.0)
    assert Api(served.app, short)("GET", "/status").status_code == 401


def test_a_cookie_opens_nothing(served: Served) -> None:
    browser = served.app.test_client()
    page = browser.get("/signin", base_url="https://[fd00:1::1]").text
    csrf = page.split('name="csrf" value="')[1].split('"')[0]
    data = {"csrf": csrf, "username": "admin", "password": "correct horse"}
    assert browser.post("/signin", data=data, base_url="https://[fd00:1::1]").status_code == 303
    assert browser.get("/", base_url="https://[fd00:1::1]").status_code == 200
    answer = browser.get("/api/v1/status", base_url="https://[fd00:1::1]")
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers


def test_a_setting_from_the_candidate_to_a_revision(api: Api, served: Served) -> None:
    before = api("GET", "/candidate")
    changed = api("PATCH", "/candidate/config/dns", {"upstreams": ["192.0.2.53"]})
    assert changed.status_code == 200
    assert [one["path"] for one in changed.json["changes"]] == ["dns.upstreams"]
    assert changed.headers["ETag"] != before.headers["ETag"]
    added = api(
        "PUT", "/candidate/config/rule.no-ads", {"action": "deny", "domains": ["ads.example"]},
        If_Match=changed.headers["ETag"],
    )  # fmt: skip
    assert added.status_code == 200
    assert api("GET", "/candidate/config/rule.no-ads.domains").json == ["ads.example"]
    assert api("GET", "/config/dns.upstreams").json == []
    stale = api("DELETE", "/candidate/config/rule.no-ads", If_Match=changed.headers["ETag"])
    assert stale.status_code == 412
    made = api(
        "POST", "/commits", {"comment": "no ads", "confirm_seconds": 90}, If_Match=added.headers["ETag"]
    )
    assert made.status_code == 201
    number = made.json["revision"]
    assert api("GET", "/pending").json["pending"]["revision"] == number
    assert api("POST", "/pending/confirm", {"revision": number - 1}).status_code == 409
    assert api("POST", "/pending/confirm", {"revision": number}).json == {"revision": number}
    assert api("GET", "/config/dns.upstreams").json == ["192.0.2.53"]
    newest = api("GET", "/revisions?limit=1").json["revisions"][0]
    assert (newest["number"], newest["author"], newest["comment"]) == (number, "token admin", "no ads")
    gone = api("DELETE", "/candidate/config/rule.no-ads")
    assert [one["path"] for one in gone.json["changes"]] == ["rule.no-ads"]
    assert api("DELETE", "/candidate").status_code == 204
    assert api("POST", f"/revisions/{number - 1}/restore").json["changes"]


def test_what_is_wrong_is_told_with_its_path_and_nothing_is_changed(api: Api) -> None:
    for method, path, body, wrong in (
        ("PUT", "/candidate/config/console.port", 99_999, "console.port"),
        ("PUT", "/candidate/config/dns", {"upstream": []}, "dns.upstream"),
        ("PATCH", "/candidate/config/rule.time", {"ports": ["x"]}, "rule[1].ports[0]"),
    ):
        answer = api(method, path, body)
        assert answer.status_code == 422, answer.text
        assert wrong in [one["path"] for one in answer.json["problems"]], answer.text
        assert all(one["message"] for one in answer.json["problems"])
    assert api("GET", "/candidate").json["changes"] == []
    assert api("GET", "/config/nothing.here").status_code == 404
    assert api("DELETE", "/candidate/config/rule.nobody").status_code == 404


def test_the_whole_is_replaced_only_by_who_has_seen_it(api: Api) -> None:
    whole = api("GET", "/candidate/config")
    config = whole.json
    config["system"]["hostname"] = "strait"
    assert api("PUT", "/candidate/config", config).status_code == 428
    assert api("PUT", "/candidate/config", config, If_Match='"c0-0-0"').status_code == 412
    assert api("PUT", "/candidate/config", config, If_Match=whole.headers["ETag"]).status_code == 200
    assert api("GET", "/candidate/config/system.hostname").json == "strait"


def test_hashes_stay_with_control(api: Api, served: Served) -> None:
    assert (
        api("POST", "/users", {"name": "bob", "groups": ["staff"], "password": "a long password"}).status_code
        == 201
    )
    text = json.dumps(
        [api("GET", path).json for path in ("/config", "/candidate/config", "/users", "/revisions/2")]
    )
    assert "argon2" not in text
    assert "$kept$bob" in text
    config = api("GET", "/candidate/config")
    kept = api("PUT", "/candidate/config", config.json, If_Match=config.headers["ETag"])
    assert (kept.status_code, kept.json["problems"]) == (200, [])
    assert "argon2" in served.file.read_text()


def test_users_groups_admins_and_tokens(api: Api, served: Served) -> None:
    assert api("POST", "/groups", {"name": "guests"}).json == {"name": "guests", "users": 0}
    assert api("POST", "/users", {"name": "bob", "groups": ["guests"]}).status_code == 201
    assert api("POST", "/users", {"name": "bob", "groups": ["guests"]}).status_code == 409
    assert api("PATCH", "/users/bob", {"groups": ["staff"]}).json["groups"] == ["staff"]
    assert api("DELETE", "/users/bob").status_code == 204
    assert api("DELETE", "/users/bob").status_code == 404
    assert api("DELETE", "/groups/guests").status_code == 204
    assert api("POST", "/admins", {"name": "eve", "password": "short", "role": "viewer"}).status_code == 422
    assert (
        api("POST", "/admins", {"name": "eve", "password": "long enough", "role": "viewer"}).status_code
        == 201
    )
    assert api("PATCH", "/admins/admin", {"role": "viewer"}).status_code == 409  # the last one
    assert api("DELETE", "/admins/eve").status_code == 204
    made = api("POST", "/tokens", {"name": "poller", "role": "viewer"})
    poller = Api(served.app, made.json["token"])
    assert poller("GET", "/token").json["name"] == "poller"
    listed = api("GET", "/tokens")
    assert made.json["token"] not in listed.text
    assert made.json["token"] not in (served.folder / "console-users.json").read_text()
    assert {one["name"]: one["last_used"] is not None for one in listed.json["tokens"]}["poller"]
    assert api("DELETE", "/tokens/poller").status_code == 204
    assert poller("GET", "/token").status_code == 401


def test_sessions_log_and_figures(api: Api) -> None:
    assert api("GET", "/sessions?limit=1").json["total"] == 1
    assert api("DELETE", "/sessions/0-1").status_code == 204
    assert api("DELETE", "/sessions/0-2").status_code == 404
    assert api("GET", "/log?outcome=carried&limit=5").json["rows"][0]["name"] == "a.example"
    assert api("GET", "/log?nonsense=1").status_code == 422
    assert api("GET", "/log?limit=1&limit=2").status_code == 422
    assert api("GET", "/status?x=1").status_code == 400
    assert api("GET", "/log/top?by=client&since=0&until=1").json["sums"]
    assert api("GET", "/health").json["ok"] is False
    assert "isthmus_" in api("GET", "/metrics").text
    asked = api("POST", "/explain", {"target": "time.example.org:123", "protocol": "udp"})
    assert asked.json["explanation"]["rule"] == "time"


def test_a_backup_and_back(api: Api) -> None:
    backup = api("POST", "/backup", {"passphrase": "a passphrase"})
    assert backup.content_type == "application/octet-stream"
    data = base64.b64encode(backup.data).decode()
    wrong = api("POST", "/backup/restore", {"data": data, "passphrase": "another one"})
    assert wrong.status_code == 409
    right = api("POST", "/backup/restore", {"data": data, "passphrase": "a passphrase"})
    assert right.status_code == 200


def test_bodies_are_bounded_and_are_json(api: Api, served: Served) -> None:
    client, headers = api.client, {**api.headers, "Content-Type": "application/json"}
    url = "https://[fd00:1::1]/api/v1/explain"
    for body, status in (
        (b"{", 400), (b'{"target": "a", "target": "b"}', 400), (b'{"target": NaN}', 400), (b"\xff", 400),
        (b'{"target": "\\ud800"}', 400), (b"[" * 5_000, 400), (b"[]", 422), (b"{}", 422),
        (b'{"target": 1}', 422), (b'"' + b"x" * 300_000 + b'"', 413),
    ):  # fmt: skip
        answer = client.post(url, data=body, headers=headers)
        assert answer.status_code == status, body[:40]
        assert answer.content_type == "application/problem+json"
    text = client.post(url, data=b"target=x", headers={**headers, "Content-Type": "text/plain"})
    assert text.status_code == 415


@pytest.mark.parametrize("role", list(Role), ids=str)
@pytest.mark.parametrize("route", [r for r in ROUTES if not r.free], ids=lambda r: r.id)
def test_each_route_takes_its_role(role: Role, route: Route, shared: Served, tokens: dict[Role, str]) -> None:
    path = route.path
    for name, one in (("path", "lan"), ("number", "1"), ("id", "x"), ("name", "nobody")):
        path = path.replace("{" + name + "}", one)
    answer = Api(shared.app, tokens[role])(route.method, path)
    assert (answer.status_code == 403) is not role.may(route.role), answer.text


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """One box for what changes nothing that others see."""
    made = Served(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokens(shared: Served) -> dict[Role, str]:
    """One of each role."""
    return {role: shared.token(str(role)) for role in Role}


def test_what_a_token_did_is_written_down_without_secrets(api: Api, served: Served) -> None:
    api("POST", "/users", {"name": "bob", "groups": ["staff"], "password": "a secret word"})
    api("PATCH", "/candidate/config/dns", {"upstreams": ["192.0.2.53"]})
    api("POST", "/commits", {"comment": "why"})
    Api(served.app, "isthmus_guess")("GET", "/status")
    found = api("GET", "/audit?limit=10").json["entries"]
    assert [(one["action"], one["outcome"]) for one in found][:4] == [
        ("token-use", "failed"), ("commit", "done"), ("candidate-put", "done"), ("user-set", "done"),
    ]  # fmt: skip
    assert found[1]["who"] == "token admin"
    assert found[1]["about"].endswith("comment=why")
    assert "secret" not in json.dumps(found)
    assert "guess" not in json.dumps(found)
    assert api("GET", "/audit/whole").json["problem"] is None


def test_an_operator_does_not_change_what_decides_who_sees_what(served: Served) -> None:
    operator = Api(served.app, served.token("operator"))
    operator("PATCH", "/candidate/config/console", {"viewers_see_clients": False})
    refused = operator("POST", "/commits", {})
    assert refused.status_code == 403
    assert "console.viewers_see_clients" in refused.json["detail"]


def test_a_viewer_sees_no_client_where_the_box_says_so(api: Api, served: Served) -> None:
    digest = "sha256:" + "0" * 64
    api("PATCH", "/candidate/config/console", {"viewers_see_clients": False, "metrics_token": digest})
    assert api("POST", "/commits", {}).status_code == 201
    viewer = Api(served.app, served.token("viewer"))
    assert viewer("GET", "/sessions").json["sessions"][0]["client"] == "(hidden)"
    assert viewer("GET", "/log").json["rows"][0]["user"] == "(hidden)"
    for path in ("/sessions?search=fd00", "/log?client=fd00:1::2", "/log/top?by=user&since=0&until=1"):
        assert viewer("GET", path).status_code == 403
    assert viewer("GET", "/config/console.metrics_token").json == "(hidden)"
    assert digest not in viewer("GET", "/config").text
    assert api("GET", "/log").json["rows"][0]["user"] == "ann"


def test_the_document_has_every_route(api: Api, served: Served) -> None:
    document = Api(served.app, None)("GET", "/openapi.json").json
    assert document["openapi"] == "3.1.0"
    told = {(method.upper(), path) for path, one in document["paths"].items() for method in one}
    assert told == {(route.method, route.path) for route in ROUTES}
    rules = {rule.endpoint for rule in served.app.url_map.iter_rules() if rule.endpoint.startswith("api.")}
    assert rules == {f"api.{route.id}" for route in ROUTES}
    text = json.dumps(document)
    for name in set(__import__("re").findall(r"#/components/schemas/(\w+)", text)):
        assert name in document["components"]["schemas"], name


def test_the_framework_refuses_in_the_same_form(api: Api) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("PUT", "/status", 405),
        ("OPTIONS", "/status", 405),
    ):
        answer = api(method, path)
        assert answer.status_code == status
        assert answer.content_type == "application/problem+json"
    assert api("PUT", "/status").headers["Allow"]


def test_a_box_at_its_first_boot_has_no_api(tmp_path: Path) -> None:
    from appliance.control.client import ControlClient
    from tests.unit.webui.fake import FakeControl
    from webui.app import create_app

    app = create_app(FakeControl(), b"k", None, ControlClient(tmp_path))
    for path in ("/openapi.json", "/status"):
        answer = Api(app, "isthmus_x")("GET", path)
        assert answer.status_code == 403
        assert "no password" in answer.json["detail"]
