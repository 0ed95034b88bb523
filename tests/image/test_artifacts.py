"""The files that make image leaves: the partition table, the checksum; and what flash refuses."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tests.lab.box import BUILD, IMAGE, REPOSITORY

pytestmark = pytest.mark.image

MIB = 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    if not IMAGE.exists():
        pytest.skip(f"{IMAGE} is not built: make image")


def test_the_layout() -> None:
    """The ESP and slot A at their final sizes; slot B and the data come at the first boot."""
    told = subprocess.run(["sfdisk", "--json", str(IMAGE)], check=True, capture_output=True, text=True)
    table = json.loads(told.stdout)["partitiontable"]
    sizes = [part["size"] * 512 for part in table["partitions"]]
    assert sizes == [300 * MIB, 512 * MIB, 32 * MIB, 16 * 1024]
    names = [part.get("name", "") for part in table["partitions"]]
    assert len(set(names[1:])) == 1 and names[1].startswith("isthmus_")


def test_the_checksum() -> None:
    """sha256sum's format, of the compressed image."""
    compressed = BUILD / "isthmus.raw.zst"
    with compressed.open("rb") as body:
        digest = hashlib.file_digest(body, "sha256").hexdigest()
    assert (BUILD / "isthmus.raw.zst.sha256").read_text() == f"{digest}  isthmus.raw.zst\n"


@pytest.mark.parametrize("target", ("", "/dev/null", "/nowhere", str(IMAGE)))
def test_flash_refuses_what_is_no_disk(target: str) -> None:
    """Before it asks anything."""
    script = REPOSITORY / "image/flash.sh"
    done = subprocess.run([script, target], input=f"{target}\n", capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("flash: ")


def test_flash_refuses_the_root_disk() -> None:
    """The disk this machine runs from is in use, whatever it is called."""
    source = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE", "/"], capture_output=True, text=True
    ).stdout.strip()
    if not Path(source).is_block_device():
        pytest.skip(f"/ stands on {source or 'nothing'}, which is no block device")
    script = REPOSITORY / "image/flash.sh"
    done = subprocess.run([script, source], input=f"{source}\n", capture_output=True, text=True)
    assert done.returncode == 1
    assert "Type the name" not in done.stdout
