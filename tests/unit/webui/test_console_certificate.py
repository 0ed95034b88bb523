"""Which certificate the console shows to whom."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.errors import IsthmusError
from appliance.system import certificates
from webui.certificates import Certificates

NAME = "gw.example.org"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The box's certificates."""
    names = certificates.Names("isthmus", IPv6Address("fd00:1::1"))
    now = datetime(2026, 11, 29, tzinfo=UTC)
    certificates.ensure(tmp_path, names, now)
    certificates.choose(tmp_path, now)
    return tmp_path


def shown(folder: Path, name: str | None, names: Iterable[str] | Exception) -> bytes:
    """The certificate that a client is shown which says ``name``."""

    def now() -> Iterable[str]:
        if isinstance(names, Exception):
            raise names
        return names

    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "console.crt", folder / "console.key")
        return context

    server_context = Certificates(folder / "serving.pem", now).context(None, make)
    client_context = ssl._create_unverified_context()
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = client.getpeercert(binary_form=True)
    assert found is not None
    assert client.version() == "TLSv1.3"
    return found


def on_disk(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


def test_by_address_or_another_name_it_is_the_box_s_own(folder: Path) -> None:
    own = on_disk(folder / "console.crt")
    assert shown(folder, None, [NAME]) == own
    assert shown(folder, "isthmus.lan", [NAME]) == own
    assert shown(folder, NAME, []) == own


def test_by_a_name_of_the_console_it_is_what_the_listeners_serve(folder: Path) -> None:
    served = x509.load_pem_x509_certificates((folder / "serving.pem").read_bytes())[0]
    expected = served.public_bytes(Encoding.DER)
    assert expected != on_disk(folder / "console.crt")
    assert shown(folder, NAME, [NAME]) == expected
    assert shown(folder, NAME.upper(), [NAME]) == expected


@pytest.mark.parametrize("trouble", ["control", "missing", "broken"])
def test_whatever_is_wrong_the_console_is_there(folder: Path, trouble: str) -> None:
    own = on_disk(folder / "console.crt")
    if trouble == "control":
        assert shown(folder, NAME, IsthmusError("control does not answer", "")) == own
        return
    serving = folder / "serving.pem"
    if trouble == "missing":
        serving.unlink()
    else:
        serving.write_text("no certificate")
    assert shown(folder, NAME, [NAME]) == own
