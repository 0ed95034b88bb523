"""What requests bring: queries and bodies. Unknown names are refused, so that no filter is silently none."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from appliance.config.fields import MIN_PASSWORD

# What control takes as a name; the rest is for it to judge.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
# No control characters: a comment stands in lists and logs.
LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
# Seconds since 1970, up to the year 9999.
MAX_TIME = 253_402_300_799
MAX_NUMBER = 2**53 - 1


class Query(BaseModel):
    """Words of an address line, which are all text at first."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """JSON, whose kinds are taken as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _whole(text: Any) -> Any:
    if isinstance(text, str) and not re.fullmatch("-?[0-9]{1,16}", text, re.ASCII):
        raise ValueError("this is no whole number")
    return text


def _number(text: Any) -> Any:
    if isinstance(text, str) and not re.fullmatch(
        r"-?[0-9]{1,16}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", text
    ):
        raise ValueError("this is no number")
    return text


Whole = Annotated[int, BeforeValidator(_whole)]
Moment = Annotated[float, BeforeValidator(_number), Field(ge=0, le=MAX_TIME)]
Line = Annotated[str, Field(max_length=256, pattern=LINE)]
Name = Annotated[str, Field(pattern=NAME)]
Password = Annotated[str, Field(min_length=MIN_PASSWORD, max_length=1024)]
RoleName = Literal["viewer", "operator", "admin"]


class SessionsQuery(Query):
    """Open sessions."""

    limit: Annotated[Whole, Field(ge=1, le=1_000, description="At most so many.")] = 50
    search: Annotated[
        Line | None, Field(description="A part of an address or a name; a user, a device, a kind or a port.")
    ] = None
    cursor: Annotated[Line | None, Field(description="Of the page before.")] = None


class LogQuery(Query):
    """Sessions that are over; what is not given wants any."""

    limit: Annotated[Whole, Field(ge=1, le=1_000, description="At most so many.")] = 50
    cursor: Annotated[Line | None, Field(description="Of the answer before, for the next page.")] = None
    since: Annotated[Moment | None, Field(description="Seconds since 1970.")] = None
    until: Annotated[Moment | None, Field(description="Not included.")] = None
    client: Line | None = None
    user: Line | None = None
    device: Line | None = None
    name: Annotated[Line | None, Field(description="A part; *.a.example: all below it.")] = None
    rule: Line | None = None
    service: Line | None = None
    reference: Line | None = None
    kind: Literal["tcp", "udp", "icmp", "dns"] | None = None
    outcome: Literal["carried", "denied", "refused", "limited", "failed"] | None = None
    text: Annotated[Line | None, Field(description="A part of any of these.")] = None


By = Literal["client", "user", "name", "rule", "service", "device"]


class TopQuery(Query):
    """Sums by one of the columns."""

    by: By
    since: Moment
    until: Moment
    measure: Literal["sessions", "refused", "octets", "to_wan", "to_lan"] = "octets"
    limit: Annotated[Whole, Field(ge=1, le=1_000)] = 10


class SeriesQuery(Query):
    """Sums over time; of all sessions, or of those whose ``by`` is ``key``."""

    since: Moment
    until: Moment
    step: Annotated[Whole, Field(ge=3_600, le=366 * 86_400, multiple_of=3_600, description="Seconds.")] = (
        3_600
    )
    by: By | None = None
    key: Line | None = None


class RevisionsQuery(Query):
    """Revisions, the newest first."""

    limit: Annotated[Whole, Field(ge=1, le=200)] = 50
    before: Annotated[Whole | None, Field(ge=1, le=MAX_NUMBER, description="Only older ones.")] = None


class AuditQuery(Query):
    """Entries of the audit log, the newest first; what is not given wants any."""

    limit: Annotated[Whole, Field(ge=1, le=500)] = 50
    cursor: Annotated[Whole | None, Field(ge=1, le=MAX_NUMBER)] = None
    since: Moment | None = None
    until: Moment | None = None
    who: Line | None = None
    action: Line | None = None
    outcome: Line | None = None
    text: Line | None = None


class Commit(Body):
    """A commit of the candidate."""

    comment: Annotated[str, Field(max_length=500, pattern=LINE)] = ""
    # null: as long as the box thinks fit; 0: not at all.
    confirm_seconds: Annotated[int | None, Field(ge=0, le=3_600)] = None


