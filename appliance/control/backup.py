"""Backups: the configuration and what else makes the box itself, in one file that a passphrase opens.

A backup is the magic line, a salt, a nonce, and JSON encrypted by ChaCha20-Poly1305 (RFC 8439) with a key
that argon2id (RFC 9106) makes of the passphrase. An octet that was changed is found before any is used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from appliance import __version__
from appliance.config import parse
from appliance.config.codec import MAX_CONFIG_BYTES
from appliance.config.fields import MIN_PASSWORD
from appliance.config.paths import Plain
from appliance.config.schema import as_plain
from appliance.control.drafting import Drafting, View
from appliance.control.sides import Sides
from appliance.errors import IsthmusError
from appliance.files import PRIVATE_FOLDER, put
from appliance.system.passwords import PasswordTooWeakError

MAGIC = b"isthmus-backup-1\n"
_SALT, _NONCE = 16, 12
# As the passwords of people, and for the same reasons (appliance.system.passwords).
_TIME_COST, _MEMORY_KIB = 3, 65_536
# The configuration, and files of some kilobytes. More is no backup of ours.
MAX_BACKUP = 2 * MAX_CONFIG_BYTES
# What makes this box itself, beside its configuration: its authority, an uploaded certificate, the admins.
# Those of the servers are made anew by the authority.
IDENTITY = (
    *("tls/authority.key", "tls/authority.crt", "tls/uploaded.key", "tls/uploaded.crt"),
    "console-users.json",
)
_READABLE = 0o644  # certificates, which the console gives to devices


class BackupError(IsthmusError):
    """It is no backup, or not opened by this passphrase."""

    code = "backup-refused"


def _key(passphrase: str, salt: bytes) -> bytes:
    secret = passphrase.encode()
    made: bytes = hash_secret_raw(secret, salt, _TIME_COST, _MEMORY_KIB, 1, 32, Type.ID)
    return made


def seal(content: Plain, passphrase: str) -> bytes:
    """``content`` as a backup; PasswordTooWeakError."""
    if len(passphrase) < MIN_PASSWORD:
        raise PasswordTooWeakError(
            f"The passphrase has {len(passphrase)} characters. It needs at least {MIN_PASSWORD}."
        )
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    head = MAGIC + salt + nonce
    return head + ChaCha20Poly1305(_key(passphrase, salt)).encrypt(nonce, json.dumps(content).encode(), head)


def unseal(data: bytes, passphrase: str) -> Plain:
    """What is in a backup; BackupError."""
    if not data.startswith(MAGIC):
        newer = data.startswith(MAGIC.rstrip(b"1\n"))
        hint = "It was made by a newer version." if newer else "A backup begins with “isthmus-backup”."
        raise BackupError("This is no backup that this version reads", hint)
    at = len(MAGIC) + _SALT
    head, nonce, sealed = data[: at + _NONCE], data[at : at + _NONCE], data[at + _NONCE :]
    try:
        if len(nonce) < _NONCE:
            raise InvalidTag
        content = ChaCha20Poly1305(_key(passphrase, head[len(MAGIC) : at])).decrypt(nonce, sealed, head)
        found = json.loads(content)
    except (InvalidTag, ValueError):
        raise BackupError("The passphrase is wrong, or the file is damaged", "Nothing was changed.") from None
    if not isinstance(found, dict) or not isinstance(found.get("config"), str):
        raise BackupError("There is no configuration in it")
    return found


class Backups:
    """Of the box whose state is in ``state``. ``renew`` has changed certificates and admins taken up."""

    def __init__(self, state: Path, drafting: Drafting, renew: Callable[[], None]) -> None:
        self._state = state
        self._drafting = drafting
        self._renew = renew

    def make(self, passphrase: str) -> bytes:
        """The configuration in force, and the box's identity."""
        files = {}
        for name in IDENTITY:
            path = self._state / name
            if path.is_file():
                files[name] = path.read_text()
        return seal(
            {
                "version": __version__,
                "config": self._drafting.active_text(),
                # So that a generated one is the same on another box.
                "lan_prefix": self._drafting.lan_prefix(),
                "segment_prefixes": self._segment_prefixes(),
                "identity": files,
            },
            passphrase,
        )

    def _segment_prefixes(self) -> dict[str, str]:
        """Those that the box made, by the LANs' names."""
        sides = Sides(self._state)
        names = [one["name"] for one in self._drafting.active()[1].get("segment", ())]
        made = ((name, sides.resolve(name, "generated")) for name in names)
        return {name: str(prefix) for name, prefix in made if prefix is not None}

    def restore(self, author: str, data: bytes, passphrase: str, identity: bool) -> View:
        """The backup's configuration as the author's candidate; with ``identity`` its files, at once.

        BackupError, ConfigError.
        """
        if len(data) > MAX_BACKUP:
            raise BackupError(f"A backup has at most {MAX_BACKUP} bytes")
        found = unseal(data, passphrase)
        config = as_plain(parse(found["config"]))
        prefix = found.get("lan_prefix")
        if config["lan"]["prefix"] == "generated" and isinstance(prefix, str):
            config["lan"]["prefix"] = prefix
        told = found.get("segment_prefixes")
        made = told if isinstance(told, dict) else {}
        for segment in config["segment"]:
            prefix = made.get(segment["name"])
            if segment["prefix"] == "generated" and isinstance(prefix, str):
                segment["prefix"] = prefix
        with self._drafting.line:
            view = self._drafting.replace(author, config)
            if identity:
                self._take(found.get("identity"))
        return view

    def _take(self, files: object) -> None:
        known = files if isinstance(files, dict) else {}
        for name in IDENTITY:
            text = known.get(name)
            path = self._state / name
            if isinstance(text, str):
                path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
                put(path, text)
                if path.suffix == ".crt":
                    path.chmod(_READABLE)
            elif path.parent != self._state:
                path.unlink(missing_ok=True)  # a key without its certificate would be no pair
        self._renew()
