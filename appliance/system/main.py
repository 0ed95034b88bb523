"""isthmus-console: the screen at the box itself. Reads the network by netifaces, and changes none of it."""

from __future__ import annotations

import argparse
import os
import select
import socket
import subprocess
import sys
import termios
import time
from ipaddress import ip_address
from pathlib import Path

import netifaces

from appliance import __version__
from appliance.control.client import ControlClient, ControlError
from appliance.errors import IsthmusError
from appliance.system.certificates import fingerprint
from appliance.system.console import (
    RENEW_UNIT,
    RESET_MARKER,
    Action,
    Dialogue,
    Do,
    Ping,
    Port,
    Prompt,
    Say,
    Seen,
    SetPassword,
    State,
    Update,
    render,
)
from appliance.system.health import is_in_memory

EXIT_NO_TERMINAL = 3
# How often the screen is looked at anew while nobody types; drawn only when it differs.
REFRESH_INTERVAL = 10.0
# A question that nobody answers is taken back: the next person at the box finds the menu.
ANSWER_TIMEOUT = 120.0
# A terminal hands over a line at a time, which the kernel holds to 4,095 bytes.
MAX_LINE = 4_096
PING = ("ping", "-n", "-c", "3", "-i", "0.5", "-w", "5")
PING_TIMEOUT = 10.0
TOOL_TIMEOUT = 30.0
UPDATE_POLL = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def ports() -> list[Port]:
    """The interfaces that have addresses, without the loopback; link-local addresses are left out."""
    found = []
    for name in netifaces.interfaces():
        addresses = netifaces.ifaddresses(name)
        ipv4 = tuple(entry["addr"] for entry in addresses.get(netifaces.AF_INET, ()))
        ipv6 = (entry["addr"].partition("%")[0] for entry in addresses.get(netifaces.AF_INET6, ()))
        reachable = tuple(text for text in ipv6 if not ip_address(text).is_link_local)
        if name != "lo" and (ipv4 or reachable):
            found.append(Port(name, ipv4, reachable))
    return found


def gateway() -> str | None:
    """The IPv4 default gateway."""
    default = netifaces.gateways()["default"].get(netifaces.AF_INET)
    return str(default[0]) if default else None


class Terminal:
    """Standard input and output, as a terminal whose keys send no signals."""

    def __init__(self) -> None:
        """termios.error where standard input is no terminal."""
        self._set(echo=True)

    @staticmethod
    def _set(echo: bool) -> None:
        settings = termios.tcgetattr(0)
        settings[3] |= termios.ICANON
        settings[3] &= ~termios.ISIG
        settings[3] = settings[3] | termios.ECHO if echo else settings[3] & ~termios.ECHO
        # Ctrl-D would look like a line that has hung up.
        settings[6][termios.VEOF] = b"\0"
        termios.tcsetattr(0, termios.TCSADRAIN, settings)

    @staticmethod
    def show(text: str) -> None:
        """Write the text."""
        os.write(1, text.encode())

    def draw(self, text: str) -> None:
        """Clear the screen and write the text."""
        self.show(_CLEAR + text)

    def ask(self, prompt: Prompt) -> None:
        """Write the question. The echo of a secret is off before anybody can answer."""
        self._set(echo=not prompt.secret)
        self.show(prompt.text)

    def line(self, prompt: Prompt, timeout: float) -> str | None:
        """The line that answers; None where none comes. EOFError when the terminal is gone."""
        try:
            if not select.select([0], [], [], timeout)[0]:
                return None
            data = os.read(0, MAX_LINE)
        except OSError as error:
            raise EOFError(str(error)) from None
        finally:
            if prompt.secret:
                self.show("\n")
        if not data:
            raise EOFError("the terminal has hung up")
        # Without the line's end, and without keys that elsewhere would have sent a signal.
        return "".join(sign for sign in data.decode(errors="replace") if sign.isprintable())


