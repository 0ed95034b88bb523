"""isthmus-control: the entry point of the privileged daemon."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from pathlib import Path

from appliance.addressing import TranslationPrefix
from appliance.config import dump
from appliance.config.schema import lan_address
from appliance.control.accounts import Accounts
from appliance.control.audit import Audit
from appliance.control.backup import Backups
from appliance.control.box import Box, is_root
from appliance.control.candidates import Candidates
from appliance.control.capture import Captures
from appliance.control.commits import Commits, NotAppliedError
from appliance.control.diagnostics import Diagnostics
from appliance.control.monitoring import Monitor
from appliance.control.revisions import BY_HAND, Revisions
from appliance.control.samples import Samples
from appliance.control.server import ControlServer, Interface
from appliance.control.uploads import Certificates
from appliance.control.watchdog import alive
from appliance.errors import ConfigError, IsthmusError
from appliance.network.observe import has_networkd
from appliance.session.tables import Tables
from appliance.system.admins import Admins
from appliance.system.tokens import Tokens

EXIT_FAILED = 1
EXIT_CONFIG = 2
# How often the ports and the lease are looked at; the file is read again on SIGHUP.
# A lease's new DNS server takes this long.
REFRESH_INTERVAL = 2.0
# How long a change by a verb waits for the main thread to apply it: a network change, and a proxy that hangs.
APPLY_TIMEOUT = 10.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isthmus-control",
        description="Makes the box's network what the configuration says, and answers the console and "
        "the command line. Runs as root. A configuration with a mistake is refused whole.",
    )
    parser.add_argument("--config", type=Path, default=Path("/var/lib/isthmus/config.toml"))
    parser.add_argument("--runtime", type=Path, default=Path("/run/isthmus"), help="folder for sockets")
    parser.add_argument("--state", type=Path, default=Path("/var/lib/isthmus"), help="folder that is kept")
    parser.add_argument("--no-networkd", action="store_true", help="set the LAN address here")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only say what is wrong with the file")
    what.add_argument("--plan", action="store_true", help="only print what would be done")
    what.add_argument("--once", action="store_true", help="do it, and do not stay")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM. Exit status: 0, 1 it could not be done, 2 the configuration is refused."""
    options = _parser().parse_args(argv)
    networkd = has_networkd() and not options.no_networkd
    try:
        box = Box(options.config, options.runtime, options.state, networkd)
        if options.check:
            from appliance.config import load

            load(options.config)
            print(f"{options.config}: no problem found")
            return 0
        revisions = Revisions(options.config, options.state / "revisions")
        if is_root() and not options.plan:
            # Before the file is read: it may be about to be rolled back, or be gone.
            options.state.mkdir(mode=0o750, parents=True, exist_ok=True)
            _recover(revisions)
        box.read()
        if options.plan:
            for step in box.steps():
                print(step)
            return 0
        if not is_root():
            print("isthmus-control: changing the network needs root", file=sys.stderr)
            return EXIT_FAILED
        options.runtime.mkdir(parents=True, exist_ok=True)
        if options.once:
            box.apply()
            return 0
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except IsthmusError as error:
        print(f"isthmus-control: {error.message}. {error.hint}".rstrip(), file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"isthmus-control: {error}", file=sys.stderr)
        return EXIT_FAILED
    return _serve(box, revisions)


