"""`isthmus update`, `isthmus restart` and `isthmus factory-reset`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.control.client import UPDATING, ControlClient
from appliance.errors import IsthmusError
from appliance.monitor_cli import size

VERBS = ("update", "restart", "factory-reset")
ERASE = "erase"
_POLL = 1.0
_DESCRIPTION = """\
A bundle is verified whole (its signature, its product, its version, each of its pieces) before the slot that
does not run is written; the one that runs is never touched. The new version starts at the next restart. If it
does not pass its health check, the box is back on the old one, with its settings, after three tries.
"""


class UpdateFailedError(IsthmusError):
    """What was asked for did not come about."""

    code = "update-failed"


def add_parsers(commands: Any) -> None:
    """The three commands."""
    form = argparse.RawDescriptionHelpFormatter
    update = commands.add_parser(
        "update", help="install a new version", description=_DESCRIPTION, formatter_class=form
    )
    verbs = update.add_subparsers(dest="verb", required=True, metavar="VERB")
    install = verbs.add_parser("install", help="from a file or an address")
    install.add_argument("source", metavar="FILE|URL")
    install.add_argument("--restart", action="store_true", help="then restart, once the sessions have ended")
    status = verbs.add_parser("status", help="what runs, what was tried, what became of it")
    check = verbs.add_parser("check", help="what the last automatic check found")
    for parser in (install, status, check):
        parser.add_argument("--json", action="store_true", help="for programs")
    for name, words in (
        ("restart", "restart the box"),
        ("factory-reset", "erase everything, and start as new"),
    ):
        parser = commands.add_parser(name, help=words)
        parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    if options.command == "restart":
        _confirm(options.yes, "Every session ends. Type yes to restart: ", "yes")
        client.restart()
    elif options.command == "factory-reset":
        text = f"Configuration, passwords, certificates and logs will be erased. Type {ERASE} to do it: "
        _confirm(options.yes, text, ERASE)
        client.factory_reset()
    elif options.verb == "install":
        _install(options, client)
    else:
        found = client.update()
        if options.json:
            print(json.dumps(found, indent=2))
        else:
            print("\n".join(_lines(found) if options.verb == "status" else _checked(found)))


def _confirm(yes: bool, question: str, word: str) -> None:
    try:
        if not yes and input(question).strip() != word:
            raise UpdateFailedError("Nothing was done")
    except EOFError:
        raise UpdateFailedError("Nothing was done", "--yes does it without a question.") from None


def _install(options: argparse.Namespace, client: ControlClient) -> None:
    source: str = options.source
    if "://" not in source:
        source = str(Path(source).absolute())
    client.install_update(source, options.restart)
    try:
        found = follow(client.update, lambda text: None if options.json else print(text, flush=True))
    except KeyboardInterrupt:
        hint = "`isthmus update status` says how far it is."
        raise UpdateFailedError("The installation goes on", hint) from None
    if options.json:
        print(json.dumps(found, indent=2))
    if found["phase"] == "failed":
        raise UpdateFailedError(found["message"], found["hint"])
    if options.restart and not options.json:
        print(f"Version {found['version']} is ready: the box restarts into it.")
    elif not options.json:
        print(f"Version {found['version']} is ready: it starts at the next restart (`isthmus restart`).")


def follow(look: Callable[[], dict[str, Any]], say: Callable[[str], object]) -> dict[str, Any]:
    """Until the update is over, telling each tenth of each phase; the type Update."""
    told = ""
    while True:
        found = look()
        if found["phase"] not in UPDATING:
            return found
        tenth = 10 * found["done"] // max(found["total"], 1)
        text = f"{found['phase']} {found['version']} {10 * tenth} % of {size(found['total'])}"
        if found["total"] and text != told:
            say(text)
            told = text
        time.sleep(_POLL)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"running      {found['running'] or 'no image'}"]
    if found["trial"]:
        where = "is on trial" if found["trial"] == found["running"] else "waits for a restart"
        lines.append(f"new          {found['trial']} {where}")
    if found["phase"] in UPDATING:
        lines.append(f"at work      {found['phase']}, {size(found['done'])} of {size(found['total'])}")
    if found["phase"] == "failed":
        lines.append(f"failed       {found['message']} {found['hint']} ({found['code']})".rstrip())
    lines += _checked(found)
    for one in found["history"]:
        result = "was given up" if one["result"] == "fell-back" else one["result"]
        lines.append(
            f"{_moment(one['time'])}  {one['before']} → {one['version']} {result} {one['reason']}".rstrip()
        )
    return lines


def _checked(found: dict[str, Any]) -> list[str]:
    if not found["checked"]:
        return ["checked      never; update.url and update.automatic switch it on"]
    what = found["check_problem"] or (
        f"{found['available']} is there" if found["available"] else "nothing newer"
    )
    return [f"checked      {_moment(found['checked'])}: {what}"]
