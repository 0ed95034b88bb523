"""The files that make image leaves: the partition table, the checksum; and what flash refuses."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

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


def test_the_media_and_their_signature() -> None:
    """All that is given away is in SHA256SUMS, which the update key has signed."""
    sums = BUILD / "SHA256SUMS"
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        with (BUILD / name).open("rb") as body:
            assert hashlib.file_digest(body, "sha256").hexdigest() == digest, name
    assert {line.split()[1] for line in sums.read_text().splitlines()} == {
        "isthmus.raw.zst",
        "isthmus.qcow2",
        "isthmus.cdx.json",
    }
    key = load_pem_public_key((BUILD / "keys/update.pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    key.verify((BUILD / "SHA256SUMS.sig").read_bytes(), sums.read_bytes())
    assert (BUILD / "isthmus.qcow2").read_bytes()[:4] == b"QFI\xfb"


def test_the_bill_of_materials() -> None:
    """Each package of the image, by its package URL."""
    bill = json.loads((BUILD / "isthmus.cdx.json").read_text())
    names = {one["name"] for one in bill["components"]}
    assert {"systemd", "unbound", "python3-flask", "linux-image-amd64"} <= names
    assert all(one["purl"].startswith("pkg:deb/debian/") for one in bill["components"])


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
