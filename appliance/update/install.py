"""An update from a file or an address to the other slot: all of it verified, then written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from appliance.lists.fetch import FetchError, Validators, Waits, fetch
from appliance.lists.unpack import UnpackError
from appliance.update import machine, slots, state, versions
from appliance.update.bundle import Reader
from appliance.update.kernels import Kernels
from appliance.update.manifest import Manifest, Piece, Running
from appliance.update.state import Status, Trial, show
from appliance.update.versions import UpdateError, order

# What an upload or a download is called until it is whole.
INCOMING = "incoming.update"
# 300 MB at 700 kbit/s. Shorter gives up bad lines; longer lets a server that trickles keep us for hours.
_WAITS = Waits(whole=3_600.0)
_CHUNK = 1 << 20
# Between two looks of whoever watches; each is a file written.
_SHOW_INTERVAL = 1.0


class Installer:
    """``folder`` is kept (state, downloads), ``runtime`` shows how far it is."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self._folder = folder
        self._runtime = runtime
        self._shown = 0.0

    def running(self) -> Running:
        """What this box is."""
        version = versions.running()
        floor = state.read(self._folder).floor or version
        return Running(version, max(version, floor, key=order))

    def install(self, source: str) -> Manifest:
        """From a path or an address; UpdateError. The slot that runs is not touched in any case."""
        with self.alone():
            return self._told(source)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Two units may come here: one at a time; UpdateError where another one is at work."""
        with (self._runtime / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                words = "An update is at work already."
                raise UpdateError("busy", words, "`isthmus update status` shows it.") from None
            yield

    def _told(self, source: str) -> Manifest:
        try:
            manifest = self._install(source)
        except UpdateError as error:
            show(self._runtime, Status("failed", code=error.code, message=error.message, hint=error.hint))
            raise
        except OSError as error:
            words = f"The disk refused: {error.strerror or error}."
            show(self._runtime, Status("failed", code="disk", message=words))
            raise UpdateError("disk", words) from None
        finally:
            (self._folder / INCOMING).unlink(missing_ok=True)
        show(self._runtime, Status("ready", manifest.version, manifest.size, manifest.size))
        return manifest

    def _install(self, source: str) -> Manifest:
        running, key, root_hash = self.running(), machine.key(), machine.root_hash()
        path = Path(source)
        if source.startswith(("http://", "https://")):
            path = self._folder / INCOMING
            self._fetch(source, path, Reader(key, running))
        first = Reader(key, running)
        for _ in self._pieces(path, first, "verifying"):
            pass
        manifest = first.finish()
        disk = machine.disk()
        with (
            machine.boot_partition(self._runtime / "esp", disk) as boot,
            slots.Disk(disk) as opened,
        ):
            again = Reader(key, running)
            slots.write(
                manifest,
                self._pieces(path, again, "writing", manifest),
                opened,
                root_hash,
                Kernels(boot, running.version),
                lambda: self._begin_trial(manifest, running.version),
            )
        return manifest

    def _begin_trial(self, manifest: Manifest, before: str) -> None:
        found = state.read(self._folder)
        trial = Trial(manifest.version, before, machine.boot_id(), time.time())
        floor = found.floor or before
        state.write(
            self._folder,
            replace(found, trial=trial, booted=before, floor=floor, failure="", available=""),
        )

    def _pieces(
        self, path: Path, reader: Reader, phase: str, expected: Manifest | None = None
    ) -> Iterator[tuple[Piece, bytes]]:
        """The file's, verified; UpdateError where it is not what it was when it was verified ``expected``."""
        try:
            stream = path.open("rb", buffering=0)
        except OSError as error:
            words = f"{path} cannot be read: {error.strerror or error}."
            raise UpdateError("no-file", words, "Give the path of a .update file.") from None
        with stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while data := stream.read(_CHUNK):
                yield from reader.feed(data)
                if expected is not None and reader.manifest != expected:
                    raise UpdateError("tampered", "The file was changed while it was read.", "Try again.")
                self._progress(phase, reader)
        reader.finish()

    def _fetch(self, url: str, path: Path, reader: Reader) -> None:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("xb") as stream:
            path.chmod(0o600)

            def take(data: bytes) -> None:
                # refused by its head, before more of it comes
                for _ in reader.feed(data):
                    pass
                stream.write(data)
                self._progress("fetching", reader)

            try:
                fetch(url, Validators(), take, _WAITS)
            except (FetchError, UnpackError) as error:
                words = f"The update could not be fetched: {error}."
                raise UpdateError(
                    "fetch", words, "Look at the address and the WAN, then try again."
                ) from None
            stream.flush()
            os.fsync(stream.fileno())
        reader.finish()

    def _progress(self, phase: str, reader: Reader) -> None:
        now = time.monotonic()
        if reader.manifest is not None and now - self._shown > _SHOW_INTERVAL:
            self._shown = now
            show(self._runtime, Status(phase, reader.manifest.version, reader.octets, reader.manifest.size))


class _EnoughError(Exception):
    """The head has come."""


def look(url: str, running: Running) -> str:
    """The version that is offered there, "" where it is none for this box; UpdateError."""
    reader = Reader(machine.key(), running)

    def take(data: bytes) -> None:
        for _ in reader.feed(data):
            pass
        if reader.manifest is not None:
            raise _EnoughError

    try:
        fetch(url, Validators(), take, _WAITS)
        reader.finish()
    except _EnoughError:
        pass
    except UpdateError as error:
        if error.code in ("same", "older"):
            return ""
        raise
    except (FetchError, UnpackError) as error:
        raise UpdateError("fetch", f"Nothing could be fetched: {error}.", "Look at update.url.") from None
    return reader.manifest.version if reader.manifest is not None else ""


def drained(sessions: Iterable[int], timeout: float) -> None:
    """Wait until the sessions' number, looked at once a second, is none; at most ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    for number in sessions:
        if not number or time.monotonic() > deadline:
            return
        time.sleep(1)
