"""make run as a person has it: the box stays, the console and a shell are reached, Ctrl-C removes everything.

this machine, as the lab sees it                  its internet
┌───────────────────────────────┐ veth ┌────────────────────────────────┐
│ python -m tests.lab.run       ├──────┤ lo 192.31.196.177: HTTP         │
│ default route ───────────────►│      │                                │
└───────────────────────────────┘      └────────────────────────────────┘
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from tests.image.conftest import Say
from tests.lab.box import BOOT_TIMEOUT, BUILD, IMAGE, REPOSITORY, Box
from tests.lab.lab import translated
from tests.lab.netns import Namespace, spawn, stop
from tests.lab.rows import WELL_KNOWN

pytestmark = pytest.mark.image

# Of the same block as the lab's own server, past the half that the lab calls its own.
INTERNET_SERVER = "192.31.196.177"
# Emulated, the console's Python needs some more seconds than the rows that the table shows.
CONSOLE_TIMEOUT = 60.0
# Removing is a second's work; a loaded CI machine may need a few.
END_TIMEOUT = 20.0


class Run:
    """make run, in the outer namespace, in a process group of its own as a terminal gives it."""

    def __init__(self, host: Namespace, folder: Path, say: Say) -> None:
        self.host = host
        self._said = folder / "run.log"
        self._say = say
        command = ("nsenter", f"--net=/run/netns/{host.name}", ".venv/bin/python", "-m", "tests.lab.run")
        with self._said.open("w") as log:
            self.process = spawn(command, log, cwd=REPOSITORY)

    def output(self) -> str:
        """What it has printed."""
        return self._said.read_text()

    def await_text(self, text: str, timeout: float) -> None:
        """Until it has printed the text."""
        deadline = time.monotonic() + timeout
        while text not in self.output():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output()
            time.sleep(0.1)
        self._say(f"make run has said “{text}”")

    def inside(self, *words: str, text: str = "") -> str:
        """What a program of the outer namespace prints."""
        command = ["nsenter", f"--net=/run/netns/{self.host.name}", *words]
        done = subprocess.run(
            command, input=text, text=True, cwd=REPOSITORY, timeout=60, stdout=PIPE, stderr=STDOUT
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def descendants(self) -> dict[int, str]:
        """Process ID to name, of all that it started."""
        found: dict[int, str] = {}
        waiting = [self.process.pid]
        while waiting:
            for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
                for word in task.read_text().split():
                    found[int(word)] = Path(f"/proc/{word}/comm").read_text().strip()
                    waiting.append(int(word))
        return found

    def end(self, number: signal.Signals) -> int:
        """Send the signal to the whole group, as a terminal does; the exit status."""
        os.killpg(self.process.pid, number)
        return self.process.wait(END_TIMEOUT)


@pytest.fixture
def start(tmp_path: Path, say: Say) -> Iterator[Callable[[], Run]]:
    """Starts make run on a machine whose way to the internet leads to another namespace."""
    if not IMAGE.exists():
        pytest.skip(f"{IMAGE} is not built: make image")
    with ExitStack() as stack:
        host = stack.enter_context(Namespace("host"))
        internet = stack.enter_context(Namespace("internet"))
        host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0", "netns", internet.name)
        host.run("ip", "address", "add", "198.51.100.2/30", "dev", "up0")
        host.run("ip", "link", "set", "up0", "up")
        host.run("ip", "route", "add", "default", "via", "198.51.100.1")
        internet.run("ip", "address", "add", "198.51.100.1/30", "dev", "far0")
        internet.run("ip", "address", "add", f"{INTERNET_SERVER}/32", "dev", "lo")
        internet.run("ip", "link", "set", "far0", "up")
        web = tmp_path / "web"
        web.mkdir()
        (web / "index.html").write_text("the internet\n")
        log = stack.enter_context((tmp_path / "web.log").open("w"))
        command = ("python3", "-m", "http.server", "--bind", INTERNET_SERVER, "80")
        stack.callback(stop, internet.spawn(*command, log=log, cwd=web))

        def begin() -> Run:
            run = Run(host, tmp_path, say)
            stack.callback(stop, run.process)
            return run

        yield begin


def left_over(run: Run, programs: dict[int, str]) -> list[str]:
    """What is still there of a lab that has ended."""
    owner = f"-{run.process.pid}-"
    places = (Path("/run/netns"), Path("/etc/netns"), Path("/run/chrony"), BUILD)
    found = [
        str(path) for place in places if place.is_dir() for path in place.iterdir() if owner in path.name
    ]
    found += [name for pid, name in programs.items() if Path(f"/proc/{pid}").exists()]
    if (BUILD / "lab.json").exists():
        found.append("lab.json")
    taps = run.inside("ip", "-br", "link")
    return found + re.findall(r"^(?:lan|wan|inet)\d\S*", taps, re.MULTILINE)


def test_it_stays_until_ctrl_c_and_leaves_nothing(start: Callable[[], Run]) -> None:
    """Console on the host's loopback, a shell in the client, the internet through it; then nothing."""
    run = start()
    run.await_text("Ctrl-C ends the box", BOOT_TIMEOUT)
    assert "every row passed" in run.output()

    (console,) = re.findall(r"Its console:\s+(https://127\.0\.0\.1:\d+/)", run.output())
    deadline = time.monotonic() + CONSOLE_TIMEOUT
    probe = ("curl", "-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", "-L", console)
    while run.inside("sh", "-c", '"$@" || true', "curl", *probe) != "200":
        assert time.monotonic() < deadline, "the console does not answer on the host"
        time.sleep(1)

    beyond = translated(WELL_KNOWN, INTERNET_SERVER)
    said = run.inside(
        "make", "--silent", "client", text=f"curl -sS http://ipv4.example/ http://[{beyond}]/\n"
    )
    assert "from IPv4" in said, "the lab's own server"
    assert "the internet" in said, "beyond this machine"

    again = subprocess.run(
        [".venv/bin/python", "-m", "tests.lab.run"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert again.returncode == 1 and "running already" in again.stderr

    programs = run.descendants()
    assert {"dnsmasq", "chronyd", "slirp4netns"} <= set(programs.values())
    assert run.end(signal.SIGINT) == 0
    assert not left_over(run, programs)
    assert "everything is removed" in run.output()
    client = subprocess.run(["make", "--silent", "client"], capture_output=True, text=True, cwd=REPOSITORY)
    assert client.returncode and "no box is running" in client.stderr


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_it_can_be_ended_in_the_middle_of_the_boot(start: Callable[[], Run], number: signal.Signals) -> None:
    """Ctrl-C, kill and a closed terminal, with the box half started."""
    run = start()
    run.await_text("kernel started", BOOT_TIMEOUT)
    programs = run.descendants()
    assert run.end(number) == 128 + number
    assert not left_over(run, programs)


def test_a_crash_of_the_emulator_is_a_power_cut(tmp_path: Path, say: Say) -> None:
    """QEMU's own faults are not the box's: it is switched on again."""
    if not IMAGE.exists():
        pytest.skip(f"{IMAGE} is not built: make image")
    box = Box(tmp_path, {}, say)
    box.start()
    try:
        assert box._process is not None
        box._process.send_signal(signal.SIGABRT)
        box.wait("kernel started")
        assert box.serial.name == "serial-2.log"
    finally:
        box.cut_power()
