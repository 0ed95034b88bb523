"""What this machine runs, from which disk, by which key: the system says so, never the data partition."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from appliance.network.apply import ApplyError, run_tool
from appliance.update.slots import ESP, Disk
from appliance.update.versions import UpdateError

KEY = Path("/usr/share/isthmus/update.pub")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
COMMAND_LINE = Path("/proc/cmdline")
# The boot loader sets it where the boot counts as one of a version's tries.
BOOT_COUNT = Path("/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")


def root_hash() -> str:
    """Of the verified root, as the signed kernel image names it; UpdateError where there is none."""
    found = re.search(r"(?:^| )roothash=([0-9a-f]{64})(?= |$)", COMMAND_LINE.read_text().strip())
    if found is None:
        raise UpdateError("no-slots", "This system runs from no verified slot.", "Updates are for the image.")
    return found[1]


def boot_id() -> str:
    """Another one after each start."""
    return BOOT_ID.read_text().strip()


def is_trial() -> bool:
    """Whether the boot loader counts this boot as one of a version's tries."""
    return BOOT_COUNT.exists()


def is_waiting() -> bool:
    """A trial whose health check has not passed."""
    done = subprocess.run(["systemctl", "is-active", "--quiet", "systemd-bless-boot.service"], check=False)
    return is_trial() and done.returncode != 0


def key() -> Ed25519PublicKey:
    """The owner's, which the image was built with; UpdateError."""
    try:
        found = load_pem_public_key(KEY.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise UpdateError("no-key", "This image was built without an update key.", "`make image` makes one.")
    return found


def disk() -> Path:
    """The whole disk below the running root; UpdateError."""
    device = Path("/").stat().st_dev
    folder = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/slaves")
    with contextlib.suppress(OSError):
        for slave in folder.iterdir():
            return Path("/dev") / slave.resolve().parent.name
    raise UpdateError("no-slots", "This system runs from no verified slot.", "Updates are for the image.")


def boot_device(whole: Path) -> Path:
    """The disk's EFI system partition; UpdateError."""
    with Disk(whole) as opened:
        index = next((one.index for one in opened.table().partitions() if one.type == ESP), -1)
    for path in Path(f"/sys/block/{whole.name}").glob("*/partition"):
        if int(path.read_text()) == index + 1:
            return Path("/dev") / path.parent.name
    raise UpdateError("disk", "The disk has no EFI system partition.")


@contextlib.contextmanager
def mounted(device: Path, folder: Path, types: str, *options: str) -> Iterator[Path]:
    """A file system of one of the types, mounted on ``folder`` in a mount namespace of ours; UpdateError."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ("nodev", "nosuid", "noexec", *options)
    _run("mount", "-t", types, "-o", ",".join(words), str(device), str(folder))
    try:
        yield folder
    finally:
        _run("umount", str(folder))


@contextlib.contextmanager
def boot_partition(folder: Path, whole: Path) -> Iterator[Path]:
    """The disk's EFI system partition, mounted on ``folder``; UpdateError.

    It is mounted for as short as can be: an unclean one is what a power cut leaves of it.
    """
    with mounted(boot_device(whole), folder, "vfat", "umask=0077") as found:
        yield found


def _run(*words: str) -> None:
    try:
        run_tool(*words)
    except ApplyError as error:
        raise UpdateError("disk", f"{error.message}.", "Restart the box.") from None
