"""Where a setting of the configuration is edited, and what it is called there."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from appliance.config.help import help_of
from appliance.config.paths import Part, Parts, PathError, split
from webui.forms.plain import Plain, at
from webui.layouts.lans import ROUTES, SEGMENTS
from webui.layouts.network import EXPLICIT, LISTENERS, NETWORK, PUBLISHED, SYSTEM, TRAFFIC, TRANSLATION
from webui.layouts.policy import DEFAULTS, DEVICES, LIMITS, LISTS, RULES, SCHEDULES
from webui.layouts.table import Table
from webui.words import _, later

TABLES = (RULES, LISTS, SCHEDULES, LIMITS, DEVICES, SEGMENTS, ROUTES, TRANSLATION, PUBLISHED, LISTENERS)
_PAGES = (NETWORK, EXPLICIT, SYSTEM, TRAFFIC)
_SECTIONS = {
    "policy": (later("Policy"), "/policy/default"),
    "wan": (later("WAN"), NETWORK.url),
    "lan": (later("LAN"), NETWORK.url),
    "dns": (later("DNS"), NETWORK.url),
    "explicit": (later("Explicit proxy"), EXPLICIT.url),
    "proxy": (later("Sessions"), TRAFFIC.url),
    "system": (later("System"), SYSTEM.url),
    "console": (later("Console"), SYSTEM.url),
    "user": (later("User"), "/users"),
    "group": (later("Group"), "/users/groups"),
}


@dataclass(frozen=True, slots=True)
class Link:
    """``title`` as a person calls the setting; ``url`` of the page that edits it, "" where there is none."""

    title: str
    url: str


def _label(table: Table, rest: Parts) -> str:
    """What the form of an entry calls one of its settings."""
    name = str(rest[0])
    for part in table.parts:
        for one in part.fields:
            if one.name == name:
                return _(one.label)
    return name


def _section_label(head: str, rest: Parts, path: str) -> str:
    name = ".".join(str(part) for part in rest if isinstance(part, str))
    parts = [*DEFAULTS, *(part for page in _PAGES for part in page.parts)]
    for part in parts:
        if part.root == head:
            for one in part.fields:
                if one.name == name:
                    return _(one.label)
    try:
        return help_of(path).title
    except PathError:
        return name


def _entry(table: Table, part: Part, rest: Parts, config: Plain) -> Link:
    entries = at(config, table.path, [])
    name = part if isinstance(part, str) else str(at(entries, (part, table.identity), f"#{part + 1}"))
    there = any(str(entry.get(table.identity)) == name for entry in entries)
    title = f"{_(table.one).capitalize()} “{name}”"
    if rest:
        title += f": {_label(table, rest)}"
    url = f"{table.url}/edit?name={quote(name, safe='')}" if there else table.url
    return Link(title, url)


def link_of(path: str, config: Plain) -> Link:
    """The link for a path of the configuration, by names ("rule.no-ads.action") or numbers ("rule[3]")."""
    try:
        parts = split(path)
    except PathError:
        return Link(path, "")
    for table in TABLES:
        length = len(table.path)
        if parts[:length] == table.path:
            if len(parts) == length:
                return Link(_("%(table)s, their order", table=_(table.title)), table.url)
            return _entry(table, parts[length], parts[length + 1 :], config)
    head = str(parts[0]) if parts else ""
    if head not in _SECTIONS:
        return Link(path, "")
    words, url = _SECTIONS[head]
    if head in ("user", "group"):
        name = str(parts[1]) if len(parts) > 1 else ""
        return Link(f"{_(words)} “{name}”" if name else _(words), url)
    rest = parts[1:]
    return Link(f"{_(words)}: {_section_label(head, rest, path)}" if rest else _(words), url)
