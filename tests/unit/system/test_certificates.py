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
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.system.certificates import EARLIEST, LIFETIME, RENEW_BEFORE, Names, ensure, fingerprint, make

NAMES = Names("isthmus", IPv6Address("fd00:1::1"))
NOW = EARLIEST + timedelta(days=400)
START_TIMEOUT = 20.0


def read(folder: Path) -> x509.Certificate:
    """The certificate in the folder."""
    return x509.load_pem_x509_certificate((folder / "console.crt").read_bytes())


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
    certificate = x509.load_pem_x509_certificate(make(ec.generate_private_key(ec.SECP256R1()), NAMES, unset))
    assert certificate.not_valid_before_utc <= EARLIEST < certificate.not_valid_after_utc - RENEW_BEFORE
    ensure(tmp_path, NAMES, NOW)
    assert not ensure(tmp_path, NAMES, unset)


@pytest.mark.parametrize("name", ["console.crt", "console.key"])
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
