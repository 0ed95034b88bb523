"""At each start: keep the settings that a new version converts, or bring them back where it fell back.

What a trial came to is said here too.
What is kept is all that a version may convert: the configuration with its revisions, the console's users,
the certificates. What only grows (logs, history, lists) is left where it is.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from appliance.files import sync_folder
from appliance.update import state
from appliance.update.kernels import Kernels
from appliance.update.state import Outcome, State
from appliance.update.versions import order

KEPT = "kept"
# Names below the box's state folder; what is not there yet is not kept.
SETTINGS = (
    "config.toml",
    "config.last-good.toml",
    "revisions",
    "candidates",
    "console-users.json",
    "lan-prefix",
    "segment-subnets",
    "ports",
    "tls",
)


def begin(box: Path, folder: Path, running: str) -> str:
    """Before anything reads the settings in ``box``; in words what was done, "" for nothing. OSError."""
    found = state.read(folder)
    if found.booted == running:
        return ""
    said = ""
    own = folder / KEPT / running
    trial = found.trial
    fell_back = trial is not None and trial.version == found.booted and trial.before == running
    if fell_back and own.is_dir():
        _copy(own, box)
        said = f"{found.booted} was given up: the settings are those that {running} had"
    elif found.booted and not fell_back:
        target = folder / KEPT / found.booted
        fresh = folder / KEPT / f".{found.booted}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        _copy(box, fresh)
        fresh.rename(target)
        sync_folder(folder / KEPT)
        said = f"{running} starts for the first time: the settings of {found.booted} are kept"
    state.write(folder, replace(found, booted=running))
    return said


def _copy(source: Path, target: Path) -> None:
    """The settings, with owners and modes, each replaced whole."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in SETTINGS:
        old, new, fresh = source / name, target / name, target / f".{name}.kept"
        if fresh.is_dir():
            shutil.rmtree(fresh)
        if not old.exists():
            continue
        if old.is_dir():
            shutil.copytree(old, fresh, copy_function=_copy_file)
            shutil.copystat(old, fresh)
            if new.exists():
                shutil.rmtree(new)
        else:
            _copy_file(str(old), str(fresh))
        fresh.rename(new)
    os.sync()


def _copy_file(source: str, target: str) -> str:
    shutil.copy2(source, target)
    told = Path(source).stat()
    os.chown(target, told.st_uid, told.st_gid)
    return target


def judge(found: State, running: str, boot: str, kernel_left: int | None, now: float) -> State | None:
    """What a boot that has come this far says of the trial; None where it says nothing yet. Pure.

    ``kernel_left``: the tries that the trial's kernel has left; -1 where it has no kernel at all.
    """
    trial = found.trial
    if trial is None:
        floor = max(found.floor or running, running, key=order)
        return replace(found, floor=floor) if floor != found.floor else None
    if trial.version == running:
        if kernel_left is not None:  # it has not passed its health check
            return None
        kept = found.ended(Outcome(now, running, trial.before, "kept"))
        return replace(kept, floor=max(found.floor or running, running, key=order))
    if boot == trial.boot:  # it was written in this boot, and waits for the next
        return None
    if kernel_left == -1:
        reason = "The power went before it was complete."
    elif kernel_left:
        return None  # somebody chose this version at the screen
    else:
        reason = found.failure or "It did not start: the box came back by itself."
    return found.ended(Outcome(now, trial.version, running, "fell-back", reason))


def settle(folder: Path, running: str, boot: str, kernels: Kernels) -> Outcome | None:
    """After the health check: what became of the trial, None where nothing did. OSError."""
    found = state.read(folder)
    trial = found.trial
    kernel = kernels.of(trial.version) if trial else None
    left = -1 if kernel is None else kernel.left
    after = judge(found, running, boot, left, time.time())
    if after is None:
        return None
    outcome = after.history[-1] if after.trial is None and trial is not None else None
    if outcome is not None and outcome.result == "fell-back":
        kernels.remove(outcome.version)
    state.write(folder, replace(after, booted=running))
    if outcome is not None and outcome.result == "kept":
        # Not before the state says so: what was kept is what a fall-back brings back.
        shutil.rmtree(folder / KEPT, ignore_errors=True)
    return outcome
