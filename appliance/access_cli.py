"""`isthmus admin`, `isthmus token`, `isthmus audit`: who may use console and API, and who did what."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from typing import Any

from appliance import accounts_cli, config_cli
from appliance.config.roles import ABOUT, Role
from appliance.control.client import ControlClient
from appliance.errors import IsthmusError

VERBS = ("admin", "token", "audit")
_SECONDS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_ROLES = "roles:\n" + "".join(f"  {role:<9} {words}\n" for role, words in ABOUT.items())
_ADMIN = """\
Accounts of the web console. A change is in force at once, and ends the sessions of the account that it is
about. The first boot makes the account “admin”. Needs root.
"""
_ABOUT_TOKENS = """\
Tokens of the HTTP API (/api/v1). A token is shown once, when it is made; the box keeps its digest. They are
no part of the configuration, so that a rollback brings none back. Needs root.
"""
_EXAMPLES = """\
examples:
  isthmus token add backup --role admin --expires 90d
  curl --cacert authority.crt -H "Authorization: Bearer $TOKEN" https://[fd00:1::1]/api/v1/status
"""


class TimeError(IsthmusError):
    """A length of time was given that is none."""

    code = "time"


class BrokenError(IsthmusError):
    """The audit log is not whole."""

    code = "audit"


def add_parsers(commands: Any) -> None:
    """The three commands."""
    form = argparse.RawDescriptionHelpFormatter
    admin = commands.add_parser(
        "admin", help="accounts of the web console", description=_ADMIN, epilog=_ROLES, formatter_class=form
    )
    verbs = admin.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="add an account; the password is asked for, twice")
    _name(add)
    _role(add, required=True)
    _stdin(add)
    passwd = verbs.add_parser("passwd", help="give an account a new password")
    _name(passwd)
    _stdin(passwd)
    role = verbs.add_parser("role", help="give an account another role")
    _name(role)
    role.add_argument("role", choices=[str(one) for one in Role])
    _name(verbs.add_parser("no-totp", help="switch an account's one-time codes off: the phone is lost"))
    _name(verbs.add_parser("remove", help="remove an account"))
    _json(verbs.add_parser("list", help="all accounts"))
    token = commands.add_parser(
        "token",
        help="tokens of the HTTP API",
        description=_ABOUT_TOKENS,
        epilog=_ROLES + _EXAMPLES,
        formatter_class=form,
    )
    verbs = token.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="make a token, and show it this once")
    _name(add)
    _role(add, required=True)
    add.add_argument(
        "--expires", metavar="TIME", help="it counts for so long: 12h, 90d, 52w (default: for ever)"
    )
    _json(add)
    _name(verbs.add_parser("remove", help="the token counts no longer"))
    _json(verbs.add_parser("list", help="all tokens, without themselves"))
    audit = commands.add_parser("audit", help="who did what to the box", description=_AUDIT)
    audit.add_argument("--since", metavar="TIME", help="only of the last 30m, 12h, 7d …")
    audit.add_argument("--who", help="only this admin's, token's or user's")
    audit.add_argument("--action", help="only these: commit, sign-in, user-set …")
    audit.add_argument("--text", help="only with this in it")
    audit.add_argument("--limit", type=int, default=50, help="at most so many (default 50, up to 500)")
    audit.add_argument("--cursor", type=int, help="older than this number")
    audit.add_argument("--verify", action="store_true", help="say whether the log is whole")
    _json(audit)


_AUDIT = """\
The audit log, the newest first: sign-ins, failed ones, every change, and what it became. No secret is in it.
Each entry names the digest of the one before, so that a change of the file is noticed: --verify.
"""


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="1 to 64 letters, digits or . _ @ + -")


def _role(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--role", required=required, choices=[str(one) for one in Role])


def _stdin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stdin", action="store_true", help="read the password from the first line of input")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def seconds(text: str) -> float:
    """How long “90d” is; TimeError."""
    found = re.fullmatch("([1-9][0-9]{0,5})([mhdw])", text)
    if found is None:
        raise TimeError(f"“{text}” is no length of time", "30m, 12h, 90d or 52w, say.")
    return int(found[1]) * _SECONDS[found[2]]


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    {"admin": _admin, "token": _token, "audit": _audit}[options.command](options, client)


def _admin(options: argparse.Namespace, client: ControlClient) -> None:
    match options.verb:
        case "list":
            found = client.admins()
            if options.json:
                _print(found)
                return
            for one in found:
                codes = "one-time codes" if one["totp"] else ""
                print(f"{one['name']:<24} {one['role']:<9} {codes}".rstrip())
            if not found:
                print("There is no account yet: the first boot makes “admin”.")
        case "add":
            client.add_admin(options.name, accounts_cli.read_password(options), options.role)
        case "passwd":
            client.set_admin(options.name, password=accounts_cli.read_password(options))
        case "role":
            client.set_admin(options.name, role=options.role)
        case "no-totp":
            client.set_admin(options.name, without_totp=True)
        case _:
            client.remove_admin(options.name)


def _token(options: argparse.Namespace, client: ControlClient) -> None:
    if options.verb == "remove":
        client.remove_token(options.name)
    elif options.verb == "add":
        expires = time.time() + seconds(options.expires) if options.expires else None
        made = client.add_token(options.name, options.role, expires, config_cli.author())
        if options.json:
            _print({"name": options.name, "token": made, "expires": expires})
        else:
            print(made)
            print("It is shown this once.", file=sys.stderr)
    else:
        found = client.tokens()
        if options.json:
            _print(found)
            return
        for one in found:
            until = f"until {_when(one['expires'])}" if one["expires"] else "without end"
            used = f"used {_when(one['last_used'])}" if one["last_used"] else "never used"
            print(f"{one['name']:<24} {one['role']:<9} {until:<26} {used}")
        if not found:
            print("There is no token. `isthmus token add NAME --role viewer` makes one.")


def _audit(options: argparse.Namespace, client: ControlClient) -> None:
    if options.verify:
        found = client.verify_audit()
        if options.json:
            _print(found)
        if found["problem"]:
            raise BrokenError(found["problem"], "Compare it with a backup or with what syslog has.")
        if not options.json:
            print(
                f"{found['entries']} entries, each following from the one before.\n"
                f"last digest: {found['head']}"
            )
        return
    filters: dict[str, Any] = {
        name: getattr(options, name) for name in ("who", "action", "text") if getattr(options, name)
    }
    if options.since:
        filters["since"] = time.time() - seconds(options.since)
    entries, cursor = client.audit(filters, options.cursor, options.limit)
    if options.json:
        _print({"entries": entries, "cursor": cursor})
        return
    for one in entries:
        who = f"{one['who'] or '-'} ({one['via'] or '-'}{' ' + one['address'] if one['address'] else ''})"
        print(
            f"{one['seq']:>7}  {_when(one['time'])}  {who:<34} {one['action']} {one['about']}: "
            f"{one['outcome']}"
        )
    if cursor is not None:
        print(f"There are older ones: --cursor {cursor}")


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _print(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
