"""What every page has in common: the candidate that it edits, and what stands around it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import flash, g, render_template

from appliance.control.client import ControlError
from webui.backend import Backend
from webui.forms.plain import Plain, at
from webui.glance import Glance
from webui.memory import Memory
from webui.security import author, role


class Desk:
    """The box as one request sees it: asked for once, kept until the request ends."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._glance = Glance(backend.status)
        self._memory = Memory()

    def status(self) -> dict[str, Any]:
        """Type Status of org.isthmus.control; some seconds old."""
        if "status" not in g:
            g.status = self._glance.status()
        status: dict[str, Any] = g.status
        return status

    def forget_status(self) -> None:
        """Look at the box anew: it is another one after a commit."""
        self._glance.forget()

    def candidate(self) -> dict[str, Any]:
        """Type Candidate, of whoever is signed in."""
        if "candidate" not in g:
            name = author()
            g.candidate = self._memory.get(
                self._mine(),
                partial(self.backend.candidate, name),
                partial(self.backend.candidate_unless, name),
            )
        candidate: dict[str, Any] = g.candidate
        return candidate

    def config(self) -> Plain:
        """The candidate's configuration."""
        config: Plain = self.candidate()["config"]
        return config

    def active(self) -> Plain:
        """The configuration in force."""
        if not self.candidate()["version"]:
            return self.config()
        if "active" not in g:
            found = self._memory.get(("active", role()), self.backend.active, self.backend.active_unless)
            g.active = found["config"]
        active: Plain = g.active
        return active

    def zone(self) -> str:
        """By which the box tells the time."""
        return str(at(self.config(), ("system", "timezone"), "UTC"))

    def keep(self, config: Plain) -> dict[str, Any]:
        """Make it the candidate; ControlError "Outdated" where another was kept since this request began."""
        candidate = self.candidate()
        g.candidate = self._memory.keep(
            self._mine(),
            self.backend.put_candidate(author(), config, candidate["based_on"], candidate["version"]),
        )
        return self.candidate()

    def _mine(self) -> object:
        """What a candidate is remembered by: a viewer is shown less of the same one."""
        return ("candidate", author(), role())

    def page(self, template: str, **values: Any) -> str:
        """A page with the shell around it."""
        around: Mapping[str, Any] = {
            "status": self.status(),
            "candidate": self.candidate(),
            "pending": self.backend.pending(),
            "zone": self.zone(),
        }
        return render_template(template, **{**around, **values})


def done(sentence: str) -> None:
    """Say on the next page what was done."""
    flash(sentence, "ok")


def refused(sentence: str) -> None:
    """Say on the next page why it was not done."""
    flash(sentence, "bad")


def told(failed: ControlError) -> str:
    """Control's refusal in words, for its field; raised again where control is not there at all."""
    if failed.code == "unavailable":
        raise failed
    return f"{failed.message.rstrip('.')}. {failed.hint}".strip()
