"""What is remembered of updates on the data partition, and what is shown of one that is at work."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance import files

STATE = "state.json"
STATUS = "status.json"
REQUEST = "request.json"
# A row is a hundred octets, and a box sees a dozen updates a year.
MAX_HISTORY = 100


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that was written and is not kept yet; ``boot``: the boot ID in which it was written."""

    version: str
    before: str
    boot: str
    since: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a version. ``result``: kept, fell-back."""

    time: float
    version: str
    before: str
    result: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The whole of it. ``booted``: the version that used the data last."""

    floor: str = ""
    booted: str = ""
    trial: Trial | None = None
    failure: str = ""  # why the trial's last boot was ended
    available: str = ""  # what the last automatic check found
    checked: float = 0.0
    problem: str = ""  # why that check failed
    history: tuple[Outcome, ...] = field(default=())

    def ended(self, outcome: Outcome) -> State:
        """The trial is over."""
        history = (*self.history, outcome)[-MAX_HISTORY:]
        return replace(self, trial=None, failure="", history=history)


def read(folder: Path) -> State:
    """The state; where the file is missing or damaged, that of a box that never updated."""
    try:
        plain: dict[str, Any] = json.loads((folder / STATE).read_text())
        trial = Trial(**plain.pop("trial")) if plain.get("trial") else None
        plain.pop("trial", None)
        history = tuple(Outcome(**one) for one in plain.pop("history", []))
        known = {key: value for key, value in plain.items() if key in State.__dataclass_fields__}
        return State(trial=trial, history=history, **known)
    except (OSError, ValueError, TypeError, AttributeError):
        return State()


def write(folder: Path, state: State) -> None:
    """Keep it, whole also after a power cut; OSError."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    files.put(folder / STATE, json.dumps(asdict(state), indent=1))


@dataclass(frozen=True, slots=True)
class Status:
    """How far an update is. ``phase``: fetching, verifying, writing, ready, failed; octets of ``total``."""

    phase: str
    version: str = ""
    done: int = 0
    total: int = 0
    code: str = ""
    message: str = ""
    hint: str = ""


def show(runtime: Path, status: Status) -> None:
    """For all that may look into ``runtime``; OSError."""
    runtime.mkdir(mode=0o750, exist_ok=True)
    files.show(runtime / STATUS, json.dumps(asdict(status)))
