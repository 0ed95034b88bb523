"""The verbs of org.isthmus.control that test the network from the box."""

from __future__ import annotations

import base64
from typing import Any

from appliance.control.capture import Captures
from appliance.control.diagnostics import DiagnosticError, Diagnostics
from appliance.control.verbs import refusals


class DiagnosticVerbs:
    """Methods are named as in the interface file. Both are set where there is a box."""

    diagnostics: Diagnostics | None = None
    captures: Captures | None = None

    def _diagnostics(self) -> Diagnostics:
        if self.diagnostics is None:
            raise DiagnosticError("There is no box here to test from.", "isthmus-control runs on one.")
        return self.diagnostics

    def Ping(self, target: str) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """Whether it answers."""
        with refusals():
            return {"result": self._diagnostics().ping(target)}

    def Trace(self, target: str) -> dict[str, Any]:  # noqa: N802
        """The routers on the way."""
        with refusals():
            return {"result": self._diagnostics().trace(target)}

    def LookUpName(self, name: str, type: str) -> dict[str, Any]:  # noqa: A002, N802 - the interface's word
        """What the box's DNS64 answers."""
        with refusals():
            return {"result": self._diagnostics().look_up(name, type)}

    def Cross(self, target: str, port: int) -> dict[str, Any]:  # noqa: N802
        """A session through the proxy."""
        with refusals():
            return {"result": self._diagnostics().cross(target, port)}

    def _captures(self) -> Captures:
        if self.captures is None:
            raise DiagnosticError("There is no box here to capture from.", "isthmus-control runs on one.")
        return self.captures

    def StartCapture(  # noqa: N802
        self, device: str, host: str, port: int | None, seconds: int, octets: int
    ) -> dict[str, Any]:
        """Begin."""
        with refusals():
            self._captures().start(device, host, port, seconds, octets)
        return {}

    def StopCapture(self) -> dict[str, Any]:  # noqa: N802
        """End it before its time."""
        with refusals():
            self._captures().stop()
        return {}

    def GetCapture(self) -> dict[str, Any]:  # noqa: N802
        """How far it is."""
        with refusals():
            return {"capture": self._captures().status()}

    def ReadCapture(self, offset: int) -> dict[str, Any]:  # noqa: N802
        """A part of the file."""
        with refusals():
            return {"data": base64.b64encode(self._captures().read(offset)).decode()}
