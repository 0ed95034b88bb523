"""The box's certificates: an authority of its own, and what it signs for the console and the proxy.

::

    tls/authority.key, .crt   made at the first boot; whoever trusts it trusts the box, and nobody else by it:
                              it may sign for the box's names only (RFC 5280 section 4.2.1.10)
    tls/console.key, .crt     the console's, signed by it, with the authority's behind it
    tls/proxy.key, .crt       the explicit proxy's, likewise
    tls/uploaded.key, .crt    the proxy's, from elsewhere: taken in place of its own as long as it is good
    tls/serving.pem           key and chain of the one of both that the proxy serves, in one file

All are renewed in time, always with the same keys: a client that pinned one, or whose person compared
fingerprints of it, still knows the box. The console's server reads its files for each connection; the proxy
takes up what is new when it is told to.
"""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.errors import Problem
from appliance.files import whole

# Apple's systems take no server certificate that is valid for longer, counted from its beginning.
LIFETIME = datetime.timedelta(days=825)
# Valid before it was made: a client's clock, or the box's at that time, may be off by so much.
BACKDATED = datetime.timedelta(days=180)
# Renewed so long before the end: a box that is off over a season still has a good one when it comes back.
RENEW_BEFORE = datetime.timedelta(days=60)
# Of the authority: people bring it to their devices by hand, and have years to do it again.
AUTHORITY_LIFETIME = datetime.timedelta(days=3_653)
AUTHORITY_RENEW_BEFORE = LIFETIME + RENEW_BEFORE
# An uploaded one that ends so soon is a health issue: getting another takes people some days.
SOON = datetime.timedelta(days=14)
# A box may boot with its clock at 1970. No running box is older than this code: a clock before it is wrong.
EARLIEST = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
# Unique local addresses (RFC 4193): nobody's but a local network's, so that a box may change its own.
_LOCAL = IPv6Network("fc00::/7")
_UPLOADED = "uploaded"
_ASKED = "renew"  # an empty file: somebody wants new certificates

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Names:
    """What the certificate stands for. ``others``: addresses of further LANs, and one that is leaving."""

    hostname: str
    address: IPv6Address
    others: tuple[IPv6Address, ...] = ()

    def extension(self) -> x509.SubjectAlternativeName:
        """RFC 5280 section 4.2.1.6."""
        addresses = dict.fromkeys((self.address, *self.others))
        names = [x509.IPAddress(address) for address in addresses if self._may_be_signed(address)]
        return x509.SubjectAlternativeName([x509.DNSName(self.hostname), *names])

    def constraints(self) -> x509.NameConstraints:
        """What the authority may sign for: these names, and local addresses of another prefix too."""
        permitted = x509.IPAddress(self._network())
        return x509.NameConstraints([x509.DNSName(self.hostname), permitted], None)

    def _network(self) -> IPv6Network:
        return _LOCAL if self.address in _LOCAL else IPv6Network((self.address, 64), strict=False)

    def _may_be_signed(self, address: IPv6Address) -> bool:
        """A certificate with one that its authority may not sign for is taken by no client at all. A LAN with
        another global prefix is shown by its host name only: an authority that changes with every LAN would
        have to be carried to each device again."""
        return address in self._network()


@dataclass(frozen=True, slots=True)
class Authority:
    """The box's authority."""

    key: Key
    certificate: x509.Certificate


