"""isthmus-update: what is done around updates, each a unit of its own. No other program writes slots."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from appliance.config import Config, load
from appliance.control.client import ControlClient
from appliance.errors import IsthmusError
from appliance.network.apply import run_tool
from appliance.update import boots, install, machine, state, trial, versions
from appliance.update.kernels import Kernels
from appliance.update.state import Status, show
from appliance.update.versions import UpdateError

EXIT_FAILED = 1
# How often the address is asked whether there is a newer version. Hourly is no use to anybody; a week is long
# for a hole that is being used.
CHECK_INTERVAL = 6 * 3_600.0
# How long a restart waits for the sessions that run: a call ends, a download of hours does not.
DRAIN_TIMEOUT = 60.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isthmus-update", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("/var/lib/isthmus"), help="folder that is kept")
    parser.add_argument("--runtime", type=Path, default=Path("/run/isthmus"), help="folder with control.sock")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("work", help="do what request.json asks for")
    verbs.add_parser("check", help="look for a newer version, where the configuration says so")
    verbs.add_parser("health", help="the health check of a new version; restarts where it fails")
    verbs.add_parser("settle", help="after the health check: what became of the trial")
    verbs.add_parser("overdue", help="a trial that is not done by now: restart")
    return parser


class Updates:
    """The verbs."""

    def __init__(self, box: Path, runtime: Path) -> None:
        self._box = box
        self._folder = box / "update"
        self._runtime = runtime
        self._shown = runtime / "update"
        self._installer = install.Installer(self._folder, self._shown)

    def work(self) -> None:
        """What control asks for: an installation, with a restart or not."""
        path = self._shown / state.REQUEST
        try:
            request = json.loads(path.read_text())
            source, restart = str(request["source"]), bool(request["restart"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UpdateError("no-request", "Nothing was asked for.") from None
        path.unlink()
        self._installer.install(source)
        if restart:
            self.restart()

    def check(self) -> None:
        """By [update] of the configuration: look, install, restart at the hour."""
        config = load(self._runtime / "config.toml")
        wanted, found, now = config.update, state.read(self._folder), time.time()
        if self._is_begun(found):
            if wanted.automatic == "install" and self._is_hour(config, now):
                self.restart()
            return
        if wanted.url is None or wanted.automatic == "off" or 0 <= now - found.checked < CHECK_INTERVAL:
            return
        try:
            available, problem = install.look(wanted.url, self._installer.running()), ""
        except UpdateError as error:
            available, problem = "", f"{error.message} {error.hint}".rstrip()
        if available and any(one.version == available for one in found.history if one.result != "kept"):
            # It failed here once. Tried again by itself it would take the network down each night.
            problem, available = f"Version {available} was given up by this box before.", ""
        with self._installer.alone():  # a look may take long, and somebody may have installed meanwhile
            found = state.read(self._folder)
            state.write(self._folder, replace(found, available=available, checked=now, problem=problem))
        if available and wanted.automatic == "install" and not self._is_begun(found):
            self._installer.install(wanted.url)
            if self._is_hour(config, now):
                self.restart()

    @staticmethod
    def _is_begun(found: state.State) -> bool:
        """Whether a version was installed since this start, and waits for the next."""
        return found.trial is not None and found.trial.boot == machine.boot_id()

    @staticmethod
    def _is_hour(config: Config, now: float) -> bool:
        hour = config.update.restart_hour
        return hour is None or datetime.fromtimestamp(now, ZoneInfo(config.system.timezone)).hour == hour

    def restart(self) -> None:
        """Once the sessions have ended, or DRAIN_TIMEOUT later."""
        client = ControlClient(self._runtime)

        def sessions() -> int:
            with contextlib.suppress(IsthmusError):
                counters = client.status()["counters"]
                return int(counters["tcp"] + counters["udp"])
            return 0

        install.drained(iter(sessions, -1), DRAIN_TIMEOUT)
        run_tool("systemctl", "reboot")

    def health(self) -> None:
        """NotHealthyError, after which a trial's boot ends."""
        client = ControlClient(self._runtime)
        problem = trial.wait(lambda: trial.look(client), self._keep, trial.DEADLINE)
        if problem:
            if machine.is_trial():
                self._give_up(problem)
            raise trial.NotHealthyError(problem)
        print("isthmus-update: healthy", file=sys.stderr)

    def overdue(self) -> None:
        """A trial hangs somewhere, or its health check has failed, which says more where it came to that."""
        if machine.is_trial():
            self._give_up(state.read(self._folder).failure or "It did not come up in time.")

    def _keep(self, reason: str) -> None:
        """For the old version, which tells it."""
        if machine.is_trial():
            with contextlib.suppress(OSError):
                state.write(self._folder, replace(state.read(self._folder), failure=reason))

    def _give_up(self, reason: str) -> None:
        print(f"isthmus-update: the new version is not healthy: {reason}", file=sys.stderr)
        self._keep(reason)
        run_tool("systemctl", "reboot", "--force")

    def settle(self) -> None:
        """After the health check, at each start."""
        running = versions.running()
        if machine.is_waiting():
            return
        with machine.boot_partition(self._shown / "esp", machine.disk()) as boot:
            outcome = boots.settle(self._folder, running, machine.boot_id(), Kernels(boot, running))
        if outcome is None:
            return
        print(
            f"isthmus-update: {outcome.version} {outcome.result} {outcome.reason}".rstrip(), file=sys.stderr
        )
        if outcome.result == "fell-back":
            words = f"Version {outcome.version} was given up. {outcome.reason}"
            show(self._shown, Status("failed", outcome.version, code="fell-back", message=words))


def main(argv: list[str] | None = None) -> int:
    """One verb. Exit status: 0, 1 refused or failed (the words are on standard error)."""
    options = _parser().parse_args(argv)
    updates = Updates(options.state, options.runtime)
    try:
        getattr(updates, options.verb)()
    except IsthmusError as error:
        print(f"isthmus-update: {error.message} {error.hint}".rstrip(), file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        print(f"isthmus-update: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
