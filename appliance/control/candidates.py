"""Candidates on disk: what each author works on, until it is committed or discarded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from appliance.config.codec import MAX_CONFIG_BYTES, MAX_KEY_LEVELS
from appliance.config.paths import Plain
from appliance.errors import IsthmusError
from appliance.files import PRIVATE_FOLDER, put, sync_folder

# Admins that work on the configuration. Fewer would refuse some; each costs up to two configurations on disk.
MAX_CANDIDATES = 32
MAX_AUTHOR = 64
# Of a candidate as JSON. Every setting is written out, of which a file need not say most.
MAX_CANDIDATE_BYTES = 4 * MAX_CONFIG_BYTES


class CandidateError(IsthmusError):
    """The candidate cannot be kept."""

    code = "candidate-refused"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody's configuration, valid or not, and the one that it was made from; both with hashes."""

    author: str
    version: int
    touched: float  # seconds since 1970
    based_on: int
    base: Plain
    config: Plain


def check_author(author: str) -> None:
    """CandidateError where nobody can be called that."""
    if not author.isprintable() or not 1 <= len(author) <= MAX_AUTHOR:
        raise CandidateError(f"“{author[:MAX_AUTHOR]}” is no author", f"1 to {MAX_AUTHOR} printable signs.")


def check_size(config: Plain) -> None:
    """CandidateError where no configuration is so large or so deep."""
    levels: list[object] = [config]
    for _level in range(MAX_KEY_LEVELS):
        levels = [
            one
            for level in levels
            for one in (
                level.values() if isinstance(level, dict) else level if isinstance(level, list) else ()
            )
            if isinstance(one, dict | list)
        ]
        if not levels:
            break
    else:
        raise CandidateError(
            "The configuration is nested too deeply", "No setting has more than four levels."
        )
    if len(json.dumps(config)) > MAX_CANDIDATE_BYTES:
        raise CandidateError(f"The configuration is larger than {MAX_CANDIDATE_BYTES} bytes")


class Candidates:
    """The candidates in ``folder``, which nobody else writes to. One thread at a time may change them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Candidate] = {}

    def get(self, author: str) -> Candidate | None:
        """The author's; None where there is none."""
        check_author(author)
        if author not in self._known:
            found = _load(self._path(author))
            if found is None:
                return None
            self._known[author] = found
        return self._known[author]

    def all(self) -> list[Candidate]:
        """Everybody's, the last touched first."""
        found = [one for path in self._folder.glob("*.json") if (one := _load(path)) is not None]
        return sorted(found, key=lambda one: -one.touched)

    def put(self, candidate: Candidate) -> None:
        """Keep it in the place of the author's last one; CandidateError, OSError."""
        check_author(candidate.author)
        self._folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        path = self._path(candidate.author)
        if not path.exists() and sum(1 for _one in self._folder.glob("*.json")) >= MAX_CANDIDATES:
            raise CandidateError(
                f"{MAX_CANDIDATES} candidates are open already",
                "Commit or discard some: `isthmus discard --author NAME`.",
            )
        put(path, json.dumps({name: getattr(candidate, name) for name in Candidate.__slots__}))
        self._known[candidate.author] = candidate

    def drop(self, author: str) -> None:
        """Forget the author's, if there is one."""
        check_author(author)
        self._known.pop(author, None)
        path = self._path(author)
        if path.exists():
            path.unlink()
            sync_folder(self._folder)

    def _path(self, author: str) -> Path:
        # An author's name may hold anything that a file's may not.
        return self._folder / f"{hashlib.sha256(author.encode()).hexdigest()[:32]}.json"


def _load(path: Path) -> Candidate | None:
    """The candidate in the file; None where there is none, or it was damaged."""
    try:
        return Candidate(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
