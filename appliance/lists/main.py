"""isthmus-lists: the entry point of the daemon that keeps the lists of names."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

from appliance.config import Config, load
from appliance.errors import ConfigError
from appliance.files import show
from appliance.lists.keeper import Folders, Keeper

EXIT_CONFIG = 2
EXIT_FOLDERS = 3
# Fetched and compiled at one time: each may need some hundred MiB while it is built. A slow server's takes a
# quarter of an hour, for which the other way stays open.
MAX_AT_ONCE = 2
# Seconds between two looks at what is due.
TICK = 1.0
STATUS = "status.json"


class Lists:
    """All lists, and what is shown of them in status.json."""

    def __init__(self, runtime: Path, state: Path) -> None:
        self._folders = Folders(runtime / "tables", state)
        self._status_path = runtime / STATUS
        self._keepers: dict[str, Keeper] = {}
        self._going: list[Keeper] = []  # no longer configured; some may be at work still
        self._wanted: set[str] = set()
        self._shown: str | None = None
        self._problems: dict[str, str] = {}
        for folder in (self._folders.served, self._folders.kept):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)

    def configure(self, config: Config) -> None:
        """Keep these lists from now on, and no others."""
        wanted = {settings.name: settings for settings in config.name_list}
        for name in self._keepers.keys() - wanted.keys():
            self._going.append(self._keepers.pop(name))
        for name, settings in wanted.items():
            if name in self._keepers:
                self._keepers[name].configure(settings)
            else:
                self._keepers[name] = Keeper(settings, self._folders)
        self._wanted = set(wanted)
        self._clear()

    def _clear(self) -> None:
        """Remove what is left of lists that are configured no longer."""
        for folder in (self._folders.served, self._folders.kept):
            for path in folder.iterdir():
                if path.name.lstrip(".").partition(".")[0] not in self._wanted and path.is_file():
                    path.unlink(missing_ok=True)

    def hurry(self) -> None:
        """Everything is due now."""
        for keeper in self._keepers.values():
            keeper.due = 0.0

    def tick(self, now: float) -> None:
        """Begin what is due, show what has changed. ``now``: seconds since 1970."""
        if self._going and not any(keeper.busy for keeper in self._going):
            self._going.clear()
            self._clear()
        free = MAX_AT_ONCE - sum(keeper.busy for keeper in self._keepers.values())
        due = [keeper for keeper in self._keepers.values() if keeper.is_due(now)]
        for keeper in sorted(due, key=lambda one: one.due)[: max(free, 0)]:
            keeper.busy = True
            threading.Thread(target=_refresh, args=(keeper, now), daemon=True).start()
        self._show()

    def _show(self) -> None:
        lists = [keeper.status() for keeper in self._keepers.values()]
        for one in lists:
            name, problem = one["name"], one["problem"]
            if problem and problem != self._problems.get(name):
                print(f"isthmus-lists: {name}: {problem}", file=sys.stderr, flush=True)
            elif self._problems.get(name) and not problem and not one["busy"]:
                print(f"isthmus-lists: {name}: good again", file=sys.stderr, flush=True)
            self._problems[name] = problem
        text = json.dumps({"lists": lists}, indent=1) + "\n"
        if text == self._shown:
            return
        try:
            show(self._status_path, text)
        except OSError as error:
            print(
                f"isthmus-lists: the status cannot be written: {error.strerror}", file=sys.stderr, flush=True
            )
            return
        self._shown = text


def _refresh(keeper: Keeper, now: float) -> None:
    try:
        keeper.refresh(now)
    finally:
        keeper.busy = False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isthmus-lists",
        description="Fetches the lists of names that rules speak of, and keeps them up to date: each becomes "
        "a table that the proxy and the DNS64 front look into. SIGHUP reads the configuration anew, SIGUSR1 "
        "fetches every list now.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("/var/lib/isthmus/config.toml"),
        metavar="FILE",
        help="the box's configuration: its [[name_list]] parts (default: %(default)s)",
    )
    parser.add_argument(
        "--runtime",
        type=Path,
        default=Path("/run/isthmus"),
        metavar="DIR",
        help="the daemons' common folder; its lists/ gets the tables and status.json (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("/var/lib/isthmus/lists"),
        metavar="DIR",
        help="where the last good copies are kept (default: %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Exit status: 0, 2 configuration or arguments, 3 folders."""
    options = _parser().parse_args(argv)
    os.umask(0o027)
    try:
        config = load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    try:
        lists = Lists(options.runtime / "lists", options.state)
        lists.configure(config)
    except OSError as error:
        print(f"isthmus-lists: {error.filename} cannot be used: {error.strerror}", file=sys.stderr)
        return EXIT_FOLDERS
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    print(f"isthmus-lists: {len(config.name_list)} lists", file=sys.stderr, flush=True)
    while True:
        lists.tick(time.time())
        if not select.select([wake_read], [], [], TICK)[0]:
            continue
        came = set(os.read(wake_read, 512))
        if came & {signal.SIGTERM, signal.SIGINT}:
            return 0  # what is on its way ends with us: nothing is half written
        if signal.SIGHUP in came:
            _reload(options.config, lists)
        if signal.SIGUSR1 in came:
            lists.hurry()


def _reload(path: Path, lists: Lists) -> None:
    try:
        lists.configure(load(path))
    except ConfigError as error:
        print(f"isthmus-lists: the old configuration stays: {error}", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"isthmus-lists: {error.filename}: {error.strerror}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
