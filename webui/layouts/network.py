"""Ports and addresses, translation prefixes, published services, the explicit proxy; the box itself."""

from __future__ import annotations

from zoneinfo import available_timezones

from appliance.config.schema import (
    Console,
    Dns,
    Explicit,
    Listener,
    Proxy,
    Published,
    System,
    Translation,
    Update,
)
from appliance.config.sides import Lan, Wan
from webui.desk import Desk
from webui.forms.layout import NO_HINT, Field, Part, Root
from webui.forms.plain import Plain
from webui.layouts.lans import TOLD
from webui.layouts.table import Column, Table
from webui.summary import several
from webui.views.sections import Page
from webui.words import _, later

_SPEAKS = {"http": "HTTP", "socks": "SOCKS", "auto": "HTTP and SOCKS"}
_ASKED = {"password": "a password", "certificate": "a certificate"}
_REVEALS = {"nothing": "nothing", "proxy-v2": "a PROXY header", "address": "its address"}


def _ports(desk: Desk) -> list[str]:
    return ["auto", *(str(port["name"]) for port in desk.status()["ports"])]


NETWORK = Page(
    key="network", url="/network", area="network", title=later("Network"),
    about=later("Ports, addresses, and what the hosts are told."), template="network.html",
    suggested={"@ports": _ports},
    roots={"lan": Root(("lan",), Lan), "wan": Root(("wan",), Wan), "dns": Root(("dns",), Dns)},
    parts=(
        Part(later("LAN"), (
            Field("interface", later("Port"), mono=True, refers="@ports",
                  pair=True, hint=later("“auto”: the second wired one, as it was at the first start.")),
            Field("vlan", later("VLAN"), pair=True, placeholder=later("none"),
                  hint=later("Its number, where the port carries several.")),
            Field("prefix", later("Prefix given to hosts"), mono=True, placeholder="2001:db8:64:20::/64",
                  hint=later("A /64; the box is ::1 of it. “generated”: a private one, made at the first "
                             "start and kept.")),
            Field("client_prefix", later("Prefix of IPv4 clients"), mono=True,
                  placeholder=later("none"),
                  hint=later("For published services that see who comes: IPv4 clients appear in it. The "
                             "LAN’s routers have to send it to the box.")),
        ), root="lan", about=later("IPv6 only"), tint="6"),
        Part(later("What the LAN’s hosts are told"), TOLD, root="lan", advanced=True),
        Part(later("WAN"), (
            Field("interface", later("Port"), mono=True, refers="@ports",
                  pair=True, hint=later("“auto”: the first wired one, as it was at the first start.")),
            Field("vlan", later("VLAN"), pair=True, placeholder=later("none"),
                  hint=later("Its number, where the provider or the switch asks for one.")),
            Field("mode", later("Address from"), words={"dhcp": "DHCP", "static": later("Static")},
                  hint=later("DHCP: the network it is on gives it one. Static: you do.")),
            Field("address", later("Address"), mono=True, when="mode=static", placeholder="192.0.2.2/24",
                  hint=later("With the length of its prefix.")),
            Field("gateway", later("Gateway"), mono=True, when="mode=static", placeholder="192.0.2.1",
                  hint=later("The next router, on the same network.")),
        ), root="wan", about=later("IPv4"), tint="4"),
        Part(later("DNS"), (
            Field("upstreams", later("Servers upstream"), mono=True, row=later("server"),
                  placeholder="192.0.2.53",
                  hint=later("None: those that DHCP names, and without any the box resolves names itself.")),
            Field("dnssec", later("Check signatures (DNSSEC)"),
                  hint=later("Many servers upstream strip them: then every name would fail.")),
        ), root="dns", about=later("what the hosts ask for names")),
        Part(later("Exceptions of DNS64"), (
            Field("exclude_names", later("Names without translation"), mono=True, row=later("name"),
                  placeholder="corp.example", hint=later("With all below them.")),
            Field("exclude_clients", later("Clients with IPv4 of their own"), mono=True,
                  row=later("network"), placeholder="2001:db8:1::/64",
                  hint=later("They get no translated answer.")),
            Field("exclude_prefixes", later("IPv6 answers that do not count"), mono=True,
                  row=later("network"), placeholder="2001:db8:2::/48",
                  hint=later("As if the name had no IPv6 address; ::ffff:0:0/96 never counts.")),
            Field("exclude_ipv4", later("IPv4 answers without translation"), mono=True,
                  row=later("network"), placeholder="192.0.2.0/24", hint=NO_HINT),
        ), root="dns", advanced=True),
    ),
)  # fmt: skip


