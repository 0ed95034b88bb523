"""`isthmus sessions`, `isthmus log` and `isthmus top`: what passes now, what passed, and whose it was."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from appliance.control.client import ControlClient
from appliance.errors import IsthmusError
from appliance.session.row import MAYBE, Outcome, Row
from appliance.session.squid import squid_line

VERBS = frozenset({"sessions", "log", "top"})
MAX_PAGE = 1_000
# `log --follow` asks so often; workers write once a second, and the history looks twice.
FOLLOW_INTERVAL = 1.0
# How far back it looks for rows that came late: a worker that was busy.
FOLLOW_OVERLAP = 60.0
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_BY = {
    "clients": "client",
    "users": "user",
    "devices": "device",
    "names": "name",
    "rules": "rule",
    "services": "service",
}
# What may follow a command.
WORDS = {"sessions": ("kill",), "log": ("erase",), "top": tuple(_BY)}
_MEASURES = ("octets", "sessions", "refused", "to_wan", "to_lan")
_MARK = {"carried": "   ", "denied": "DEN", "refused": "REF", "limited": "LIM", "failed": "ERR"}

_SESSIONS = """\
The sessions that are open now, the newest first. `isthmus sessions kill ID` ends one with a reset; the client
may begin another: what is to stay away is a rule's matter (isthmus add rule …).
"""
_LOG = """\
Sessions that ended or did not come about, the newest last. DEN: denied by the policy, REF: refused by the
other side, LIM: over a limit, ERR: not reached. What policy.privacy leaves out is not there. `isthmus log
erase` forgets all of it, the requests for access, and what `isthmus top` tells; counters stay.
"""
_LOG_EXAMPLES = """\
examples:
  isthmus log --denied --since 1h
  isthmus log --client fd00::17 --name '*.example.com' --json
  isthmus log --follow --user ann
  isthmus log --since 1d --limit 1000000 --squid > access.log
