"""The verbs of org.isthmus.control that test the network from the box."""

from __future__ import annotations

from typing import Any

from appliance.control.diagnostics import DiagnosticError, Diagnostics
from appliance.control.verbs import refusals


class DiagnosticVerbs:
    """Methods are named as in the interface file. ``diagnostics`` is set where there is a box."""

    diagnostics: Diagnostics | None = None

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
