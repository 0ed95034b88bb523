"""Rules, lists, schedules, limits, devices, and what holds where no rule matches."""

from __future__ import annotations

from appliance.config.rules import Device, Limit, NameList, Policy, Rule, Schedule
from webui.forms.layout import NO_HINT, Field, Part, Root
from webui.layouts.table import Column, Table
from webui.summary import DAYS, EACH, WAYS, amounts, days, hours, several, who
from webui.words import _, later

_FORMATS = {"auto": "Auto", "hosts": "Hosts", "domains": "Domains", "adblock": "Adblock", "rpz": "RPZ"}
_SUBJECTS = (
    Field("groups", later("Groups"), refers="group", row=later("group"), hint=later("Of users.")),
    Field("users", later("Users"), refers="user", row=later("user"),
          hint=later("Of the explicit proxy, where it asks who is there.")),
    Field("devices", later("Devices"), refers="device", row=later("device"),
          hint=later("Hosts that you have named, by their network cards.")),
    Field("sources", later("Networks"), mono=True, row=later("network"), placeholder="fd00:1::/64",
          hint=later("Of the clients.")),
)  # fmt: skip
_ALLOW_DENY = {"allow": later("Allow"), "deny": later("Deny")}

RULES = Table(
    key="rules", path=("rule",), model=Rule, url="/policy", area="policy",
    title=later("Rules"), one=later("rule"), about=later("The first rule that matches decides."),
    template="rules.html", fresh={"name": "", "action": "deny", "enabled": True},
    parts=(
        Part(later("The rule"), (
            Field("name", later("Name"), mono=True, placeholder="no-trackers",
                  hint=later("Small letters, digits and hyphens. Logs and block pages name it.")),
            Field("action", later("Then"), words=_ALLOW_DENY, hint=NO_HINT),
            Field("enabled", later("On"),
                  hint=later("A rule that is off stays in its place, and is passed over.")),
            Field("note", later("Note for the block page"), placeholder=later("Ask the office."),
                  hint=later("What whoever is stopped by it reads.")),
        )),
        Part(later("Who"), _SUBJECTS, about=later("Nothing given: everybody.")),
        Part(later("What"), (
            Field("domains", later("Domains"), mono=True, row=later("domain"), placeholder="example.org",
                  hint=later("With all names below it. “=example.org” is it alone, “*” any part of a name.")),
            Field("lists", later("Lists"), refers="name_list", row=later("list"), hint=NO_HINT),
            Field("destinations", later("Networks"), mono=True, row=later("network"),
                  placeholder="192.0.2.0/24",
                  hint=later("An IPv4 network matches every IPv6 address that stands for one of it.")),
            Field("ports", later("Ports"), mono=True, row=later("port"), placeholder="443",
                  hint=later("Of the server: 443, or 8000-8999.")),
            Field("protocols", later("Protocols"),
                  words={"tcp": "TCP", "udp": "UDP", "icmp": later("Ping")}, hint=NO_HINT),
            Field("ways", later("Ways"), words={
                **WAYS, "transparent": later("Through the box as a router"),
                "http": later("Explicit proxy, plain HTTP"), "connect": later("Explicit proxy, CONNECT"),
                "socks": later("Explicit proxy, SOCKS"), "published": later("Published service"),
                "dns": later("DNS question")}, hint=later("How it comes to the box.")),
        ), about=later("All that is given has to fit; nothing given: anything.")),
        Part(later("Plain HTTP"), (
            Field("urls", later("Addresses"), mono=True, row=later("URL"),
                  placeholder="example.org/ads/*", hint=later("“*” stands for any run of signs.")),
            Field("content_types", later("Content types"), mono=True, row=later("type"),
                  placeholder="video/*", hint=NO_HINT),
            Field("larger_than", later("Larger than"), unit=later("octets"), placeholder=later("any size"),
                  hint=NO_HINT),
        ), about=later("All other content is encrypted: no box can look into it."), advanced=True),
        Part(later("When"), (
            Field("schedules", later("Schedules"), refers="schedule", row=later("schedule"), hint=NO_HINT),
            Field("until", later("Ends"), hint=later("For an exception on time; then the rule is over.")),
        ), about=later("Nothing given: always.")),
    ),
)  # fmt: skip

LISTS = Table(
    key="lists", path=("name_list",), model=NameList, url="/policy/lists", area="policy",
    title=later("Lists"), one=later("list"),
    about=later("Names from a file or the web, kept up to date. Rules speak of them."),
    empty=later("A list holds many names at once: trackers, malware, or your own."),
    spoken_of=(("rule", "lists"),), fresh={"name": ""},
    columns=(
        Column(later("Form"), lambda entry: _FORMATS[entry.get("format", "auto")]),
        Column(later("Fetched"), lambda entry: _("every %(num)s h", num=entry.get("refresh_hours", 24))),
        Column(later("At most"), lambda entry: f"{entry.get('max_mib', 64)} MiB"),
    ),
    under=lambda entry: str(entry.get("source", "")),
    parts=(Part(later("The list"), (
        Field("name", later("Name"), mono=True, placeholder="trackers"),
        Field("source", later("Source"), mono=True, placeholder="https://lists.example.org/trackers.txt",
              hint=later("An address on the web, or the whole path of a file on the box.")),
        Field("format", later("Form"), words={
            "auto": later("Told by its content"), "hosts": later("Hosts file"),
            "domains": later("A name in each line"), "adblock": later("Adblock's domain rules"),
            "rpz": later("RPZ zone")}, hint=NO_HINT),
        Field("refresh_hours", later("Fetch every"), unit=later("hours"), pair=True,
              hint=later("Only what has changed is loaded.")),
        Field("max_mib", later("At most"), unit="MiB", pair=True,
              hint=later("Unpacked. A larger one is refused, and the last good copy stays.")),
    )),),
)  # fmt: skip

