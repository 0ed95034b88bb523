"""`isthmus explain`: why a session is allowed or denied."""

from __future__ import annotations

import argparse
import json
import threading
from ipaddress import ip_address
from socket import gaierror, getaddrinfo
from typing import Any

from appliance import config_cli
from appliance.control.client import ControlClient
from appliance.policy.limits import MIB

PROTOCOLS = ("tcp", "udp", "icmp", "http", "connect", "socks", "dns", "published")
# For the DNS to say what a name leads to. More, and the answer that needs no address is late.
RESOLVE_TIMEOUT = 3.0
MAX_ADDRESSES = 16
_MATCHED = {True: "matches", False: "no", None: "unknown"}


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    explain = commands.add_parser(
        "explain",
        help="say which rule allows or denies a session, and why the rules before it do not match",
        description="Asks the policy as the proxy does, and says why. Nothing is sent to the destination; "
        "its name is looked up, for the rules about addresses.",
    )
    explain.add_argument("--to", required=True, metavar="NAME:PORT", help="or ADDRESS:PORT, [IPV6]:PORT")
    explain.add_argument("--client", metavar="ADDRESS", help="of the host that asks")
    explain.add_argument("--user", help="who it says it is, to the explicit proxy")
    explain.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="tcp",
        help="tcp, udp, icmp: of a host that knows nothing of a proxy (default tcp); http, connect, socks: "
        "of a client of the explicit proxy; dns: a question for the name; published: of a client of the WAN",
    )
    explain.add_argument("--candidate", action="store_true", help="by your candidate, which is not in force")
    explain.add_argument("--no-lookup", action="store_true", help="leave the name as it is")
    explain.add_argument("--json", action="store_true", help="everything, for programs")


def add_limits(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `isthmus limits`."""
    limits = commands.add_parser(
        "limits",
        help="what is used of each limit, and by whom",
        description="Shows what clients, devices and users have used of the limits; as root, begins it anew.",
    )
    limits.add_argument("--reset", nargs=2, metavar=("LIMIT", "SUBJECT"), help="its day and month begin anew")
    limits.add_argument("--json", action="store_true", help="everything, for programs")


def run_limits(options: argparse.Namespace, client: ControlClient) -> None:
    """Show, or begin anew."""
    if options.reset:
        client.reset_limit(*options.reset)
        return
    found = client.limits()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print("Nothing is counted: no limit is about anybody who was here.")
        return
    print(f"{'LIMIT':<34}{'SUBJECT':<42}{'SESSIONS':>9}{'DAY MiB':>12}{'MONTH MiB':>12}")
    for one in found:
        day, month = one["day"] / MIB, one["month"] / MIB
        print(f"{one['limit']:<34}{one['subject']:<42}{one['sessions']:>9}{day:>12.1f}{month:>12.1f}")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Ask, and print."""
    addresses = (
        [] if options.no_lookup or options.protocol in ("dns", "published") else _addresses(options.to)
    )
    author = config_cli.author() if options.candidate else None
    found = client.explain(
        options.client, options.user, options.to, options.protocol, addresses, candidate_of=author
    )
    if options.json:
        print(json.dumps({**found, "addresses": addresses}, indent=2))
    else:
        print_explanation(found, addresses)


def _addresses(target: str) -> list[str]:
    """What the name leads to, as far as the DNS says in time."""
    name = target.rpartition(":")[0] or target
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        pass
    else:
        return []
    found: list[str] = []

    def look_up() -> None:
        try:
            found.extend(dict.fromkeys(str(entry[4][0]) for entry in getaddrinfo(name, None)))
        except (gaierror, UnicodeError):
            return

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(RESOLVE_TIMEOUT)
    return found[:MAX_ADDRESSES]


def print_explanation(found: dict[str, Any], addresses: list[str]) -> None:
    """The verdict, then the rules in their order."""
    word = "allowed" if found["allow"] else "denied"
    by = {
        "default": "by default: no rule matches",
        "always": "whatever the rules say",
    }.get(found["rule"], f"by rule “{found['rule']}”")
    print(f"{word} {by}")
    if found["note"]:
        print(f"  {found['note']}")
    if addresses:
        print(f"  the name leads to {', '.join(addresses)}")
    width = max((len(step["rule"]) for step in found["steps"]), default=0)
    for step in found["steps"]:
        print(f"  {step['rule']:<{width}}  {_MATCHED[step.get('matched')]:<8} {step['why']}")
    if found["pending"]:
        print("What is unknown yet (a name, an address, the content) may let an earlier rule match.")
