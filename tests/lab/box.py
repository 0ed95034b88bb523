"""The box: the built image in QEMU, with a copy of its disk of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from tests.lab.netns import spawn, stop

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build"
IMAGE = BUILD / "isthmus.raw"
BOOT = BUILD / "boot"
TOOLS = BUILD / "tools"

DISK_SIZE = 3 * 1024**3  # slot B and the data partition want 1 GB beyond the image; sparse
MEMORY_MIB = 1024

# Under emulation the first boot takes 40 to 70 s on two free cores; a loaded CI machine needs longer.
# Too small fails builds that are only slow; too large delays the news of a box that hangs.
BOOT_TIMEOUT = 420.0
SHUTDOWN_TIMEOUT = 90.0
_PRESS_EVERY = 8.0
_PROBE_TIMEOUT = 15.0
_QMP_TIMEOUT = 10.0
_TYPING_TIME = 0.5
# A write of QEMU's ends before its thread stands still.
_STOP_TIMEOUT = 10.0
# QEMU 10's emulation on several threads has a race: while the guest lays out its PCI bus, a thread may
# trip over “iotlb_to_section: Assertion” (seen once in a dozen boots). It is no fault of the box, which
# is switched on again, as after a power cut; more often than this is another fault, and is told.
_MAX_CRASHES = 2

# What the serial console prints on the way, and what to tell a person who waits.
STAGES: tuple[tuple[str, str], ...] = (
    (r"Linux version", "kernel started"),
    (r"Mounted.*sysroot\.mount", "verified root mounted"),
    (r"Finished.*systemd-repart\.service", "partitions complete"),
    (r"Switching root|Queued start job for default target", "system starting"),
    (r"Reached target.*network\.target", "network service up"),
    (r"Started.*isthmus-control\.service", "control started"),
    (r"Reached target.*multi-user\.target", "all services started"),
    (r"6\) power off", "screen and menu ready"),
)
LAST_STAGE = STAGES[-1][1]

_MACS = {"wan": "52:54:00:00:64:04", "lan": "52:54:00:00:64:06"}
_SLOTS = {"wan": "0x10", "lan": "0x11"}  # fixed places on the bus give stable names, WAN first


# Nobody can log in to the box: its journal on the serial console is how a failed row is explained.
_JOURNAL = "systemd.journald.forward_to_console=1 systemd.journald.max_level_console=info"


class BoxError(Exception):
    """The box did not do what it should; the text says where to look."""


def _qemu() -> list[str | Path]:
    """QEMU of the tools tree, with the tree's own libraries: newer and faster than the host's."""
    libraries = TOOLS / "usr/lib/x86_64-linux-gnu"
    return [
        libraries / "ld-linux-x86-64.so.2",
        "--library-path",
        f"{libraries}:{libraries}/pulseaudio",
        TOOLS / "usr/bin/qemu-system-x86_64",
        "-L",
        TOOLS / "usr/share/qemu",
        "-L",
        TOOLS / "usr/share/seabios",
    ]


def in_tools(program: str, *words: str | Path) -> str:
    """What a program of the tools tree says, with the tree's own libraries; CalledProcessError."""
    libraries = TOOLS / "usr/lib/x86_64-linux-gnu"
    command: list[str | Path] = [
        libraries / "ld-linux-x86-64.so.2",
        "--library-path",
        libraries,
        TOOLS / program,
        *words,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _thread_states(pid: int) -> list[str]:
    """A letter for each of its threads, as proc(5) has them."""
    texts = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat"))
    return [text.rpartition(")")[2].split()[0] for text in texts]


Firmware = Literal["", "uefi", "secure"]
# What the firmware keeps of its own beside the disk.
VARIABLES = "firmware-variables.fd"


def _firmware(folder: Path, kind: Firmware, words: str) -> list[str | Path]:
    """UEFI with variables of its own: a new machine, with secure boot in set-up mode, or without it.

    Without it the kernel image is given more words for its command line.
    """
    blobs = TOOLS / "usr/share/OVMF"
    variables = folder / VARIABLES
    if not variables.exists():
        shutil.copy(blobs / "OVMF_VARS_4M.fd", variables)
    code = blobs / ("OVMF_CODE_4M.secboot.fd" if kind == "secure" else "OVMF_CODE_4M.fd")
    extra = f"type=11,value=io.systemd.stub.kernel-cmdline-extra={words}"
    return [
        *(("-smbios", extra) if kind == "uefi" else ()),
        *(("-global", "driver=cfi.pflash01,property=secure,value=on") if kind == "secure" else ()),
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
    ]


def _direct(words: str) -> list[str | Path]:
    """The image's kernel without firmware, 10 s faster; -no-reboot: a restart ends QEMU instead."""
    command_line = (BOOT / "cmdline").read_text().strip("\0\n ") + " " + words
    boot = ("-kernel", BOOT / "vmlinuz", "-initrd", BOOT / "initrd")
    return [*boot, "-append", command_line, "-no-reboot"]


def _machine(accelerator: str) -> list[str | Path]:
    return [
        *_qemu(),
        *("-machine", "q35,smm=on", "-accel", accelerator, "-cpu", "host" if accelerator == "kvm" else "max"),
        *("-smp", "2", "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none"),
    ]


def _boots_with_kvm(scratch: Path) -> bool:
    """Whether a guest gets as far as its own first process: /dev/kvm that opens proves little."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    serial = scratch / "kvm-probe.log"
    with (scratch / "kvm-probe-qemu.log").open("w") as log:
        kernel = ("-kernel", BOOT / "vmlinuz", "-initrd", BOOT / "initrd")
        settings = ("-append", "console=ttyS0 rdinit=/none", "-serial", f"file:{serial}")
        probe = spawn([*_machine("kvm"), *kernel, *settings], log)
        try:
            deadline = time.monotonic() + _PROBE_TIMEOUT
            while time.monotonic() < deadline and probe.poll() is None:
                # past unpacking the initrd: the guest ran for real
                if serial.exists() and "Freeing initrd memory" in serial.read_text(errors="replace"):
                    return True
                time.sleep(0.1)
        finally:
            stop(probe)
    return False


def accelerator(scratch: Path) -> Literal["kvm", "tcg,thread=multi"]:
    """KVM where a guest really runs on it, else emulation. Probed once for each boot of the host."""
    known = BUILD / "accelerator.json"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        found = json.loads(known.read_text())
    except (OSError, ValueError):
        found = {}
    if found.get("boot") != boot:
        found = {"boot": boot, "kvm": _boots_with_kvm(scratch)}
        known.write_text(json.dumps(found))
    return "kvm" if found["kvm"] else "tcg,thread=multi"


def data_partition(disk: Path) -> str:
    """The disk's data partition, as the tools of its file system take it."""
    told = subprocess.run(["sfdisk", "--json", disk], check=True, capture_output=True, text=True)
    parts = json.loads(told.stdout)["partitiontable"]["partitions"]
    (start,) = [part["start"] for part in parts if part.get("name") == "isthmus-data"]
    return f"{disk}?offset={int(start) * 512}"


def write_state(disk: Path, path: str, text: str) -> None:
    """Write a file on the data partition of a disk in no machine; below /var, in a folder there is."""
    source = disk.with_name("state")
    source.write_text(text)
    # the file system's own tool reaches into the disk's image, with no mount and no loop device
    script = f"rm {path}\nwrite {source} {path}\n"
    words = ["debugfs", "-w", "-f", "-", data_partition(disk)]
    subprocess.run(words, input=script, check=True, capture_output=True, text=True)
    source.unlink()


class Box:
    """The appliance's machine: switch it on, wait for a stage of its boot, switch it off."""

    def __init__(
        self,
        folder: Path,
        taps: dict[str, int],
        say: Callable[[str], None],
        firmware: Firmware = "",
        image: Path = IMAGE,
    ) -> None:
        """folder: for the disk and logs; taps: descriptors for "wan" and "lan"; say: progress lines.

        firmware: start from the disk by UEFI, as a real machine does, with secure boot or without.
        """
        self.folder = folder
        self.disk = folder / "disk.raw"
        self.serial = folder / "serial.log"
        self._taps = taps
        self._say = say
        self._firmware: Firmware = firmware
        self._image = image
        self.extra: list[str | Path] = []  # more of QEMU's arguments
        self.kernel_words = _JOURNAL  # more of the kernel's; not with secure boot
        self._process: subprocess.Popen[str] | None = None
        self._boots = 0
        self._crashes = _MAX_CRASHES

    def start(self) -> None:
        """Switch on. The first time, the disk is a copy of the image; after that, it is kept."""
        if not self.disk.exists():
            if not self._image.exists():
                raise BoxError(f"{self._image} is missing: make image")
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", self._image, self.disk], check=True)
            os.truncate(self.disk, DISK_SIZE)
        self._boots += 1
        self.serial = self.folder / f"serial-{self._boots}.log"
        self.serial.touch()
        how = accelerator(self.folder)
        self._say(f"boot {self._boots} ({'KVM' if how == 'kvm' else 'emulated: this takes a minute'})")
        arguments: list[str | Path] = [
            *_machine(how),
            *(
                _firmware(self.folder, self._firmware, self.kernel_words)
                if self._firmware
                else _direct(self.kernel_words)
            ),
            *("-drive", f"file={self.disk},format=raw,if=virtio,cache=unsafe,discard=unmap"),
            *(
                "-chardev",
                f"socket,id=serial,path={self.folder}/serial,server=on,wait=off,logfile={self.serial}",
            ),
            *("-serial", "chardev:serial"),
            *("-device", "virtio-rng-pci"),
            *("-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"),
        ]
        arguments += self.extra
        for name, tap in self._taps.items():
            arguments += ["-netdev", f"tap,id={name},fd={tap},vhost=off"]
            device = f"virtio-net-pci,netdev={name},mac={_MACS[name]},addr={_SLOTS[name]},romfile="
            arguments += ["-device", device]
        with (self.folder / "qemu.log").open("a") as log:
            self._process = spawn(arguments, log, pass_fds=tuple(self._taps.values()))

    def console(self) -> str:
        """What this boot's serial console has shown."""
        return self.serial.read_text(errors="replace")

    def type(self, line: str, end: str = "\r") -> None:
        """Type a line on the serial console; what it answers is in console()."""
        with socket.socket(socket.AF_UNIX) as keyboard:
            keyboard.settimeout(_QMP_TIMEOUT)
            keyboard.connect(str(self.folder / "serial"))
            keyboard.sendall((line + end).encode())
            # QEMU reads at the pace of a serial line: gone too early, the rest would be lost.
            keyboard.settimeout(_TYPING_TIME)
            with contextlib.suppress(TimeoutError):
                while keyboard.recv(4096):
                    pass

    def await_off(self, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        """Until the machine has switched itself off, or (started without firmware) restarted."""
        assert self._process is not None
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BoxError(
                f"still on after {timeout:.0f} s; the console ended:\n{self.console()[-2000:]}"
            ) from None

    def wait(self, stage: str = LAST_STAGE, timeout: float = BOOT_TIMEOUT) -> None:
        """Until the boot has reached a stage, telling each on the way; BoxError if it does not."""
        started = time.monotonic()
        waiting = list(STAGES)
        while time.monotonic() - started < timeout:
            text = self.console()
            reached = [name for pattern, name in waiting if re.search(pattern, text)]
            waiting = [entry for entry in waiting if entry[1] not in reached]
            for name in reached:
                self._say(f"{time.monotonic() - started:5.0f} s  {name}")
            if stage in reached:
                return
            if self._process is not None and self._process.poll() == -signal.SIGABRT and self._crashes:
                self._crashes -= 1
                self._say("QEMU itself has crashed (see qemu.log): the box is switched on again")
                self.start()
                started, waiting = time.monotonic(), list(STAGES)
                continue
            if self._process is None or self._process.poll() is not None:
                raise BoxError(f"QEMU ended before “{stage}”: see {self.folder}/qemu.log and {self.serial}")
            time.sleep(0.25)
        raise BoxError(
            f"not at “{stage}” after {timeout:.0f} s; the console ended:\n{self.console()[-2000:]}"
        )

    def shut_down(self) -> None:
        """Press the power button and wait until the box is off; BoxError if it stays on."""
        assert self._process is not None
        deadline = time.monotonic() + SHUTDOWN_TIMEOUT
        while time.monotonic() < deadline:
            # Pressed again from time to time: a press before logind listens is lost, one too many is none.
            self._monitor("system_powerdown")
            try:
                self._process.wait(_PRESS_EVERY)
            except subprocess.TimeoutExpired:
                continue
            return
        raise BoxError(f"the power button did nothing for {SHUTDOWN_TIMEOUT:.0f} s")

    def read_state(self, path: str) -> str:
        """A file below /var of a machine that is off, "" where there is none."""
        words = ["debugfs", "-R", f"cat {path}", data_partition(self.disk)]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def write_state(self, path: str, text: str) -> None:
        """Write a file on the data partition of a machine that is off; below /var, in a folder there is."""
        write_state(self.disk, path, text)

    @contextlib.contextmanager
    def held(self) -> Iterator[Path]:
        """The machine stands still meanwhile: its disk is as a power cut at this moment would leave it.

        By the signal, not by QEMU's monitor, which would first end the writes that are under way.
        """
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + _STOP_TIMEOUT
            while set(_thread_states(self._process.pid)) != {"T"}:
                if time.monotonic() > deadline:
                    raise BoxError(f"QEMU did not stand still: {_thread_states(self._process.pid)}")
                time.sleep(0.005)
            yield self.disk
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def cut_power(self) -> None:
        """Off at once, as a pulled plug: what QEMU has not yet written is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def break_with(self, key: str) -> None:
        """A break on the serial line, then the key: for the kernel, a request of its own (SysRq)."""
        self._monitor("chardev-send-break", {"id": "serial"})
        self.type(key, end="")

    def _monitor(self, command: str, arguments: dict[str, str] | None = None) -> None:
        """Carry out a command of QEMU's monitor; a machine that is just ending need not answer."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_QMP_TIMEOUT)
            try:
                link.connect(str(self.folder / "qmp"))
                with link.makefile("rw") as lines:
                    lines.readline()  # the greeting
                    for word, more in (("qmp_capabilities", None), (command, arguments)):
                        lines.write(json.dumps({"execute": word, "arguments": more or {}}) + "\n")
                        lines.flush()
                        # events may come between a command and its return
                        while (line := lines.readline()) and "return" not in (said := json.loads(line)):
                            if "error" in said:
                                raise BoxError(f"QEMU refused {word}: {said['error']}")
            except (ConnectionError, FileNotFoundError):
                return