SCHEDULES = Table(
    key="schedules", path=("schedule",), model=Schedule, url="/policy/schedules", area="policy",
    title=later("Schedules"), one=later("schedule"),
    about=later("Parts of the week, on the clock of the box."),
    empty=later("A rule with a schedule holds only then: school hours, nights, weekends."),
    spoken_of=(("rule", "schedules"),),
    fresh={"name": "", "days": list(DAYS), "since": "00:00", "until": "24:00"},
    columns=(Column(later("Days"), days), Column(later("Hours"), hours)),
    parts=(Part(later("The schedule"), (
        Field("name", later("Name"), mono=True, placeholder="nights"),
        Field("days", later("Days"), words=DAYS, hint=later("On which it begins.")),
        Field("since", later("From"), mono=True, pair=True, placeholder="22:00", hint=NO_HINT),
        Field("until", later("To"), mono=True, pair=True, placeholder="06:00",
              hint=later("Not later than the first: on the next day. 24:00 is midnight.")),
    )),),
)  # fmt: skip

LIMITS = Table(
    key="limits", path=("limit",), model=Limit, url="/policy/limits", area="policy",
    title=later("Limits"), one=later("limit"),
    about=later("A session counts in every limit that is about it."),
    empty=later("A limit holds back whoever takes too much: sessions, data, or bandwidth."),
    fresh={"name": "", "each": "client"},
    columns=(
        Column(later("Of"), lambda entry: _(EACH[entry.get("each", "client")])),
        Column(later("At most"), amounts),
        Column(later("Who"), lambda entry: ", ".join(f"{words} {names}" for words, names in who(entry))
               or _("everybody")),
    ),
    parts=(
        Part(later("The limit"), (
            Field("name", later("Name"), mono=True, placeholder="guests-bandwidth"),
            Field("each", later("For"), words={
                "client": later("Each client"), "user": later("Each user"), "all": later("All together")},
                hint=later("A device that you have named is one client, with all its addresses.")),
        )),
        Part(later("At most"), (
            Field("kbit_per_second", later("Bandwidth"), unit="kbit/s", pair=True,
                  hint=later("In each direction.")),
            Field("sessions", later("Sessions"), unit=later("at once"), pair=True, hint=NO_HINT),
            Field("mib_per_day", later("Data a day"), unit="MiB", pair=True,
                  hint=later("Both ways together.")),
            Field("mib_per_month", later("Data a month"), unit="MiB", pair=True, hint=NO_HINT),
            Field("new_per_second", later("New sessions"), unit=later("a second"), pair=True, hint=NO_HINT),
        ), about=later("At least one of them.")),
        Part(later("Who"), _SUBJECTS, about=later("Nothing given: everybody.")),
    ),
)  # fmt: skip

DEVICES = Table(
    key="devices", path=("device",), model=Device, url="/users/devices", area="users",
    title=later("Devices"), one=later("device"),
    about=later("A named host keeps its name over all its addresses."),
    empty=later("Name a host by its network card: rules, limits and logs then speak of it."),
    spoken_of=(("rule", "devices"), ("limit", "devices")), fresh={"name": "", "macs": []},
    columns=(Column(later("Network cards"), lambda entry: several(entry.get("macs", [])), mono=True),),
    parts=(Part(later("The device"), (
        Field("name", later("Name"), placeholder="print-server",
              hint=later("Letters, digits and . _ @ + -; rules and logs name the device by it.")),
        Field("macs", later("Network cards"), mono=True, row=later("card"), placeholder="02:00:5e:10:00:01",
              hint=later("Their MAC addresses: one for each of its cards, Wi-Fi and cable.")),
    )),),
)  # fmt: skip

DEFAULTS = (
    Part(later("Where no rule matches"), (
        Field("default", later("Then"), words=_ALLOW_DENY,
              hint=later("For sessions from the LAN. Published services are allowed by being there.")),
        Field("ech", later("Hidden TLS names"), words={"allow": later("Allow"), "block": later("Block")},
              hint=later("ECH encrypts a server’s real name; rules then see the name of its front only.")),
        Field("aliases", later("Names that lead to denied ones"), words={
            "lists": later("Denied where a list has that name"), "all": later("Denied by any rule"),
            "off": later("Answered")},
              hint=later("Some trackers hide behind a name of the site itself (CNAME). For the DNS.")),
    ), root="policy"),
    Part(later("What is written down"), (
        Field("privacy", later("Log of sessions"), words={
            "full": later("Everything"), "no-destinations": later("No destinations"),
            "counters": later("Counters only")},
              hint=later("Of each session. Counters: no row at all.")),
        Field("retention_days", later("Kept for"), unit=later("days"), hint=NO_HINT),
    ), root="policy"),
)  # fmt: skip
DEFAULTS_ROOTS = {"policy": Root(("policy",), Policy)}
