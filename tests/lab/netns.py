"""A network namespace with a name of its own: run programs in it, or open sockets in it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

T = TypeVar("T")

PREFIX = "isthmus"
_RUN = Path("/run/netns")
_ETC = Path("/etc/netns")

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000

_libc = ctypes.CDLL(None, use_errno=True)

# A program that ends a lab gets this long to leave by itself before it is killed.
STOP_TIMEOUT = 5.0


def _die_with_parent() -> None:
    """In a child, before it starts: a lab that is killed must not leave servers or QEMU behind."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that the lab started, and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def spawn(
    command: Sequence[str | Path], log: IO[str] | int, pass_fds: Sequence[int] = (), cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start a program that lives as long as the lab; call it from the main thread only."""
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=tuple(pass_fds),
        cwd=cwd,
        text=True,
        start_new_session=True,  # Ctrl-C is for the lab, which then ends its programs in order
        preexec_fn=_die_with_parent,  # safe: no other thread of the lab forks
    )


def unguarded(program: str, folder: Path) -> Path:
    """A copy of the program in folder: AppArmor's profiles go by path, and keep unbound from our files."""
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed: make setup")
    copy = folder / program
    if not copy.exists():
        shutil.copy(found, copy)
    return copy


def sweep(folders: Path) -> None:
    """Remove what labs that were killed have left: namespaces, their /etc/netns, and lab-PID-… in folders."""
    names = {path.name for folder in (_RUN, _ETC) if folder.is_dir() for path in folder.iterdir()}
    for name in names:
        if _is_left_over(rf"{PREFIX}-(\d+)-\w+", name):
            _remove(name)
    for folder in folders.glob("lab-*"):
        if _is_left_over(r"lab-(\d+)-\w+", folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left_over(pattern: str, name: str) -> bool:
    """Whether the name is a lab's, by its process ID, and that process is no more."""
    found = re.fullmatch(pattern, name)
    return found is not None and not Path(f"/proc/{found[1]}").exists()


def _remove(name: str) -> None:
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    shutil.rmtree(_ETC / name, ignore_errors=True)


class Namespace:
    """A host of the lab; a context manager that removes it again."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.name = f"{PREFIX}-{os.getpid()}-{role}"

    def __enter__(self) -> Namespace:
        try:
            subprocess.run(["ip", "netns", "add", self.name], check=True)
            self.run("ip", "link", "set", "lo", "up")
        except BaseException:  # Ctrl-C too
            _remove(self.name)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _remove(self.name)

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs a program inside."""
        return ["ip", "netns", "exec", self.name, *(str(word) for word in words)]

    def run(
        self, *words: str | Path, check: bool = True, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end."""
        return subprocess.run(
            self.command(*words),
            check=check,
            timeout=timeout,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def spawn(self, *words: str | Path, log: IO[str] | int, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start a program inside that lives as long as the lab."""
        return spawn(self.command(*words), log, cwd=cwd)

    def call(self, function: Callable[[], T]) -> T:
        """What function returns, run by a thread that is inside: a socket made there stays there."""
        result: list[T] = []
        failure: list[BaseException] = []

        def enter() -> None:
            try:
                with (_RUN / self.name).open() as handle:
                    if _libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), f"cannot enter the namespace {self.name}")
                result.append(function())
            except BaseException as error:  # handed to the caller below
                failure.append(error)

        thread = threading.Thread(target=enter, name=f"in-{self.name}")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    def open_tap(self, interface: str) -> int:
        """A tap's descriptor for QEMU; the interface is the namespace's own end of the wire."""

        def create() -> int:
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), flags))
            return descriptor

        return self.call(create)

    def set_resolver(self, servers: Sequence[str]) -> None:
        """Give programs run inside these DNS servers (their /etc/resolv.conf)."""
        folder = _ETC / self.name
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(f"nameserver {server}\n" for server in servers)
        (folder / "resolv.conf").write_text(text + "options timeout:3 attempts:2\n")
