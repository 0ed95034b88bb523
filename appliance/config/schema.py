"""The configuration's models. Every field says what it is for; what crosses fields is checked here too.

The models are the edge: the data path gets slotted, compiled values made from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from appliance.config.fields import (
    AccountName,
    Digest,
    Domain,
    Endpoint,
    HostName,
    HostPattern,
    InterfaceName,
    LabelName,
    Port,
    PrefixNetwork,
    Section,
    SyslogServer,
    UpdateAddress,
    argon2id,
    valid_pseudonym,
)
from appliance.config.rules import Device, Limit, NameList, Policy, Rule, Schedule, policy_checks
from appliance.config.sides import (
    MAX_LANS,
    MAX_ROUTES,
    Hosts,
    Lan,
    Route,
    Segment,
    Wan,
    route_findings,
    side_findings,
)
from appliance.dataplane import MAX_WORKERS

DNS_PORT = 53


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"“{name}” is no time zone: Europe/Vienna, say, or UTC") from None
    return name


class System(Section):
    """The box itself."""

    # What the box calls itself: to the DHCP server, in its certificate and in its log.
    hostname: HostName = "isthmus"
    # By which schedules and days are counted.
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"


class Translation(Section):
    """A prefix that stands for an IPv4 network."""

    # The IPv6 prefix: 32, 40, 48, 56, 64 or 96 bits long (RFC 6052).
    prefix: PrefixNetwork = IPv6Network("64:ff9b::/96")
    # The IPv4 networks that it carries; empty: all that it may (RFC 6052 section 3.1).
    networks: Annotated[tuple[IPv4Network, ...], Field(max_length=64)] = ()
    # The names (with all below them) whose addresses are made with it; of several prefixes the one
    # with the longest such name. Empty: it serves all other names.
    domains: Annotated[tuple[Domain, ...], Field(max_length=256)] = ()
    # The IPv4 resolvers that are asked for those names, and for the reverse names of ``networks``.
    upstreams: Annotated[tuple[IPv4Address, ...], Field(max_length=16)] = ()
    # The interface its sessions leave by, and the questions to its resolvers, where that is not for the
    # routes to say: an island of private addresses that another island may use as well.
    interface: InterfaceName | None = None
    # IPv4 addresses of the box that its sessions come from. Of several a client keeps one (RFC 6888
    # REQ-2), and its resolvers are asked from the first. Empty: whichever the routes give.
    sources: Annotated[tuple[IPv4Address, ...], Field(max_length=1024)] = ()

    @model_validator(mode="after")
    def _upstreams_have_names(self) -> Translation:
        if self.upstreams and not self.domains:
            raise ValueError("upstreams need domains: the resolvers for all other names are dns.upstreams")
        return self


class Dns(Section):
    """DNS64 and the resolver behind it."""

    # IPv4 resolvers to forward to; empty: those that DHCP names, and without any, full recursion.
    upstreams: tuple[IPv4Address, ...] = ()
    # Off by default: many upstream resolvers strip signatures, which would fail every name.
    dnssec: bool = False
    # Names (with all below them) that are never synthesised.
    exclude_names: tuple[Domain, ...] = ()
    # Clients that have IPv4 of their own: no synthesis for them.
    exclude_clients: tuple[IPv6Network, ...] = ()
    # IPv6 ranges that count as no AAAA at all (RFC 6147 section 5.1.4); ::ffff:0:0/96 always does.
    exclude_prefixes: tuple[IPv6Network, ...] = ()
    # IPv4 ranges that no AAAA is made for.
    exclude_ipv4: tuple[IPv4Network, ...] = ()


class Timers(Section):
    """Seconds. Floors and defaults: RFC 6146 section 4, RFC 5382, RFC 4787, RFC 5508."""

    # A UDP session ends after so many seconds without a datagram.
    udp: Annotated[int, Field(ge=120, le=86_400)] = 300
    icmp: Annotated[int, Field(ge=60, le=3_600)] = (
        60  # a ping's session ends after so many seconds without an answer
    )
    # A TCP session ends after so many seconds in silence.
    tcp_established: Annotated[int, Field(ge=7_440, le=604_800)] = 7_440
    # A SYN that is held while the origin's leg is dialled. Shorter than a client's own patience
    # (Linux gives up after 127 s, browsers after 20 to 60 s), longer than three lost SYNs (7 s).
    dial: Annotated[int, Field(ge=2, le=120)] = 10
    # How long the workers of an older program may go on with their sessions after an update.
    drain: Annotated[int, Field(ge=0, le=604_800)] = 3_600


class Proxy(Section):
    """The data path."""

    workers: Annotated[int, Field(ge=0, le=MAX_WORKERS)] = 0  # 0: one for each CPU
    # Accept a client before its origin has answered: more sessions a second, but a closed port looks
    # open for a moment, and a client's own fall-back to another address does not work.
    accept_first: bool = False
    # In all. Two descriptors a session: each worker takes no more than its limit of them allows.
    max_sessions: Annotated[int, Field(ge=16, le=1_000_000)] = 65_536
    # Open sessions of one client.
    max_sessions_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    # New sessions in a second, refused ones included: of one client.
    max_new_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    max_new: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000_000  # the same, of all clients
    # SYNs of one client that wait for their origin; a flood from one client stops here.
    max_half_open_per_client: Annotated[int, Field(ge=1, le=65_536)] = 512
    max_half_open: Annotated[int, Field(ge=1, le=65_536)] = 4_096  # the same, of all clients
    # Connections of one client to the explicit proxy's listeners: in their handshake, with a request, or kept
    # for the next one. Those that became tunnels are sessions. A browser has some dozens; a host that serves
    # many people from one address needs more; each holds a descriptor, and 50 KB where it is encrypted.
    max_connections_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 1_024
    timers: Timers = Timers()


class Named(Section):
    """Where the requests for some names of a shared port go."""

    hosts: Annotated[
        tuple[HostPattern, ...], Field(min_length=1, max_length=256)
    ]  # "a.example", "*.a.example"
    # [IPv6 address]:port; the first one that answers serves.
    targets: Annotated[tuple[Endpoint, ...], Field(min_length=1, max_length=16)]


class Published(Section):
    """A service of the IPv6 side that IPv4 clients reach on the WAN address."""

    name: LabelName  # small letters, digits and hyphens; the log names the service by it
    protocol: Literal["tcp", "udp"] = "tcp"  # TCP or UDP
    port: Annotated[int, Field(ge=1, le=65_535)]  # the port on the WAN
    address: IPv4Address | None = None  # not set: every WAN address
    # The first one that answers serves; the others are for when it does not.
    targets: Annotated[tuple[Endpoint, ...], Field(max_length=16)] = ()
    # By what a connection to a shared port finds its target: the TLS server name (nothing is
    # decrypted), or the Host of a plain HTTP request. ``targets`` then serves the other names.
    route: Literal["none", "sni", "host"] = "none"
    names: Annotated[tuple[Named, ...], Field(max_length=256)] = ()
    # What the server learns of the client: nothing, a PROXY protocol header, or its address inside
    # lan.client_prefix.
    reveal: Literal["nothing", "proxy-v2", "address"] = "nothing"

    @model_validator(mode="after")
    def _fits(self) -> Published:
        if self.route == "none":
            if self.names:
                raise ValueError('names need route = "sni" or "host"')
            if not self.targets:
                raise ValueError("targets is empty: nothing would be reached")
        elif not self.names:
            raise ValueError(f'route = "{self.route}" needs names')
        if self.protocol == "udp" and (self.route != "none" or self.reveal == "proxy-v2"):
            raise ValueError("a UDP service has no route and no PROXY header")
        return self


class Group(Section):
    """Users that rules and limits treat alike."""

    name: AccountName  # letters, digits or . _ @ + -


class User(Section):
    """Somebody who may use the explicit proxy where it asks who is there."""

    name: AccountName  # letters, digits or . _ @ + -; what the client sends as its user name
    # argon2id, as `isthmus user passwd` writes it; without one only a certificate lets the user in.
    password: Annotated[str, AfterValidator(argon2id)] | None = None
    # At least one.
    groups: Annotated[tuple[AccountName, ...], Field(max_length=64, validate_default=True)] = ()

    @field_validator("groups")
    @classmethod
    def _has_some(cls, groups: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not groups:
            name = info.data.get("name")
            raise PydanticCustomError(
                "no_group",
                "{who} has no group: give at least one.",
                {
                    "who": f"user “{name}”" if name else "this user",
                    "hint": 'groups = ["staff"], say, and a [[group]] with name = "staff".',
                },
            )
        return groups


class Listener(Section):
    """A port of the explicit proxy on the LAN."""

    name: LabelName  # small letters, digits and hyphens; the log names the listener by it
    port: Annotated[int, Field(ge=1, le=65_535)]  # no other listener, the console or the DNS may have it
    # What it speaks; "auto" tells HTTP and SOCKS (4, 4a and 5) apart by a client's first octets.
    mode: Literal["http", "socks", "auto"] = "auto"
    # The client's leg is encrypted, with the box's certificate.
    tls: bool = False
    address: IPv6Address | None = None  # not set: every LAN address
    # How clients show who they are; empty: nobody is asked. Of several, any one will do.
    authentication: Annotated[tuple[Literal["password", "certificate"], ...], Field(max_length=2)] = ()
    # Take passwords over a connection that everybody on the LAN can read.
    plaintext_passwords: bool = False

    @model_validator(mode="after")
    def _asks_safely(self) -> Listener:
        if not self.tls:
            if "certificate" in self.authentication:
                raise ValueError("certificates need tls = true")
            if "password" in self.authentication and not self.plaintext_passwords:
                raise ValueError(
                    "passwords would cross the LAN in the clear: "
                    "set tls = true, or plaintext_passwords = true"
                )
        return self


def _default_listeners() -> tuple[Listener, ...]:
    return (
        Listener(name="http", port=3128, mode="http"),
        Listener(name="https", port=3129, mode="http", tls=True),
        Listener(name="socks", port=1080, mode="socks"),
    )


class Explicit(Section):
    """The proxy that clients know of: HTTP, CONNECT and SOCKS, on the LAN only."""

    listeners: Annotated[tuple[Listener, ...], Field(max_length=32)] = Field(
        default_factory=_default_listeners
    )
    # The ports that CONNECT may go to; empty: every port.
    connect_ports: Annotated[tuple[Port, ...], Field(max_length=256)] = (443,)
    socks_ports: Annotated[tuple[Port, ...], Field(max_length=256)] = ()  # the same for SOCKS
    # How the box names itself to origins in Via; "" leaves Via out, and loops to the dialler to find.
    pseudonym: Annotated[str, AfterValidator(valid_pseudonym)] = "isthmus"
    # Serve /proxy.pac and /wpad.dat, on this port beside the listeners for HTTP; 0: on those alone. At 80 the
    # box's DNS answers the name wpad with the box's address: browsers that look for a proxy ask for it.
    pac_port: Annotated[int, Field(ge=0, le=65_535)] = 80
    # Name the encrypted listeners in that file, before the others. Only where every device trusts the box's
    # authority: some browsers show an error at a certificate that they do not trust, and try no other.
    pac_prefers_tls: bool = False
    # Certificates of clients are those that this authority signed (PEM file); their name is the user's.
    client_authority: str | None = None


class Console(Section):
    """The web console, on the LAN only."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 443  # HTTPS on the LAN address
    # Who sends this token ("Authorization: Bearer TOKEN") reads /metrics, for Prometheus; without one nobody.
    # Its digest: "sha256:" and what `printf %s TOKEN | sha256sum` says.
    metrics_token: Digest | None = None
    # Names of the DNS by which the console is reached, beside its addresses and the box's own name. Requests
    # for any other are refused: a page elsewhere could have its name lead here (DNS rebinding). By these
    # it shows the certificate that was uploaded.
    names: Annotated[tuple[Domain, ...], Field(max_length=16)] = ()
    # Whether admins and tokens with the role viewer see which client, user and device had a session.
    viewers_see_clients: bool = True


