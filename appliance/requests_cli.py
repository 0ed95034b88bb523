"""`isthmus requests`, `isthmus rules`, `isthmus lists`: who asks for access, and what decides how often."""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime
from typing import Any

from appliance import config_cli
from appliance.control.client import ControlClient
from appliance.errors import IsthmusError
from appliance.monitor_cli import duration

VERBS = frozenset({"requests", "rules", "lists"})

_REQUESTS = """\
Requests for access that wait, the oldest first: clients of the proxy make them at the page that denied them
something. `isthmus requests grant ID --for 2h` puts a rule in force for that client and that host, above the
one that denied it, which ends by itself; `isthmus requests refuse ID` forgets the request.
"""


def add_parsers(commands: Any) -> None:
    """The three commands."""
    requests = commands.add_parser(
        "requests",
        help="who asks for access; grant or refuse it",
        description=_REQUESTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    requests.add_argument("verb", nargs="?", choices=["list", "grant", "refuse"], default="list")
    requests.add_argument("id", nargs="?", metavar="ID", help="its reference: K7MQ-2XPA")
    requests.add_argument("--for", dest="time", default="1h", metavar="TIME", help="30m, 2h, 1d (default 1h)")
    requests.add_argument("-m", dest="comment", default="", help="why, for the history")
    requests.add_argument("--json", action="store_true", help="everything, for programs")
    for name, words in (("rules", "the rules in their order"), ("lists", "the lists of names")):
        parser = commands.add_parser(name, help=f"{words}, and how often each has decided")
        parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    if options.command == "rules":
        _rules(options, client)
    elif options.command == "lists":
        _lists(options, client)
    elif options.verb == "list":
        _requests(options, client)
    elif options.id is None:
        raise IsthmusError("No request is named", "`isthmus requests` lists them with their IDs.")
    elif options.verb == "grant":
        seconds = duration(options.time)
        rule = client.grant_request(options.id, seconds, config_cli.author(), options.comment)
        until = datetime.fromtimestamp(time.time() + seconds)
        print(f"Rule “{rule}” allows it until {until:%Y-%m-%d %H:%M}.")
    else:
        client.refuse_request(options.id)
        print(f"Request {options.id} is forgotten.")


def _requests(options: argparse.Namespace, client: ControlClient) -> None:
    found = client.access_requests()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print("Nobody waits for access.")
    for one in found:
        who = one["user"] or one["device"] or one["client"]
        made = datetime.fromtimestamp(one["time"])
        print(f"{one['id']}  {made:%Y-%m-%d %H:%M}  {who} → {one['host']}:{one['port']}  [{one['rule']}]")
        if one["note"]:
            print(f"           {one['note']}")


def _counts(client: ControlClient, kind: str) -> dict[str, dict[str, Any]]:
    return {hit["name"]: hit for hit in client.hits() if hit["kind"] == kind}


def _shown(rows: list[dict[str, Any]], columns: dict[str, int], as_json: bool) -> None:
    """Rows with their hits as a table: ``columns`` are keys and widths."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(
        "".join(f"{key.upper():<{width}}" for key, width in columns.items()) + f"{'TODAY':>10}{'IN ALL':>12}"
    )
    for row in rows:
        texts = "".join(f"{row[key]!s:<{width}}" for key, width in columns.items())
        print(f"{texts}{row['today']:>10}{row['total']:>12}")


def _with_hits(row: dict[str, Any], counts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    hit = counts.get(row["name"], {"today": 0, "total": 0})
    return {**row, "today": hit["today"], "total": hit["total"]}


def _rules(options: argparse.Namespace, client: ControlClient) -> None:
    config = client.active()["config"]
    counts = _counts(client, "rule")
    default = {"name": "default", "action": config["policy"]["default"], "enabled": True}
    rows = [
        {"name": rule["name"], "action": rule["action"], "enabled": rule.get("enabled", True)}
        for rule in (*config["rule"], default)
    ]
    for row in rows:
        if not row["enabled"]:
            row["action"] = "off"
    _shown([_with_hits(row, counts) for row in rows], {"name": 36, "action": 8}, options.json)


def _lists(options: argparse.Namespace, client: ControlClient) -> None:
    counts = _counts(client, "list")
    rows = [
        _with_hits({"name": one["name"], "source": one["source"]}, counts)
        for one in client.active()["config"]["name_list"]
    ]
    if not rows and not options.json:
        print("There is no list of names: add one with `isthmus add name_list NAME source=https://…`.")
        return
    _shown(rows, {"name": 26, "source": 60}, options.json)