def _goes(service: Plain) -> str:
    if service.get("route", "none") == "none":
        return several(service.get("targets", []))
    hosts = [host for named in service.get("names", []) for host in named.get("hosts", [])]
    return _("by name: %(hosts)s", hosts=several(hosts))


TRANSLATION = Table(
    key="translation", path=("translation",), model=Translation, url="/network/translation",
    area="network", title=later("Translation"), one=later("translation prefix"), identity="prefix",
    about=later("Each prefix stands for an IPv4 network: its hosts appear to the LAN inside it."),
    keep_one=later("One prefix has to stay: without one no host reaches IPv4."),
    fresh={"prefix": "64:ff9b:1::/96"},
    columns=(
        Column(later("IPv4 networks"), lambda e: several(e.get("networks", [])) or _("all that it may carry"),
               mono=True),
        Column(later("For names"), lambda e: several(e.get("domains", [])) or _("all others"), mono=True),
    ),
    parts=(
        Part(later("The prefix"), (
            Field("prefix", later("Prefix"), mono=True, placeholder="64:ff9b::/96",
                  hint=later("Of 32, 40, 48, 56, 64 or 96 bits. 64:ff9b::/96 is the well-known one, and "
                             "carries public IPv4 addresses only.")),
            Field("networks", later("IPv4 networks"), mono=True, row=later("network"),
                  placeholder="10.0.0.0/8", hint=later("Empty: all that the prefix may carry.")),
        )),
        Part(later("Names"), (
            Field("domains", later("For names below"), mono=True, row=later("domain"),
                  placeholder="corp.example",
                  hint=later("Their addresses are made with this prefix. Empty: it serves all other names.")),
            Field("upstreams", later("Servers for these names"), mono=True, row=later("server"),
                  placeholder="10.0.0.53", hint=later("IPv4 addresses of the resolvers that know them.")),
        ), about=later("An island of IPv4 with names of its own.")),
        Part(later("Advanced"), (
            Field("interface", later("Leaves by"), mono=True, refers="@ports",
                  placeholder=later("as the routes say"),
                  hint=later("A port of its own, for private addresses that are there twice.")),
            Field("sources", later("Source addresses"), mono=True, row=later("address"),
                  placeholder="192.0.2.2",
                  hint=later("Of several, a client keeps one. Empty: as the routes say.")),
        ), advanced=True),
    ),
)  # fmt: skip

PUBLISHED = Table(
    key="published", path=("published",), model=Published, url="/network/published", area="network",
    title=later("Published"), one=later("service"),
    about=later("Services of the IPv6 side that IPv4 clients reach on the WAN address."),
    empty=later("Nothing of the LAN can be reached from the WAN until you publish it."),
    fresh={"name": "", "protocol": "tcp", "port": 443},
    columns=(
        Column(later("On the WAN"), lambda e: f"{e.get('protocol', 'tcp').upper()} {e.get('port', '')}"),
        Column(later("Goes to"), _goes, mono=True),
        Column(later("Servers learn"), lambda e: _(_REVEALS[e.get("reveal", "nothing")])),
    ),
    parts=(
        Part(later("On the WAN"), (
            Field("name", later("Name"), mono=True, placeholder="web"),
            Field("protocol", later("Protocol"), words={"tcp": "TCP", "udp": "UDP"}, hint=NO_HINT),
            Field("port", later("Port"), pair=True, hint=NO_HINT),
            Field("address", later("Address"), mono=True, pair=True, placeholder=later("every WAN address"),
                  hint=NO_HINT),
        )),
        Part(later("On the LAN"), (
            Field("targets", later("Servers"), mono=True, row=later("server"),
                  placeholder="[2001:db8::80]:443",
                  hint=later("The first that answers serves; the others are for when it does not.")),
            Field("route", later("Told apart by"), words={
                "none": later("Nothing"), "sni": later("TLS name"), "host": later("HTTP host")},
                hint=later("A shared port sends each name to its own servers; nothing is decrypted.")),
            Field("names", later("By name"), row=later("names with their servers"), hint=NO_HINT, fields=(
                Field("hosts", later("For names"), mono=True, row=later("name"), placeholder="*.example.org"),
                Field("targets", later("Servers"), mono=True, row=later("server"),
                      placeholder="[2001:db8::81]:443"),
            )),
            Field("reveal", later("What servers learn of the client"), words={
                "nothing": later("Nothing"), "proxy-v2": later("PROXY header"),
                "address": later("Its address")},
                hint=later("Its address: as one inside the LAN’s prefix of IPv4 clients.")),
        )),
    ),
)  # fmt: skip


