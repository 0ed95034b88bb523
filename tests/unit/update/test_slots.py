"""The writing of a slot, cut off at every write: the box boots the old version or the new one, whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from appliance.update import slots
from appliance.update.bundle import Reader
from appliance.update.gpt import SECTOR, Table, parse
from appliance.update.kernels import TRIES, Kernels
from appliance.update.manifest import Piece
from appliance.update.slots import EMPTY, Disk, other_slot, root_uuids
from appliance.update.slots import slots as slots_of
from appliance.update.versions import UpdateError
from tests.unit.update.wares import (
    CONTENT,
    KEY,
    NEW,
    NEW_HASH,
    OLD,
    OLD_HASH,
    RUNNING,
    Bundle,
    bundle,
    make_disk,
)


class PowerCutError(Exception):
    """From here on nothing is written."""


class CutDisk(Disk):
    """Loses power at the ``cut``-th write, of which the first half still arrives."""

    cut = -1
    done = 0

    def write(self, position: int, data: bytes) -> None:
        """One write."""
        if self.done == self.cut:
            super().write(position, data[: len(data) // 2])
            raise PowerCutError
        type(self).done += 1
        super().write(position, data)


class Machine:
    """A disk and a boot partition."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk"
        self.boot = folder / "boot"
        (self.boot / "EFI/Linux").mkdir(parents=True)
        (self.boot / f"EFI/Linux/isthmus_{OLD}.efi").write_bytes(b"old kernel")
        make_disk(self.disk)
        self.trials = 0

    @property
    def kernels(self) -> Kernels:
        return Kernels(self.boot, OLD)

    def write(self, what: Bundle, kind: type[Disk] = Disk) -> None:
        reader = Reader(KEY.public_key(), RUNNING)
        with kind(self.disk) as disk:
            slots.write(what.manifest, reader.feed(what.octets), disk, OLD_HASH, self.kernels, self.begin)

    def begin(self) -> None:
        self.trials += 1

    def table(self) -> Table:
        with Disk(self.disk) as disk:
            return disk.table()

    def boots(self) -> str:
        """The version that the loader takes, after a look at whether its slot is whole."""
        version = max(one.version for one in self.kernels.found())
        root_hash = {OLD: OLD_HASH, NEW: NEW_HASH}[version]
        (slot,) = [one for one in slots_of(self.table()) if one.root.uuid == root_uuids(root_hash)[0]]
        if version == NEW:
            with Disk(self.disk) as disk:
                for name, part in slot.parts.items():
                    assert disk.read(part.start, part.size) == CONTENT[name].ljust(part.size, b"\0")
        return version


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_whole_update(machine: Machine) -> None:
    machine.write(bundle())
    assert machine.boots() == NEW
    slot = other_slot(machine.table(), OLD_HASH)
    assert (slot.root.uuid, slot.verity.uuid) == (UUID(NEW_HASH[:32]), UUID(NEW_HASH[32:]))
    assert {part.name for part in slot.parts.values()} == {f"isthmus_{NEW}"}
    kernel = machine.kernels.of(NEW)
    assert kernel is not None and kernel.left == TRIES
    assert kernel.path.read_bytes() == CONTENT["kernel"]
    assert machine.trials == 1


def test_the_running_slot_is_never_written(machine: Machine) -> None:
    slot = next(one for one in slots_of(machine.table()) if one.root.uuid == UUID(OLD_HASH[:32]))

    def content() -> list[str]:
        with Disk(machine.disk) as disk:
            return [disk.digest(part.start, part.size) for part in slot.parts.values()]

    before = content()
    machine.write(bundle())
    machine.write(bundle("1.2.0", root_hash="2c" * 32))
    assert content() == before
    assert {one.version for one in machine.kernels.found()} == {OLD, "1.2.0"}


