"""The box's own authority, and an uploaded certificate, as a client of the encrypted listener sees them."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.netns import stop
from tests.netns.conftest import BIN, CONFIG, Box, needs_root, wait_for
from tests.netns.hosts import status

PEM = serialization.Encoding.PEM

pytestmark = [pytest.mark.netns, needs_root]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box whose certificates these tests change."""
    with Box(tmp_path_factory.mktemp("certificates")) as box:
        box.start_control()
        wait_for((box.state / "tls" / "serving.pem").exists, "the box's certificate")
        box.start_proxy()
        wait_for(lambda: listens(box), "the encrypted listener")  # a worker opens it, after the socket above
        yield box


def listens(box: Box) -> bool:
    """Whether somebody takes connections on the port of the encrypted listener."""

    def look() -> bool:
        with socket.socket(socket.AF_INET6) as sock:
            return sock.connect_ex(("fd00:1::1", 3129)) == 0

    return box.client.call(look)


def shown(box: Box, trusted: Path | None, name: str = "isthmus", port: int = 3129) -> x509.Certificate:
    """The certificate at a port; ssl.SSLError where a client that trusts ``trusted`` refuses it."""
    context = ssl.create_default_context(cafile=trusted) if trusted else ssl._create_unverified_context()

    def look() -> x509.Certificate:
        with (
            socket.create_connection(("fd00:1::1", port), 20) as sock,
            context.wrap_socket(sock, server_hostname=name) as tls,
        ):
            data = tls.getpeercert(binary_form=True)
            assert data is not None
            return x509.load_der_x509_certificate(data)

    return box.client.call(look)


def read(box: Box, name: str) -> x509.Certificate:
    """A certificate of the box's folder."""
    return x509.load_pem_x509_certificate((box.state / "tls" / f"{name}.crt").read_bytes())


