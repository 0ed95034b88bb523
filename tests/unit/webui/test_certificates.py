"""The page of certificates: what is shown, uploaded, refused and taken back."""

from __future__ import annotations

import io

from flask.testing import FlaskClient

from tests.unit.webui.conftest import get, post, signed_in
from tests.unit.webui.fake import FakeControl

PAGE = "/system/certificates"


def test_an_upload_by_files_and_back(client: FlaskClient, control: FakeControl) -> None:
    signed_in(client, control)
    files = {"certificate_file": (io.BytesIO(b"CERT"), "a.pem"), "key_file": (io.BytesIO(b"KEY"), "b.pem")}
    done = post(client, PAGE, PAGE, **files)
    assert (done.status_code, done.location) == (303, PAGE)
    assert ("upload_certificate", "CERT", "KEY", "admin") in control.calls
    assert "Remove the uploaded one" in get(client, PAGE).text
    assert post(client, PAGE, f"{PAGE}/remove").status_code == 303
    assert "Remove the uploaded one" not in get(client, PAGE).text
    assert post(client, PAGE, f"{PAGE}/renew").status_code == 303
    assert ("renew_certificates", "admin") in control.calls


def test_what_is_wrong_stands_at_its_field_and_the_key_is_not_shown_again(
    client: FlaskClient, control: FakeControl
) -> None:
    signed_in(client, control)
    answer = post(client, PAGE, PAGE, certificate="CERT", key="secret")
    assert answer.status_code == 422
    assert 'id="c-key-e"' in answer.text
    assert "belongs to another. Upload its own." in answer.text
    assert "secret" not in answer.text
    assert control.uploaded is None
    answer = post(client, PAGE, PAGE)
    assert answer.status_code == 422
    assert 'id="c-certificate-e"' in answer.text
    assert 'id="c-key-e"' in answer.text