def _begun(name: x509.Name, key: Key, now: datetime.datetime, life: datetime.timedelta) -> (
    x509.CertificateBuilder
):  # fmt: skip
    begin = max(now, EARLIEST) - BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_authority(key: Key, names: Names, now: datetime.datetime) -> Authority:
    """An authority for these names. Its own name has the key's digest in it: two boxes' differ."""
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Isthmus box {mark}")])
    certificate = (
        _begun(name, key, now, AUTHORITY_LIFETIME)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(names.constraints(), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def make(key: Key, names: Names, now: datetime.datetime, authority: Authority) -> bytes:
    """A certificate of the authority's for a server, with the authority's behind it, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.hostname)])
    issuer = authority.key.public_key()
    certificate = (
        _begun(name, key, now, LIFETIME)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .add_extension(names.extension(), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return certificate.public_bytes(_PEM) + authority.certificate.public_bytes(_PEM)


_PEM = serialization.Encoding.PEM


def _in_time(certificate: x509.Certificate, now: datetime.datetime, rest: datetime.timedelta) -> bool:
    """Whether it is valid, and for a good while yet.

    A clock that cannot be right judges no dates: it would have a good one replaced, and again once it is set.
    """
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now < EARLIEST or begin <= now < end - rest


def serves(
    certificate: x509.Certificate, key: Key, names: Names, now: datetime.datetime, authority: Authority
) -> bool:
    """Whether the certificate is the key's and the authority's, has these names and is good for a while."""
    if certificate.public_key() != key.public_key():
        return False
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate.verify_directly_issued_by(authority.certificate)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return found == names.extension() and _in_time(certificate, now, RENEW_BEFORE)


def may_sign(certificate: x509.Certificate, key: Key, names: Names, now: datetime.datetime) -> bool:
    """Whether it is the key's authority, for these names, and outlives what it would sign now."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    same = certificate.public_key() == key.public_key() and found == names.constraints()
    return same and _in_time(certificate, now, AUTHORITY_RENEW_BEFORE)


# -- files -------------------------------------------------------------------------------------------


def _load_key(path: Path) -> Key | None:
    """The key of the file; None where there is none that can be used."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return key if isinstance(key, Key) else None


def _load(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, content: bytes, mode: int) -> None:
    with whole(path, mode) as out:  # people carried the authority to their devices: a power cut leaves it
        out.write(content)


def _ensure_key(path: Path, mode: int) -> Key:
    key = _load_key(path)
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PrivateFormat.PKCS8
        _write(path, key.private_bytes(_PEM, form, serialization.NoEncryption()), mode)
    return key


def ask_for_new(folder: Path) -> None:
    """Have the next ``ensure`` make the servers' certificates anew, even if that is after a restart."""
    _write(folder / _ASKED, b"", 0o600)


def ensure(folder: Path, names: Names, now: datetime.datetime) -> list[str]:
    """Have the folder hold the authority, and what it signs; which certificates are new ("console", …).

    The authority's key is for the owner alone, the servers' keys are for owner and group. OSError where the
    folder cannot be written.
    """
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    new = []
    key = _ensure_key(folder / "authority.key", 0o600)
    certificate = _load(folder / "authority.crt")
    if certificate is None or not may_sign(certificate, key, names, now):
        certificate = make_authority(key, names, now).certificate
        _write(folder / "authority.crt", certificate.public_bytes(_PEM), 0o644)
        new.append("authority")
    authority = Authority(key, certificate)
    asked = (folder / _ASKED).exists()
    for server in ("proxy", "console"):
        server_key = _ensure_key(folder / f"{server}.key", 0o640)
        present = _load(folder / f"{server}.crt")
        # A new authority's certificate goes behind what an earlier one with its key has signed, too.
        if (
            new[:1] == ["authority"]
            or asked
            or present is None
            or not serves(present, server_key, names, now, authority)
        ):
            _write(folder / f"{server}.crt", make(server_key, names, now, authority), 0o644)
            new.append(server)
    if asked:
        (folder / _ASKED).unlink()
    return new


def choose(folder: Path, now: datetime.datetime) -> tuple[bool, list[Problem]]:
    """Have serving.pem hold what the proxy is to serve: (it is another one now, what is wrong).

    After ``ensure``. An uploaded certificate that cannot be used is a problem, and the box's own serves.
    """
    name, problems = "proxy", []
    if any((folder / f"{_UPLOADED}.{end}").exists() for end in ("crt", "key")):
        problem = judge_upload(folder, now)
        if problem is None or problem.code == "ends-soon":
            name = _UPLOADED
        if problem is not None:
            problems.append(problem)
    content = (folder / f"{name}.key").read_bytes() + b"\n" + (folder / f"{name}.crt").read_bytes()
    serving = folder / "serving.pem"
    try:
        if serving.read_bytes() == content:
            return False, problems
    except FileNotFoundError:
        pass
    _write(serving, content, 0o640)
    return True, problems


def judge_upload(folder: Path, now: datetime.datetime) -> Problem | None:
    """Why uploaded.crt and uploaded.key cannot be served; code "ends-soon" where they still can."""
    paths = certificate_path, key_path = folder / f"{_UPLOADED}.crt", folder / f"{_UPLOADED}.key"
    for path in paths:
        if not path.exists():
            other = key_path if path is certificate_path else certificate_path
            return Problem(
                str(path), "is missing.", f"Put it beside {other.name}, or remove that.", "missing"
            )
    try:
        certificates = x509.load_pem_x509_certificates(certificate_path.read_bytes())
    except (OSError, ValueError):
        hint = "The server's certificate comes first, then those between it and its authority."
        return Problem(str(certificate_path), "is no PEM certificate.", hint, "unreadable")
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except TypeError:
        hint = f"openssl pkey -in {key_path.name} -out plain.key takes the password off."
        return Problem(str(key_path), "is encrypted.", hint, "encrypted")
    except (OSError, ValueError):
        hint = "Upload the certificate's key."
        return Problem(str(key_path), "is no PEM private key.", hint, "unreadable")
    certificate = certificates[0]
    if certificate.public_key() != key.public_key():
        hint = "Upload the key that the certificate was asked for with; its certificate comes first."
        return Problem(str(key_path), "belongs to another certificate.", hint, "mismatch")
    dates = judge_dates(str(certificate_path), certificate, now)
    if dates is not None and dates.code != "ends-soon":
        return dates
    try:
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        hint = "Have it made with the box's name in subjectAltName."
        return Problem(str(certificate_path), "names no host, which clients demand.", hint, "no-name")
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_path, key_path, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error
        hint = "An ECDSA key, or RSA of 2048 bits and more, with SHA-256."
        return Problem(str(certificate_path), f"is not taken by OpenSSL: {reason}.", hint, "refused")
    return dates


def judge_dates(path: str, certificate: x509.Certificate, now: datetime.datetime) -> Problem | None:
    """Why the certificate is not valid now, or soon no more."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < EARLIEST:
        return None
    if now < begin:
        hint = "Wait, or look at the box's clock."
        return Problem(path, f"is valid from {begin:%Y-%m-%d} on only.", hint, "not-yet")
    if now >= end:
        return Problem(path, f"expired on {end:%Y-%m-%d}.", "Put a new one in its place.", "expired")
    if now >= end - SOON:
        return Problem(path, f"ends on {end:%Y-%m-%d}.", "Put a new one in its place.", "ends-soon")
    return None


def judge_client_authority(path: Path, now: datetime.datetime) -> Problem | None:
    """Why no client's certificate can be checked against the file."""
    where = "explicit.client_authority"
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        words = f"{path} cannot be read: {error.strerror}."
        return Problem(where, words, "Put the authority's certificate there.", "unreadable")
    except ValueError:
        return Problem(where, f"{path} is no PEM certificate.", "Convert it with openssl x509.", "unreadable")
    # While one authority takes over from another, the file has both: one that serves is enough.
    judged = [judge_dates(where, certificate, now) for certificate in certificates]
    if not all(judged):
        return None
    problem = next((one for one in judged if one is not None and one.code == "ends-soon"), judged[0])
    return problem and Problem(where, f"{path} {problem.message}", problem.hint, problem.code)


def fingerprint(folder: Path) -> str | None:
    """SHA-256 of the console's certificate as browsers show it, AB:CD:…; None before there is one."""
    certificate = _load(folder / "console.crt")
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper() if certificate else None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a person wants to know of a certificate."""

    subject: str
    issuer: str
    names: tuple[str, ...]  # of hosts, and addresses
    since: datetime.datetime
    until: datetime.datetime
    key: str  # "ECDSA secp256r1", "RSA 2048"
    fingerprint: str  # SHA-256, AB:CD:…


def facts(path: Path) -> Facts | None:
    """Of the first certificate in a PEM file; None where there is none."""
    certificate = _load(path)
    if certificate is None:
        return None
    names: tuple[str, ...] = ()
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = found.get_values_for_type(x509.IPAddress)
        names = (*found.get_values_for_type(x509.DNSName), *(str(address) for address in addresses))
    except (x509.ExtensionNotFound, ValueError):
        pass
    public = certificate.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        key = f"ECDSA {public.curve.name}"
    elif isinstance(public, rsa.RSAPublicKey):
        key = f"RSA {public.key_size}"
    else:
        key = type(public).__name__.strip("_").removesuffix("PublicKey")
    return Facts(
        _common_name(certificate.subject),
        _common_name(certificate.issuer),
        names,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        key,
        certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else name.rfc4514_string()


def serving(folder: Path) -> str | None:
    """The fingerprint of what the proxy serves."""
    found = facts(folder / "serving.pem")
    return found.fingerprint if found else None
