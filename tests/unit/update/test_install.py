"""The way from a file or an address to the slot, on a small disk; and what an automatic check takes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.update import install, machine, state, versions
from appliance.update.install import INCOMING, Installer, look
from appliance.update.kernels import Kernels
from appliance.update.slots import Disk, other_slot
from appliance.update.versions import UpdateError
from tests.unit.lists.servers import serving
from tests.unit.update.wares import KEY, NEW, OLD, OLD_HASH, OTHER_KEY, RUNNING, Bundle, bundle, make_disk


class Box:
    """A machine's disk, boot partition and folders."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "disk"
        self.boot = folder / "boot"
        self.folder = folder / "update"
        self.runtime = folder / "run"
        self.file = folder / "isthmus.update"
        for one in (self.boot / "EFI/Linux", self.folder, self.runtime):
            one.mkdir(parents=True)
        (self.boot / f"EFI/Linux/isthmus_{OLD}.efi").touch()
        make_disk(self.disk)
        self.installer = Installer(self.folder, self.runtime)

    def slot_name(self) -> str:
        """The label of the slot that does not run."""
        with Disk(self.disk) as disk:
            return other_slot(disk.table(), OLD_HASH).root.name

    def status(self) -> dict[str, object]:
        """What is shown."""
        found: dict[str, object] = json.loads((self.runtime / state.STATUS).read_text())
        return found


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    made = Box(tmp_path)

    @contextlib.contextmanager
    def mounted(_folder: Path, _disk: Path) -> Iterator[Path]:
        yield made.boot

    monkeypatch.setattr(versions, "running", lambda: OLD)
    monkeypatch.setattr(machine, "key", KEY.public_key)
    monkeypatch.setattr(machine, "root_hash", lambda: OLD_HASH)
    monkeypatch.setattr(machine, "disk", lambda: made.disk)
    monkeypatch.setattr(machine, "boot_partition", mounted)
    monkeypatch.setattr(machine, "boot_id", lambda: "boot-1")
    monkeypatch.setattr(install, "_SHOW_INTERVAL", 0)
    return made


def served(connection: socket.socket, what: Bundle, length: int | None = None) -> None:
    """An answer with the bundle, or with its beginning."""
    octets = what.octets
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(octets)}\r\n\r\n".encode())
    connection.sendall(octets[:length])


def test_from_a_file(box: Box) -> None:
    box.file.write_bytes(bundle().octets)
    assert box.installer.install(str(box.file)).version == NEW
    assert box.slot_name() == f"isthmus_{NEW}"
    assert Kernels(box.boot, OLD).of(NEW) is not None
    trial = state.read(box.folder).trial
    assert state.read(box.folder).floor == OLD
    assert trial is not None and (trial.version, trial.before, trial.boot) == (NEW, OLD, "boot-1")
    assert box.status()["phase"] == "ready"


def test_from_an_address(box: Box) -> None:
    with serving(lambda connection, _head: served(connection, bundle())) as server:
        assert box.installer.install(server.url).version == NEW
    assert box.slot_name() == f"isthmus_{NEW}"
    assert not (box.folder / INCOMING).exists()


@pytest.mark.parametrize(
    ("what", "code"),
    (
        (bundle(key=OTHER_KEY), "wrong-key"),
        (bundle(version="0.9.0"), "older"),
        (bundle(product="other"), "wrong-product"),
    ),
)
def test_what_is_refused_leaves_the_disk_as_it_is(box: Box, what: Bundle, code: str) -> None:
    before = box.disk.read_bytes()
    box.file.write_bytes(what.octets)
    with serving(lambda connection, _head: served(connection, what)) as server:
        for source in (str(box.file), server.url):
            with pytest.raises(UpdateError) as caught:
                box.installer.install(source)
            assert caught.value.code == box.status()["code"] == code
    assert box.disk.read_bytes() == before
    assert state.read(box.folder).trial is None
    assert not (box.folder / INCOMING).exists()


def test_a_server_that_breaks_off(box: Box) -> None:
    before = box.disk.read_bytes()
    with (
        serving(lambda connection, _head: served(connection, bundle(), 3_000)) as server,
        pytest.raises(UpdateError) as caught,
    ):
        box.installer.install(server.url)
    assert caught.value.code == "fetch"
    assert box.disk.read_bytes() == before


def test_a_missing_file(box: Box) -> None:
    with pytest.raises(UpdateError, match="cannot be read"):
        box.installer.install("/nowhere/x.update")


def test_one_at_a_time(box: Box) -> None:
    box.file.write_bytes(bundle().octets)
    with (box.runtime / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UpdateError) as caught:
            box.installer.install(str(box.file))
    assert caught.value.code == "busy"
    box.installer.install(str(box.file))


def test_the_look_takes_the_head_only(box: Box) -> None:
    """The rest is never sent: the version is known from the head."""
    head = len(bundle().head)
    with serving(lambda connection, _head: served(connection, bundle(), head)) as server:
        assert look(server.url, RUNNING) == NEW


@pytest.mark.parametrize("version", ("0.9.0", OLD))
def test_the_look_finds_nothing_newer(box: Box, version: str) -> None:
    with serving(lambda connection, _head: served(connection, bundle(version=version))) as server:
        assert look(server.url, RUNNING) == ""


def test_the_look_tells_of_another_key(box: Box) -> None:
    with (
        serving(lambda connection, _head: served(connection, bundle(key=OTHER_KEY))) as server,
        pytest.raises(UpdateError),
    ):
        look(server.url, RUNNING)


def test_draining_ends_with_the_last_session() -> None:
    left = [2, 1, 0, 5]
    install.drained(iter(lambda: left.pop(0), -1), timeout=10)
    assert left == [5]
