"""/metrics: for whoever has the token, and nobody else."""

from __future__ import annotations

import hashlib

from flask.testing import FlaskClient

from appliance.session.metrics import CONTENT_TYPE
from tests.unit.webui.conftest import signed_in
from tests.unit.webui.fake import FakeControl

TOKEN = "correct horse battery staple"


def give_token(control: FakeControl) -> None:
    """Put it into the configuration in force."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    control.plain["console"]["metrics_token"] = f"sha256:{digest}"


def test_without_a_token_in_the_configuration_there_is_no_such_page(
    client: FlaskClient, control: FakeControl
) -> None:
    signed_in(client, control)
    assert client.get("/metrics", base_url="https://box").status_code == 404


def test_the_token_opens_it_and_nothing_else_does(client: FlaskClient, control: FakeControl) -> None:
    give_token(control)
    for header in (None, "Bearer wrong", f"Basic {TOKEN}", "Bearer ", f"Bearer {TOKEN} "):
        headers = {} if header is None else {"Authorization": header}
        answer = client.get("/metrics", base_url="https://box", headers=headers)
        assert answer.status_code == 401, header
        assert "isthmus_" not in answer.text
    answer = client.get("/metrics", base_url="https://box", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.content_type == CONTENT_TYPE
    assert 'isthmus_sessions{kind="tcp"} 3' in answer.text