def upload(box: Box, begin: datetime, end: datetime) -> None:
    """A self-signed certificate in the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "proxy.example")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, begin, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("proxy.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder, pem = box.state / "tls", serialization.Encoding.PEM
    (folder / "uploaded.crt").write_bytes(made.public_bytes(pem))
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "uploaded.key").write_bytes(key.private_bytes(pem, form, plain))


def reload(box: Box) -> None:
    """systemctl reload isthmus-control."""
    box.processes["control"].send_signal(signal.SIGHUP)


def test_who_trusts_the_authority_trusts_the_proxy(own: Box) -> None:
    wait_for(lambda: shown(own, None) == read(own, "proxy"), "the proxy's certificate")
    authority = own.state / "tls" / "authority.crt"
    assert shown(own, authority) == read(own, "proxy")
    assert shown(own, authority, "fd00:1::1") == read(own, "proxy")
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(own, authority, "bank.example")
    answer = own.client.run(
        "curl", "-sS", "--max-time", "20", "--proxy-cacert", authority, "-x", "https://isthmus:3129",
        "--resolve", "isthmus:3129:[fd00:1::1]", "http://127.0.0.1/", "-w", "%{http_code}", check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout  # it may not go there, and is told so inside TLS
    assert answer.stdout.endswith("403")
    assert (own.state / "tls" / "authority.key").stat().st_mode & 0o077 == 0


def test_an_uploaded_one_serves_until_it_ends(own: Box) -> None:
    now = datetime.now(UTC)
    upload(own, now - timedelta(days=1), now + timedelta(days=90))
    reload(own)
    wait_for(lambda: shown(own, None) == read(own, "uploaded"), "the uploaded certificate")
    upload(own, now - timedelta(days=9), now - timedelta(days=1))
    reload(own)
    wait_for(lambda: shown(own, None) == read(own, "proxy"), "the box's own certificate")
    (check,) = [one for one in status(own)["checks"] if one["id"] == "certificate-uploaded"]
    assert check["state"] == "warn"
    assert f"{own.state}/tls/uploaded.crt: expired on" in check["detail"]
    assert "reload isthmus-control" in check["fix"]
    for end in ("crt", "key"):
        (own.state / "tls" / f"uploaded.{end}").unlink()
    reload(own)
    wait_for(
        lambda: not any(one["id"] == "certificate-uploaded" for one in status(own)["checks"]),
        "all well again",
    )


def test_the_console_shows_the_uploaded_one_by_its_names(own: Box) -> None:
    own.config.write_text(CONFIG + '[console]\nnames = ["proxy.example"]\n')
    now = datetime.now(UTC)
    upload(own, now - timedelta(days=1), now + timedelta(days=90))
    reload(own)
    wait_for(lambda: shown(own, None) == read(own, "uploaded"), "the uploaded certificate")
    own.start_web()

    def console(name: str) -> x509.Certificate | None:
        try:
            return shown(own, None, name, 443)
        except ConnectionError:
            return None  # it is about to start

    wait_for(lambda: console("isthmus") == read(own, "console"), f"the console\n{own.log('web')}", 30)
    assert console("proxy.example") == read(own, "uploaded")
    page = own.client.run(
        "curl", "-sSk", "--max-time", "20", "--resolve", "proxy.example:443:[fd00:1::1]",
        "https://proxy.example/setup", "-o", "/dev/null", "-w", "%{http_code}", check=False,
    )  # fmt: skip
    assert page.stdout in ("200", "303"), page.stdout + own.log("web")
    stop(own.processes.pop("web"))
    for end in ("crt", "key"):
        (own.state / "tls" / f"uploaded.{end}").unlink()
    own.config.write_text(CONFIG)
    reload(own)
    wait_for(lambda: shown(own, None) == read(own, "proxy"), "the box's own certificate")


def isthmus(box: Box, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line."""
    command: list[str | Path] = [BIN / "isthmus", "--runtime", box.runtime, "certificate", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_uploads_shows_removes_and_renews(own: Box, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    folder = own.state / "tls"
    upload(own, now - timedelta(days=1), now + timedelta(days=90))
    pair = tmp_path / "own.crt", tmp_path / "own.key"
    for path, name in zip(pair, ("uploaded.crt", "uploaded.key"), strict=True):
        path.write_bytes((folder / name).read_bytes())
        (folder / name).unlink()
    done = isthmus(own, "upload", *pair)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: shown(own, None).public_bytes(PEM) == pair[0].read_bytes(), "the uploaded one")
    assert (folder / "uploaded.key").stat().st_mode & 0o777 == 0o600
    text = isthmus(own, "show").stdout
    assert "proxy.example" in text
    assert "listener" in text
    assert "PRIVATE" not in text
    found = {one["name"]: one for one in json.loads(isthmus(own, "show", "--json").stdout)}
    assert found["uploaded"]["used_by"]
    assert found["uploaded"]["names"] == ["proxy.example"]
    assert found["proxy"]["used_by"] == []
    assert found["console"]["used_by"] == ["console"]

    wrong = isthmus(own, "upload", pair[0], folder / "console.key")
    assert wrong.returncode == 1
    assert "key: belongs to another certificate." in wrong.stderr
    assert (folder / "uploaded.key").read_bytes() == pair[1].read_bytes()  # the good one stays
    assert list(folder.glob(".upload-*")) == []

    assert isthmus(own, "remove").returncode == 0
    wait_for(lambda: shown(own, None) == read(own, "proxy"), "the box's own")
    assert isthmus(own, "remove").returncode == 1
    before = read(own, "proxy")
    assert isthmus(own, "renew").returncode == 0
    after = read(own, "proxy")
    assert after.serial_number != before.serial_number
    assert after.public_key() == before.public_key()
    wait_for(lambda: shown(own, None) == after, "the new one")


def test_a_mistake_in_the_file_keeps_no_certificate_from_being_renewed(own: Box) -> None:
    """The last good configuration is in force then, and what the command says is true all the same."""
    good, before = own.config.read_text(), read(own, "console").serial_number
    own.config.write_text(good + "\nnonsense = 1\n")
    try:
        done = own.box.run(BIN / "isthmus", "--runtime", own.runtime, "certificate", "renew", check=False)
        assert done.returncode == 0, done.stderr
        assert read(own, "console").serial_number != before
    finally:
        own.config.write_text(good)
        own.processes["control"].send_signal(signal.SIGHUP)


def test_another_name_of_the_box_is_in_its_certificates_at_once(own: Box) -> None:
    before = own.config.read_text()
    try:
        own.config.write_text(before + '[system]\nhostname = "crossing"\n')
        reload(own)
        wait_for(lambda: "crossing" in str(read(own, "proxy").subject), "the name")
        wait_for(lambda: shown(own, None) == read(own, "proxy"), "the certificate")
        assert shown(own, own.state / "tls" / "authority.crt", "crossing")
    finally:
        own.config.write_text(before)
        reload(own)
    wait_for(lambda: "isthmus" in str(read(own, "proxy").subject), "the name of before")


def test_openssl_takes_the_chain(own: Box) -> None:
    folder = own.state / "tls"
    words = ("openssl", "verify", "-x509_strict", "-CAfile", folder / "authority.crt", folder / "console.crt")
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
