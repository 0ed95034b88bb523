"""The policy's part of the configuration: rules, and the lists, schedules, devices and limits beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from appliance.config.fields import AccountName, LabelName, Section

# One label of a pattern: letters, digits, inner hyphens, "_" and "*" for any run of these.
_PATTERN_LABEL = re.compile(r"[a-z0-9_*-]{1,63}", re.IGNORECASE)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/(\*|[a-z0-9!#$&^_.+-]{1,127})", re.IGNORECASE)
# Signs that no file name of a list and no address of one has; they would break a log's line.
_SOURCE = re.compile(r"(https?://[!-~]{3,2000}|/[^\x00-\x1f\x7f]{1,1000})")
# What verdicts call the default.
DEFAULT_RULE = "default"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def domain_pattern(text: str) -> str:
    """A pattern for names, as written in small letters; ValueError in words.

    "a.example" is the name and all below it, "=a.example" the name alone, "*.a.example" all below it; a "*"
    elsewhere stands for any run of signs of a label.
    """
    bare = text.removeprefix("=")
    name = bare.removesuffix(".").lower()
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_PATTERN_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"“{text}” is no domain: a.example (with all below it), =a.example (it alone), "
            "*.a.example (all below it)"
        )
    if bare is not text and "*" in name:
        raise ValueError(f"“{text}”: “=” says one name alone, “*” many")
    return ("=" if bare is not text else "") + name


def _mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise ValueError(f"“{text}” is no MAC address: write it as 02:00:5e:10:00:01")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"“{text}” is a group's address, no device's")
    return mac


def _ports(value: object) -> str:
    low, dash, high = str(value).partition("-")
    high = high if dash else low
    if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high) <= 65_535):
        raise ValueError(f"“{value}” is no port and no range: 443, or 8000-8999")
    return f"{int(low)}-{int(high)}" if dash else str(int(low))


def port_range(text: str) -> tuple[int, int]:
    """First and last port of a validated entry."""
    low, _dash, high = text.partition("-")
    return int(low), int(high or low)


def _time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError(f"“{text}” is no time of day: 00:00 to 24:00")
    return text


def minute_of(text: str) -> int:
    """Minutes since midnight of a validated time."""
    return int(text[:2]) * 60 + int(text[3:])


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text):
        raise ValueError(f"“{text}” is no content type: video/mp4, or video/*")
    return text.lower()


def _url(text: str) -> str:
    host, _slash, _path = text.removeprefix("http://").partition("/")
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 2_000:
        raise ValueError("a URL has no such signs: letters, digits and their like, “*” for any run")
    if text.startswith("https://"):
        raise ValueError(f"“{text}” is encrypted: only its name can be told, by domains")
    if not host:
        raise ValueError(f"“{text}” is no URL: a.example/path*, “*” for any run of signs")
    return host.lower() + text.removeprefix("http://")[len(host) :]


def _source(text: str) -> str:
    if not _SOURCE.fullmatch(text):
        raise ValueError(f"“{text[:80]}” is no source: https://…, http://…, or a file's whole path")
    return text


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("the time has no zone: 2026-12-24T18:00:00Z, say")
    return moment


DomainPattern = Annotated[str, AfterValidator(domain_pattern)]
Mac = Annotated[str, AfterValidator(_mac)]
Ports = Annotated[str, BeforeValidator(_ports)]
TimeOfDay = Annotated[str, AfterValidator(_time)]
MediaType = Annotated[str, AfterValidator(_media_type)]
UrlPattern = Annotated[str, AfterValidator(_url)]
Source = Annotated[str, AfterValidator(_source)]
Moment = Annotated[datetime, AfterValidator(_aware)]
Network = IPv4Network | IPv6Network
Way = Literal["transparent", "http", "connect", "socks", "published", "dns"]
Transport = Literal["tcp", "udp", "icmp"]


class Policy(Section):
    """What holds where no rule matches, and how much is written down."""

    # For sessions from the LAN; published services are allowed by being there.
    default: Literal["allow", "deny"] = "allow"
    # Names that lead to a denied one (by CNAME): the DNS and the proxy deny them too where a list has that
    # one ("lists"), where any rule denies it ("all"), or not ("off"). A name that a rule of its own allows
    # is not denied for that.
    aliases: Literal["lists", "all", "off"] = "lists"
    # TLS whose real server name is encrypted (ECH): rules see the name of the front only.
    ech: Literal["allow", "block"] = "allow"
    # How much the log of sessions says of each: all ("full"), who and how much but nothing of where to
    # ("no-destinations"), or nothing, so that there are sums alone ("counters"). Only with "full" may
    # clients ask for access. What is written already stays until `isthmus log erase`.
    privacy: Literal["full", "no-destinations", "counters"] = "full"
    # The log of sessions, the history and who had how much are kept so long. Sums by rule and service stay.
    retention_days: Annotated[int, Field(ge=1, le=3_650)] = 30


class NameList(Section):
    """Names from a file or the web, kept up to date."""

    name: LabelName  # small letters, digits and hyphens; rules name the list by it
    source: Source  # https://…, http://…, or the whole path of a file on the box
    # How the list is written; “auto” looks at its first lines.
    format: Literal["auto", "hosts", "domains", "adblock", "rpz"] = "auto"
    refresh_hours: Annotated[int, Field(ge=1, le=8_760)] = 24  # how often it is fetched anew
    # Of the list unpacked; more is refused, and the last good copy stays.
    max_mib: Annotated[int, Field(ge=1, le=1_024)] = 64


class Schedule(Section):
    """A part of the week, by the box's time zone (system.timezone)."""

    name: LabelName  # small letters, digits and hyphens; rules name the schedule by it
    # The days on which it begins.
    days: Annotated[
        tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...], Field(min_length=1)
    ] = DAYS  # type: ignore[assignment]
    # The time of day at which it begins.
    since: TimeOfDay = "00:00"
    until: TimeOfDay = "24:00"  # and ends; where that is not later, on the next day


