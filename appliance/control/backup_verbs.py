"""The verbs of org.isthmus.control for backups."""

from __future__ import annotations

import base64
from typing import Any

from appliance.control.backup import Backups
from appliance.control.verbs import committing, refuse, view_plain


class BackupVerbs:
    """Methods are named as in the interface file."""

    def __init__(self, backups: Backups) -> None:
        self._backups = backups

    def Backup(self, passphrase: str) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """All that makes the box."""
        with committing():
            return {"data": base64.b64encode(self._backups.make(passphrase)).decode()}

    def RestoreBackup(  # noqa: N802
        self, author: str, data: str, passphrase: str, identity: bool
    ) -> dict[str, Any]:
        """A backup as a candidate."""
        try:
            content = base64.b64decode(data, validate=True)
        except ValueError:
            raise refuse("InvalidArgument", name="data", message="The data is no base64.") from None
        with committing():
            return view_plain(self._backups.restore(author, content, passphrase, identity))
