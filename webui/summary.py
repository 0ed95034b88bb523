"""Rules, limits and schedules in a line: what a table shows of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from webui.figures import size
from webui.forms.plain import Plain
from webui.words import _

# Of a condition's entries. Fewer says too little; more makes a rule of a thousand names a page.
_SHOWN = 4
WAYS = {
    "transparent": "transparent", "http": "plain HTTP", "connect": "CONNECT", "socks": "SOCKS",
    "published": "published", "dns": "DNS",
}  # fmt: skip
DAYS = {
    "mon": "Monday", "tue": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "fri": "Friday",
    "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip
EACH = {"client": "each client", "user": "each user", "all": "all together"}


def several(items: Iterable[Any]) -> str:
    """ "a, b, c and 7 more"."""
    shown = [str(item) for item in items]
    if len(shown) <= _SHOWN + 1:
        return ", ".join(shown)
    return _("%(some)s and %(num)s more", some=", ".join(shown[:_SHOWN]), num=len(shown) - _SHOWN)


def who(entry: Plain) -> list[tuple[str, str]]:
    """Whom it is about, as (words, names); empty for everybody."""
    kinds = (
        ("users", _("user")), ("groups", _("from group")), ("devices", _("from")), ("sources", _("from")),
    )  # fmt: skip
    return [(words, several(entry[key])) for key, words in kinds if entry.get(key)]


def what(rule: Plain) -> list[tuple[str, str]]:
    """What it is about, as (words, names); empty for anything."""
    found = []
    kinds = (
        ("domains", _("to")), ("lists", _("to list")), ("destinations", _("to")), ("urls", _("URL")),
        ("content_types", _("content")),
    )  # fmt: skip
    for key, words in kinds:
        if rule.get(key):
            found.append((words, several(rule[key])))
    protocols = _(" and ").join(name.upper() for name in rule.get("protocols", []))
    if rule.get("ports"):
        found.append((protocols or _("port"), several(rule["ports"])))
    elif protocols:
        found.append((_("over"), protocols))
    if rule.get("ways"):
        found.append((_("by"), several(WAYS[way] for way in rule["ways"])))
    if rule.get("larger_than") is not None:
        found.append((_("larger than"), size(rule["larger_than"])))
    return found


def when(rule: Plain, until: str) -> list[tuple[str, str]]:
    """When it holds; ``until`` is its end in words."""
    found = []
    if rule.get("schedules"):
        found.append((_("at"), several(rule["schedules"])))
    if rule.get("until"):
        found.append((_("until"), until))
    return found


def days(schedule: Plain) -> str:
    """ "Monday to Friday"."""
    chosen = [day for day in DAYS if day in schedule.get("days", DAYS)]
    if len(chosen) == len(DAYS):
        return _("every day")
    places = [list(DAYS).index(day) for day in chosen]
    if len(places) > 2 and places == list(range(places[0], places[-1] + 1)):
        return _("%(first)s to %(last)s", first=_(DAYS[chosen[0]]), last=_(DAYS[chosen[-1]]))
    return ", ".join(_(DAYS[day]) for day in chosen)


def hours(schedule: Plain) -> str:
    """ "22:00 to 06:00, the next day"."""
    since, until = schedule.get("since", "00:00"), schedule.get("until", "24:00")
    if (since, until) == ("00:00", "24:00"):
        return _("the whole day")
    text = _("%(since)s to %(until)s", since=since, until=until)
    return text if until > since else _("%(hours)s, the next day", hours=text)


def amounts(limit: Plain) -> str:
    """ "20 Mbit/s, 5 GiB a day"."""
    found = []
    if limit.get("sessions"):
        found.append(_("%(num)s sessions", num=limit["sessions"]))
    if limit.get("new_per_second"):
        found.append(_("%(num)s new a second", num=limit["new_per_second"]))
    if limit.get("kbit_per_second"):
        rate = limit["kbit_per_second"]
        found.append(f"{rate / 1000:g} Mbit/s" if rate >= 1000 else f"{rate} kbit/s")
    for key, words in (("mib_per_day", _("a day")), ("mib_per_month", _("a month"))):
        if limit.get(key):
            amount = limit[key]
            found.append(f"{amount / 1024:g} GiB {words}" if amount >= 1024 else f"{amount} MiB {words}")
    return ", ".join(found)