class Device(Section):
    """A host of the LAN, known by its network cards: it keeps its name over all its addresses."""

    name: AccountName  # letters, digits or . _ @ + -
    # The addresses of its network cards: 02:00:5e:10:00:01.
    macs: Annotated[tuple[Mac, ...], Field(min_length=1, max_length=16)]


class _Subjects(Section):
    """Whom it is about: one of each kind that is given has to fit; none given: everybody."""

    # Users of the explicit proxy, by name.
    users: Annotated[tuple[AccountName, ...], Field(max_length=65_536)] = ()
    groups: Annotated[tuple[AccountName, ...], Field(max_length=1_024)] = ()  # users of these groups
    devices: Annotated[tuple[AccountName, ...], Field(max_length=65_536)] = ()  # devices, by name
    sources: Annotated[tuple[Network, ...], Field(max_length=65_536)] = ()  # clients' networks


class Rule(_Subjects):
    """One rule. All conditions that are given have to hold; of one condition's entries any will do."""

    name: LabelName  # small letters, digits and hyphens; log and block page name the rule by it
    action: Literal["allow", "deny"]  # what becomes of what matches
    enabled: bool = True  # false: the rule stays, and is passed over
    # A.example (with all below it), =a.example (it alone), *.a.example (all below it).
    domains: Annotated[tuple[DomainPattern, ...], Field(max_length=65_536)] = ()
    lists: Annotated[tuple[LabelName, ...], Field(max_length=64)] = ()  # names that one of these lists has
    # An IPv4 network matches whatever IPv6 address embeds an address of it, too.
    destinations: Annotated[tuple[Network, ...], Field(max_length=65_536)] = ()
    ports: Annotated[tuple[Ports, ...], Field(max_length=256)] = ()  # of the destination: 443, or 8000-8999
    protocols: tuple[Transport, ...] = ()  # what it is carried by
    # By which way it comes: "http" is a plain request to the explicit proxy, "dns" a question.
    ways: tuple[Way, ...] = ()
    # Of plain HTTP alone, since all other content is encrypted.
    urls: Annotated[tuple[UrlPattern, ...], Field(max_length=4_096)] = ()
    # Of the answer to a plain HTTP request: video/mp4, or video/*.
    content_types: Annotated[tuple[MediaType, ...], Field(max_length=256)] = ()
    # Octets of content, of the whole of it where a part is asked for. Where its length is not told
    # beforehand, it is cut off there.
    larger_than: Annotated[int, Field(ge=0)] | None = None
    # The rule holds while one of these does.
    schedules: Annotated[tuple[LabelName, ...], Field(max_length=64)] = ()
    # The rule ends then, for an exception on time.
    until: Moment | None = None
    # What the block page says, in the owner's words.
    note: Annotated[str, Field(max_length=500)] = ""

    @field_validator("name")
    @classmethod
    def _is_not_the_default(cls, name: str) -> str:
        if name == DEFAULT_RULE:
            raise ValueError(f"“{name}” is what holds where no rule matches: choose another name")
        return name


