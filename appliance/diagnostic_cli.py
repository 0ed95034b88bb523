"""`isthmus ping`, `trace`, `lookup`, `cross` and `capture`: tests from the box, by control's verbs."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from appliance.control.capture import MAX_OCTETS, MAX_SECONDS
from appliance.control.client import ControlClient
from appliance.control.diagnostics import TYPES
from appliance.errors import IsthmusError

_POLL = 0.3
_CAPTURE = """\
Keeps the frames that a device sends and receives, for some seconds or until the file is full; Ctrl-C ends it
sooner. Whoever reads the file reads what was sent. Needs root.
"""
VERBS = ("ping", "trace", "lookup", "cross", "capture")
EXIT_FAILED = 1
_LOOKUP = """\
Asks the box's own DNS64, as a client of the LAN does; of an address its name is asked for. Exit status 1
where there is no such name or no such record. Needs root.
"""


_CROSS = """\
Opens a session from the box's LAN address to an IPv4 host, by the way that a client's takes: name, policy,
proxy, WAN. Exit status 1 where none comes about. Needs root.
"""


class CaptureFileError(IsthmusError):
    """The file cannot be written."""

    code = "capture-file"


def add_parsers(commands: Any) -> None:
    """The commands."""
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
    cross = commands.add_parser(
        "cross", help="a session to an IPv4 host, through the proxy", description=_CROSS
    )
    cross.add_argument("target", metavar="NAME|ADDRESS")
    cross.add_argument("--port", type=int, default=80, help="default: 80")
    cross.add_argument("--json", action="store_true", help="for programs")
    capture = commands.add_parser("capture", help="frames of a port, as a pcap file", description=_CAPTURE)
    capture.add_argument("device", metavar="DEVICE", help="as `isthmus status` names the ports")
    capture.add_argument("file", type=Path, metavar="FILE", help="a new file")
    capture.add_argument("--host", default="", metavar="ADDRESS", help="only to and from it")
    capture.add_argument("--port", type=int, help="only to and from it (TCP, UDP, SCTP)")
    capture.add_argument("--seconds", type=int, default=10, help=f"1 to {MAX_SECONDS} (default: 10)")
    capture.add_argument(
        "--octets", type=int, default=MAX_OCTETS, help=f"of the file, at most {MAX_OCTETS} (the default)"
    )
    capture.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace, client: ControlClient) -> int:
    """Test, and print what was found; the exit status. IsthmusError where it is refused."""
    if options.command == "capture":
        return _capture(options, client)
    if options.command == "lookup":
        found = client.look_up(options.name, options.type)
        ok, text = bool(found["records"]), "\n".join(lines(found))
    elif options.command == "cross":
        found = client.cross(options.target, options.port)
        ok, text = found["ok"], crossed(found)
    else:
        found = client.ping(options.target) if options.command == "ping" else client.trace(options.target)
        ok, text = found["ok"], found["output"].rstrip()
    print(json.dumps(found, indent=2) if options.json else text)
    return 0 if ok else EXIT_FAILED


def _capture(options: argparse.Namespace, client: ControlClient) -> int:
    client.start_capture(options.device, options.host, options.port, options.seconds, options.octets)
    try:
        while (found := client.capture())["busy"]:
            time.sleep(_POLL)
    except KeyboardInterrupt:
        client.stop_capture()
        found = client.capture()
    try:
        descriptor = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            while part := client.read_capture(stream.tell()):
                stream.write(part)
    except OSError as error:
        raise CaptureFileError(f"{options.file}: {error.strerror or error}", "Name a new file.") from None
    text = (
        f"{options.file}: {found['frames']} frames, {found['lost']} lost. {found['problem'] or ''}".rstrip()
    )
    print(json.dumps(found, indent=2) if options.json else text)
    return EXIT_FAILED if found["problem"] else 0


def crossed(found: dict[str, Any]) -> str:
    """A crossing as text."""
    way = f"{found['client']} → {found['address']} → {found['origin']}"
    if not found["ok"]:
        return f"{way}: {found['problem']}"
    said = f"; it said “{found['said']}”" if found["said"] else ""
    return f"{way}: open after {found['milliseconds']} ms{said}."


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
