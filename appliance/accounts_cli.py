"""`isthmus user` and `isthmus group`: who may use the explicit proxy."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from typing import Any

from appliance import config_cli
from appliance.control.client import ControlClient
from appliance.errors import IsthmusError

# A line longer than any password is none.
MAX_LINE = 8_192

_USER = """\
Users of the explicit proxy (HTTP, CONNECT and SOCKS), for its listeners that have
authentication = ["password"]. Each is in one group or more. Every change is made in the
configuration file, which keeps its comments, and is in force at once; sessions go on.
Needs root. Changes that somebody made in the file and has not applied yet are applied too.
"""
_EXAMPLES = """\
examples:
  isthmus group add staff
  isthmus user add ann --group staff            asks for the password, twice
  pass show ann | isthmus user passwd ann --stdin
  isthmus user groups ann --group staff --group printers
  isthmus user remove ann
"""


class PasswordInputError(IsthmusError):
    """No password was given, or two that differ."""

    code = "password-input"


def add_parsers(commands: Any) -> None:
    """The two commands."""
    form = argparse.RawDescriptionHelpFormatter
    user = commands.add_parser(
        "user", help="users of the explicit proxy", description=_USER, epilog=_EXAMPLES, formatter_class=form
    )
    verbs = user.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="add a user; the password is asked for, twice")
    _name(add)
    _groups(add)
    how = add.add_mutually_exclusive_group()
    _stdin(how)
    how.add_argument("--no-password", action="store_true", help="only a client certificate lets the user in")
    passwd = verbs.add_parser("passwd", help="give a user a new password; the old one counts no longer")
    _name(passwd)
    _stdin(passwd)
    groups = verbs.add_parser("groups", help="give a user other groups, in place of those there are")
    _name(groups)
    _groups(groups)
    _name(verbs.add_parser("remove", help="remove a user; open sessions go on, new ones are refused"))
    _json(verbs.add_parser("list", help="users with their groups"))
    group = commands.add_parser(
        "group",
        help="groups of users",
        description="Groups of the explicit proxy's users, which rules and limits treat alike. Needs root.",
    )
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    _name(verbs.add_parser("add", help="add a group"))
    _name(verbs.add_parser("remove", help="remove a group that no user is in"))
    _json(verbs.add_parser("list", help="groups with the number of their users"))


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="1 to 64 letters, digits or . _ @ + -")


def _groups(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        *("-g", "--group"),
        action="append",
        required=True,
        metavar="GROUP",
        dest="groups",
        help="a group that there is; can be given several times",
    )


def _stdin(parser: Any) -> None:
    parser.add_argument("--stdin", action="store_true", help="read the password from the first line of input")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    author = config_cli.author()
    if options.verb == "list":
        _list(options, client)
    elif options.command == "group":
        (client.add_group if options.verb == "add" else client.remove_group)(options.name, author)
    elif options.verb == "add":
        if _is_there(options, client):
            client.set_user(options.name, new=True)  # refused, before a password is asked for
        password = None if options.no_password else read_password(options)
        client.set_user(options.name, options.groups, password, new=True, author=author)
    elif options.verb == "passwd":
        if not _is_there(options, client):
            client.set_user(options.name)  # refused
        client.set_user(options.name, password=read_password(options), author=author)
    elif options.verb == "groups":
        client.set_user(options.name, options.groups, author=author)
    else:
        client.remove_user(options.name, author)


def _is_there(options: argparse.Namespace, client: ControlClient) -> bool:
    return any(user["name"] == options.name for user in client.users()[0])


def read_password(options: argparse.Namespace) -> str:
    """The password, from the terminal twice and without echo, or from the input's first line."""
    if options.stdin:
        line = sys.stdin.readline(MAX_LINE)
        if not line:
            raise PasswordInputError("The input ended without a password", "Write it as one line.")
        return line.removesuffix("\n").removesuffix("\r")
    try:
        password = getpass.getpass(f"Password of “{options.name}”: ")
        again = getpass.getpass("Again: ")
    except EOFError:
        raise PasswordInputError("No password was given", "--stdin reads it from a pipe.") from None
    if password != again:
        raise PasswordInputError("The two differ", "Nothing was changed. Type the same password twice.")
    return password


def _list(options: argparse.Namespace, client: ControlClient) -> None:
    users, groups = client.users()
    if options.json:
        print(json.dumps(users if options.command == "user" else groups, indent=2))
    elif options.command == "group":
        for group in groups:
            print(f"{group['name']:<24} {group['users']} user{'' if group['users'] == 1 else 's'}")
        if not groups:
            print("There is no group. `isthmus group add NAME` makes one.")
    else:
        for user in users:
            how = "password" if user["has_password"] else "certificate only"
            print(f"{user['name']:<24} {how:<17} {', '.join(user['groups'])}")
        if not users:
            print("There is no user. `isthmus user add NAME --group GROUP` makes one.")
