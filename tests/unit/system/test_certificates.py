"""The console's certificate: for whom, how long, and that it is renewed with the same key."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path
from socket import create_server

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from appliance.system.certificates import (
    AUTHORITY_LIFETIME,
    AUTHORITY_RENEW_BEFORE,
    EARLIEST,
    LIFETIME,
    RENEW_BEFORE,
    Names,
    choose,
    ensure,
    fingerprint,
    judge_client_authority,
    make,
    make_authority,
)

NAMES = Names("isthmus", IPv6Address("fd00:1::1"))
NOW = EARLIEST + timedelta(days=400)
START_TIMEOUT = 20.0


def read(folder: Path, name: str = "console") -> x509.Certificate:
    """The certificate in the folder."""
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_made_once_with_the_boxes_names(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    assert ensure(folder, NAMES, NOW)
    first = read(folder)
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [NAMES.address]
    assert names.get_values_for_type(x509.DNSName) == ["isthmus"]
    assert first.not_valid_after_utc - first.not_valid_before_utc <= LIFETIME
    assert (folder / "console.key").stat().st_mode & 0o777 == 0o640
    assert not ensure(folder, NAMES, NOW + timedelta(days=30))
    assert read(folder) == first
    openssl = subprocess.run(
        ["openssl", "x509", "-in", folder / "console.crt", "-noout", "-fingerprint", "-sha256"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert openssl.stdout.strip().partition("=")[2] == fingerprint(folder)


@pytest.mark.parametrize(
    ("names", "later"),
    [
        (Names("crossing", NAMES.address), timedelta()),
        (Names("isthmus", IPv6Address("fd00:2::1")), timedelta()),
        (NAMES, LIFETIME),  # ended
        (NAMES, timedelta(days=825 - 180) - RENEW_BEFORE),  # soon to end
        (NAMES, timedelta(days=-365)),  # made when the clock was a year ahead
    ],
)
def test_made_anew_with_the_same_key(tmp_path: Path, names: Names, later: timedelta) -> None:
    ensure(tmp_path, NAMES, NOW)
    first = read(tmp_path)
    now = NOW + later
    assert ensure(tmp_path, names, now)
    second = read(tmp_path)
    assert second.public_key() == first.public_key()
    assert second.not_valid_before_utc <= now < second.not_valid_after_utc - RENEW_BEFORE
    assert not ensure(tmp_path, names, now)


def test_a_clock_at_1970_gives_a_certificate_of_today_and_takes_none_away(tmp_path: Path) -> None:
    unset = datetime(1970, 1, 1, tzinfo=UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    authority = make_authority(keys[0], NAMES, unset)
    certificate = x509.load_pem_x509_certificate(make(keys[1], NAMES, unset, authority))
    assert authority.certificate.not_valid_before_utc <= EARLIEST
    assert certificate.not_valid_before_utc <= EARLIEST < certificate.not_valid_after_utc - RENEW_BEFORE
    ensure(tmp_path, NAMES, NOW)
    assert not ensure(tmp_path, NAMES, unset)


@pytest.mark.parametrize(
    "name", [f"{name}.{end}" for name in ("authority", "console", "proxy") for end in ("crt", "key")]
)
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_file_cut_short_is_made_anew(tmp_path: Path, name: str, content: bytes) -> None:
    ensure(tmp_path, NAMES, NOW)
    (tmp_path / name).write_bytes(content)
    assert ensure(tmp_path, NAMES, NOW)
    assert not ensure(tmp_path, NAMES, NOW)


@pytest.fixture
def console_port(tmp_path: Path) -> Iterator[int]:
    """The console's server on the loopback, with its certificate in tmp_path/tls; control is not there."""
    ensure(tmp_path / "tls", NAMES, NOW)
    (tmp_path / "config.toml").write_text("")
    with create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("isthmus-web"), "--config", tmp_path / "config.toml"),
            *("--runtime", tmp_path, "--state", tmp_path, "--listen", "127.0.0.1", "--port", str(port)),
        ]
    )
    yield port
    process.terminate()
    process.wait()


