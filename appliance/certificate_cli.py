"""`isthmus certificate`: what the box serves by TLS, and one of your own in place of it."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance import config_cli
from appliance.control.client import ControlClient
from appliance.errors import IsthmusError

_ABOUT = """\
The encrypted listeners of the explicit proxy serve a certificate of the box's own authority, or one that you
upload. Each change is in force at once, for connections that are made from then on. Needs root.
"""
_EXAMPLES = """\
examples:
  isthmus certificate show
  isthmus certificate upload fullchain.pem privkey.pem
  isthmus certificate remove                    the box's own serves again
  isthmus certificate renew                     new ones of the box's own, with the same keys
"""


class PemFileError(IsthmusError):
    """A file cannot be read."""

    code = "certificate-file"


def add_parsers(commands: Any) -> None:
    """The command."""
    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "certificate", help="certificates of the box", description=_ABOUT, epilog=_EXAMPLES,
        formatter_class=form,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    show = verbs.add_parser("show", help="each with its names, its end, and who is served by it")
    show.add_argument("--json", action="store_true", help="for programs")
    upload = verbs.add_parser("upload", help="have the encrypted listeners serve one from elsewhere")
    upload.add_argument(
        "certificate", type=Path, metavar="CERT", help="PEM; those between it and its root too"
    )
    upload.add_argument("key", type=Path, metavar="KEY", help="PEM, without a password")
    verbs.add_parser("remove", help="forget the uploaded one")
    verbs.add_parser("renew", help="have the box's own made anew")


def run(options: argparse.Namespace, client: ControlClient) -> None:
    """Do what was asked; IsthmusError where it is refused."""
    author = config_cli.author()
    if options.verb == "show":
        _show(client.certificates(), options.json)
    elif options.verb == "upload":
        warning = client.upload_certificate(_text(options.certificate), _text(options.key), author)
        print(f"The encrypted listeners serve it now.{f' {warning}' if warning else ''}")
    elif options.verb == "remove":
        client.remove_certificate(author)
        print("The encrypted listeners serve the box's own certificate now.")
    else:
        client.renew_certificates(author)
        print("The box's own certificates are new; their keys are the same.")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise PemFileError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise PemFileError(f"{path} is no PEM file", "openssl converts it.") from None


def _show(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for one in found:
        until = datetime.fromtimestamp(one["until"], UTC)
        print(f"{one['name']:<11}{one['subject']}, until {until:%Y-%m-%d}, {one['key']}")
        rows = [
            ("names", ", ".join(one["names"])),
            ("signed by", one["issuer"]),
            ("serves", ", ".join(one["used_by"])),
            ("SHA-256", one["fingerprint"]),
            ("problem", one["problem"]),
        ]
        for name, value in rows:
            if value:
                print(f"  {name:<10} {value}")