class Limit(_Subjects):
    """A quota or a rate. A session counts in every limit that is about it."""

    name: LabelName  # small letters, digits and hyphens; log and status name the limit by it
    # "client": each address (a known device: all of its) has its own; "user": each user; "all": one for all.
    each: Literal["client", "user", "all"] = "client"
    sessions: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # open at once
    new_per_second: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # sessions begun in a second
    # What passes in a day, both ways together, by the box's time zone.
    mib_per_day: Annotated[int, Field(ge=1, le=1 << 40)] | None = None
    mib_per_month: Annotated[int, Field(ge=1, le=1 << 40)] | None = None  # the same, in a calendar month
    # Kilobits a second, for each direction. TCP is slowed down to them; datagrams that are more are dropped.
    kbit_per_second: Annotated[int, Field(ge=64, le=100_000_000)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Limit:
        amounts = (
            self.sessions,
            self.new_per_second,
            self.mib_per_day,
            self.mib_per_month,
            self.kbit_per_second,
        )
        if all(amount is None for amount in amounts):
            raise PydanticCustomError(
                "no_amount",
                "limit “{name}” limits nothing.",
                {"name": self.name, "hint": "Set sessions, new_per_second, mib_per_day or kbit_per_second."},
            )
        return self


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _Whole(Protocol):
    """The configuration, as far as the checks here look at it."""

    @property
    def group(self) -> tuple[_Named, ...]: ...
    @property
    def user(self) -> tuple[_Named, ...]: ...
    @property
    def name_list(self) -> tuple[NameList, ...]: ...
    @property
    def schedule(self) -> tuple[Schedule, ...]: ...
    @property
    def device(self) -> tuple[Device, ...]: ...
    @property
    def rule(self) -> tuple[Rule, ...]: ...
    @property
    def limit(self) -> tuple[Limit, ...]: ...


_TABLES = {
    "users": "user",
    "groups": "group",
    "devices": "device",
    "lists": "name_list",
    "schedules": "schedule",
}


def policy_checks(config: _Whole) -> Iterator[tuple[str, str, str]]:
    """What rules and limits speak of must be there, and once: (path, message, hint)."""
    known: dict[str, set[str]] = {
        "users": {user.name for user in config.user},
        "groups": {group.name for group in config.group},
    }
    tables: tuple[tuple[str, str, tuple[_Named, ...]], ...] = (
        ("name_list", "lists", config.name_list),
        ("schedule", "schedules", config.schedule),
        ("device", "devices", config.device),
        ("rule", "", config.rule),
        ("limit", "", config.limit),
    )
    for table, spoken_of_as, entries in tables:
        names: set[str] = set()
        for index, entry in enumerate(entries):
            if entry.name in names:
                yield f"{table}[{index}].name", f"“{entry.name}” is there twice.", "Give each its own name."
            names.add(entry.name)
        known[spoken_of_as] = names
    macs: dict[str, str] = {}
    for index, device in enumerate(config.device):
        for mac in device.macs:
            if mac in macs:
                yield f"device[{index}].macs", f"{mac} is “{macs[mac]}” already.", "A card has one device."
            macs[mac] = device.name
    speaking: tuple[tuple[str, tuple[_Subjects, ...]], ...] = (("rule", config.rule), ("limit", config.limit))
    for table, those in speaking:
        for index, one in enumerate(those):
            for field in _TABLES:
                for name in getattr(one, field, ()):
                    if name not in known[field]:
                        missing = _TABLES[field]
                        words = f"there is no {field[:-1]} “{name}”."
                        yield f"{table}[{index}].{field}", words, f'Add a [[{missing}]] with name = "{name}".'
