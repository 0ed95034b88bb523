"""What the fields of the configuration may hold: names, addresses, networks; and the table around them."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from appliance.addressing import TranslationPrefix

# IFNAMSIZ less the NUL; the kernel also forbids "/" and white space.
_INTERFACE = re.compile(r"[A-Za-z0-9_.:-]{1,15}")
# What a user or a group may be called: mail addresses too; nothing that a log or a URL would have to escape.
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_ARGON2ID = re.compile(r"\$argon2id\$v=19\$m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,2}(\$[A-Za-z0-9+/]{8,128}){2}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PSEUDONYM = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,62}")
# Of a password's hash. Each try of anybody costs so much: more would let them use up the box. KiB; rounds.
MAX_HASH_MEMORY = 262_144
MAX_HASH_PASSES = 16
_SYSLOG = re.compile(r"(tls|tcp)://([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([1-9][0-9]{0,4})")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)


def _interface(name: str) -> str:
    if not _INTERFACE.fullmatch(name):
        raise ValueError(
            f"“{name}” is no interface name: 1 to 15 letters, digits or . _ : -, "
            "or “auto” for the box to choose"
        )
    return name


def _hostname(name: str) -> str:
    if len(name) > 63 or not _LABEL.fullmatch(name) or "_" in name:
        raise ValueError(f"“{name}” is no host name: letters, digits and inner hyphens, at most 63")
    return name.lower()


def _domain(name: str) -> str:
    bare = name.rstrip(".")
    if not bare or len(bare) > 253 or not all(_LABEL.fullmatch(label) for label in bare.split(".")):
        raise ValueError(f"“{name}” is no domain name")
    return bare.lower()


def _translation_prefix(network: IPv6Network) -> IPv6Network:
    TranslationPrefix(network)
    return network


def _lan_network(network: IPv6Network) -> IPv6Network:
    if network.prefixlen != 64:
        raise ValueError(f"a LAN prefix is a /64 (SLAAC needs it), not /{network.prefixlen}")
    if network.is_link_local or network.is_multicast or network.is_loopback:
        raise ValueError(f"{network} cannot be a LAN: give a global or a unique local prefix")
    return network


def _endpoint(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host.startswith("[") or not host.endswith("]"):
        raise ValueError(f"“{text}” is no IPv6 endpoint: write it as [2001:db8::80]:443")
    try:
        address = IPv6Address(host[1:-1])
    except ValueError:
        raise ValueError(f"“{host[1:-1]}” is no IPv6 address") from None
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.scope_id:
        raise ValueError(f"{address} is no server's address")
    if not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise ValueError(f"“{port}” is no port: 1 to 65535")
    return f"[{address}]:{int(port)}"


def _host_pattern(text: str) -> str:
    return "*." + _domain(text[2:]) if text.startswith("*.") else _domain(text)


def account_name(name: str) -> str:
    """``name``, if a user or a group may be called that; ValueError in words."""
    if not _ACCOUNT.fullmatch(name):
        raise ValueError(
            f"“{name}” is no name: 1 to 64 letters, digits or . _ @ + -, a letter or digit first"
        )
    return name


def _digest(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise PydanticCustomError(
            "digest",
            "this is no digest of a token, and a token has no place here.",
            {"hint": "`printf %s TOKEN | sha256sum` makes it; write sha256: before it."},
        )
    return text


def argon2id(text: str) -> str:
    if not _ARGON2ID.fullmatch(text):
        raise PydanticCustomError(
            "password",
            "this is no argon2id hash, and a password has no place here.",
            {"hint": "`isthmus user passwd NAME` asks for it and writes its hash."},
        )
    cost = dict(part.split("=") for part in text.split("$")[3].split(","))
    if int(cost["m"]) > MAX_HASH_MEMORY or int(cost["t"]) > MAX_HASH_PASSES:
        raise PydanticCustomError(
            "password",
            "verifying this hash would take too long: at most m={memory} (KiB), t={passes}.",
            {
                "memory": MAX_HASH_MEMORY,
                "passes": MAX_HASH_PASSES,
                "hint": "`isthmus user passwd NAME` makes another one.",
            },
        )
    return text


def _label_name(name: str) -> str:
    if not _LABEL_NAME.fullmatch(name):
        raise ValueError(
            f"“{name}” is no name: 1 to 32 small letters, digits or hyphens, a letter or digit first"
        )
    return name


def valid_pseudonym(name: str) -> str:
    if name and not _PSEUDONYM.fullmatch(name):
        raise ValueError(
            f"“{name}” is no pseudonym: 1 to 63 letters, digits or hyphens, a letter or digit first; "
            "“” leaves Via out"
        )
    return name


def _syslog_server(text: str) -> str:
    if not _SYSLOG.fullmatch(text):
        raise ValueError(
            f"“{text}” is no syslog server: tls://logs.example:6514, or unencrypted tcp://192.0.2.1:514"
        )
    _tls, host, port = syslog_target(text)
    if port > 65_535:
        raise ValueError(f"“{port}” is no port: 1 to 65535")
    try:
        ip_address(host)
    except ValueError:
        _domain(host)
    return text


def syslog_target(text: str) -> tuple[bool, str, int]:
    """(over TLS, host, port) of a validated server."""
    scheme, _separator, place = text.partition("://")
    host, _colon, port = place.rpartition(":")
    return scheme == "tls", host.strip("[]"), int(port)


# Of a password or a passphrase. Shorter ones are guessed from a stolen hash.
MIN_PASSWORD = 10

AccountName = Annotated[str, AfterValidator(account_name)]
LabelName = Annotated[str, AfterValidator(_label_name)]
Digest = Annotated[str, AfterValidator(_digest)]
Port = Annotated[int, Field(ge=1, le=65_535)]
InterfaceName = Annotated[str, AfterValidator(_interface)]
HostName = Annotated[str, AfterValidator(_hostname)]
Domain = Annotated[str, AfterValidator(_domain)]
LanNetwork = Annotated[IPv6Network, AfterValidator(_lan_network)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
PrefixNetwork = Annotated[IPv6Network, AfterValidator(_translation_prefix)]


SyslogServer = Annotated[str, AfterValidator(_syslog_server)]


def _update_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("is to be an address of the web: https://updates.example/isthmus.update")
    return url


UpdateAddress = Annotated[str, Field(max_length=1_000), AfterValidator(_update_address)]


class Section(BaseModel):
    """A table of the file: an unknown key is an error, and nothing changes after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True)
