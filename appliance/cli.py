"""isthmus: the command line. Asks control over its socket; changes nothing by itself."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from appliance import (
    __version__,
    access_cli,
    accounts_cli,
    backup_cli,
    certificate_cli,
    complete_cli,
    config_cli,
    diagnostic_cli,
    monitor_cli,
    policy_cli,
    requests_cli,
    update_cli,
)
from appliance.config import load
from appliance.control.client import ControlClient
from appliance.errors import WIRE, ConfigError, Failure, IsthmusError
from appliance.monitor_cli import age, size

EXIT_FAILED = 1
EXIT_CONFIG = 2
_MARK = {"ok": "ok  ", "warn": "WARN", "bad": "BAD "}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isthmus",
        description="Looks at the Isthmus box, configures it, and says who may use it. Exit status: 0 well, "
        "1 the box does not answer or refuses, 2 a configuration was refused.",
    )
    parser.add_argument("--version", action="version", version=f"isthmus {__version__}")
    parser.add_argument("--runtime", type=Path, default=Path("/run/isthmus"), help="folder with control.sock")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="addresses, health, sessions at a glance")
    status.add_argument("--json", action="store_true", help="everything, for programs")
    monitor_cli.add_parsers(commands)
    check = commands.add_parser("check", help="say what is wrong with a configuration file")
    check.add_argument("file", type=Path)
    config_cli.add_parsers(commands)
    backup_cli.add_parsers(commands)
    accounts_cli.add_parsers(commands)
    certificate_cli.add_parsers(commands)
    access_cli.add_parsers(commands)
    policy_cli.add_parsers(commands)
    policy_cli.add_limits(commands)
    requests_cli.add_parsers(commands)
    update_cli.add_parsers(commands)
    diagnostic_cli.add_parsers(commands)
    complete = commands.add_parser("complete")  # for the shell; without help it is not listed
    complete.add_argument("line")
    complete.add_argument("word")
    return parser


def print_status(status: dict[str, Any]) -> None:
    """The status as text."""
    counters = status["counters"]
    rows = [
        ("LAN", f"{status['lan_address'] or 'no address'} ({status['lan_interface']})"),
        ("LAN prefix", status["lan_prefix"] or "none"),
        ("WAN", f"{status['wan_address'] or 'no address'} ({status['wan_interface']})"),
        ("gateway", status["wan_gateway"] or "none"),
        ("DNS upstream", ", ".join(status["dns_upstreams"]) or "none: the box recurses itself"),
        ("translation", ", ".join(status["translation"])),
        ("sessions", f"{counters['tcp']} TCP, {counters['udp']} UDP, {counters['icmp']} ping"),
        ("to the WAN", size(counters["bytes_to_wan"])),
        ("to the LAN", size(counters["bytes_to_lan"])),
        ("not carried", f"{counters['refused']} refused, {counters['unreachable']} unreachable, "
                        f"{counters['denied']} denied, {counters['limited']} over a limit"),
    ]  # fmt: skip
    if status["limits"]:
        rows.append(
            (
                "limits hit",
                ", ".join(f"{WIRE[Failure(one['reason'])].log} {one['count']}" for one in status["limits"]),
            )
        )
    asked = status["passwords"]
    if any(asked.values()):
        rows.append(
            (
                "passwords",
                f"{asked['right']} right, {asked['wrong']} wrong, {asked['locked']} locked out, "
                f"{asked['busy'] + asked['failed']} not verified in time",
            )
        )
    print(f"{status['hostname']}, Isthmus {status['version']}, up {age(status['uptime'])}\n")
    for name, value in rows:
        print(f"  {name:<13} {value}")
    for lan in status["lans"]:
        if lan["name"] != "lan":
            print(f"  {'LAN ' + lan['name']:<13} {lan['address']} ({lan['device']}), {lan['prefix']}")
        for address in lan["leaving"]:
            print(f"  {'until kept':<13} {address} ({lan['device']}), the address of before this commit")
    for port in status["ports"]:
        speed = f", {port['speed_mbit']} Mbit/s" if port["speed_mbit"] else ""
        role = {"lan": "LAN", "wan": "WAN"}.get(port["role"], port["role"])
        print(f"  {'port':<13} {port['name']}: {role}, {'up' if port['carrier'] else 'no cable'}{speed}")
    for service in status["published"]:
        place = f"{service['protocol']} {service['address'] or ''}:{service['port']}"
        targets = ", ".join(f"{t['target']}{'' if t['up'] else ' (down)'}" for t in service["targets"])
        print(f"  {'published':<13} {service['name']}: {place} → {targets or 'no target yet'}")
    print()
    for check in status["checks"]:
        print(f"  {_MARK.get(check['state'], check['state'])} {check['title']}")
        if check["state"] != "ok":
            print(f"       {check['detail']} {check['fix']}".rstrip())


def main(argv: list[str] | None = None) -> int:
    """Run one command; see the parser for the exit status."""
    options = _parser().parse_args(argv)
    client = ControlClient(options.runtime)
    status = 0
    try:
        if options.command == "check":
            load(options.file)
            print(f"{options.file}: no problem found")
        elif options.command in monitor_cli.VERBS:
            monitor_cli.run(options, client)
        elif options.command in ("user", "group"):
            accounts_cli.run(options, client)
        elif options.command in access_cli.VERBS:
            access_cli.run(options, client)
        elif options.command in requests_cli.VERBS:
            requests_cli.run(options, client)
        elif options.command == "certificate":
            certificate_cli.run(options, client)
        elif options.command == "limits":
            policy_cli.run_limits(options, client)
        elif options.command == "explain":
            policy_cli.run(options, client)
        elif options.command in config_cli.VERBS:
            config_cli.run(options, client)
        elif options.command in backup_cli.VERBS:
            backup_cli.run(options, client)
        elif options.command in update_cli.VERBS:
            update_cli.run(options, client)
        elif options.command in diagnostic_cli.VERBS:
            status = diagnostic_cli.run(options, client)
        elif options.command == "complete":
            offers = complete_cli.offers(options.line, _parser(), client, config_cli.author())
            print("\n".join(complete_cli.for_bash(offers, options.line, options.word)))
        else:
            found = client.status()
            if options.json:
                print(json.dumps(found, indent=2))
            else:
                print_status(found)
        sys.stdout.flush()
    except BrokenPipeError:
        # `isthmus status | head`: the reader has seen enough. What is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except IsthmusError as error:
        words = error.message if error.message.endswith((".", ".)")) else f"{error.message}."
        print(f"isthmus: {words} {error.hint}".rstrip(), file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        # What was asked of the box may be done by now, or goes on.
        print("\nInterrupted.", file=sys.stderr)
        return EXIT_FAILED
    return status


if __name__ == "__main__":
    sys.exit(main())