def test_the_running_console_takes_a_new_certificate_by_itself(console_port: int, tmp_path: Path) -> None:
    def shown() -> x509.Certificate:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                text = ssl.get_server_certificate(("127.0.0.1", console_port))
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return x509.load_pem_x509_certificate(text.encode())

    assert shown() == read(tmp_path / "tls")
    assert ensure(tmp_path / "tls", Names("crossing", NAMES.address), NOW)
    assert shown() == read(tmp_path / "tls")


# -- the authority ---------------------------------------------------------------------------------


def verify(folder: Path, *more: str, name: str = "console") -> str:
    """What openssl says to a client that trusts the box's authority; "" where all is well."""
    known = ["-CAfile", str(folder / "authority.crt"), "-attime", str(int(NOW.timestamp()))]
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *known, *more]
    done = subprocess.run([*words, folder / f"{name}.crt"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_one_authority_signs_both_servers(tmp_path: Path) -> None:
    assert ensure(tmp_path, NAMES, NOW) == ["authority", "proxy", "console"]
    assert (tmp_path / "authority.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "proxy.key").stat().st_mode & 0o777 == 0o640
    authority = read(tmp_path, "authority")
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.value.ca, basic.value.path_length, basic.critical) == (True, 0, True)
    assert authority.not_valid_after_utc - authority.not_valid_before_utc == AUTHORITY_LIFETIME
    for name in ("console", "proxy"):
        chain = x509.load_pem_x509_certificates((tmp_path / f"{name}.crt").read_bytes())
        assert chain[1:] == [authority]
        assert verify(tmp_path, name=name) == ""
        assert verify(tmp_path, "-verify_hostname", "isthmus", name=name) == ""
        assert verify(tmp_path, "-verify_ip", "fd00:1::1", name=name) == ""
    assert read(tmp_path, "proxy").public_key() != read(tmp_path).public_key()


def test_it_can_sign_for_nobody_else(tmp_path: Path) -> None:
    ensure(tmp_path, NAMES, NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    stolen = serialization.load_pem_private_key((tmp_path / "authority.key").read_bytes(), None)
    assert isinstance(stolen, ec.EllipticCurvePrivateKey)
    authority = make_authority(stolen, NAMES, NOW)
    for other in (Names("bank.example", NAMES.address), Names("isthmus", IPv6Address("2606:4700::1111"))):
        (tmp_path / "other.crt").write_bytes(make(key, other, NOW, authority))
        assert "permitted subtree violation" in verify(tmp_path, name="other")


def test_another_local_prefix_needs_no_new_authority_and_another_name_does(tmp_path: Path) -> None:
    ensure(tmp_path, NAMES, NOW)
    first = read(tmp_path, "authority")
    assert ensure(tmp_path, Names("isthmus", IPv6Address("fd00:2::1")), NOW) == ["proxy", "console"]
    assert read(tmp_path, "authority") == first
    assert ensure(tmp_path, Names("crossing", NAMES.address), NOW) == ["authority", "proxy", "console"]
    second = read(tmp_path, "authority")
    assert (second.subject, second.public_key()) == (first.subject, first.public_key())
    assert verify(tmp_path, "-verify_hostname", "crossing") == ""
    assert ensure(tmp_path, Names("crossing", IPv6Address("2001:db8::1")), NOW)[0] == "authority"
    assert verify(tmp_path, "-verify_ip", "2001:db8::1") == ""


def test_it_is_renewed_while_what_it_signed_is_good(tmp_path: Path) -> None:
    ensure(tmp_path, NAMES, NOW)
    first = read(tmp_path, "authority")
    late = first.not_valid_after_utc - AUTHORITY_RENEW_BEFORE
    assert "authority" not in ensure(tmp_path, NAMES, late - timedelta(days=1))
    assert read(tmp_path).not_valid_after_utc <= first.not_valid_after_utc
    assert ensure(tmp_path, NAMES, late) == ["authority", "proxy", "console"]
    assert read(tmp_path, "authority").public_key() == first.public_key()


# -- the uploaded one ------------------------------------------------------------------------------


def served(folder: Path) -> x509.Certificate:
    """What the proxy serves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "serving.pem")
    return x509.load_pem_x509_certificate((folder / "serving.pem").read_bytes())


def upload(folder: Path, named: bool = True, weak: bool = False, password: bytes | None = None) -> None:
    """A self-signed certificate from elsewhere, good from NOW on for a hundred days."""
    key = rsa.generate_private_key(65_537, 1024) if weak else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "proxy.example")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + timedelta(days=100))
    if named:
        names = x509.SubjectAlternativeName([x509.DNSName("proxy.example")])
        builder = builder.add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "uploaded.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    sealed: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        sealed = serialization.BestAvailableEncryption(password)
    content = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, sealed)
    (folder / "uploaded.key").write_bytes(content)


def test_the_own_one_serves_and_an_uploaded_one_in_its_place(tmp_path: Path) -> None:
    ensure(tmp_path, NAMES, NOW)
    assert choose(tmp_path, NOW) == (True, [])
    assert choose(tmp_path, NOW) == (False, [])
    assert served(tmp_path) == read(tmp_path, "proxy")
    assert (tmp_path / "serving.pem").stat().st_mode & 0o777 == 0o640
    upload(tmp_path)
    end = read(tmp_path, "uploaded").not_valid_after_utc
    assert choose(tmp_path, NOW) == (True, [])
    assert served(tmp_path) == read(tmp_path, "uploaded")
    changed, (soon,) = choose(tmp_path, end - timedelta(days=3))
    assert (changed, soon.code) == (False, "ends-soon")
    changed, (problem,) = choose(tmp_path, end)
    assert (changed, problem.code) == (True, "expired")
    assert str(tmp_path / "uploaded.crt") in str(problem)
    assert f"expired on {end:%Y-%m-%d}. Put a new one" in str(problem)
    assert served(tmp_path) == read(tmp_path, "proxy")
    for end_of_name in ("crt", "key"):
        (tmp_path / f"uploaded.{end_of_name}").unlink()
    assert choose(tmp_path, end) == (False, [])


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("crt gone", "missing"),
        ("key gone", "missing"),
        ("crt rubbish", "unreadable"),
        ("key rubbish", "unreadable"),
        ("key of another", "mismatch"),
        ("key encrypted", "encrypted"),
        ("no name", "no-name"),
        ("not yet", "not-yet"),
        ("weak", "refused"),
    ],
)
def test_a_bad_upload_is_named_and_not_served(tmp_path: Path, what: str, code: str) -> None:
    ensure(tmp_path, NAMES, NOW)
    choose(tmp_path, NOW)
    encrypted = b"secret" if what == "key encrypted" else None
    upload(tmp_path, named=what != "no name", weak=what == "weak", password=encrypted)
    path = tmp_path / f"uploaded.{what[:3]}"
    if what.endswith("gone"):
        path.unlink()
    elif what.endswith("rubbish"):
        path.write_text("-----BEGIN rubbish")
    elif what == "key of another":
        path.write_bytes((tmp_path / "console.key").read_bytes())
    changed, (problem,) = choose(tmp_path, NOW - timedelta(days=9) if what == "not yet" else NOW)
    assert (changed, problem.code) == (False, code)
    assert problem.path.startswith(str(tmp_path / "uploaded"))
    assert problem.hint
    assert served(tmp_path) == read(tmp_path, "proxy")


def test_the_authority_of_clients_is_judged(tmp_path: Path) -> None:
    ensure(tmp_path, NAMES, NOW)
    assert judge_client_authority(tmp_path / "authority.crt", NOW) is None
    for path, code in ((tmp_path / "nothing", "unreadable"), (tmp_path / "console.key", "unreadable")):
        problem = judge_client_authority(path, NOW)
        assert problem is not None
        assert (problem.path, problem.code) == ("explicit.client_authority", code)
        assert str(path) in problem.message
    late = judge_client_authority(tmp_path / "authority.crt", NOW + AUTHORITY_LIFETIME)
    assert late is not None
    assert late.code == "expired"
    # While another takes over, the file has both.
    both, other = tmp_path / "both.crt", tmp_path / "other"
    ensure(other, NAMES, NOW + AUTHORITY_LIFETIME)
    both.write_bytes((tmp_path / "authority.crt").read_bytes() + (other / "authority.crt").read_bytes())
    assert judge_client_authority(both, NOW + AUTHORITY_LIFETIME) is None
