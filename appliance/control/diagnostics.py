"""Ping, traceroute and name look-up from the box: what they are given is checked, and one runs at a time."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from struct import pack
from typing import Any

from appliance.addressing import TranslationPrefix
from appliance.control.crossing import fetch
from appliance.errors import IsthmusError
from appliance.protocol import dns

# Who asks waits for it, and the console's requests have 20 s. Less gives up on a lossy line.
PING_SECONDS = 8
PINGS = 4
# Hops that say nothing cost HOP_SECONDS each, all of them at once; more hops than any path of today has.
TRACE_SECONDS = 12
HOP_SECONDS = 2
MAX_HOPS = 30
LOOK_UP_SECONDS = 5.0
# Of a tool's output: what the two say in their time is some kilobytes.
MAX_OUTPUT = 16_384
MAX_TARGET = 253
MAX_RECORDS = 100
TYPES = {
    "AAAA": dns.AAAA, "A": dns.A, "PTR": dns.PTR, "MX": dns.MX, "NS": dns.NS, "TXT": 16, "HTTPS": dns.HTTPS,
}  # fmt: skip
_NAMES = {number: name for name, number in TYPES.items()} | {dns.CNAME: "CNAME", dns.SOA: "SOA"}
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_TXT = 16


class DiagnosticError(IsthmusError):
    """Nothing was sent."""

    code = "diagnostic-refused"


def target(text: str) -> str:
    """An address or a host's name, as the tools take it; DiagnosticError.

    The result never begins with a dash and has no white space.
    """
    bare = text.strip().removeprefix("[").removesuffix("]")
    try:
        if "%" not in bare:  # a zone is a device's name, which nobody has checked
            return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    return name(bare)


def name(text: str) -> str:
    """A name of the DNS, in ASCII; DiagnosticError."""
    bare = text.strip().removesuffix(".")
    try:
        # Labels that are ASCII are left alone: "_dmarc" is no host's name, and can be asked for.
        bare = bare if bare.isascii() else bare.encode("idna").decode()
    except UnicodeError:
        bare = ""
    # Whole numbers would be taken for an address in a form of old.
    if (
        not bare
        or len(bare) > MAX_TARGET
        or not all(_LABEL.fullmatch(label) for label in bare.split("."))
        or bare.rpartition(".")[2].isdecimal()
    ):
        raise DiagnosticError(
            "That is no address and no name.", "Write it like 192.0.2.1, 2001:db8::1 or www.example.org."
        )
    return bare.lower()


def words_of(rtype: int, data: bytes) -> str:
    """A record's data, its names written out, for people."""
    if rtype == dns.A and len(data) == 4:
        return str(IPv4Address(data))
    if rtype == dns.AAAA and len(data) == 16:
        return str(IPv6Address(data))
    if rtype in (dns.CNAME, dns.NS, dns.PTR):
        return _text_of(data)
    if rtype == dns.MX and len(data) > 2:
        return f"{int.from_bytes(data[:2], 'big')} {_text_of(data[2:])}"
    if rtype == _TXT:
        return " ".join(f'"{_printable(part)}"' for part in _strings(data))
    return f"{len(data)} octets: {data[:64].hex()}"


def _strings(data: bytes) -> Iterator[bytes]:
    while data:
        length = data[0]
        yield data[1 : 1 + length]
        data = data[1 + length :]


def _printable(octets: bytes) -> str:
    return "".join(
        chr(octet) if 0x20 <= octet < 0x7F and octet != 0x22 else f"\\{octet:03}" for octet in octets
    )


def _text_of(wire: bytes) -> str:
    return ".".join(_printable(label) for label in _strings(wire.removesuffix(b"\0"))) or "."


def question(text: str, kind: str) -> bytes:
    """The question's section for a name, or for an address by its reverse name; DiagnosticError."""
    if kind not in TYPES:
        raise DiagnosticError(f"“{kind}” is no type that can be asked for.", f"One of {', '.join(TYPES)}.")
    wanted = target(text)
    try:
        wanted, kind = ipaddress.ip_address(wanted).reverse_pointer, "PTR"
    except ValueError:
        pass
    wire = dns.wire_name(wanted)
    if len(wire) > dns.MAX_NAME:
        raise DiagnosticError("The name is too long.", "A name has 253 characters at most.")
    return wire + pack("!HH", TYPES[kind], dns.IN)


def answer_of(packet: bytes, asked: bytes, prefixes: Iterable[TranslationPrefix]) -> dict[str, Any]:
    """The varlink type ``LookUp`` of an answer; dns.DnsError where it is malformed."""
    message = dns.parse_answer(packet, asked)
    records = []
    for record in [one for one in message.records if one.section == dns.ANSWER][:MAX_RECORDS]:
        owner, _ = dns.read_name(message.packet, record.owner)
        data = dns.expand(message, record)
        made_of = None
        if record.rtype == dns.AAAA and len(data) == 16:
            found = [prefix.extract(IPv6Address(data)) for prefix in prefixes]
            made_of = next((str(one) for one in found if one is not None), None)
        records.append(
            {
                "name": _text_of(owner),
                "type": _NAMES.get(record.rtype, f"TYPE{record.rtype}"),
                "ttl": record.ttl,
                "data": words_of(record.rtype, data),
                "made_of": made_of,
            }
        )
    try:
        code = dns.Rcode(message.rcode).name
    except ValueError:
        code = f"RCODE{message.rcode}"
    return {"code": code, "records": records, "truncated": bool(message.flags & dns.TC)}


