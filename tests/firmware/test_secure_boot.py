"""Secure boot with the owner's keys: nothing that they have not signed starts, nothing injected counts."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.firmware.conftest import Say
from tests.firmware.wares import KEYS, OLD, OLD_BOOT, OLD_IMAGE, mtools
from tests.lab.box import BUILD, TOOLS, Box
from tests.lab.lab import copy_machine

pytestmark = pytest.mark.firmware

# Until the firmware has looked at every device: nothing is started later than that.
FIRMWARE_TIMEOUT = 90.0
UNIT = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo INJECTED >/dev/console'\n"


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory, say: Say) -> Iterator[Path]:
    """A folder with the disk and the firmware's variables of a box that took the keys at its first boot."""
    if not OLD_IMAGE.exists():
        pytest.skip("the image is not built: make test-firmware")
    folder = tmp_path_factory.mktemp("enrolled")
    box = Box(folder, {}, say, firmware="secure", image=OLD_IMAGE)
    credential = base64.b64encode(UNIT.encode()).decode()
    box.extra = [
        *(
            "-smbios",
            f"type=11,value=io.systemd.credential.binary:systemd.extra-unit.bad.service={credential}",
        ),
        *("-smbios", "type=11,value=io.systemd.credential:systemd.unit-dropin.bad=x"),
    ]
    box.start()
    box.wait()
    time.sleep(5)
    (folder / "first.log").write_text(box.console())
    box.shut_down()
    yield folder


def test_the_keys_are_taken_and_nothing_injected_counts(enrolled: Path) -> None:
    """SMBIOS brings credentials, one of them a unit: they are left where they are.

    (More kernel command line, which SMBIOS may bring too, systemd's stub takes even with secure boot.)
    """
    said = (enrolled / "first.log").read_text()
    assert "Secure boot enabled" in said
    assert "INJECTED" not in said
    assert "login:" not in said


def _signed_by_others(kernel: Path) -> Path:
    """The kernel image with somebody else's signature in place of the owner's."""
    place = TOOLS / "stranger"
    place.mkdir()
    try:
        shutil.copy(kernel, place / "kernel.efi")
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-new",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-subj",
                    "/CN=stranger/",
                ),
                *("-keyout", place / "key", "-out", place / "crt"),
            ],
            check=True,
            capture_output=True,
        )
        for words in (
            ("sbattach", "--remove", "/stranger/kernel.efi"),
            (
                *("sbsign", "--key", "/stranger/key", "--cert", "/stranger/crt"),
                *("--output", "/stranger/kernel.efi", "/stranger/kernel.efi"),
            ),
        ):
            subprocess.run(["chroot", TOOLS, *words], check=True, capture_output=True)
        target = BUILD / "firmware/stranger.efi"
        shutil.copy(place / "kernel.efi", target)
        return target
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("kind", ("unsigned", "signed by another key"))
def test_a_kernel_that_the_owner_did_not_sign(enrolled: Path, tmp_path: Path, say: Say, kind: str) -> None:
    """Refused by the firmware; no kernel runs."""
    kernel = OLD_BOOT / "kernel.efi"
    if kind == "unsigned":
        bad = tmp_path / "kernel.efi"
        shutil.copy(kernel, bad)
        shutil.copy(kernel, TOOLS / "unsigned.efi")
        subprocess.run(["chroot", TOOLS, "sbattach", "--remove", "/unsigned.efi"], check=True)
        shutil.move(TOOLS / "unsigned.efi", bad)
    else:
        bad = _signed_by_others(kernel)
    box = Box(tmp_path, {}, say, firmware="secure", image=OLD_IMAGE)
    copy_machine(enrolled / "disk.raw", box.disk)
    mtools(box.disk, "mdel", f"::/EFI/Linux/isthmus_{OLD}.efi")
    mtools(box.disk, "mcopy", bad, f"::/EFI/Linux/isthmus_{OLD}.efi")
    box.start()
    try:
        deadline = time.monotonic() + FIRMWARE_TIMEOUT
        while time.monotonic() < deadline:
            said = box.console()
            assert "Linux version" not in said
            if any(word in said for word in ("Access denied", "Access Denied", "Security Violation")):
                return
            time.sleep(0.5)
        raise AssertionError(f"the firmware did not say that it refused: {said[-2000:]}")
    finally:
        box.cut_power()


def test_the_keys_are_the_owner_s_alone() -> None:
    """For nobody else to read."""
    for name in ("mkosi.key", "update.key"):
        assert (KEYS / name).stat().st_mode & 0o077 == 0
