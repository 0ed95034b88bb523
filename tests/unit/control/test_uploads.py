"""Certificates from elsewhere: what is refused, in which words, and that a key never comes out again."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.config import Config
from appliance.control.uploads import MAX_PEM, CertificateError, Certificates
from appliance.errors import ConfigError
from appliance.system import certificates

NAMES = certificates.Names("isthmus", IPv6Address("fd00:1::1"))
NOW = datetime.now(UTC)
PEM = serialization.Encoding.PEM


def pair(
    days: int = 90, host: str | None = "proxy.example", password: bytes | None = None
) -> tuple[str, str]:
    """A certificate that ends in so many days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 7, NOW - timedelta(days=400), NOW + timedelta(days=days)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    made = builder.sign(key, hashes.SHA256()).public_bytes(PEM).decode()
    plain = serialization.NoEncryption()
    sealed = serialization.BestAvailableEncryption(password) if password else plain
    return made, key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, sealed).decode()


class Box:
    """A folder with what control has made, and the certificates of it."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "tls"
        self.applied = 0
        self.certificates = Certificates(state, Config, self.apply, nullcontext())
        self.apply()

    def apply(self) -> None:
        certificates.ensure(self.folder, NAMES, NOW)
        certificates.choose(self.folder, NOW)
        self.applied += 1

    def serial(self, name: str) -> int:
        return x509.load_pem_x509_certificate((self.folder / name).read_bytes()).serial_number


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def used_by(box: Box) -> dict[str, list[str]]:
    return {one["name"]: one["used_by"] for one in box.certificates.listed()}


def test_what_is_uploaded_serves_until_it_is_removed(box: Box) -> None:
    listeners = [f"listener {one.name}" for one in Config().explicit.listeners if one.tls]
    assert listeners
    assert used_by(box) == {"authority": [], "console": ["console"], "proxy": listeners}
    certificate, key = pair()
    assert box.certificates.upload(certificate, key, "ann") is None
    assert box.applied == 2
    assert used_by(box) == {"authority": [], "console": ["console"], "proxy": [], "uploaded": listeners}
    assert (box.folder / "uploaded.key").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in json.dumps(box.certificates.listed())
    (shown,) = [one for one in box.certificates.listed() if one["name"] == "uploaded"]
    assert (shown["subject"], shown["names"], shown["key"]) == (
        "somebody",
        ["proxy.example"],
        "ECDSA secp256r1",
    )
    box.certificates.remove("ann")
    assert used_by(box)["proxy"] == listeners
    with pytest.raises(CertificateError):
        box.certificates.remove("ann")


def test_one_that_ends_soon_is_taken_with_a_warning(box: Box) -> None:
    warning = box.certificates.upload(*pair(days=5), "ann")
    assert warning is not None
    assert warning.startswith("It ends on ")


CERTIFICATE, KEY = pair()
BAD = {
    "another key": ((CERTIFICATE, pair()[1]), "key: belongs to another certificate."),
    "expired": (pair(days=-1), "certificate: expired on "),
    "no name": (pair(host=None), "certificate: names no host"),
    "no certificate": (("hello", KEY), "certificate: is no PEM certificate."),
    "no key": ((CERTIFICATE, CERTIFICATE), "key: is no PEM private key."),
    "the two exchanged": ((KEY, CERTIFICATE), "certificate: is no PEM certificate."),
    "a password on the key": (pair(password=b"x"), "key: is encrypted."),
    "too much": ((CERTIFICATE, "x" * (MAX_PEM + 1)), "key: has more than"),
    "nothing": (("", ""), "certificate: is no PEM certificate."),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_served_is_refused_in_words(box: Box, case: str) -> None:
    """With the good one that was there before left in place, and nothing of the bad one anywhere."""
    box.certificates.upload(CERTIFICATE, KEY, "ann")
    before = {path.name: path.read_bytes() for path in box.folder.iterdir()}
    given, words = BAD[case]
    with pytest.raises(ConfigError) as error:
        box.certificates.upload(*given, "ann")
    assert str(error.value).startswith(words)
    assert {path.name: path.read_bytes() for path in box.folder.iterdir()} == before


def test_renewed_ones_have_the_keys_of_before(box: Box) -> None:
    before = [box.serial(name) for name in ("authority.crt", "console.crt", "proxy.crt")]
    keys = {path.name: path.read_bytes() for path in box.folder.glob("*.key")}
    box.certificates.renew("ann")
    after = [box.serial(name) for name in ("authority.crt", "console.crt", "proxy.crt")]
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert before[2] != after[2]
    assert {path.name: path.read_bytes() for path in box.folder.glob("*.key")} == keys
    box.apply()
    assert box.serial("proxy.crt") == after[2]  # once
