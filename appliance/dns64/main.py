"""isthmus-dns64: the DNS64 front's entry point."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from appliance.config import Config, load
from appliance.config.islands import Passage, passages
from appliance.dataplane import UNBOUND_PORT
from appliance.dns64.counters import Counters
from appliance.dns64.denials import INTERVAL, Denials
from appliance.dns64.gate import Gate, may_deny
from appliance.dns64.loop import READ, Loop
from appliance.dns64.passage import Passages
from appliance.dns64.quick import Quick
from appliance.dns64.resolver import Resolver
from appliance.dns64.server import Server
from appliance.dns64.synthesis import Synthesis
from appliance.dns64.told import FORGET_AFTER, Told
from appliance.dns64.upstream import Upstream
from appliance.errors import ConfigError
from appliance.session.asked import FILE, GRACE, open_to_write
from appliance.session.neighbours import Neighbours
from appliance.session.tables import Tables

EXIT_CONFIG = 2
EXIT_LISTEN = 3
DNS_PORT = 53
# Seconds between two lines about what was turned away: a flood must not fill the log as well.
REPORT = 60.0


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"“{text}” is no port: a number from 1 to 65535")
    return number


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"“{text}” is no IP address") from None


def _endpoint(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise argparse.ArgumentTypeError(f"“{text}” is not ADDR:PORT, such as 127.0.0.1:5335 or [::1]:5335")
    return _address(host), _port(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isthmus-dns64",
        description="A name server for an IPv6-only network. A name that has only IPv4 addresses gets "
        "IPv6 ones made of them (DNS64, RFC 6147), which lead through this box. All real look-ups are "
        "done by a recursive resolver behind it.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("/var/lib/isthmus/config.toml"),
        metavar="FILE",
        help="the box's configuration: its translation prefixes and its [dns] part (default: %(default)s)",
    )
    parser.add_argument(
        "--runtime",
        type=Path,
        default=Path("/run/isthmus"),
        metavar="DIR",
        help="the daemons' common folder; dns64/names in it tells the proxy who asked for which name "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--listen",
        type=_address,
        default=IPv6Address("::"),
        metavar="ADDR",
        help="address to answer on, by UDP and TCP; :: means every IPv6 address (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=_port, default=DNS_PORT, metavar="N", help="port to answer on (default: %(default)s)"
    )
    parser.add_argument(
        "--upstream",
        type=_endpoint,
        default=(IPv4Address("127.0.0.1"), UNBOUND_PORT),
        metavar="ADDR:PORT",
        help=f"the resolver that does the look-ups (default: 127.0.0.1:{UNBOUND_PORT})",
    )
    return parser


def _gate(config: Config, lists: Tables, denials: Denials) -> Gate | None:
    """The policy before questions; None where no rule could deny one."""
    if not any(may_deny(rule) for rule in config.rule):
        return None
    return Gate(config, lists, Neighbours(config.device), time.time, denials)


def _reload(path: Path, resolver: Resolver, islands: Passages, lists: Tables, denials: Denials) -> None:
    """Take the configuration up, or say why the old one stays."""
    try:
        config = load(path)
        resolver.configure(Synthesis(config), _gate(config, lists, denials))
        islands.configure(_passages(config))
    except ConfigError as error:
        print(f"isthmus-dns64: the old configuration stays: {error}", file=sys.stderr, flush=True)
    else:
        print("isthmus-dns64: the configuration was read anew", file=sys.stderr, flush=True)


def _passages(config: Config) -> set[Passage]:
    return {one for found in passages(config.translation).values() for one in found}


def _report(loop: Loop, counters: Counters, earlier: Counters | None = None) -> None:
    """Say once in a while what was turned away, if anything was."""
    if earlier is not None and (grown := counters.since(earlier)):
        print(f"isthmus-dns64: turned away in {REPORT:.0f} s: {grown}", file=sys.stderr, flush=True)
    copy = replace(counters)
    loop.after(REPORT, lambda: _report(loop, counters, copy))


def _tell(loop: Loop, denials: Denials) -> None:
    """Tell the proxy each second what was denied."""
    denials.flush()
    loop.after(INTERVAL, lambda: _tell(loop, denials))


def _told(loop: Loop, folder: Path) -> Told | None:
    """Notes for the data path who was told what; None, with the reason in the log, where that fails."""
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        told = Told(open_to_write(folder / FILE).store, GRACE)
    except OSError as error:
        print(
            f"isthmus-dns64: sessions will not be known by the names that were asked for: {error.strerror}",
            file=sys.stderr,
            flush=True,
        )
        return None

    def forget() -> None:
        told.forget()
        loop.after(FORGET_AFTER, forget)

    forget()
    return told


def _take_turns() -> None:
    """Do not interrupt unbound with each answer it gives us, where we share a processor with it.

    Woken at once we would handle one datagram, sleep, and be woken by the next one: two switches for each
    (a quarter of an uncached question's time). So we wait until it has nothing to do, and find many. With
    processors to spare nothing changes; on a busy one an answer may come some 3 ms later.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        pass  # forbidden by who started us: slower, no more


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration anew.

    Exit status: 0, 2 configuration or arguments, 3 no listener.
    """
    options = _parser().parse_args(argv)
    # One that comes while the file is read is for the newer file, and must not end us: it waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        config = load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    loop = Loop()
    counters = Counters()
    address, port = options.upstream
    upstream = Upstream(loop, address, port, counters)
    told = _told(loop, options.runtime / "dns64")
    resolver = Resolver(Synthesis(config), upstream.ask, lambda: int(loop.now), counters, told)
    lists = Tables(options.runtime / "lists" / "tables")
    denials = Denials(options.runtime / "proxy" / "denials.sock")
    resolver.configure(resolver.synthesis, _gate(config, lists, denials))
    _tell(loop, denials)
    islands = Passages(loop, counters)
    islands.configure(_passages(config))
    quick = Quick(loop, resolver, (str(address), port), counters)
    try:
        server = Server(loop, resolver, options.listen, options.port, counters, quick)
    except OSError as error:
        quick.close()
        islands.close()
        upstream.close()
        loop.close()
        hint = " Only root may use ports below 1024." if error.errno == 13 else ""
        print(
            f"isthmus-dns64: cannot listen on {options.listen} port {options.port}: {error.strerror}.{hint}",
            file=sys.stderr,
        )
        return EXIT_LISTEN
    # A signal ends epoll's wait only through a descriptor: Python retries an interrupted one.
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def woken(_events: int) -> None:
        # Each octet is the number of a signal.
        if set(os.read(wake_read, 512)) == {signal.SIGHUP}:
            _reload(options.config, resolver, islands, lists, denials)
        else:
            loop.stop()

    loop.add(wake_read, READ, woken)
    print(f"isthmus-dns64: listening on {options.listen} port {options.port}", file=sys.stderr, flush=True)
    _report(loop, counters)
    _take_turns()
    # What is there now stays: the collector need not look at it again and again.
    gc.freeze()
    loop.run()
    signal.set_wakeup_fd(-1)
    loop.remove(wake_read)
    os.close(wake_read)
    os.close(wake_write)
    server.close()
    quick.close()
    islands.close()
    upstream.close()
    denials.close()
    loop.close()
    print("isthmus-dns64: stopped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
