"""Updates as control has them: it hands requests to the unit that writes, and tells how far that is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from appliance.control.client import UPDATING
from appliance.files import show
from appliance.network.apply import run_tool
from appliance.system.console import RENEW_UNIT, RESET_MARKER
from appliance.system.health import is_in_memory
from appliance.update import state, versions
from appliance.update.manifest import MAX_PIECE
from appliance.update.versions import UpdateError

UNIT = "isthmus-update.service"
# Which installs by itself, where the configuration says so.
CHECK_UNIT = "isthmus-update-check.service"
UPLOAD = "upload.update"
# From the order to start the unit until it shows as one that starts.
_STARTING = 3.0
# What the data partition must keep for logs while an upload is on it.
_RESERVE = 64 << 20
_IDLE = {"phase": "idle", "version": "", "done": 0, "total": 0, "code": "", "message": "", "hint": ""}


class Updates:
    """``box``: the state folder, ``runtime``: /run/isthmus. Works where systemd runs the image."""

    def __init__(
        self, box: Path, runtime: Path, run: Callable[..., str] = run_tool, version: str | None = None
    ) -> None:
        self._box = box
        self._folder = box / "update"
        self._shown = runtime / "update"
        self._run = run
        self._started = -_STARTING
        self._version = versions.running() if version is None else version

    def status(self) -> dict[str, Any]:
        """The varlink type ``Update``."""
        try:
            shown = _IDLE | json.loads((self._shown / state.STATUS).read_text())
        except (OSError, ValueError, TypeError):
            shown = dict(_IDLE)
        if shown["phase"] in UPDATING and not self._is_active():
            words = "The update was interrupted. What runs was not touched."
            shown |= {"phase": "failed", "code": "interrupted", "message": words, "hint": "Start it again."}
        found = state.read(self._folder)
        return {
            **{key: shown[key] for key in _IDLE},
            "running": self._version,
            "trial": found.trial.version if found.trial else None,
            "available": found.available or None,
            "checked": found.checked or None,
            "check_problem": found.problem or None,
            "history": [asdict(one) for one in reversed(found.history)],
        }

    def busy(self) -> bool:
        """Whether one is being fetched or written."""
        return self.status()["phase"] in UPDATING

    def _is_active(self) -> bool:
        words = ("systemctl", "show", "--property=ActiveState", "--value", UNIT, CHECK_UNIT)
        is_new = time.monotonic() - self._started < _STARTING
        return is_new or not {"activating", "active", "deactivating"}.isdisjoint(self._run(*words).split())

    def start(self, source: str | None, restart: bool) -> None:
        """Install from a path or an address on the box, or (None) what was uploaded; UpdateError."""
        if not self._version:
            raise UpdateError("no-slots", "This system is not the image.", "Updates are for the image.")
        if self.busy():
            raise UpdateError("busy", "An update is at work already.", "`isthmus update status` shows it.")
        path = str(self._folder / UPLOAD) if source is None else source
        if not path.startswith(("/", "http://", "https://")):
            raise UpdateError("no-file", "That is no whole path and no address.", "Give one of the two.")
        request = json.dumps({"source": path, "restart": restart})
        self._write(state.REQUEST, request)
        self._write(state.STATUS, json.dumps(_IDLE | {"phase": "starting"}))
        self._run("systemctl", "--no-block", "start", UNIT)
        self._started = time.monotonic()

    def _write(self, name: str, text: str) -> None:
        self._shown.mkdir(mode=0o750, exist_ok=True)
        show(self._shown / name, text)

    def upload(self, offset: int, data: bytes) -> int:
        """Take the next part of a bundle, from ``offset`` 0 on; how much there is now. UpdateError."""
        if self.busy():
            raise UpdateError("busy", "An update is at work already.", "Wait until it is done.")
        path = self._folder / UPLOAD
        self._folder.mkdir(mode=0o750, exist_ok=True)
        if offset == 0:
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
        length = path.stat().st_size if path.exists() else 0
        if offset != length:
            raise UpdateError("upload", f"The upload is at {length}, not at {offset}.", "Begin anew.")
        room = os.statvfs(self._folder)
        if offset + len(data) > 2 * MAX_PIECE or room.f_bavail * room.f_frsize < _RESERVE + len(data):
            path.unlink()
            raise UpdateError(
                "no-room", "There is no room for the update.", "Erase old logs, or use its address."
            )
        with path.open("ab") as stream:
            stream.write(data)
        return length + len(data)

    def restart(self) -> None:
        """Start the box anew, with what was installed."""
        self._run("systemctl", "--no-block", "reboot")

    def factory_reset(self) -> None:
        """Erase everything at the next start, which is now."""
        if is_in_memory(Path("/proc/mounts").read_text()):
            self._run("systemctl", "--no-block", "start", RENEW_UNIT)
            return
        (self._box / RESET_MARKER).touch()
        os.sync()
        self.restart()
