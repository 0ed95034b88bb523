"""`isthmus show`, `set`, `diff`, `commit` and their like: the configuration on the command line.

Each author has one candidate, the same as in the console. Nothing of it is in force before a commit.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
import time
from collections.abc import Sequence
from typing import Any

import tomli_w

from appliance.config.assign import added, assigned, moved, removed, unset
from appliance.config.help import help_of
from appliance.config.paths import PathError, Plain, named, split, value_at
from appliance.control.client import ControlClient, ControlError
from appliance.errors import IsthmusError

VERBS = (
    *("show", "set", "unset", "add", "remove", "move", "diff", "merge", "discard"),
    *("commit", "confirm", "rollback", "history"),
)
_CONFIGURE = """\
Changes the candidate, which is yours alone; `isthmus diff` shows it, `isthmus commit` puts it in force.
"""
_PATHS = """\
paths:
  lan.prefix                       a setting
  rule.no-ads.action               of an entry, by its name
  'user."ann@home.example".groups' where the name has dots
examples:
  isthmus set dns.upstreams 192.0.2.53 192.0.2.54
  isthmus add rule no-ads action=deny domains=ads.example,track.example
  isthmus move rule.no-ads --before all
  isthmus remove rule.no-ads
  isthmus commit --confirm 90 --comment "no ads"
