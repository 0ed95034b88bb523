"""What the test of power cuts does in a process that is killed at its n-th step on the disk.

A step is a system call that changes what is on the disk, or makes it last. A verb is "final" (a commit that
nobody has to confirm), "pending" (one that somebody has to), "confirm", "rollback", "late" (a rollback by the
deadline), "recover" (a start after a power cut), "candidate", or "history N": a dozen of these, by chance.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.config.transaction import Moment
from appliance.control.candidates import Candidates
from appliance.control.commits import Commits
from appliance.control.revisions import Revisions
from appliance.errors import IsthmusError

OLD = '[lan]\nprefix = "fd00:1::/64"\n' + "# " + "x" * 5_000 + "\n"
CALLS = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir")


def made(folder: Path, boot: str = "boot 1", uptime: float = 500.0) -> Commits:
    """The machine over a folder, started."""
    revisions = Revisions(folder / "config.toml", folder / "revisions", lambda: Moment(1e6, uptime, boot))
    revisions.recover()
    commits = Commits(revisions, Candidates(folder / "candidates"), lambda: None, lambda: None)
    commits.adopt()
    return commits


# Those that begin while a commit waits for somebody's word.
WAITING = ("confirm", "rollback", "late", "recover")


def prepare(folder: Path, verb: str) -> None:
    """What is there before the verb."""
    (folder / "config.toml").write_text(OLD)
    commits = made(folder)
    if verb != "candidate":
        _candidate(commits, "pending" if verb in ("pending", *WAITING) else verb)
    if verb in WAITING:
        _commit(commits)


def _candidate(commits: Commits, verb: str) -> None:
    config = json.loads(json.dumps(commits.drafting.view("ann").config))
    if verb == "pending":
        config["lan"]["prefix"] = "fd00:2::/64"
    else:
        config["policy"]["default"] = "deny"
    commits.drafting.put("ann", config, 1, None)


def _commit(commits: Commits) -> None:
    candidate = commits.drafting.view("ann").candidate
    commits.commit("ann", "", candidate.based_on, candidate.version, None)


def do(folder: Path, verb: str) -> None:
    """The verb, from a start on."""
    if verb.startswith("history"):
        _history(folder, random.Random(verb))
        return
    uptime = 600.0 if verb == "late" else 500.0
    commits = made(folder, "boot 2" if verb == "recover" else "boot 1", uptime)
    if verb in ("final", "pending"):
        _commit(commits)
    elif verb == "confirm":
        commits.confirm("ann", None)
    elif verb == "rollback":
        commits.roll_back("ann", None)
    elif verb == "late":
        commits.tick()
    elif verb == "candidate":
        _candidate(commits, "final")


def _history(folder: Path, chance: random.Random) -> None:
    uptime = 500.0
    commits = made(folder)
    commits.revisions._clock = lambda: Moment(1e6, uptime, "boot 1")  # which goes on here
    file = folder / "config.toml"

    def hand() -> None:
        file.write_text(OLD + f"[proxy]\nmax_new = {chance.randrange(1, 9_999)}\n")
        commits.adopt()

    def edit() -> None:
        candidate = commits.drafting.view("ann")
        config = json.loads(json.dumps(candidate.config))
        config["proxy"]["workers"] = chance.randrange(9)
        config["lan"]["prefix"] = chance.choice(["fd00:1::/64", "fd00:2::/64"])
        commits.drafting.put("ann", config, candidate.candidate.based_on, None)
        _commit(commits)

    def wait() -> None:
        nonlocal uptime
        uptime += chance.choice([20, 100])
        commits.tick()

    verbs: list[Callable[[], object]] = [
        *(edit, edit, edit, wait, hand),
        lambda: commits.confirm("ann", None),
        lambda: commits.roll_back("ann", None),
        lambda: commits.drafting.merge("ann", []),
        lambda: commits.drafting.restore("ann", 1),
        lambda: commits.change_file(file.read_text() + "# more\n", "root", ""),
    ]
    for _turn in range(12):
        with contextlib.suppress(IsthmusError):  # what cannot be done now
            chance.choice(verbs)()


class Steps:
    """Counts the calls in ``CALLS``, and dies at one; a write is done by half then."""

    def __init__(self, last: int) -> None:
        self.done = 0
        self.last = last
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            if name == "open" and not words[1] & os.O_CREAT:
                return real(*words, **more)
            self.done += 1
            if self.done == self.last:
                if name == "write":
                    real(words[0], bytes(words[1])[: len(words[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)

        return call


def die_at(step: int, folder: Path, verb: str) -> int | None:
    """Do the verb in a process of its own, which is killed at the step; how many it took where it was not.

    No step is number 0.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            steps = Steps(step)
            do(folder, verb)
            done, steps.last = steps.done, 0
            os.write(writer, str(done).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader) as stream:
        said = stream.read()
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"the process ended otherwise: {status}"
    return int(said) if status == 0 else None
