"""Versions and their order, the running one, and the error of all that is refused. Quick to import."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from appliance.errors import IsthmusError

OS_RELEASE = Path("/usr/lib/os-release")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})(\.(0|[1-9][0-9]{0,5})){1,3}")


class UpdateError(IsthmusError):
    """An update that was refused or did not work. ``code`` names why; nothing that runs was touched."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


def order(version: str) -> tuple[int, ...]:
    """A version as what compares: 1.10 is above 1.9, 1.0.0 is 1.0. UpdateError where it is none."""
    if not _VERSION.fullmatch(version):
        raise UpdateError("not-an-update", f"“{version[:40]}” is no version.", "Versions look like 1.2.3.")
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (4 - len(numbers)))


def running() -> str:
    """The running image's version; "" where no image runs."""
    with contextlib.suppress(OSError):
        if found := re.search(r'^IMAGE_VERSION="?([^"\n]+)"?$', OS_RELEASE.read_text(), re.MULTILINE):
            return found[1]
    return ""
