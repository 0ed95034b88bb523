"""A box that has had its first boot, kept as a disk that each test starts from.

server on the WAN: bundles by HTTP ── WAN port [ the old image, by UEFI ] LAN port ── client (IPv6 only)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.firmware.wares import BUNDLE, COMPRESSED, FIRMWARE, OLD_IMAGE
from tests.image import conftest as image_conftest
from tests.lab.box import BOOT_TIMEOUT, REPOSITORY, Box
from tests.lab.lab import SERVER, Lab, copy_machine
from tests.lab.netns import stop
from tests.lab.rows import Rows

Say = Callable[[str], None]
say = image_conftest.say

NAME = "kept-name"
PORT = 8080
ADDRESS = f"http://{SERVER}:{PORT}"
# Emulated, a bundle of 300 MB is fetched, hashed twice and written in a minute on two free cores.
UPDATE_TIMEOUT = 600.0
BASE = FIRMWARE / "base.raw"
SCREEN = r"7\) update from"
# Control answers, whatever ports there are.
CONTROL_ANSWERS = rf"  console   [\s\S]*{SCREEN}"
IMAGE_NAME = "isthmus"
NAME_TIMEOUT = 20.0
# The screen knows which port is which.
READY = rf"console   https://[\s\S]*{SCREEN}"


def see(box: Box, expected: str, timeout: float, after: int = 0) -> str:
    """What is on the console after that place, once it matches the expected pattern."""
    deadline = time.monotonic() + timeout
    while not re.search(expected, said := box.console()[after:]):
        assert time.monotonic() < deadline, f"no “{expected}”: {said[-3000:]}"
        time.sleep(0.3)
    return said


def await_screen(box: Box) -> tuple[str, str]:
    """The box's name and its version, once control answers its screen; of one that has just been started."""
    see(box, CONTROL_ANSWERS, 2 * BOOT_TIMEOUT)
    # The first screens may be older than the name: control gives it, with the network.
    deadline = time.monotonic() + NAME_TIMEOUT
    while True:
        plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", box.console())
        found = re.findall(r"([\w-]+), Isthmus ([0-9.]+)\n", plain)
        name, version = found[-1]
        if name != IMAGE_NAME or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert {one for _, one in found} == {version}, found
    return name, version


@dataclass
class Machine:
    """A running box and the folder that its WAN's server serves."""

    lab: Lab
    folder: Path
    begun: float = field(default_factory=time.monotonic)

    @property
    def console(self) -> str:
        """The serial console of the running QEMU, over restarts."""
        return self.lab.box.console()

    def ask(self, line: str, expected: str, timeout: float = UPDATE_TIMEOUT) -> str:
        """Type the line; what came after it, once it matches the expected pattern."""
        before = len(self.console)
        self.lab.box.type(line)
        return self.see(expected, timeout, before)

    def see(self, expected: str, timeout: float, after: int = 0) -> str:
        """What is on the console after that place, once it matches the expected pattern."""
        return see(self.lab.box, expected, timeout, after)

    def has(self, expected: str) -> bool:
        """Whether the console has shown that."""
        return re.search(expected, self.console) is not None

    def install(self, name: str = "isthmus.update") -> str:
        """By the screen's menu; what it says in the end."""
        self.ask("7", "nothing: back", 60)
        said = self.ask(f"{ADDRESS}/{name}", r"is ready: it starts|Enter: back")
        self.leave()
        return said

    def leave(self) -> None:
        """Back to the screen, from what a choice of the menu has shown."""
        self.ask("", SCREEN, 60)

    def await_screen(self) -> tuple[str, str]:
        """As the function of that name."""
        return await_screen(self.lab.box)

    def restart(self) -> None:
        """By the screen's menu."""
        self.ask("5", "nothing: back", 60)
        self.lab.box.type("yes")

    def await_version(self, version: str, timeout: float, after: int = 0) -> str:
        """Until its screen is there."""
        return self.see(rf"{NAME}, Isthmus {re.escape(version)}\b[\s\S]*{SCREEN}", timeout, after)

    def carry(self) -> None:
        """Wait for a session that the box forwards."""
        view = self.lab.await_client()
        self.lab.await_resolver(view)
        Rows(self.lab, view).http()

    def first_session(self, tell: Say) -> None:
        """Wait for one, and say when that was, and how large what the box runs is."""
        self.carry()
        took = time.monotonic() - self.begun
        image, update = (path.stat().st_size for path in (COMPRESSED, BUNDLE))
        tell(f"boot to the first forwarded session: {took:.0f} s")
        tell(f"image, compressed: {image / (1 << 20):.0f} MiB; update: {update / 1e6:.0f} MB")

    def off(self) -> dict[str, Any]:
        """Switch it off; the state of its updates."""
        self.lab.box.shut_down()
        return self.state()

    def state(self) -> dict[str, Any]:
        """That of the updates, of a box that is off."""
        found: dict[str, Any] = json.loads(self.lab.box.read_state("/lib/isthmus/update/state.json") or "{}")
        return found


@contextmanager
def machine(tell: Say, folder: Path, disk: Path) -> Iterator[Machine]:
    """A box on a copy of the disk."""
    with Lab(tell, firmware="uefi", disk=disk) as lab:
        python = REPOSITORY / ".venv/bin/python"
        words = ("-m", "http.server", str(PORT), "--bind", SERVER, "--directory", str(folder))
        with (lab.folder / "bundles.log").open("w") as log:
            server = lab.wan.spawn(python, *words, log=log)
            try:
                yield Machine(lab, folder)
            finally:
                stop(server)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that is served, with the good bundle in it."""
    folder = tmp_path_factory.mktemp("bundles")
    (folder / "isthmus.update").symlink_to(BUNDLE)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def base(say: Say) -> Path:
    """The disk of a box after its first boot, with a configuration."""
    if not OLD_IMAGE.exists() or not BUNDLE.exists():
        missing = "the two images are not built: make test-firmware"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    if not BASE.exists() or BASE.stat().st_mtime < OLD_IMAGE.stat().st_mtime:
        with Lab(say, firmware="uefi", image=OLD_IMAGE) as lab:
            see(lab.box, READY, 2 * BOOT_TIMEOUT)
            lab.box.shut_down()
            lab.box.write_state("/lib/isthmus/config.toml", f'[system]\nhostname = "{NAME}"\n')
            copy_machine(lab.box.disk, BASE)
    return BASE


@pytest.fixture
def box(say: Say, bundles: Path, base: Path) -> Iterator[Machine]:
    """The old version, up."""
    with machine(say, bundles, base) as running:
        running.see(READY, BOOT_TIMEOUT)
        yield running