def _cuts(folder: Path) -> Iterator[int]:
    """How often a whole update writes."""
    CutDisk.cut, CutDisk.done = -1, 0
    (folder / "count").mkdir()
    Machine(folder / "count").write(bundle(), CutDisk)
    yield from range(CutDisk.done)


def test_a_power_cut_at_each_write(tmp_path: Path) -> None:
    """The old one boots; and the same update, once the power is back, succeeds."""
    count = 0
    for cut in _cuts(tmp_path):
        folder = tmp_path / str(cut)
        folder.mkdir()
        machine = Machine(folder)
        CutDisk.cut, CutDisk.done = cut, 0
        with pytest.raises(PowerCutError):
            machine.write(bundle(), CutDisk)
        assert machine.boots() == OLD
        assert machine.trials == 0
        machine.write(bundle())
        assert machine.boots() == NEW
        count += 1
    assert count > 10


def test_a_cut_over_a_version_that_was_there(tmp_path: Path) -> None:
    """The slot that is written over had a kernel: it is gone before the slot is touched."""
    for cut in range(12):
        folder = tmp_path / str(cut)
        folder.mkdir()
        machine = Machine(folder)
        machine.write(bundle())
        CutDisk.cut, CutDisk.done = cut, 0
        with pytest.raises(PowerCutError):
            machine.write(bundle("1.2.0", root_hash="2c" * 32), CutDisk)
        assert [one.version for one in machine.kernels.found()] == [OLD]
        assert machine.boots() == OLD


def test_a_disk_that_lies(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read back is not what was written: no kernel is installed."""
    monkeypatch.setattr(Disk, "digest", lambda *_: hashlib.sha256(b"other").hexdigest())
    with pytest.raises(UpdateError, match="does not give back"):
        machine.write(bundle())
    assert machine.boots() == OLD
    assert not list(machine.boot.rglob(".isthmus-new"))


def test_a_piece_that_does_not_fit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTENT, "root", bytes(1 << 16))
    before = machine.disk.read_bytes()
    with pytest.raises(UpdateError, match="does not fit"):
        machine.write(bundle())
    assert machine.disk.read_bytes() == before


def test_a_bundle_that_changes_after_its_verification(machine: Machine) -> None:
    """The second reading verifies again, before the kernel's name appears."""
    good = bundle()
    body = bytearray(good.body)
    body[-1] ^= 1  # of the kernel
    with pytest.raises(UpdateError):
        machine.write(Bundle(good.manifest, good.head, bytes(body)))
    assert machine.boots() == OLD


def test_a_torn_primary_table_is_read_from_its_copy(machine: Machine) -> None:
    before = machine.table().partitions()
    with Disk(machine.disk) as disk:
        disk.write(SECTOR, bytes(SECTOR))
    assert machine.table().partitions() == before
    machine.write(bundle())
    with Disk(machine.disk) as disk:  # and the update has repaired it
        parse(disk.read(SECTOR, SECTOR), disk.read(2 * SECTOR, 128 * 128))
    assert machine.boots() == NEW


def test_a_disk_without_slots(machine: Machine) -> None:
    with pytest.raises(UpdateError, match="not on this disk"):
        other_slot(machine.table(), "ff" * 32)


def test_names_of_kernels(machine: Machine) -> None:
    folder = machine.boot / "EFI/Linux"
    for name in ("isthmus_2.0+2-1.efi", "isthmus_2.1+0-3.efi", "other.efi", "isthmus_2.2.efi.bak"):
        (folder / name).touch()
    found: dict[str, Any] = {one.version: one.left for one in machine.kernels.found()}
    assert found == {OLD: None, "2.0": 2, "2.1": 0}
    machine.kernels.remove("2.1")
    machine.kernels.remove(OLD)
    assert {one.version for one in machine.kernels.found()} == {OLD, "2.0"}


def test_empty_is_what_it_was(machine: Machine) -> None:
    assert other_slot(machine.table(), OLD_HASH).root.name == EMPTY
    assert Piece("root", 1, "0" * 64).length == 1
