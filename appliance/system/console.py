"""The screen at the box itself (its video output, its serial line): what it shows and how it is answered.

Pure: the entry point, main.py beside this, reads the network and the terminal. There is no shell and
nobody signs in: who stands at the box may see its addresses, switch it off, take the console's
password back and erase the box, as with any appliance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_address
from typing import Any

HTTPS_PORT = 443
# In the box's state folder: the initrd of the next boot looks for it (image/mkosi.images/initrd).
RESET_MARKER = "factory-reset"
# Makes a data partition that cannot be mounted anew, and restarts.
RENEW_UNIT = "isthmus-renew-data.service"
ERASE_WORD = "erase"
YES = "yes"
# A terminal may be 80 columns wide; a health line with every trouble in it would push the menu away.
MAX_TROUBLES = 3
MENU = """\
  1) addresses, anew    2) ping an address    3) new password of the web console
  4) factory reset      5) restart            6) power off
  7) update from an address
"""


@dataclass(frozen=True, slots=True)
class Port:
    """An interface and its addresses, without prefix lengths."""

    name: str
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the screen is made of. ``status`` is control's answer, None where it gives none."""

    version: str
    hostname: str
    ports: Sequence[Port]
    gateway: str | None
    fingerprint: str | None
    status: dict[str, Any] | None


def render(seen: Seen) -> str:
    """The screen as text, without the prompt."""
    status = seen.status or {}
    by_name = {port.name: port for port in seen.ports}
    wan, lan = by_name.get(status.get("wan_interface", "")), by_name.get(status.get("lan_interface", ""))
    rows: list[tuple[str, str]] = []
    if seen.status is None:  # which port is which is not known: all that have an address
        rows += [(port.name, ", ".join([*port.ipv4, *port.ipv6])) for port in seen.ports]
    else:
        rows.append(("WAN", _side(status["wan_interface"], wan.ipv4 if wan else ())))
        rows.append(("gateway", seen.gateway or "none"))
        rows.append(("LAN", _side(status["lan_interface"], lan.ipv6 if lan else ())))
        rows.append(("console", _url(status.get("lan_address"), status.get("console_port", HTTPS_PORT))))
    if seen.fingerprint:
        # in two lines: a terminal has 80 columns
        half = len(seen.fingerprint) // 2
        rows.append(("SHA-256", seen.fingerprint[:half]))
        rows.append(("", seen.fingerprint[half:].lstrip(":")))
    rows.append(("health", health_line(seen.status)))
    body = "".join(f"  {name:<9} {value}\n" for name, value in rows)
    return f"{seen.hostname}, Isthmus {seen.version}\n\n{body}\n{MENU}\n"


def _side(name: str, addresses: Sequence[str]) -> str:
    return f"{', '.join(addresses) or 'no address'} ({name})"


def _url(address: str | None, port: int) -> str:
    if address is None:
        return "no address yet"
    return f"https://[{address}]{'' if port == HTTPS_PORT else f':{port}'}/"


def health_line(status: dict[str, Any] | None) -> str:
    """The health checks in one line, the worst first: what does not fit is the lesser."""
    if status is None:
        return "isthmus-control does not answer; it is started again by itself"
    checks = sorted(status["checks"], key=lambda check: check["state"] != "bad")
    troubles = [check["title"] for check in checks if check["state"] != "ok"]
    if not troubles:
        return "all well"
    more = f"; {len(troubles) - MAX_TROUBLES} more" if len(troubles) > MAX_TROUBLES else ""
    return "; ".join(troubles[:MAX_TROUBLES]) + more


