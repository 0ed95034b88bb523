"""isthmus-first-settings: the configuration of a box's first start, from a file that came with it.

    where                                            which file
    the EFI system partition                         isthmus.toml
    a drive labelled CIDATA (cloud-init's NoCloud)   isthmus.toml, else user-data that begins with the marker

Only in images that were built with it (FIRST_SETTINGS=1), and only where there is no configuration yet: after
the first start, or a factory reset. It is taken whole or, with any mistake in it, not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from appliance import files
from appliance.config import parse
from appliance.config.codec import MAX_CONFIG_BYTES
from appliance.errors import ConfigError
from appliance.update import machine
from appliance.update.versions import UpdateError

NAME = "isthmus.toml"
USER_DATA = "user-data"
# The first line of a user-data that is a configuration of ours; cloud-init's own begin with another.
MARKER = "#isthmus-config"
CONFIG = "config.toml"
# What is shown of a file that was not taken, in words; below the runtime folder.
PROBLEM = "first-settings.problem"
DRIVES = tuple(Path("/dev/disk/by-label") / label for label in ("CIDATA", "cidata"))


class NotTakenError(Exception):
    """In words, why the file is not the box's configuration now."""


def pick(folder: Path) -> str | None:
    """The settings that lie in a mounted drive's folder, None where there are none; NotTakenError."""
    for name in (NAME, USER_DATA):
        path = folder / name
        try:
            with path.open("rb") as stream:
                data = stream.read(MAX_CONFIG_BYTES + 1)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise NotTakenError(f"{name} cannot be read: {error.strerror or error}.") from None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise NotTakenError(f"{name} is no UTF-8 text.") from None
        if name == USER_DATA and text.partition("\n")[0].rstrip() != MARKER:
            continue
        if len(data) > MAX_CONFIG_BYTES:
            raise NotTakenError(f"{name} is larger than {MAX_CONFIG_BYTES >> 20} MiB.")
        try:
            parse(text)
        except ConfigError as error:
            raise NotTakenError(f"{name}: {'; '.join(map(str, error.problems))}") from None
        return text
    return None


def take(box: Path, sources: Iterable[Callable[[], str | None]]) -> bool:
    """The first source that has settings gives the box its configuration; whether one had. NotTakenError."""
    target = box / CONFIG
    if target.exists():
        return False
    for source in sources:
        text = source()
        if text is not None:
            files.put(target, text)
            return True
    return False


def _boot_partition(scratch: Path) -> str | None:
    try:
        device = machine.boot_device(machine.disk())
    except UpdateError as error:
        raise NotTakenError(error.message) from None
    return _on(device, "vfat", scratch)


def _drive(scratch: Path) -> str | None:
    device = next((one for one in DRIVES if one.exists()), None)
    return None if device is None else _on(device, "vfat,iso9660", scratch)


def _on(device: Path, types: str, scratch: Path) -> str | None:
    try:
        with machine.mounted(device, scratch, types, "ro") as folder:
            return pick(folder)
    except UpdateError as error:
        raise NotTakenError(f"{device.name}: {error.message}") from None


def main(argv: list[str] | None = None) -> int:
    """STATE RUNTIME: the box's folders. Exit status: always 0, for the box starts with or without."""
    words = sys.argv[1:] if argv is None else argv
    box, runtime = (Path(word) for word in words)
    scratch = runtime / "first-settings"
    try:
        if take(box, (lambda: _boot_partition(scratch), lambda: _drive(scratch))):
            print("isthmus-first-settings: the configuration is the one that came with the box", flush=True)
    except (NotTakenError, OSError) as error:
        print(f"isthmus-first-settings: not taken: {error}", flush=True)
        files.show(runtime / PROBLEM, str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
