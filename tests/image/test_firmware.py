"""The image starts by itself from a disk, the way a real machine starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.conftest import Say
from tests.lab.box import IMAGE, Box

pytestmark = pytest.mark.image


def test_a_new_machine_enrols_our_key_and_boots_with_secure_boot(tmp_path: Path, say: Say) -> None:
    """Firmware in set-up mode takes the image's key; the signed kernel then runs locked down."""
    if not IMAGE.exists():
        pytest.skip(f"{IMAGE} is not built: make image")
    box = Box(tmp_path, {}, say, firmware="secure")
    box.start()
    try:
        box.wait()
        assert "Secure boot enabled" in box.console()
    finally:
        box.cut_power()