def _asks(listener: Plain) -> str:
    asked = [_(_ASKED[kind]) for kind in listener.get("authentication", [])]
    return _(" or ").join(asked) or _("nobody")


LISTENERS = Table(
    key="listeners", path=("explicit", "listeners"), model=Listener, url="/network/listeners",
    area="network", title=later("Explicit proxy"), one=later("listener"),
    about=later("The proxy that programs are told of. On the LAN only."),
    empty=later("Without a listener there is no explicit proxy; the way through the box stays open."),
    fresh={"name": "", "port": 8080, "mode": "auto"}, template="listeners.html",
    columns=(
        Column(later("Speaks"), lambda e: _(_SPEAKS[e.get("mode", "auto")])),
        Column(later("Port"), lambda e: str(e.get("port", ""))),
        Column(later("Encrypted"), lambda e: _("yes") if e.get("tls") else _("no")),
        Column(later("Asks for"), _asks),
    ),
    parts=(Part(later("The listener"), (
        Field("name", later("Name"), mono=True, placeholder="http"),
        Field("port", later("Port"), pair=True, hint=later("That nothing else on the box has.")),
        Field("address", later("Address"), mono=True, pair=True, placeholder=later("every LAN address"),
              hint=later("Of the box.")),
        Field("mode", later("Speaks"), words={
            "http": "HTTP", "socks": "SOCKS", "auto": later("Both")},
            hint=later("Both: told apart by what a client sends first.")),
        Field("tls", later("Encrypted"),
              hint=later("With the certificate of the box. Devices have to trust its authority.")),
        Field("authentication", later("Asks for"), words={
            "password": later("A password"), "certificate": later("A client’s certificate")},
            hint=later("Nothing: nobody is asked who they are. Of several, any one will do.")),
        Field("plaintext_passwords", later("Take passwords in the clear"),
              hint=later("Everybody on the LAN can read them, unless the listener is encrypted.")),
    )),),
)  # fmt: skip

EXPLICIT = Page(
    key="explicit", url="/network/explicit", area="network", tab="listeners",
    title=later("Explicit proxy: settings"),
    about=later("What holds for all its listeners."), roots={"explicit": Root(("explicit",), Explicit)},
    parts=(
        Part(later("Where it may go"), (
            Field("connect_ports", later("Ports for CONNECT"), mono=True, row=later("port"),
                  hint=later("Empty: every port.")),
            Field("socks_ports", later("Ports for SOCKS"), mono=True, row=later("port"),
                  hint=later("Empty: every port.")),
            Field("pseudonym", later("Its name to servers"), mono=True, placeholder=later("none"),
                  hint=later("In the field Via. Empty: left out.")),
        ), root="explicit"),
        Part(later("How it is found"), (
            Field("pac_port", later("Port of the PAC file"),
                  hint=later("Serves /proxy.pac and /wpad.dat. 0: only the listeners for HTTP do.")),
            Field("pac_prefers_tls", later("Name the encrypted listeners first"),
                  hint=later("Only where every device trusts the box’s authority.")),
            Field("client_authority", later("Authority of the clients’ certificates"), mono=True,
                  placeholder=later("none"), hint=later("The whole path of its PEM file on the box.")),
        ), root="explicit"),
    ),
)  # fmt: skip