class Which(Body):
    """The commit that is meant, so that no other is confirmed by mistake."""

    revision: Annotated[int | None, Field(ge=1, le=MAX_NUMBER)] = None


class Merge(Body):
    """Paths of conflicts that keep the candidate's value; all others get the active one."""

    mine: Annotated[list[Line], Field(max_length=1_000)] = []


class Question(Body):
    """Whether the policy would let a session through."""

    target: Annotated[str, Field(min_length=1, max_length=300, pattern=LINE)]
    client: Line | None = None
    user: Line | None = None
    protocol: Literal["tcp", "udp", "icmp", "http", "connect", "socks", "dns", "published"] = "tcp"
    addresses: Annotated[list[Line] | None, Field(max_length=64)] = None
    candidate: bool = False


class Subject(Body):
    """Of a limit."""

    limit: Line
    subject: Line


class NewUser(Body):
    """Of the explicit proxy."""

    name: Name
    groups: Annotated[list[Name], Field(min_length=1, max_length=64)]
    password: Password | None = None


class UserChange(Body):
    """What is given is changed."""

    groups: Annotated[list[Name] | None, Field(min_length=1, max_length=64)] = None
    password: Password | None = None


class NewGroup(Body):
    """Of users."""

    name: Name


class Grant(Body):
    """For how long a request is granted."""

    seconds: Annotated[int, Field(ge=60, le=30 * 86_400)]
    comment: Annotated[str, Field(max_length=500, pattern=LINE)] = ""


class NewAdmin(Body):
    """An account of the console."""

    name: Name
    password: Password
    role: RoleName


class AdminChange(Body):
    """What is given is changed; the account's sessions end."""

    password: Password | None = None
    role: RoleName | None = None
    without_totp: bool = False


class NewToken(Body):
    """Of the API. expires: seconds since 1970, null for no end."""

    name: Name
    role: RoleName
    expires: Annotated[float | int | None, Field(ge=0, le=MAX_TIME)] = None


class Passphrase(Body):
    """Of a backup."""

    passphrase: Password


class Restoring(Body):
    """A backup in base64. identity: its authority, certificate, admins and tokens too, at once."""

    data: Annotated[str, Field(min_length=1, max_length=12 << 20, pattern=r"^[A-Za-z0-9+/=]*$")]
    passphrase: Annotated[str, Field(max_length=1024)]
    identity: bool = False


class Pair(Body):
    """A certificate and its key, PEM."""

    certificate: Annotated[str, Field(min_length=1, max_length=64 << 10)]
    key: Annotated[str, Field(min_length=1, max_length=64 << 10)]


class Install(Body):
    """source: an address; null for what was uploaded."""

    source: Annotated[str | None, Field(max_length=1_024, pattern=r"^https?://[!-~]+$")] = None
    restart: bool = False


class Part(Body):
    """A part of a bundle in base64, from offset 0 on."""

    offset: Annotated[int, Field(ge=0, le=1 << 40)]
    data: Annotated[str, Field(min_length=1, max_length=12 << 20, pattern=r"^[A-Za-z0-9+/=]*$")]


class Sure(Body):
    """So that nobody erases the box by a slip."""

    sure: Literal[True]


class Tested(Body):
    """Whom a test is about: an address or a name."""

    target: Annotated[str, Field(min_length=1, max_length=255, pattern=LINE)]


class Destination(Tested):
    """An IPv4 host, by a name or its address."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 80


class LookedUp(Body):
    """A question for the box's DNS64; of an address its name is asked for."""

    name: Annotated[str, Field(min_length=1, max_length=255, pattern=LINE)]
    type: Literal["AAAA", "A", "PTR", "MX", "NS", "TXT", "HTTPS"] = "AAAA"


class Capturing(Body):
    """Which frames are kept, for how long. host: "" for any."""

    device: Annotated[str, Field(min_length=1, max_length=64, pattern=LINE)]
    host: Annotated[str, Field(max_length=64, pattern=LINE)] = ""
    port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    seconds: Annotated[int, Field(ge=1, le=60)] = 10
    octets: Annotated[int, Field(ge=1_000, le=8 << 20)] = 8 << 20
