"""isthmus-history: the entry point of the daemon that keeps the history of sessions."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from appliance.config import Config, load
from appliance.config.fields import syslog_target
from appliance.errors import ConfigError
from appliance.session.export import Syslog, Target
from appliance.session.history import DAY
from appliance.session.keeper import Keeper
from appliance.session.squid import SquidFile
from appliance.session.verbs import Interface, Server

# How often the log is looked at: workers write it once a second.
POLL_INTERVAL = 0.5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isthmus-history",
        description="Keeps what became of sessions: reads the proxy's log, answers control's questions, and "
        "passes lines on to syslog. Traffic does not depend on it.",
    )
    parser.add_argument("--config", type=Path, default=Path("/run/isthmus/config.toml"))
    parser.add_argument(
        "--runtime", type=Path, default=Path("/run/isthmus"), help="folder for history/history.sock"
    )
    parser.add_argument("--state", type=Path, default=Path("/var/lib/isthmus/history"))
    parser.add_argument("--log", type=Path, default=Path("/var/log/isthmus/sessions.jsonl"), help="to read")
    parser.add_argument(
        "--squid",
        type=Path,
        default=Path("/var/log/isthmus-history/access.log"),
        help="the file in squid's format, where the configuration asks for one",
    )
    return parser


class Exports:
    """The exports that the configuration asks for. A file that is refused changes nothing."""

    def __init__(self, path: Path, squid: Path, keeper: Keeper) -> None:
        self._path = path
        self._file = SquidFile(squid, writes=False)
        self._syslog: Syslog | None = None
        self._keeper = keeper
        self._seen = 0
        self._config: Config | None = None

    def refresh(self) -> None:
        """Take the configuration up where it is another one."""
        try:
            changed = self._path.stat().st_mtime_ns
            if changed == self._seen:
                return
            self._seen = changed
            config = load(self._path)
        except (OSError, ConfigError) as error:
            if self._seen or self._config is None:
                print(f"isthmus-history: {error}", file=sys.stderr)
            return
        self._keeper.retention = float(config.policy.retention_days * DAY)
        self._config = config
        self._file.writes = config.log.squid
        self._choose_server(config)
        # The file also where nothing is written to it any more: what it has is forgotten and erased, too.
        self._keeper.exports = (self._file,) if self._syslog is None else (self._file, self._syslog)

    def _choose_server(self, config: Config) -> None:
        """While it is the same one, the lines that wait for it wait on."""
        target = None
        if config.log.syslog is not None:
            tls, host, port = syslog_target(config.log.syslog)
            authority = config.log.syslog_authority
            target = Target(host, port, tls, Path(authority) if authority is not None else None)
        hostname, before = config.system.hostname, self._syslog
        if before is not None:
            if (before.target, before.hostname) == (target, hostname):
                return
            before.close()
        self._syslog = None if target is None else Syslog(target, hostname)

    def describe(self) -> list[dict[str, Any]]:
        """The varlink type ``Export`` of each."""
        found: list[dict[str, Any]] = [self._file.describe()] if self._file.writes else []
        return found if self._syslog is None else [*found, self._syslog.describe()]


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM. Exit status: 0, 1 the socket could not be made."""
    options = _parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    keeper = Keeper(options.state, options.log)
    exports = Exports(options.config, options.squid, keeper)
    try:
        for folder in (options.state, options.runtime / "history"):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        server = Server(options.runtime / "history" / "history.sock", Interface(keeper, exports.describe))
    except OSError as error:
        print(f"isthmus-history: {error}", file=sys.stderr)
        return 1
    exports.refresh()  # whoever asks as soon as it is ready is told of them
    with server:
        threading.Thread(target=server.serve_forever, name="history-socket", daemon=True).start()
        print("isthmus-history: ready", file=sys.stderr)
        more = True
        while not stop.is_set():
            exports.refresh()
            if not more:
                stop.wait(POLL_INTERVAL)
            more = keeper.turn(time.monotonic(), time.time())
        server.shutdown()
    keeper.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
