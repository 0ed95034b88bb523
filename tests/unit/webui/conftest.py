"""A browser over TLS before a console whose control is a fake."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.unit.webui.fake import FakeControl
from webui.app import create_app


@pytest.fixture
def control() -> FakeControl:
    """A box at its first boot."""
    return FakeControl()


@pytest.fixture
def client(control: FakeControl) -> FlaskClient:
    """A browser over TLS."""
    app = create_app(control, b"k" * 32)
    app.config["PREFERRED_URL_SCHEME"] = "https"
    made = app.test_client()
    made.environ_base["wsgi.url_scheme"] = "https"
    return made


def post(client: FlaskClient, page: str, target: str, **fields: Any) -> Any:
    """Load the page, then send its form."""
    text = client.get(page, base_url="https://box").text
    found = re.search(r'name="csrf" value="([^"]+)"', text)
    assert found, text
    return client.post(target, data={"csrf": found[1], **fields}, base_url="https://box")


def signed_in(client: FlaskClient, control: FakeControl) -> None:
    """Through the first boot."""
    done = post(client, "/setup", "/setup", password="correct horse", again="correct horse")
    assert (done.status_code, done.location) == (303, "/setup/network")
    assert control.password == "correct horse"


def get(client: FlaskClient, url: str) -> Any:
    """Load a page."""
    return client.get(url, base_url="https://box")
