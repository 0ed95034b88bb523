"""The box's certificates: what serves whom, and one from elsewhere in place of the explicit proxy's own.

A key that is uploaded goes into the folder of control's, readable for root alone, and never comes out of it
but in what the proxy serves (``serving.pem``).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.errors import ConfigError, IsthmusError, Problem
from appliance.files import put, sync_folder
from appliance.system import certificates

# Characters of a chain or a key in PEM. A chain of ten RSA certificates has some 20,000.
MAX_PEM = 131_072
_READABLE = 0o644  # a certificate is no secret
_UPLOADED = ("uploaded.key", "uploaded.crt")


class CertificateError(IsthmusError):
    """Nothing was changed; the message says why."""

    code = "certificate-refused"


class PairError(ConfigError):
    """A certificate and key that cannot be served."""

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class Certificates:
    """Of the box whose state is in ``state``. ``renew`` has what was changed taken up; ``line`` is held while
    the files are changed.
    """

    def __init__(
        self,
        state: Path,
        config: Callable[[], Config],
        renew: Callable[[], object],
        line: AbstractContextManager[Any],
    ) -> None:
        self._folder = state / "tls"
        self._config = config
        self._renew = renew
        self._line = line

    def listed(self) -> list[dict[str, Any]]:
        """The varlink type ``Certificate`` of each that there is: authority, console, proxy, uploaded."""
        now = datetime.now(UTC)
        serving = certificates.serving(self._folder)
        listeners = [one.name for one in self._config().explicit.listeners if one.tls]
        found = []
        for name in ("authority", "console", "proxy", "uploaded"):
            facts = certificates.facts(self._folder / f"{name}.crt")
            if facts is None:
                continue
            used_by = ["console"] if name == "console" else []
            if name in ("proxy", "uploaded") and facts.fingerprint == serving:
                used_by = [f"listener {listener}" for listener in listeners]
            problem = certificates.judge_upload(self._folder, now) if name == "uploaded" else None
            found.append(
                {
                    "name": name,
                    "subject": facts.subject,
                    "issuer": facts.issuer,
                    "names": list(facts.names),
                    "since": facts.since.timestamp(),
                    "until": facts.until.timestamp(),
                    "key": facts.key,
                    "fingerprint": facts.fingerprint,
                    "used_by": used_by,
                    "problem": f"{problem.message} {problem.hint}".strip() if problem else None,
                }
            )
        return found

    def upload(self, certificate: str, key: str, author: str) -> str | None:
        """Have the encrypted listeners serve it; in words what is to be known of it all the same.

        PairError with what is wrong with the pair, whose paths are "certificate" and "key".
        """
        for path, text in (("certificate", certificate), ("key", key)):
            if len(text) > MAX_PEM:
                raise PairError([Problem(path, f"has more than {MAX_PEM} characters.", "", "too-large")])
        with self._line:
            with tempfile.TemporaryDirectory(prefix=".upload-", dir=self._folder) as aside:
                trial = Path(aside)  # for root alone
                (trial / "uploaded.crt").write_text(certificate)
                (trial / "uploaded.key").write_text(key)
                problem = certificates.judge_upload(trial, datetime.now(UTC))
            if problem is not None and problem.code != "ends-soon":
                place = "key" if problem.path.endswith(".key") else "certificate"
                raise PairError([Problem(place, problem.message, problem.hint, problem.code)])
            put(self._folder / "uploaded.key", key)
            put(self._folder / "uploaded.crt", certificate)
            (self._folder / "uploaded.crt").chmod(_READABLE)
        print(f"isthmus-control: {author} uploaded a certificate", file=sys.stderr)
        self._renew()
        return f"It {problem.message}" if problem is not None else None

    def remove(self, author: str) -> None:
        """Have the box's own serve again; CertificateError where nothing else does."""
        with self._line:
            there = [name for name in _UPLOADED if (self._folder / name).exists()]
            if not there:
                raise CertificateError(
                    "There is no uploaded certificate", "The box's own serves; `isthmus certificate show`."
                )
            for name in there:
                (self._folder / name).unlink()
            sync_folder(self._folder)
        print(f"isthmus-control: {author} removed the uploaded certificate", file=sys.stderr)
        self._renew()

    def renew(self, author: str) -> None:
        """New certificates of the box's own for the console and the proxy, with the keys that they have."""
        with self._line:
            certificates.ask_for_new(self._folder)
        print(f"isthmus-control: {author} has the box's certificates renewed", file=sys.stderr)
        self._renew()
