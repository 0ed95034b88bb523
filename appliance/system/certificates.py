"""The console's own certificate, made at the first boot and kept."""

from __future__ import annotations

import datetime
from ipaddress import IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Apple's systems take no server certificate that lives longer.
LIFETIME = datetime.timedelta(days=825)
# A box may boot with its clock at 1970; no certificate of ours is older than this code.
EARLIEST = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)


def make(hostname: str, address: IPv6Address, now: datetime.datetime) -> tuple[bytes, bytes]:
    """A self-signed ECDSA P-256 certificate for the name and the address: (certificate, key), PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    begin = max(now, EARLIEST) - datetime.timedelta(days=1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(hostname), x509.IPAddress(address)]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def ensure(folder: Path, hostname: str, address: IPv6Address) -> Path:
    """The certificate's path; made with its key on the first call. The key is for owner and group."""
    certificate_path, key_path = folder / "console.crt", folder / "console.key"
    if certificate_path.exists() and key_path.exists():
        return certificate_path
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    certificate, key = make(hostname, address, datetime.datetime.now(datetime.UTC))
    for path, content, mode in ((key_path, key, 0o640), (certificate_path, certificate, 0o644)):
        fresh = path.with_name(f".{path.name}.new")
        fresh.touch(mode=mode)
        fresh.chmod(mode)
        fresh.write_bytes(content)
        fresh.replace(path)
    return certificate_path