class Log(Section):
    """Where the log of sessions goes beside the box's own history."""

    # A server that gets each line at once: tls://logs.example:6514 (RFC 5425), or tcp://…, which everybody on
    # the way can read. What policy.privacy leaves out is not sent either.
    syslog: SyslogServer | None = None
    # The authority that its certificate is checked by (a PEM file). Without one: those that the system has.
    syslog_authority: str | None = None
    # Write a file in squid's format too: /var/log/isthmus-history/access.log.
    squid: bool = False


class Update(Section):
    """New versions of the box's software."""

    # Where its bundle is: https://updates.example/isthmus.update. Whoever holds that server can withhold
    # versions, but make none: what counts is the owner's signature.
    url: UpdateAddress | None = None
    # "check" says so where there is a newer version, "install" installs it too.
    automatic: Literal["off", "check", "install"] = "off"
    # The hour (by system.timezone) in which what was installed by itself is started. Without one: once the
    # sessions have ended, or a minute later.
    restart_hour: Annotated[int, Field(ge=0, le=23)] | None = None


def _one_prefix() -> tuple[Translation, ...]:
    return (Translation(),)


class Config(Section):
    """The whole file."""

    schema_version: Literal[1] = 1  # the file's format; files of older ones are converted when they are read
    system: System = System()
    wan: Wan = Wan()
    lan: Lan = Lan()
    segment: Annotated[tuple[Segment, ...], Field(max_length=MAX_LANS - 1)] = ()
    route: Annotated[tuple[Route, ...], Field(max_length=MAX_ROUTES)] = ()
    translation: Annotated[tuple[Translation, ...], Field(min_length=1, max_length=64)] = Field(
        default_factory=_one_prefix
    )
    dns: Dns = Dns()
    proxy: Proxy = Proxy()
    published: Annotated[tuple[Published, ...], Field(max_length=256)] = ()
    console: Console = Console()
    explicit: Explicit = Explicit()
    group: Annotated[tuple[Group, ...], Field(max_length=1_024)] = ()
    user: Annotated[tuple[User, ...], Field(max_length=65_536)] = ()
    policy: Policy = Policy()
    log: Log = Log()
    update: Update = Update()
    name_list: Annotated[tuple[NameList, ...], Field(max_length=64)] = ()
    schedule: Annotated[tuple[Schedule, ...], Field(max_length=256)] = ()
    device: Annotated[tuple[Device, ...], Field(max_length=65_536)] = ()
    # The first rule that matches says.
    rule: Annotated[tuple[Rule, ...], Field(max_length=200_000)] = ()
    limit: Annotated[tuple[Limit, ...], Field(max_length=1_024)] = ()

    def cross_checks(self) -> list[tuple[str, str, str]]:
        """What no single table can see: (path, message, hint) for each contradiction."""
        found: list[tuple[str, str]] = []
        networks = [entry.prefix for entry in self.translation]
        for index, network in enumerate(networks):
            for other in networks[:index]:
                if network.overlaps(other):
                    found.append((f"translation[{index}].prefix", f"{network} overlaps {other}"))
        found += self._published_checks()
        plain = [(path, message, "") for path, message in found]
        return [*plain, *self.side_checks({}), *self._explicit_checks(), *policy_checks(self)]

    def side_checks(self, made: Mapping[str, IPv6Network]) -> list[tuple[str, str, str]]:
        """Of these, what is between the sides. ``made``: the prefixes that the box generated, by LAN."""
        networks = [entry.prefix for entry in self.translation]
        lans = [(name, made.get(name, one.prefix)) for name, one in self.lans()]
        return [
            *side_findings(self.wan, self.lan, self.segment, networks, made),
            *route_findings(self.route, self.wan, lans, networks),
        ]

    def lans(self) -> list[tuple[str, Hosts]]:
        """Every LAN with its name; the first is [lan], which has none of its own: "lan"."""
        return [("lan", self.lan), *((one.name, one) for one in self.segment)]

    def _explicit_checks(self) -> list[tuple[str, str, str]]:
        return [*self._listener_checks(), *self._account_checks()]

    def _listener_checks(self) -> Iterator[tuple[str, str, str]]:
        explicit = self.explicit
        free = "Give each its own port."
        if self.console.port == DNS_PORT:
            yield "console.port", f"port {DNS_PORT} is taken already, by DNS.", "443 is usual, or 8443."
        ports = {self.console.port: "the console", DNS_PORT: "DNS"}
        if explicit.pac_port:
            if explicit.pac_port in ports:
                taken = f"port {explicit.pac_port} is taken already, by {ports[explicit.pac_port]}."
                yield "explicit.pac_port", taken, f"{free} 0: the listeners for HTTP alone serve the file."
            ports[explicit.pac_port] = "the PAC file"
        names: set[str] = set()
        for index, listener in enumerate(explicit.listeners):
            path = f"explicit.listeners[{index}]"
            if listener.port in ports:
                taken = f"port {listener.port} is taken already, by {ports[listener.port]}."
                yield f"{path}.port", taken, free
            ports[listener.port] = f"listener “{listener.name}”"
            if listener.name in names:
                yield f"{path}.name", f"“{listener.name}” is there twice.", "Give each its own name."
            names.add(listener.name)
            asks = listener.authentication
            if "certificate" in asks and explicit.client_authority is None:
                words = "nothing says whose certificates count."
                yield f"{path}.authentication", words, "Set explicit.client_authority to a PEM file."
            if asks and not self.user:
                words = "there is no user yet, so nobody could use it."
                yield f"{path}.authentication", words, "`isthmus user add` makes one, or add a [[user]]."

    def _account_checks(self) -> Iterator[tuple[str, str, str]]:
        again = "Give each its own name."
        groups: set[str] = set()
        for index, group in enumerate(self.group):
            if group.name in groups:
                yield f"group[{index}].name", f"“{group.name}” is there twice.", again
            groups.add(group.name)
        users: set[str] = set()
        for index, user in enumerate(self.user):
            if user.name in users:
                yield f"user[{index}].name", f"“{user.name}” is there twice.", again
            users.add(user.name)
            for name in user.groups:
                if name not in groups:
                    words = f"user “{user.name}” is in group “{name}”, which there is not."
                    remedy = f'`isthmus group add {name}` makes it, or add a [[group]] with name = "{name}".'
                    yield f"user[{index}].groups", words, remedy

    def _published_checks(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        revealing = self.lan.client_prefix
        if revealing is not None:
            others = [entry.prefix for entry in self.translation]
            if isinstance(self.lan.prefix, IPv6Network):
                others.append(self.lan.prefix)
            found += [
                ("lan.client_prefix", f"{revealing} overlaps {other}")
                for other in others
                if revealing.overlaps(other)
            ]
        taken: dict[tuple[str, int], list[Published]] = {}
        names: set[str] = set()
        for index, service in enumerate(self.published):
            if service.name in names:
                found.append((f"published[{index}].name", f"“{service.name}” is there twice"))
            names.add(service.name)
            same = taken.setdefault((service.protocol, service.port), [])
            if any(None in (service.address, o.address) or service.address == o.address for o in same):
                where = f"{service.protocol} port {service.port}"
                found.append((f"published[{index}].port", f"{where} is published twice on one address"))
            same.append(service)
            if service.reveal == "address" and revealing is None:
                found.append((f"published[{index}].reveal", "needs lan.client_prefix"))
        return found


def endpoint_of(text: str) -> tuple[str, int]:
    """Address and port of a validated endpoint."""
    host, _separator, port = text.rpartition(":")
    return host[1:-1], int(port)


def resolved(config: Config, prefixes: Mapping[str, IPv6Network]) -> Config:
    """The configuration with the prefixes that the box made, by the LANs' names, in their places."""
    lan = config.lan.model_copy(update={"prefix": prefixes.get("lan", config.lan.prefix)})
    segments = tuple(
        one.model_copy(update={"prefix": prefixes.get(one.name, one.prefix)}) for one in config.segment
    )
    return config.model_copy(update={"lan": lan, "segment": segments})


def lan_address(prefix: IPv6Network) -> IPv6Address:
    """The box's own address in a LAN prefix: ::1 of it."""
    return prefix[1]


def without_passwords(config: Config) -> Config:
    """The configuration for those who verify none."""
    users = tuple(user.model_copy(update={"password": None}) for user in config.user)
    return config.model_copy(update={"user": users})


def as_plain(config: Config) -> dict[str, Any]:
    """The configuration as what TOML can hold, without the None fields."""
    plain: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return plain