class Diagnostics:
    """``server``: where the box's DNS64 answers, None without an address; ``prefixes``: those in force."""

    def __init__(
        self,
        server: Callable[[], str | None],
        prefixes: Callable[[], Iterable[TranslationPrefix]],
        port: int = dns.PORT,
    ) -> None:
        self._server = server
        self._prefixes = prefixes
        self._port = port
        self._line = threading.Lock()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._line.acquire(blocking=False):
            raise DiagnosticError("Another test is under way.", "Wait until it is done: some seconds.")
        try:
            yield
        finally:
            self._line.release()

    def ping(self, text: str) -> dict[str, Any]:
        """Some echo requests: whether any was answered, and what ping says. DiagnosticError."""
        where = target(text)
        words = ("ping", "-n", "-c", str(PINGS), "-i", "0.5", "-w", str(PING_SECONDS - 2), "--", where)
        with self._alone():
            return self._run(words, PING_SECONDS)

    def trace(self, text: str) -> dict[str, Any]:
        """The routers on the way, by UDP: whether it ran, and what traceroute says. DiagnosticError."""
        where = target(text)
        words = (
            *("traceroute", "-n", "-q", "1", "-w", str(HOP_SECONDS), "-N", str(MAX_HOPS)),
            *("-m", str(MAX_HOPS), "--", where),
        )
        with self._alone():
            return self._run(words, TRACE_SECONDS)

    @staticmethod
    def _run(words: tuple[str, ...], seconds: float) -> dict[str, Any]:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=seconds, check=False, env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"")[:MAX_OUTPUT].decode("utf-8", "replace")
            return {"ok": False, "output": f"{said}Given up after {seconds:g} s.\n"}
        except OSError as error:
            raise DiagnosticError(
                f"{words[0]} did not run: {error.strerror}.", "It is in the image."
            ) from None
        return {"ok": done.returncode == 0, "output": done.stdout[:MAX_OUTPUT].decode("utf-8", "replace")}

    def look_up(self, text: str, kind: str) -> dict[str, Any]:
        """Ask the box's own DNS64, as a client of the LAN would: the type ``LookUp``, or DiagnosticError."""
        asked = question(text, kind)
        server = self._server()
        if server is None:
            raise DiagnosticError(
                "The LAN has no address yet, so the DNS does not answer.", "Look at the ports."
            )
        with self._alone():
            packet = self._ask(server, asked)
        try:
            return {"server": server, **answer_of(packet, asked, self._prefixes())}
        except dns.DnsError as error:
            raise DiagnosticError(f"The answer is malformed: {error}.", "") from None

    def cross(self, text: str, port: int) -> dict[str, Any]:
        """A session to an IPv4 host, as a client of the LAN would have it: the type ``Crossing``."""
        where = target(text)
        if not 1 <= port <= 65_535:
            raise DiagnosticError(f"{port} is no port.", "A port is 1 to 65535.")
        server = self._server()
        if server is None:
            raise DiagnosticError("The LAN has no address yet.", "Look at the ports.")
        with self._alone():
            origin = self._ipv4_of(server, where)
            prefix = next((one for one in self._prefixes() if one.may_carry(origin)), None)
            if prefix is None:
                raise DiagnosticError(
                    f"No translation prefix carries {origin}.", "Network, Translation has them all."
                )
            return {"origin": str(origin), **fetch(server, prefix.embed(origin), where, port)}

    def _ipv4_of(self, server: str, where: str) -> IPv4Address:
        """The address itself, or the first of the name's."""
        try:
            address = ipaddress.ip_address(where)
        except ValueError:
            asked = question(where, "A")
            try:
                records = answer_of(self._ask(server, asked), asked, ())["records"]
            except dns.DnsError as error:
                raise DiagnosticError(f"The answer is malformed: {error}.", "") from None
            found = [record["data"] for record in records if record["type"] == "A"]
            if not found:
                raise DiagnosticError(
                    f"“{where}” has no IPv4 address.", "Name a host that has one."
                ) from None
            return IPv4Address(found[0])
        if isinstance(address, IPv6Address):
            raise DiagnosticError("That is an IPv6 address, which needs no crossing.", "Name an IPv4 host.")
        return address

    def _ask(self, server: str, asked: bytes) -> bytes:
        number = os.urandom(2)
        query = number + dns.header(dns.RD, 0, 1)[2:] + asked + dns.opt_record(False)
        deadline = time.monotonic() + LOOK_UP_SECONDS
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.connect((server, self._port))
                sock.send(query)
                while (left := deadline - time.monotonic()) > 0:
                    sock.settimeout(left)
                    packet = sock.recv(dns.MAX_MESSAGE)
                    if packet[:2] == number and dns.answers_question(packet, asked):
                        return packet
        except OSError:
            pass
        raise DiagnosticError(
            f"[{server}]:{self._port} does not answer.", "Health says whether the DNS and its upstream work."
        )
