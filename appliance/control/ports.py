"""Which ports the box uses where the configuration says "auto": chosen once, and kept.

The choice is the machine's, not the configuration's: it is in no backup, and a factory reset ends it. It is
made at the first start, and where a commit gives a side's port to the other side. A port that is kept and
gone is missing, as one that is named is: a card that somebody plugs in, or pulls, moves nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from appliance.config.schema import Config
from appliance.config.sides import AUTO
from appliance.network import observe
from appliance.network.apply import write_atomically
from appliance.network.observe import PortError, Roles

# Seconds for which no wired port comes or goes before a choice is kept: at a start they come one after the
# other. Less, and a slow card comes too late to be the first one; more, and a box with other cards waits.
SETTLED_SECONDS = 10.0
_SIDES = ("wan", "lan")
_Place = tuple[str, int | None]


def _places(config: Config) -> tuple[_Place, ...]:
    """All of a configuration that the choice hangs on."""
    lans = ((lan.interface, lan.vlan) for _name, lan in config.lans())
    return ((config.wan.interface, config.wan.vlan), *lans)


class Ports:
    """The file ``ports`` of ``state``, and the choice in use. ``look`` is for the thread that applies."""

    def __init__(self, state: Path) -> None:
        self._path = state / "ports"
        # In use, and for which places: until a commit is confirmed the file has what it may go back to.
        self._choice: tuple[tuple[_Place, ...], Mapping[str, str]] | None = None
        self._wired: list[str] | None = None  # at the last look
        self._since = 0.0  # when the last one came or went, monotonic
        self._seen: set[str] = set()  # ports of theirs that were there since this start

    def kept(self) -> dict[str, str]:
        """The ports by their sides; a file that is damaged is as none."""
        try:
            plain = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        found = plain if isinstance(plain, dict) else {}
        return {side: found[side] for side in _SIDES if isinstance(found.get(side), str)}

    def roles(self, config: Config) -> Roles:
        """Which port is whose by this configuration, in force or not. Nothing is kept. PortError."""
        return observe.roles(config, self._basis(config))

    def _basis(self, config: Config) -> Mapping[str, str]:
        choice = self._choice
        return choice[1] if choice is not None and choice[0] == _places(config) else self.kept()

    def look(self, config: Config, now: float) -> Roles:
        """As ``roles``, for the configuration in force. ``now``: monotonic."""
        wired = observe.wired_ports()
        if wired != self._wired:
            self._wired, self._since = wired, now
        basis = self._basis(config)
        roles = observe.roles(config, basis)
        both = {roles.wan, roles.lans[0]}
        self._seen |= both - {port for _setting, port in roles.missing}
        if self._is_settled(now) and not self._seen & both:
            # Neither was ever there: the disk is in another box, which nobody could reach.
            with contextlib.suppress(PortError):
                roles = observe.roles(config)
        if basis or self._is_settled(now):
            self._choice = _places(config), {"wan": roles.wan, "lan": roles.lans[0]}
        return roles

    def _is_settled(self, now: float) -> bool:
        return now - self._since >= SETTLED_SECONDS

    def keep(self, config: Config, roles: Roles, now: float) -> None:
        """These are in use, and nothing may be rolled back; OSError.

        A port that is named is kept too: where its side becomes "auto", it stays.
        """
        if self._is_settled(now):
            settings = {"wan": config.wan.interface, "lan": config.lan.interface}
            chosen = {"wan": roles.wan, "lan": roles.lans[0]}
            real = {side for side in _SIDES if settings[side] == AUTO or chosen[side] in (self._wired or ())}
            found = {side: chosen[side] for side in _SIDES if side in real}
            if found != self.kept():
                write_atomically(self._path, json.dumps(found) + "\n")
