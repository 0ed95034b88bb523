"""`isthmus ping`, `isthmus trace` and `isthmus lookup`: tests from the box, by control's verbs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from appliance.control.client import ControlClient
from appliance.control.diagnostics import TYPES

VERBS = ("ping", "trace", "lookup")
EXIT_FAILED = 1
_LOOKUP = """\
Asks the box's own DNS64, as a client of the LAN does; of an address its name is asked for. Exit status 1
where there is no such name or no such record. Needs root.
"""


def add_parsers(commands: Any) -> None:
    """The three commands."""
    for verb, words in (
        ("ping", "whether something answers the box"),
        ("trace", "the routers on the way to it"),
    ):
        parser = commands.add_parser(
            verb,
            help=words,
            description=f"Shows {words}. Exit status 1 where it does not answer. Needs root.",
        )
        parser.add_argument("target", metavar="ADDRESS|NAME")
        parser.add_argument("--json", action="store_true", help="for programs")
    lookup = commands.add_parser(
        "lookup", help="what the box's DNS64 answers for a name", description=_LOOKUP
    )
    lookup.add_argument("name", metavar="NAME|ADDRESS")
    lookup.add_argument("--type", choices=list(TYPES), default="AAAA", help="default: AAAA")
    lookup.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace, client: ControlClient) -> int:
    """Test, and print what was found; the exit status. IsthmusError where it is refused."""
    if options.command == "lookup":
        found = client.look_up(options.name, options.type)
        ok, text = bool(found["records"]), "\n".join(lines(found))
    else:
        found = client.ping(options.target) if options.command == "ping" else client.trace(options.target)
        ok, text = found["ok"], found["output"].rstrip()
    print(json.dumps(found, indent=2) if options.json else text)
    return 0 if ok else EXIT_FAILED


def lines(found: dict[str, Any]) -> list[str]:
    """An answer of the DNS64 as text."""
    told = [
        f"{one['name']}  {one['ttl']} s  {one['type']}  {one['data']}"
        + (f"  (made of {one['made_of']})" if one["made_of"] else "")
        for one in found["records"]
    ]
    if found["truncated"]:
        told.append("The answer is cut short.")
    return [f"{found['code']} of [{found['server']}], {len(found['records'])} records", *told]
