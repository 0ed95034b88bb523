"""The console's own certificate: made at the first boot, renewed in time, always with the same key.

The key stays, so that a client that pinned it, or whose person compared fingerprints of it, still
knows the box. The console's server reads the files for each connection, and needs no restart.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Apple's systems take no server certificate that is valid for longer, counted from its beginning.
LIFETIME = datetime.timedelta(days=825)
# Valid before it was made: a client's clock, or the box's at that time, may be off by so much.
BACKDATED = datetime.timedelta(days=180)
# Renewed so long before the end: a box that is off over a season still has a good one when it comes back.
RENEW_BEFORE = datetime.timedelta(days=60)
# A box may boot with its clock at 1970. No running box is older than this code: a clock before it is wrong.
EARLIEST = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Names:
    """What the certificate stands for."""

    hostname: str
    address: IPv6Address

    def extension(self) -> x509.SubjectAlternativeName:
        """RFC 5280 section 4.2.1.6."""
        return x509.SubjectAlternativeName([x509.DNSName(self.hostname), x509.IPAddress(self.address)])


def make(key: Key, names: Names, now: datetime.datetime) -> bytes:
    """A self-signed certificate, PEM."""
    begin = max(now, EARLIEST) - BACKDATED
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.hostname)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names.extension(), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def serves(certificate: x509.Certificate, key: Key, names: Names, now: datetime.datetime) -> bool:
    """Whether the certificate is the key's, has these names and is valid for a good while yet.

    A clock that cannot be right judges no dates: it would have a good one replaced, and again once it is set.
    """
    if certificate.public_key() != key.public_key():
        return False
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    in_time = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
    return found == names.extension() and (in_time or now < EARLIEST)


def _load_key(path: Path) -> Key | None:
    """The key of the file; None where there is none that can be used."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    return key if isinstance(key, Key) else None


def _load(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, content: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # of a run that was cut off
    fresh.touch(mode=mode)
    fresh.chmod(mode)
    fresh.write_bytes(content)
    fresh.replace(path)


def ensure(folder: Path, names: Names, now: datetime.datetime) -> bool:
    """Have folder hold console.key and a console.crt that serves; True where the certificate is a new one.

    The key is for owner and group. OSError where the folder cannot be written.
    """
    certificate_path, key_path = folder / "console.crt", folder / "console.key"
    key = _load_key(key_path)
    if key is None:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        _write(key_path, key.private_bytes(encoding, form, plain), 0o640)
    present = _load(certificate_path)
    if present is not None and serves(present, key, names, now):
        return False
    _write(certificate_path, make(key, names, now), 0o644)
    return True


def fingerprint(folder: Path) -> str | None:
    """SHA-256 of the certificate as browsers show it, AB:CD:…; None before there is one."""
    certificate = _load(folder / "console.crt")
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper() if certificate else None
