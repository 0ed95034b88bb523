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
        self._squid = squid
        self._keeper = keeper
        self._seen = 0
        self._config: Config | None = None
        self._made: list[Syslog | SquidFile] = []

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
        before, self._config = self._config, config
        if before is not None and (before.log, before.system) == (config.log, config.system):
            return
        for old in self._made:
            if isinstance(old, Syslog):
                old.close()
        self._made = []
        if config.log.squid:
            self._made.append(SquidFile(self._squid))
        if config.log.syslog is not None:
            tls, host, port = syslog_target(config.log.syslog)
            authority = config.log.syslog_authority
            target = Target(host, port, tls, Path(authority) if authority is not None else None)
            self._made.append(Syslog(target, config.system.hostname))
        self._keeper.exports = tuple(self._made)

    def describe(self) -> list[dict[str, Any]]:
        """The varlink type ``Export`` of each."""
        return [export.describe() for export in self._made]


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