"""
_TOP = "Who had most, in whole hours; it outlives the single rows."


class TimeError(IsthmusError):
    """A time that is none."""

    code = "time"


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of "90s", "30m", "1h", "2d", "1w" ago, or of a date with or without a time."""
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if found:
        return now - int(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise TimeError(f"“{text}” is no time", "30m, 1h, 2d, or 2026-12-24T18:00.") from None


def duration(text: str) -> int:
    """Seconds of "90s", "30m", "2h", "1d", "1w"."""
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if not found:
        raise TimeError(f"“{text}” is no time", "30m, 2h, 1d.")
    return int(found[1]) * _UNITS[found[2]]


def add_parsers(commands: Any) -> None:
    """The three commands."""
    form = argparse.RawDescriptionHelpFormatter
    sessions = commands.add_parser(
        "sessions",
        help="the sessions that are open now; kill one",
        description=_SESSIONS,
        formatter_class=form,
    )
    sessions.add_argument("verb", nargs="?", choices=["kill"], help="end the session ID")
    sessions.add_argument("id", nargs="?", metavar="ID", help="as the list has it")
    _json(sessions)
    sessions.add_argument("--limit", type=int, default=50, help="at most so many (default 50, up to 1000)")
    sessions.add_argument("--search", help="part of an address, a port, or tcp, udp, icmp")
    log = commands.add_parser(
        "log", help="sessions that are over, or were denied", description=_LOG, epilog=_LOG_EXAMPLES,
        formatter_class=form,
    )  # fmt: skip
    log.add_argument("verb", nargs="?", choices=["erase"], help="forget all of it")
    _times(log)
    log.add_argument("--client", metavar="ADDRESS", default="")
    log.add_argument("--user", default="")
    log.add_argument(
        "--name", default="", help="part of a name; *.a.example: all below; .a.example: with itself"
    )
    log.add_argument("--rule", default="", help="the rule that decided")
    log.add_argument("--device", default="", help="a device, by its name")
    log.add_argument("--reference", default="", help="what a page said of a denial: K7MQ-2XPA")
    log.add_argument("--service", default="", help="a listener of the proxy, or a published service")
    log.add_argument("--kind", choices=["tcp", "udp", "icmp", "dns"], default="")
    log.add_argument("--search", metavar="TEXT", default="", help="part of any of these")
    which = log.add_mutually_exclusive_group()
    which.add_argument("--outcome", choices=[str(one) for one in Outcome], default="")
    which.add_argument("--denied", action="store_const", const="denied", dest="outcome")
    log.add_argument("--limit", type=int, default=50, help="at most so many (default 50)")
    log.add_argument("--follow", "-f", action="store_true", help="go on with what comes, until Ctrl-C")
    how = log.add_mutually_exclusive_group()
    _json(how, "a line of JSON each, for programs")
    how.add_argument("--squid", action="store_true", help="squid's native format")
    top = commands.add_parser("top", help="who had most", description=_TOP)
    top.add_argument("by", choices=list(_BY), help="by what")
    _times(top, "1d")
    top.add_argument("--measure", choices=_MEASURES, default="octets", help="of what (default octets)")
    top.add_argument("--limit", type=int, default=10, help="so many (default 10)")
    _json(top)


def _json(parser: Any, text: str = "everything, for programs") -> None:
    parser.add_argument("--json", action="store_true", help=text)


def _times(parser: Any, since: str | None = None) -> None:
    words = "from then on: 30m, 1h, 2d, 1w ago, or 2026-12-24T18:00" + (
        f" (default {since})" if since else ""
    )
    parser.add_argument("--since", metavar="TIME", default=since, help=words)
    parser.add_argument("--until", metavar="TIME", help="up to then")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    if options.command == "sessions":
        _sessions(options, client)
    elif options.command == "top":
        _top(options, client)
    elif options.verb == "erase":
        client.erase_history()
        print("The history, the log of sessions and its exported file are empty.")
    else:
        _log(options, client)


def size(count: float) -> str:
    """Bytes for a person: 1.90 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def age(seconds: float) -> str:
    """A duration for a person: 2:14, 3:02:14."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def endpoint(address: str, port: int) -> str:
    """An address with its port: 192.0.2.1:80, [2001:db8::1]:80."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def print_sessions(found: list[dict[str, Any]], total: int) -> None:
    """The sessions as a table."""
    if not found:
        print("No session is open.")
        return
    head = f"{'KIND':<5}{'STATE':<10}{'CLIENT':<42}{'ORIGIN':<42}{'AGE':>9}{'TO WAN':>11}{'TO LAN':>11}"
    print(f"{'ID':<8} {head}")
    for session in found:
        # A device's name says more than one of its addresses.
        client = endpoint(session.get("device") or session["client"], session["client_port"])
        # The name that was asked for says more than the address that it led to.
        origin = endpoint(session.get("name") or session["origin"], session["origin_port"])
        print(
            f"{session['id']:<8} {session['kind']:<5}{session['state']:<10}{client:<42}{origin:<42}"
            f"{age(session['age']):>9}{size(session['bytes_to_wan']):>11}{size(session['bytes_to_lan']):>11}"
        )
    if total > len(found):
        print(f"{len(found)} of {total}; --limit shows more, --search narrows.")


def _sessions(options: argparse.Namespace, client: ControlClient) -> None:
    if options.verb == "kill":
        if options.id is None:
            raise IsthmusError("No session is named", "`isthmus sessions` lists them with their IDs.")
        if not client.kill_session(options.id):
            raise IsthmusError(f"There is no session {options.id}", "It may have ended by itself.")
        print(f"Session {options.id} is ended.")
        return
    found, total = client.sessions(options.limit, options.search)
    if options.json:
        print(json.dumps({"sessions": found, "total": total}, indent=2))
    else:
        print_sessions(found, total)


# -- what was ------------------------------------------------------------------------------------


def _filters(options: argparse.Namespace, now: float) -> dict[str, Any]:
    texts = {
        key: getattr(options, key)
        for key in ("client", "user", "name", "rule", "service", "device", "reference", "kind", "outcome")
    }
    texts["text"] = options.search
    filters: dict[str, Any] = {key: text for key, text in texts.items() if text}
    for key in ("since", "until"):
        if getattr(options, key) is not None:
            filters[key] = moment(getattr(options, key), now)
    return filters


def _pages(client: ControlClient, filters: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    """At most ``limit`` rows, the newest first."""
    cursor = ""
    while limit > 0:
        rows, cursor, _searched = client.search_history(filters, cursor, min(limit, MAX_PAGE))
        yield from rows
        limit -= len(rows)
        if not cursor:
            return


def _log(options: argparse.Namespace, client: ControlClient) -> None:
    now = time.time()
    filters = _filters(options, now)
    rows = list(_pages(client, filters, options.limit))
    for row in reversed(rows):
        print(_line(row, options))
    if not rows and not options.follow:
        _say_nothing(options, client)
    last = max((row["id"] for row in rows), default=0)
    if options.follow:
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):  # which is the way out
            _follow(options, client, filters, now, last)


def _follow(
    options: argparse.Namespace, client: ControlClient, filters: dict[str, Any], now: float, last: int
) -> None:
    while True:
        time.sleep(FOLLOW_INTERVAL)
        filters["since"] = max(time.time() - FOLLOW_OVERLAP, filters.get("since", 0.0), now - FOLLOW_OVERLAP)
        found = list(_pages(client, filters, MAX_PAGE))
        if found and max(row["id"] for row in found) < last:
            last = 0  # the history was erased, and counts from one again
        new = [row for row in found if row["id"] > last]
        for row in sorted(new, key=lambda row: int(row["id"])):
            print(_line(row, options), flush=True)
            last = row["id"]


def _say_nothing(options: argparse.Namespace, client: ControlClient) -> None:
    if options.json or options.squid:
        return
    problem = client.history_status().get("problem")
    print(problem or "No session is like that.")


def _line(row: dict[str, Any], options: argparse.Namespace) -> str:
    if options.json:
        return json.dumps(row)
    if options.squid:
        return squid_line(_as_row(row))
    moment_ = datetime.fromtimestamp(row["time"]).strftime("%Y-%m-%d %H:%M:%S")
    to = row.get("name") or row.get("origin") or "(not written down)"
    target = endpoint(to, row["origin_port"]) if row["origin_port"] else to
    who = "".join(f" {row[key]}" for key in ("user", "device") if row.get(key))
    carried = f"{size(row['bytes_to_wan'])} out, {size(row['bytes_to_lan'])} in, {age(row['age'])}"
    end = carried if row["outcome"] == "carried" else row["reason"]
    rule = f" [{row['rule']}]" if row.get("rule") else ""
    asked = f" (it had asked for {row['dns_name']})" if row.get("dns_name") else ""
    reference = f" {row['reference']}" if row.get("reference") else ""
    return (
        f"{moment_} {_MARK[row['outcome']]} {row['kind']:<4} {row['client']}{who} → {target}{asked}  "
        f"{end}{rule}{reference}"
    )


def _as_row(row: dict[str, Any]) -> Row:
    given = ("kind", "reason", "client", "client_port", "server_port", "origin_port")
    values: dict[str, Any] = {key: row[key] for key in given}
    values.update({key: row.get(key) or "" for key in MAYBE})
    return Row(
        time=round(row["time"] * 1000),
        outcome=Outcome(row["outcome"]),
        age=round(row["age"] * 1000),
        to_wan=row["bytes_to_wan"],
        to_lan=row["bytes_to_lan"],
        **values,
    )


def _top(options: argparse.Namespace, client: ControlClient) -> None:
    now = time.time()
    since = moment(options.since, now)
    until = now if options.until is None else moment(options.until, now)
    sums = client.top_history(_BY[options.by], since, until, options.measure, options.limit)
    if options.json:
        print(json.dumps(sums, indent=2))
        return
    if not sums:
        print("Nothing is known of that time.")
        return
    print(f"{options.by.upper():<48}{'SESSIONS':>10}{'REFUSED':>10}{'TO WAN':>11}{'TO LAN':>11}")
    for one in sums:
        print(
            f"{one['key']:<48}{one['sessions']:>10}{one['refused']:>10}"
            f"{size(one['bytes_to_wan']):>11}{size(one['bytes_to_lan']):>11}"
        )