class Screen:
    """The screen on one terminal: draws, asks, does."""

    def __init__(self, terminal: Terminal, runtime: Path, state: Path) -> None:
        self._terminal = terminal
        self._control = ControlClient(runtime)
        self._state = state
        self._dialogue = Dialogue()
        self._drawn = ""

    def _look(self) -> str:
        try:
            status = self._control.status()
        except ControlError:
            status = None
        name = socket.gethostname()
        return render(Seen(__version__, name, ports(), gateway(), fingerprint(self._state / "tls"), status))

    def _draw(self, again: bool) -> None:
        """Draw what there is to see; where it is on the screen already, only if it must be again."""
        text = self._look()
        if again or text != self._drawn:
            self._terminal.draw(text)
            self._terminal.ask(self._dialogue.prompt)
            self._drawn = text

    def serve(self) -> None:
        """Until the terminal is gone: EOFError."""
        self._draw(again=True)
        while True:
            prompt = self._dialogue.prompt
            choosing = self._dialogue.state is State.CHOICE
            line = self._terminal.line(prompt, REFRESH_INTERVAL if choosing else ANSWER_TIMEOUT)
            if line is None:
                self._dialogue.back()
                self._draw(again=not choosing)
                continue
            action = self._dialogue.take(line)
            if action is not None:
                self._act(action)
            if self._dialogue.state is State.CHOICE:
                self._draw(again=True)
            else:
                self._terminal.show("\n")
                self._terminal.ask(self._dialogue.prompt)

    def _act(self, action: Action) -> None:
        try:
            said = self._do(action)
        except (IsthmusError, OSError, subprocess.SubprocessError) as error:
            said = f"It failed: {error.message if isinstance(error, IsthmusError) else error}"
        self._terminal.show(f"\n{said}\n" if said else "")

    def _do(self, action: Action) -> str:
        """What there is to tell of it."""
        match action:
            case Say(text=text):
                return text
            case Ping(address=address):
                done = subprocess.run(
                    [*PING, address], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True, timeout=PING_TIMEOUT, check=False,
                )  # fmt: skip
                return done.stdout
            case SetPassword(password=password):
                self._control.reset_password(password)
                return "The web console has the new password, and whoever was signed in is not any more."
            case Update(address=address):
                self._control.install_update(address, restart=False)
                return self._follow()
            case Do.FACTORY_RESET:
                if is_in_memory(Path("/proc/mounts").read_text()):
                    return self._end("start", RENEW_UNIT)
                marker = self._state / RESET_MARKER
                marker.touch()
                os.sync()
                return self._end("reboot")
            case Do.RESTART:
                return self._end("reboot")
            case Do.POWER_OFF:
                return self._end("poweroff")
        return ""

    def _follow(self) -> str:
        """Until the update is over, a dot for each look."""
        while (found := self._control.update())["phase"] not in ("ready", "failed"):
            self._terminal.show(".")
            time.sleep(UPDATE_POLL)
        if found["phase"] == "failed":
            return f"{found['message']} {found['hint']}".rstrip()
        return f"Version {found['version']} is ready: it starts at the next restart."

    def _end(self, *verb: str) -> str:
        """Ask systemd, and show nothing more until it comes true."""
        subprocess.run(
            ["systemctl", *verb],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TOOL_TIMEOUT,
            check=True,
        )
        self._terminal.draw("The box is going down …\n")
        time.sleep(TOOL_TIMEOUT)
        return "It is still up: see whether a service does not end."


def main(argv: list[str] | None = None) -> int:
    """Serve the terminal on standard input until it hangs up. Exit status: 0, 3 there is no terminal."""
    parser = argparse.ArgumentParser(
        prog="isthmus-console", description="The screen and the menu at the box itself. Runs as root."
    )
    parser.add_argument("--runtime", type=Path, default=Path("/run/isthmus"), help="folder with control.sock")
    parser.add_argument("--state", type=Path, default=Path("/var/lib/isthmus"), help="folder that is kept")
    options = parser.parse_args(argv)
    try:
        screen = Screen(Terminal(), options.runtime, options.state)
        screen.serve()
    except termios.error as error:
        # A serial port that the kernel names, and the machine does not have.
        print(f"isthmus-console: standard input is no terminal: {error}", file=sys.stderr)
        return EXIT_NO_TERMINAL
    except EOFError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