SYSTEM = Page(
    key="system", url="/system", area="system", title=later("System"),
    about=later("The box itself."), template="system.html",
    suggested={"@zones": lambda _desk: sorted(available_timezones())},
    roots={
        "system": Root(("system",), System),
        "console": Root(("console",), Console),
        "update": Root(("update",), Update),
    },
    parts=(
        Part(later("The box"), (
            Field("hostname", later("Host name"), mono=True,
                  hint=later("In its certificate, its log, and to the network it gets its address from.")),
            Field("timezone", later("Time zone"), refers="@zones", placeholder="Europe/Vienna",
                  hint=later("Schedules, days and this console go by its clock.")),
        ), root="system"),
        Part(later("This console"), (
            Field("port", later("Port"),
                  hint=later("On the LAN only. A change moves this page to another address.")),
            Field("metrics_token", later("Token for /metrics"), mono=True, placeholder="sha256:…",
                  hint=later("For Prometheus: the digest of a bearer token. None: nobody reads it.")),
            Field("names", later("Names in the DNS"), mono=True, row=later("name"),
                  placeholder="isthmus.example.net",
                  hint=later("By which this console is reached too. Others are refused.")),
            Field("viewers_see_clients", later("Viewers see who the clients are"),
                  hint=later("Off: the role viewer sees sessions without client, user and device.")),
        ), root="console"),
        Part(later("New versions"), (
            Field("url", later("Where they are"), mono=True,
                  placeholder="https://updates.example/isthmus.update",
                  hint=later("The bundle that make update builds, on any web server.")),
            Field("automatic", later("By itself"),
                  words={"off": later("nothing"), "check": later("look for them"),
                         "install": later("install them")},
                  hint=later("Looked for every six hours. Only what the owner’s key has signed is taken.")),
            Field("restart_hour", later("Restart at"), placeholder=later("at once"),
                  hint=later("The hour in which an installed version is started.")),
        ), root="update"),
    ),
)  # fmt: skip

TRAFFIC = Page(
    key="traffic", url="/system/traffic", area="system", title=later("Sessions and timers"),
    about=later("How much the box takes on, and how long it waits."),
    roots={"proxy": Root(("proxy",), Proxy)},
    parts=(
        Part(later("Timers"), (
            Field("timers.dial", later("Time to dial"), unit="s", pair=True,
                  hint=later("How long a server may take to answer.")),
            Field("timers.tcp_established", later("TCP, idle"), unit="s", pair=True,
                  hint=later("A silent session ends then.")),
            Field("timers.udp", later("UDP, idle"), unit="s", pair=True, hint=NO_HINT),
            Field("timers.icmp", later("Ping, idle"), unit="s", pair=True, hint=NO_HINT),
            Field("timers.drain", later("Old sessions after an update"), unit="s", pair=True,
                  hint=later("How long they may go on.")),
        ), root="proxy"),
        Part(later("The most of one client"), (
            Field("max_sessions_per_client", later("Sessions"), pair=True,
                  hint=later("At once.")),
            Field("max_new_per_client", later("New sessions"), unit=later("a second"), pair=True,
                  hint=later("Refused ones included.")),
            Field("max_half_open_per_client", later("Waiting to be dialled"), pair=True,
                  hint=later("A flood from one client stops here.")),
            Field("max_connections_per_client", later("Connections to the explicit proxy"), pair=True,
                  hint=later("Those that are not yet sessions.")),
        ), root="proxy"),
        Part(later("The most of the box"), (
            Field("workers", later("Workers"), pair=True, hint=later("0: one for each processor.")),
            Field("max_sessions", later("Sessions of a worker"), pair=True, hint=NO_HINT),
            Field("max_new", later("New sessions of a worker"), unit=later("a second"), pair=True,
                  hint=NO_HINT),
            Field("max_half_open", later("Waiting to be dialled"), pair=True, hint=NO_HINT),
            Field("accept_first", later("Accept before the server answers"),
                  hint=later("More sessions a second; but a closed port looks open for a moment.")),
        ), root="proxy", advanced=True),
    ),
)  # fmt: skip
