"""A box that is configured by a file that came with it: only where the image was built for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.firmware.conftest import Say, await_screen
from tests.firmware.wares import NEW, NEW_IMAGE, OLD, OLD_IMAGE, mtools
from tests.lab.box import Box, in_tools

pytestmark = pytest.mark.firmware

DRIVE_SIZE = 4 << 20


def _cidata(path: Path, hostname: str) -> Path:
    """A drive as hypervisors make them for cloud-init."""
    data = path.with_name("user-data")
    data.write_text(f'#isthmus-config\n[system]\nhostname = "{hostname}"\n')
    with path.open("wb") as stream:
        stream.truncate(DRIVE_SIZE)
    in_tools("usr/bin/mformat", "-i", path, "-v", "CIDATA", "::")
    in_tools("usr/bin/mcopy", "-i", path, data, "::/user-data")
    return path


def _name_and_version(say: Say, folder: Path, image: Path, drive: Path) -> tuple[str, str]:
    box = Box(folder, {}, say, firmware="uefi", image=image)
    box.extra = ["-drive", f"file={drive},format=raw,if=virtio,readonly=on"]
    for number in (0, 1):  # without its two ports a box applies nothing; nobody is behind them
        port = f"port{number}"
        box.extra += [
            "-netdev",
            f"hubport,id={port},hubid={number}",
            "-device",
            f"virtio-net-pci,netdev={port}",
        ]
    box.start()
    try:
        return await_screen(box)
    finally:
        box.cut_power()


def test_a_nocloud_drive(say: Say, tmp_path: Path) -> None:
    """Taken by an image that was built for it."""
    drive = _cidata(tmp_path / "cidata.img", "attic")
    assert _name_and_version(say, tmp_path, NEW_IMAGE, drive) == ("attic", NEW)


def test_no_drive_counts_unless_the_image_was_built_for_it(say: Say, tmp_path: Path) -> None:
    drive = _cidata(tmp_path / "cidata.img", "attic")
    assert _name_and_version(say, tmp_path, OLD_IMAGE, drive) == ("isthmus", OLD)


def test_a_file_on_the_boot_partition(say: Say, tmp_path: Path) -> None:
    """Before the drive's; one with a mistake is not taken, and the box says so."""
    image = tmp_path / "image.raw"
    subprocess.run(["cp", "--sparse=always", NEW_IMAGE, image], check=True)
    settings = tmp_path / "isthmus.toml"
    settings.write_text('[system]\nhostname = "cellar"\n')
    mtools(image, "mcopy", settings, "::/isthmus.toml")
    drive = _cidata(tmp_path / "cidata.img", "attic")
    assert _name_and_version(say, tmp_path, image, drive) == ("cellar", NEW)
