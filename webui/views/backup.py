"""Backup, restore, and the factory reset."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from appliance.config.fields import MIN_PASSWORD
from appliance.control.client import ControlError
from webui.desk import Desk, done, told
from webui.security import author
from webui.words import _, n_

BASE = "/system/backup"
MAX_TYPED = 1_024
# What is typed to erase the box; the same word as at the command line.
ERASE = "erase"


class Backup:
    """The page of backups. What was typed into a passphrase's field is never shown again."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.backend = desk.backend

    def _page(self, errors: dict[str, str] | None = None, identity: bool = False) -> str:
        return self.desk.page(
            "backup.html", area="system", key="backup", errors=errors or {}, minimum=MIN_PASSWORD, word=ERASE,
            identity=identity,
        )  # fmt: skip

    def listing(self) -> str:
        """The three forms."""
        return self._page()

    def download(self) -> Response | tuple[str, int]:
        """A backup that the passphrase opens."""
        passphrase = request.form.get("passphrase", "")[:MAX_TYPED]
        if passphrase != request.form.get("again", "")[:MAX_TYPED]:
            return self._page({"again": _("The two differ. Type the same passphrase twice.")}), 422
        if len(passphrase) < MIN_PASSWORD:
            words = _("The passphrase needs at least %(num)s characters.", num=MIN_PASSWORD)
            return self._page({"passphrase": words}), 422
        try:
            data = self.backend.backup(passphrase)
        except ControlError as failed:
            return self._page({"passphrase": told(failed)}), 422
        day = datetime.now(UTC).astimezone(ZoneInfo(self.desk.zone())).strftime("%Y-%m-%d")
        name = f"{self.desk.status()['hostname']}-{day}.backup"
        answer = Response(data, content_type="application/octet-stream")
        answer.headers.set("Content-Disposition", "attachment", filename=name)
        return answer

    def restore(self) -> BaseResponse | tuple[str, int]:
        """Its configuration becomes the candidate; with ``identity`` the rest is in force at once."""
        identity = "identity" in request.form
        file = request.files.get("file")
        data: bytes = file.read() if file is not None and file.filename else b""
        passphrase = request.form.get("opens", "")[:MAX_TYPED]
        errors = {}
        if not data:
            errors["file"] = _("Choose the backup’s file.")
        if not passphrase:
            errors["opens"] = _("Type the passphrase that it was made with.")
        if errors:
            return self._page(errors, identity), 422
        try:
            candidate = self.backend.restore_backup(author(), data, passphrase, identity)
        except ControlError as failed:
            return self._page({"opens": told(failed)}, identity), 422
        if identity:
            done(_("The backup’s authority, certificate and admins are in force."))
        done(
            n_(
                "%(num)s change is pending. Apply it to have the backup’s settings.",
                "%(num)s changes are pending. Apply them to have the backup’s settings.",
                len(candidate["changes"]),
            )
        )
        return redirect("/changes", 303)

    def reset(self) -> str | tuple[str, int]:
        """Erase everything, for whoever has typed the word."""
        if request.form.get("word", "").strip().lower() != ERASE:
            words = _("Nothing was erased. Type the word “%(word)s” to do it.", word=ERASE)
            return self._page({"word": words}), 422
        page = self.desk.page("restarting.html", area="system", reset=True)
        self.backend.factory_reset()
        return page

    def blueprint(self) -> Blueprint:
        """Their addresses."""
        pages = Blueprint("backup", __name__)
        pages.add_url_rule(BASE, "listing", self.listing, methods=["GET"])
        pages.add_url_rule(f"{BASE}/download", "download", self.download, methods=["POST"])
        pages.add_url_rule(f"{BASE}/restore", "restore", self.restore, methods=["POST"])
        pages.add_url_rule(f"{BASE}/reset", "reset", self.reset, methods=["POST"])
        return pages
