"""One-time codes by time: RFC 6238 over HMAC-SHA-1 (RFC 4226), six digits, a new one every thirty seconds.

Those are the parameters that every authenticator knows. Pure: ``now`` is passed in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from urllib.parse import quote

PERIOD = 30
DIGITS = 6
# RFC 4226 section 4, R6: 160 bits.
SECRET_OCTETS = 20
# Steps that a phone's clock may be off, each way. None refuses codes typed at the turn; each more one is
# thirty seconds in which a code that was read over a shoulder still counts.
SKEW = 1


def new_secret() -> str:
    """A secret as authenticators take it: base32 without padding."""
    return base64.b32encode(secrets.token_bytes(SECRET_OCTETS)).decode().rstrip("=")


def code_at(secret: str, step: int) -> str:
    """The code of a step (RFC 4226 section 5.3); ValueError where the secret is no base32."""
    try:
        key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    except binascii.Error:
        raise ValueError("the secret is no base32") from None
    digest = hmac.digest(key, step.to_bytes(8, "big"), hashlib.sha1)
    at = digest[-1] & 15
    number = int.from_bytes(digest[at : at + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching(secret: str, code: str, now: float, used: int) -> int | None:
    """The step whose code this is, later than ``used`` (RFC 6238 section 5.2: each counts once), or None."""
    typed = code.replace(" ", "").encode()
    this = int(now) // PERIOD
    found = None
    for step in range(this - SKEW, this + SKEW + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), typed) and step > used:
            found = step
    return found


def uri(secret: str, account: str, issuer: str) -> str:
    """What authenticators read from a QR code."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
    return f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer, safe='')}"
