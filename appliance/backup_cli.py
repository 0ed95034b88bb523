"""`isthmus backup` and `isthmus restore`: all that makes the box, in one encrypted file."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any

from appliance import config_cli
from appliance.accounts_cli import MAX_LINE, PasswordInputError
from appliance.control.client import ControlClient
from appliance.errors import IsthmusError

VERBS = ("backup", "restore")
_BACKUP = """\
Writes the configuration in force with the users' passwords (hashed), the box's own authority, an uploaded
certificate and the console's admins. Only the passphrase opens it; without it nobody does. Needs root.
"""
_RESTORE = """\
Makes a backup's configuration your candidate: `isthmus diff` shows it, `isthmus commit` puts it in force.
With --identity the authority, the certificate and the admins of the backup are in force at once, for a box
that takes another one's place. Needs root.
"""


class BackupFileError(IsthmusError):
    """The file cannot be read or written."""

    code = "backup-file"


def add_parsers(commands: Any) -> None:
    """The two commands."""
    form = argparse.RawDescriptionHelpFormatter
    backup = commands.add_parser(
        "backup", help="write an encrypted backup", description=_BACKUP, formatter_class=form
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="a new file")
    restore = commands.add_parser(
        "restore", help="take a backup as the candidate", description=_RESTORE, formatter_class=form
    )
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--identity", action="store_true", help="its authority, certificate, admins too")
    restore.add_argument(
        "--author", default=config_cli.author(), help="whose candidate (default: %(default)s)"
    )
    for parser in (backup, restore):
        parser.add_argument(
            "--stdin", action="store_true", help="read the passphrase from the input's first line"
        )
        parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    try:
        if options.command == "backup":
            _backup(options, client)
        else:
            _restore(options, client)
    except OSError as error:
        raise BackupFileError(f"{options.file}: {error.strerror or error}") from None


def _backup(options: argparse.Namespace, client: ControlClient) -> None:
    if options.file.exists():
        raise BackupFileError(f"{options.file} is there already", "Name a new file.")
    data = client.backup(_passphrase(options, again=True))
    descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    if options.json:
        print(json.dumps({"file": str(options.file), "bytes": len(data)}))
    else:
        print(f"{options.file}: {len(data)} bytes. Keep the passphrase elsewhere.")


def _restore(options: argparse.Namespace, client: ControlClient) -> None:
    data = options.file.read_bytes()
    passphrase = _passphrase(options, again=False)
    candidate = client.restore_backup(options.author, data, passphrase, options.identity)
    if options.json:
        print(json.dumps({"changes": candidate["changes"], "problems": candidate["problems"]}, indent=2))
        return
    if options.identity:
        print("The backup's authority, certificate and admins are in force.")
    count = len(candidate["changes"])
    print(f"{count} change{'' if count == 1 else 's'}: `isthmus diff` shows, `isthmus commit` applies them.")


def _passphrase(options: argparse.Namespace, again: bool) -> str:
    """From the terminal without echo (twice for a new one), or from the input's first line."""
    if options.stdin:
        line = sys.stdin.readline(MAX_LINE)
        if not line:
            raise PasswordInputError("The input ended without a passphrase", "Write it as one line.")
        return line.removesuffix("\n").removesuffix("\r")
    try:
        passphrase = getpass.getpass("Passphrase: ")
        if again and passphrase != getpass.getpass("Again: "):
            raise PasswordInputError("The two differ", "Nothing was written. Type the same passphrase twice.")
    except EOFError:
        raise PasswordInputError("No passphrase was given", "--stdin reads it from a pipe.") from None
    return passphrase