def _serve(box: Box, revisions: Revisions) -> int:
    alive()  # on a slow box loading the program and the first apply have the whole time each
    wake = threading.Event()
    asked: set[int] = set()
    changed = _Changes(wake)

    def on_signal(number: int, _frame: object) -> None:
        asked.add(number)
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    commits = Commits(
        revisions,
        Candidates(box.state / "candidates"),
        changed.apply,
        box.generated_prefix,
        box.ground,
    )
    with contextlib.suppress(OSError):  # a full disk stops no traffic
        commits.adopt()
        if not revisions.ledger.active:  # the file has mistakes, and the last good one is in force
            revisions.adopt(dump(box.config), BY_HAND, "The last good configuration", 0)
    box.refresh(commits.leaving())  # a missing port is shown as a health issue; the box waits for it
    path = box.runtime / "control.sock"

    def serve_anew() -> None:
        """Have the certificates of the folder served, whatever else may be wrong with the box."""
        box.judge_certificates()
        problem = changed.apply()
        if not box.certificates_judged:
            raise NotAppliedError(
                "The change is saved, but what is served is as before.",
                problem or box.network_problem or "`isthmus status` says what holds the box up.",
            )

    def restored() -> None:
        try:
            serve_anew()
        finally:
            box.end_console_sessions()

    interface = Interface(
        lambda: box.config,
        box.status,
        box.figures,
        box.sessions,
        Admins(box.principals),
        Tokens(box.principals, box.state / "tokens-used.json"),
        Audit(box.state / "audit"),
        box.end_console_sessions,
        Accounts(box.config_path, commits.change_file, commits.line),
        commits,
        Tables(box.runtime / "lists" / "tables"),
        box.state / "proxy" / "meters",
        Backups(box.state, commits.drafting, restored),
        box.updates,
        Certificates(box.state, lambda: box.config, serve_anew, commits.line),
    )
    interface.ask_proxy = box.ask_proxy
    interface.monitor = Monitor(box.runtime, box.ask_proxy)
    interface.captures = Captures()
    interface.samples = Samples(lambda: box.ask_proxy("GetStatus"))
    ended = threading.Event()
    threading.Thread(target=interface.samples.run, args=(ended,), name="samples", daemon=True).start()
    interface.diagnostics = Diagnostics(
        lambda: str(lan_address(box.facts.lans[0].prefix)) if box.facts else None,
        lambda: [TranslationPrefix(entry.prefix) for entry in box.config.translation],
    )
    with ControlServer(path, interface) as server:
        threading.Thread(target=server.serve_forever, name="control-socket", daemon=True).start()
        print("isthmus-control: ready", file=sys.stderr)
        while not asked & {signal.SIGTERM, signal.SIGINT}:
            alive()
            wake.wait(commits.pause(REFRESH_INTERVAL))
            wake.clear()
            # Here and not in the handler: nothing may change under an apply that is under way.
            waiting = changed.take()
            before = box.network_problem
            problem = None
            by_hand = signal.SIGHUP in asked
            if commits.tick() or by_hand or waiting:
                problem = _reread(box)
            if by_hand and commits.adopt(wait=False):
                asked.discard(signal.SIGHUP)
            box.refresh(commits.leaving(), strict=bool(waiting))
            if problem is None and box.network_problem != before:
                problem = box.network_problem  # which this change brought
            for one in waiting:
                one.done(problem)
        ended.set()
        server.shutdown()
    path.unlink(missing_ok=True)
    return 0


def _recover(revisions: Revisions) -> None:
    """End what a crash or a power cut left. What the disk refuses stops no traffic."""
    try:
        revisions.recover()
    except OSError as error:
        print(f"isthmus-control: revisions: {error}", file=sys.stderr)


class _Waiting:
    """A thread of the socket that changed the file."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.problem: str | None = None

    def done(self, problem: str | None) -> None:
        self.problem = problem
        self._event.set()

    def wait(self, timeout: float) -> bool:
        return self._event.wait(timeout)


class _Changes:
    """Threads of the socket that changed the file, until the main one has applied it."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._line = threading.Lock()
        self._waiting: list[_Waiting] = []

    def apply(self) -> str | None:
        """Have the file taken up; what the box cannot do of it. NotAppliedError where that takes too long."""
        one = _Waiting()
        with self._line:
            self._waiting.append(one)
        self._wake.set()
        if not one.wait(APPLY_TIMEOUT):
            raise NotAppliedError(
                "The change is saved, but not in force yet.", "`isthmus status` says what holds the box up."
            )
        return one.problem

    def take(self) -> list[_Waiting]:
        """Those that wait, each once."""
        with self._line:
            waiting, self._waiting = self._waiting, []
        return waiting


def _reread(box: Box) -> str | None:
    """Take the file up; in words why it cannot be."""
    try:
        box.read()
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