"""
_COMMIT = """\
Puts the candidate in force. What can part you from the box (the addresses and ports of LAN and WAN, the
console's port) has to be confirmed within 90 seconds, or it is rolled back, also where the power goes.
"""


class CandidateRefusedError(IsthmusError):
    """The change was not kept."""

    code = "candidate-refused"


def add_parsers(commands: Any) -> None:
    """The commands."""
    form = argparse.RawDescriptionHelpFormatter

    def command(name: str, about: str, description: str = _CONFIGURE) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=about, description=description, epilog=_PATHS, formatter_class=form
        )
        made.add_argument("--author", default=author(), help="whose candidate (default: %(default)s)")
        made.add_argument("--json", action="store_true", help="for programs")
        return made

    show = command("show", "the configuration, or a part of it", "Shows your candidate.")
    show.add_argument("path", nargs="?", default="", metavar="PATH")
    show.add_argument(
        "--active", action="store_true", help="what is in force, without the candidate's changes"
    )
    show.add_argument("--revision", type=int, help="what this revision holds")
    change = command("set", "set a setting")
    change.add_argument("path", metavar="PATH")
    change.add_argument("values", nargs="*", metavar="VALUE", help="several of a list; none: an empty list")
    _path(command("unset", "give a setting its default"))
    add = command("add", "add an entry to a list, or values")
    _path(add)
    add.add_argument(
        "values", nargs="+", metavar="KEY=VALUE", help="NAME, then KEY=VALUE or KEY=VALUE,VALUE…"
    )
    _beside(add)
    remove = command("remove", "remove an entry of a list, or values")
    _path(remove)
    remove.add_argument("values", nargs="*", metavar="VALUE")
    move = command("move", "move an entry: of rules the first that matches says")
    _path(move)
    _beside(move)
    diff = command(
        "diff", "what a commit would change, and do", "Compares your candidate with what is in force."
    )
    diff.add_argument("revision", nargs="?", type=int, metavar="REVISION", help="what this revision changed")
    merge = command("merge", "bring the candidate up to date, where others changed the same")
    merge.add_argument("--mine", action="append", default=[], metavar="PATH", help="here your value counts")
    command("discard", "forget the candidate")
    commit = command("commit", "put the candidate in force", _COMMIT)
    commit.add_argument("-m", "--comment", default="", help="why, for the history")
    commit.add_argument("--confirm", type=int, metavar="SECONDS", help="roll back without `isthmus confirm`")
    command("confirm", "keep what was committed", "Keeps a commit that waits to be confirmed.")
    back = command("rollback", "take the last commit back, or go back to a revision", _ROLLBACK)
    back.add_argument("revision", nargs="?", type=int, metavar="REVISION")
    back.add_argument("--confirm", type=int, metavar="SECONDS", help="as of `isthmus commit`")
    history = command("history", "revisions: who, when, why", "Lists the revisions, the newest first.")
    history.add_argument("--limit", type=int, default=20, help="at most so many (default 20, up to 200)")
    history.add_argument("--before", type=int, metavar="REVISION", help="older than this one")


_ROLLBACK = """\
Takes back a commit that waits to be confirmed. With a REVISION: commits that revision's configuration anew.
"""


def author() -> str:
    """Who calls, also by way of sudo."""
    name = os.environ.get("SUDO_USER")
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "root"


def _path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")


def _beside(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--before", metavar="NAME", help="in front of this entry (default: last)")
    where.add_argument("--after", metavar="NAME", help="behind this entry")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    if options.command in _CHANGES:
        _change(options, client)
    else:
        _COMMANDS[options.command](options, client)


# -- the candidate ---------------------------------------------------------------------------------


def _changed(options: argparse.Namespace, plain: Plain) -> Plain:
    beside = None
    if getattr(options, "before", None):
        beside = ("before", options.before)
    elif getattr(options, "after", None):
        beside = ("after", options.after)
    match options.command:
        case "set":
            return assigned(plain, options.path, options.values)
        case "unset":
            return unset(plain, options.path)
        case "add":
            return added(plain, options.path, options.values, beside)
        case "remove":
            return removed(plain, options.path, options.values)
        case _:
            return moved(plain, options.path, beside)


_CHANGES = ("set", "unset", "add", "remove", "move")


def _change(options: argparse.Namespace, client: ControlClient) -> None:
    before = client.candidate(options.author)
    config = _changed(options, before["config"])
    after = client.put_candidate(options.author, config, before["based_on"], before["version"])
    known = {(problem["path"], problem["message"]) for problem in before["problems"]}
    fresh = [one for one in after["problems"] if (one["path"], one["message"]) not in known]
    # A value that cannot be is refused; what only does not fit to others yet is kept, for they may follow.
    here = help_of(options.path).path
    mine = [one for one in fresh if one["code"] != "conflict" and _general(one["path"]).startswith(here)]
    if mine:
        _undo(options, client, before, after)
        raise CandidateRefusedError(_sentence(mine[0], config), mine[0]["hint"])
    if options.json:
        _print_json({"changes": after["changes"], "problems": after["problems"]})
        return
    for one in after["problems"]:
        words = f"{_sentence(one, after['config'])} {one['hint']}".rstrip()
        print(f"still to be put right: {words}", file=sys.stderr)


def _undo(options: argparse.Namespace, client: ControlClient, before: Plain, after: Plain) -> None:
    if before["version"] == 0:
        client.discard_candidate(options.author)
    else:
        client.put_candidate(options.author, before["config"], after["based_on"], after["version"])


def _general(path: str) -> str:
    try:
        return help_of(path).path
    except PathError:
        return path


def _sentence(problem: dict[str, str], config: Plain) -> str:
    return f"{named(problem['path'], config)}: {problem['message']}"


def _show(options: argparse.Namespace, client: ControlClient) -> None:
    if options.revision is not None:
        plain = client.revision(options.revision)["config"]
    else:
        plain = client.active()["config"] if options.active else client.candidate(options.author)["config"]
    parts = split(options.path)
    value = value_at(plain, parts)
    many_tables = False
    if parts:
        setting = help_of(options.path)
        many_tables = setting.many and setting.kind == "table"
        if value is None and value_at(plain, parts[:-1]) is None:
            raise PathError(f"There is no {options.path}", "`isthmus show` shows all that there is.")
    if options.json:
        _print_json(value)
    elif value is None:
        print(f"{options.path} is not set.")
    elif isinstance(value, dict):
        print(tomli_w.dumps(value), end="")
    elif isinstance(value, list) and many_tables:
        print(tomli_w.dumps({str(parts[-1]): value}), end="")
    else:
        for one in value if isinstance(value, list) else [value]:
            print(str(one).lower() if isinstance(one, bool) else one)


def _diff(options: argparse.Namespace, client: ControlClient) -> None:
    if options.revision is not None:
        found = client.revision(options.revision)
        if options.json:
            _print_json({"changes": found["changes"]})
        else:
            _print_changes(found["changes"])
        return
    candidate = client.candidate(options.author)
    if options.json:
        _print_json({key: one for key, one in candidate.items() if key not in ("config", "toml")})
        return
    if not candidate["changes"]:
        print("Nothing is changed.")
    _print_changes(candidate["changes"])
    _print_conflicts(candidate["conflicts"])
    for problem in candidate["problems"]:
        print(f"PROBLEM {_sentence(problem, candidate['config'])} {problem['hint']}".rstrip())
    for effect in candidate["effects"]:
        print(f"{'CUTS' if effect['cut'] else 'then'}    {effect['text']}")


def _merge(options: argparse.Namespace, client: ControlClient) -> None:
    for path in options.mine:
        split(path)
    candidate = client.merge_candidate(options.author, options.mine)
    if options.json:
        _print_json({"based_on": candidate["based_on"], "changes": candidate["changes"]})
    else:
        print(f"The candidate is based on revision {candidate['based_on']} now.")
        _print_changes(candidate["changes"])


def _discard(options: argparse.Namespace, client: ControlClient) -> None:
    client.discard_candidate(options.author)
    if options.json:
        _print_json({})


# -- commits ---------------------------------------------------------------------------------------


def _commit(options: argparse.Namespace, client: ControlClient) -> None:
    candidate = client.candidate(options.author)
    _put_in_force(options, client, candidate, options.comment)


def _put_in_force(
    options: argparse.Namespace, client: ControlClient, candidate: dict[str, Any], comment: str
) -> None:
    try:
        done = client.commit(
            options.author, comment, candidate["based_on"], candidate["version"], options.confirm
        )
    except ControlError as error:
        if error.details.get("conflicts"):
            _print_conflicts(error.details["conflicts"], sys.stderr)
            hint = "`isthmus merge` takes theirs; --mine PATH keeps yours there."
            raise ControlError(error.code, error.message, hint, error.details) from None
        if error.details.get("problems"):
            for problem in error.details["problems"]:
                words = f"{_sentence(problem, candidate['config'])} {problem['hint']}".rstrip()
                print(f"  {words}", file=sys.stderr)
            raise ControlError(error.code, "The candidate has problems", "Nothing was changed.") from None
        raise
    pending = done.get("pending")
    if options.json:
        _print_json(done)
        return
    print(f"Revision {done['revision']} is in force.")
    if pending is not None:
        if pending["new_console"] and pending["new_console"] != pending["old_console"]:
            print(f"The console is at {pending['new_console']} now.")
        print(_goes_back(pending))


def _goes_back(pending: dict[str, Any]) -> str:
    return f"It is rolled back in {pending['remaining']:.0f} s, unless: isthmus confirm"


def _confirm(options: argparse.Namespace, client: ControlClient) -> None:
    number = client.confirm(options.author)
    if options.json:
        _print_json({"revision": number})
    else:
        print(f"Revision {number} stays.")


def _rollback(options: argparse.Namespace, client: ControlClient) -> None:
    if options.revision is None:
        number = client.rollback(options.author)
        if options.json:
            _print_json({"revision": number})
        else:
            print(f"Revision {number} is in force again.")
        return
    if client.candidate(options.author)["changes"]:
        raise CandidateRefusedError(
            "Your candidate has changes, which would be lost", "`isthmus commit` or `isthmus discard` first."
        )
    candidate = client.restore(options.author, options.revision)
    _put_in_force(options, client, candidate, f"Back to revision {options.revision}")


def _history(options: argparse.Namespace, client: ControlClient) -> None:
    found, more = client.revisions(options.limit, options.before)
    if options.json:
        _print_json({"revisions": found, "more": more})
        return
    for one in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["time"]))
        note = " — ".join(part for part in (one["comment"], one["ended"]) if part)
        print(f"{one['number']:>6}  {when}  {one['author']:<16} {one['state']:<12} {note}".rstrip())
    pending = client.pending()
    if pending is not None:
        print(f"Revision {pending['revision']} waits. {_goes_back(pending)}")
    if more:
        print(f"There are older ones: --before {found[-1]['number']}")


# -- output ----------------------------------------------------------------------------------------


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_changes(changes: Sequence[dict[str, Any]]) -> None:
    for one in changes:
        before, after = one.get("before"), one.get("after")
        if one["kind"] == "add":
            print(f"+ {one['path']}: {after}")
        elif one["kind"] == "remove":
            print(f"- {one['path']}: {before}")
        else:
            print(f"  {one['path']}: {_or_none(before)} → {_or_none(after)}")


def _print_conflicts(conflicts: Sequence[dict[str, Any]], where: Any = None) -> None:
    for one in conflicts:
        base, mine, theirs = (_or_none(one.get(side)) for side in ("base", "mine", "theirs"))
        print(f"BOTH    {one['path']}: {base} → yours {mine}, theirs {theirs}", file=where or sys.stdout)


def _or_none(value: str | None) -> str:
    return "(not set)" if value is None else value


_COMMANDS = {
    "show": _show,
    "diff": _diff,
    "merge": _merge,
    "discard": _discard,
    "commit": _commit,
    "confirm": _confirm,
    "rollback": _rollback,
    "history": _history,
}
