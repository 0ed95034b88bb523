"""What the web console does with the firmware: a bundle that is uploaded, a backup that a blank box takes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from tests.firmware.conftest import NAME, READY, UPDATE_TIMEOUT, Machine, Say, await_screen, machine
from tests.firmware.wares import BUNDLE, NEW, OLD, OLD_IMAGE
from tests.image.console import Admin, certificate, post
from tests.lab.box import BOOT_TIMEOUT
from tests.lab.lab import Lab

pytestmark = pytest.mark.firmware

PASSWORD = "a-sentence-is-a-good-one"
OTHER = "which-only-the-blank-box-has"
PASSPHRASE = "what only the owner knows"
# TLS, Python and a disk, emulated.
UPLOAD_TIMEOUT = 900.0


def _await_phase(admin: Admin, *phases: str) -> dict[str, object]:
    deadline = time.monotonic() + UPDATE_TIMEOUT
    while (found := json.loads(admin.page("/system/updates/state.json")))["phase"] not in phases:
        assert time.monotonic() < deadline, found
        time.sleep(1)
    return dict(found)


def _authority(admin: Admin) -> tuple[object, bytes]:
    """The authority's name and key. Its certificate is made anew for other names of a box: whoever trusts one
    of the same name and key trusts what it signs."""
    found = load_pem_x509_certificate(admin.page("/authority.crt").encode())
    key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found.subject, key


def _set_up(lab: Lab, password: str) -> Admin:
    """The first admin, signed in."""
    view = lab.await_client()
    certificate(lab, view)  # the console is up
    assert post(lab, view, "/setup", password=password, again=password) == "303"
    return Admin(lab, view, password)


def test_an_uploaded_bundle_starts_and_is_kept(box: Machine, say: Say) -> None:
    admin = _set_up(box.lab, PASSWORD)
    started = time.monotonic()
    page, action = "/system/updates", "/system/updates/upload"
    assert admin.upload(page, action, BUNDLE, UPLOAD_TIMEOUT) == "303"
    say(f"{BUNDLE.stat().st_size / 1e6:.0f} MB were uploaded in {time.monotonic() - started:.0f} s")
    assert _await_phase(admin, "ready", "failed")["phase"] == "ready"
    before = len(box.console)
    assert admin.send(page, "/system/updates/restart") == "200"
    box.await_version(NEW, 2 * BOOT_TIMEOUT, before)
    box.see(rf"isthmus-update: {NEW} kept", BOOT_TIMEOUT, before)
    admin.close()
    assert box.off()["booted"] == NEW


def test_a_backup_onto_a_blank_box(say: Say, bundles: Path, base: Path, tmp_path: Path) -> None:
    """It has the other's name, admin and authority then."""
    backup = tmp_path / "box.backup"
    with machine(say, bundles, base) as box:
        box.see(READY, BOOT_TIMEOUT)
        admin = _set_up(box.lab, PASSWORD)
        words = {"passphrase": PASSPHRASE, "again": PASSPHRASE}
        assert admin.save("/system/backup", "/system/backup/download", backup, **words) == "200"
        authority = _authority(admin)
        admin.close()
        box.lab.box.cut_power()
    with Lab(say, firmware="uefi", image=OLD_IMAGE) as blank:
        assert await_screen(blank.box) == ("isthmus", OLD)
        Machine(blank, tmp_path).see(READY, BOOT_TIMEOUT)
        admin = _set_up(blank, OTHER)
        page, action = "/system/backup", "/system/backup/restore"
        assert admin.upload(page, action, backup, 60, opens=PASSPHRASE, identity="1") == "303"
        admin.close()
        admin = Admin(blank, blank.await_client(), PASSWORD)  # the backup's admin is in force
        assert _authority(admin) == authority
        assert admin.send("/changes", "/changes") == "303"
        admin.close()
        Machine(blank, tmp_path).see(rf"{NAME}, Isthmus {OLD}\n", 60)
