"""The verbs of org.isthmus.control for updates, restarts and the factory reset."""

from __future__ import annotations

import base64
from typing import Any

from appliance.control.updates import Updates
from appliance.control.verbs import refusals, refuse


class UpdateVerbs:
    """Methods are named as in the interface file."""

    def __init__(self, updates: Updates) -> None:
        self._updates = updates

    def GetUpdate(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """How far it is."""
        return {"update": self._updates.status()}

    def InstallUpdate(self, source: str | None, restart: bool) -> dict[str, Any]:  # noqa: N802
        """Begin."""
        with refusals():
            self._updates.start(source, restart)
        return {}

    def UploadUpdate(self, offset: int, data: str) -> dict[str, Any]:  # noqa: N802
        """A part of a bundle."""
        try:
            content = base64.b64decode(data, validate=True)
        except ValueError:
            raise refuse("InvalidArgument", name="data", message="The data is no base64.") from None
        with refusals():
            return {"length": self._updates.upload(offset, content)}

    def Restart(self) -> dict[str, Any]:  # noqa: N802
        """Go down, and come up."""
        with refusals():
            self._updates.restart()
        return {}

    def FactoryReset(self) -> dict[str, Any]:  # noqa: N802
        """Erase everything."""
        with refusals():
            self._updates.factory_reset()
        return {}