class State(Enum):
    """What the next line will answer."""

    CHOICE = auto()
    ADDRESS = auto()
    PASSWORD = auto()
    PASSWORD_AGAIN = auto()
    ERASE = auto()
    RESTART = auto()
    POWER_OFF = auto()
    UPDATE = auto()
    READ = auto()  # something was shown; any line goes on


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to ask; a secret answer is not echoed."""

    text: str
    secret: bool = False


PROMPTS = {
    State.CHOICE: Prompt("1 to 7: "),
    State.ADDRESS: Prompt("Address to ping (nothing: back): "),
    State.PASSWORD: Prompt("New password for “admin”, not shown (nothing: back): ", secret=True),
    State.PASSWORD_AGAIN: Prompt("Once more: ", secret=True),
    State.ERASE: Prompt(
        "The configuration, the password, the certificate and all logs will be erased, and the box\n"
        f"starts as new. Every session ends. Type {ERASE_WORD} to do it (nothing: back): "
    ),
    State.RESTART: Prompt(f"Every session ends. Type {YES} to restart (nothing: back): "),
    State.POWER_OFF: Prompt(f"Nothing will cross the box. Type {YES} to switch off (nothing: back): "),
    State.UPDATE: Prompt(
        "Only what the owner's key has signed is taken, and what runs is not touched.\n"
        "Address of the .update file, http://… or https://… (nothing: back): "
    ),
    State.READ: Prompt("Enter: back "),
}

_CHOICES = {
    "2": State.ADDRESS,
    "3": State.PASSWORD,
    "4": State.ERASE,
    "5": State.RESTART,
    "6": State.POWER_OFF,
    "7": State.UPDATE,
}


class Do(Enum):
    """What needs no more words."""

    REFRESH = auto()
    FACTORY_RESET = auto()
    RESTART = auto()
    POWER_OFF = auto()


@dataclass(frozen=True, slots=True)
class Ping:
    """Ping the address."""

    address: str


@dataclass(frozen=True, slots=True)
class SetPassword:
    """Give the web console's user this password."""

    password: str


@dataclass(frozen=True, slots=True)
class Update:
    """Install the version that is at the address."""

    address: str


@dataclass(frozen=True, slots=True)
class Say:
    """Show the text."""

    text: str


Action = Do | Ping | SetPassword | Update | Say

# State to the word it waits for, and what that does.
_CONFIRMED = {
    State.ERASE: (ERASE_WORD, Do.FACTORY_RESET),
    State.RESTART: (YES, Do.RESTART),
    State.POWER_OFF: (YES, Do.POWER_OFF),
}


class Dialogue:
    """From the lines that are typed to what is done. A line of nothing leads back to the choice."""

    def __init__(self) -> None:
        self.state = State.CHOICE
        self._password = ""

    @property
    def prompt(self) -> Prompt:
        """What to ask now."""
        return PROMPTS[self.state]

    def back(self) -> None:
        """Forget what was begun."""
        self.state = State.CHOICE
        self._password = ""

    def take(self, line: str) -> Action | None:
        """The action that the line asks for; None where another question comes first."""
        state, answer = self.state, line.strip()
        password, self._password = self._password, ""
        self.state = State.CHOICE
        if state is State.CHOICE:
            self.state = _CHOICES.get(answer, State.CHOICE)
            return Do.REFRESH if self.state is State.CHOICE else None
        if not answer or state is State.READ:
            return Do.REFRESH
        if state is State.PASSWORD:
            # with its spaces: whoever types some means them, and the web console keeps them too
            self.state, self._password = State.PASSWORD_AGAIN, line
            return None
        if state is State.ADDRESS:
            action: Action = _ping(answer)
        elif state is State.UPDATE:
            action = Update(answer)
        elif state is State.PASSWORD_AGAIN:
            same = line == password
            action = SetPassword(line) if same else Say("The two differ. Nothing was changed.")
        else:
            word, do = _CONFIRMED[state]
            if answer == word:
                return do
            action = Say(f"That was not “{word}”. Nothing was done.")
        self.state = State.READ
        return action


def _ping(answer: str) -> Action:
    try:
        return Ping(str(ip_address(answer)))
    except ValueError:
        return Say("That is no IP address. Names are not looked up here.")
