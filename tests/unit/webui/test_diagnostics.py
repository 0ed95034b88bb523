"""The page of diagnostics: tests by its forms, and what is refused."""

from __future__ import annotations

from flask.testing import FlaskClient

from appliance.control import capture, diagnostics
from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl
from webui.views import diagnostics as page

PAGE = "/system/diagnostics"


def test_ping_and_trace(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/reach", where=" 192.0.2.1 ", act="ping")
    assert answer.status_code == 200
    assert "64 bytes from &lt;192.0.2.1&gt;" in answer.text
    assert "It answers" in answer.text
    answer = post(client, PAGE, f"{PAGE}/reach", where="192.0.2.1", act="trace")
    assert "The trace did not end" in answer.text
    assert control.calls[-2:] == [("ping", "192.0.2.1"), ("trace", "192.0.2.1")]


def test_a_look_up(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/lookup", name="www.example.org", kind="AAAA")
    assert answer.status_code == 200
    for words in ("1 record", "64:ff9b::c000:201", "made of 192.0.2.1", "by fd00:1::1"):
        assert words in answer.text
    post(client, PAGE, f"{PAGE}/lookup", name="www.example.org", kind="AXFR")
    assert control.calls[-1] == ("look_up", "www.example.org", "AAAA")


def test_what_control_refuses_stands_at_its_field(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/reach", where="-f", act="ping")
    assert answer.status_code == 422
    assert 'id="d-where-e"' in answer.text
    assert 'value="-f"' in answer.text
    assert "It answers" not in get(client, PAGE).text


def test_a_capture_is_started_stopped_and_downloaded(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    start = f"{PAGE}/capture"
    done = post(client, PAGE, start, device="wan0", host="192.0.2.1", port="443", seconds="5")
    assert (done.status_code, done.location) == (303, f"{PAGE}#capture")
    assert control.calls[-1] == ("capture", "wan0", "192.0.2.1", 443, 5, 8 << 20)
    assert "Capturing on wan0" in get(client, PAGE).text
    assert post(client, PAGE, f"{start}/stop").status_code == 303
    assert "3 frames, 0 lost" in get(client, PAGE).text
    file = get(client, f"{PAGE}/capture.pcap")
    assert file.data == b"pcap" * 75
    assert file.headers["Content-Disposition"] == "attachment; filename=isthmus.pcap"


def test_a_captures_mistakes_stand_at_their_fields(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, f"{PAGE}/capture", device="wan0", port="70000", seconds="61")
    assert answer.status_code == 422
    assert 'id="d-port-e"' in answer.text
    assert 'id="d-seconds-e"' in answer.text
    answer = post(client, PAGE, f"{PAGE}/capture", device="wan0", host="x", seconds="5")
    assert answer.status_code == 422
    assert "“x” is no address. Write it otherwise." in answer.text
    assert not control.captured["busy"]


def test_the_pages_limits_are_controls() -> None:
    assert (diagnostics.MAX_TARGET, tuple(diagnostics.TYPES)) == (page.MAX_TARGET, page.TYPES)
    assert (page.MAX_SECONDS, page.MAX_OCTETS) == (capture.MAX_SECONDS, capture.MAX_OCTETS)
