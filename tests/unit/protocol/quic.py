"""QUIC packets as clients make them, by the words of RFC 9001 and the library's own key derivation."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

V1, V2 = 1, 0x6B3343CF
SALTS = {
    V1: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    V2: "0dede3def700a6db819381be6e269dcbf9bd2ed9",
}


def varint(value: int) -> bytes:
    for size, mark in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << 8 * size - 2:
            return (value | mark << 8 * size - 2).to_bytes(size, "big")
    raise ValueError(value)


def crypto(offset: int, data: bytes) -> bytes:
    """A CRYPTO frame."""
    return b"\x06" + varint(offset) + varint(len(data)) + data


def _expand(secret: bytes, label: str, size: int) -> bytes:
    text = b"tls13 " + label.encode()
    info = size.to_bytes(2, "big") + bytes([len(text)]) + text + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


def client_keys(version: int, connection_id: bytes) -> tuple[bytes, bytes, bytes]:
    """key, iv, hp"""
    extract = HMAC(bytes.fromhex(SALTS[version]), SHA256())
    extract.update(connection_id)
    secret = _expand(extract.finalize(), "client in", 32)
    prefix = "quic" if version == V1 else "quicv2"
    return (
        _expand(secret, f"{prefix} key", 16),
        _expand(secret, f"{prefix} iv", 12),
        _expand(secret, f"{prefix} hp", 16),
    )


def initial(
    frames: bytes,
    number: int = 0,
    version: int = V1,
    connection_id: bytes = bytes.fromhex("8394c8f03e515708"),
    keys_of: bytes | None = None,
    token: bytes = b"",
    size: int = 4,
) -> bytes:
    """A protected Initial; ``keys_of``: the connection id that its keys come from, where it is another."""
    key, iv, hp = client_keys(version, connection_id if keys_of is None else keys_of)
    frames = frames.ljust(4, b"\0")
    first = 0xC0 | (0x00 if version == V1 else 0x10) | size - 1
    short = (number & (1 << 8 * size) - 1).to_bytes(size, "big")
    head = bytes([first]) + version.to_bytes(4, "big") + bytes([len(connection_id)]) + connection_id + b"\0"
    head += varint(len(token)) + token
    length = size + len(frames) + 16
    head += (length | 0x4000).to_bytes(2, "big") + short
    nonce = bytes(a ^ b for a, b in zip(iv, number.to_bytes(12, "big"), strict=True))
    packet = bytearray(head + AESGCM(key).encrypt(nonce, frames, head))
    at = len(head) - size
    mask = Cipher(AES(hp), ECB()).encryptor().update(bytes(packet[at + 4 : at + 20]))
    packet[0] ^= mask[0] & 0x0F
    for index in range(size):
        packet[at + index] ^= mask[1 + index]
    return bytes(packet)
