"""Updates: from a file or an address, how far one is, what became of earlier ones; and the restart."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flask import Blueprint, Response, jsonify, redirect, request
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import UPDATING, ControlError
from webui.desk import Desk, done, told
from webui.security import is_right_token
from webui.streams import BrokenFormError, drain, read_form
from webui.words import _, later

BASE = "/system/updates"
MAX_ADDRESS = 2_000
OUTCOMES_SHOWN = 20
PHASES = {
    "idle": later("No update is at work"), "starting": later("Starting"), "fetching": later("Fetching"),
    "verifying": later("Verifying"), "writing": later("Writing"), "ready": later("Ready"),
    "failed": later("Failed"),
}  # fmt: skip


class _RefusedError(Exception):
    """In words, for the field."""


class Updates:
    """The page of updates. One upload at a time: control keeps one bundle."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.backend = desk.backend
        self._uploading = threading.Lock()

    def _page(self, errors: dict[str, str] | None = None, address: str = "") -> str:
        found = self.backend.update()
        return self.desk.page(
            "updates.html", area="system", key="updates", update=found, busy=found["phase"] in UPDATING,
            phases=PHASES, outcomes=found["history"][:OUTCOMES_SHOWN], errors=errors or {}, address=address,
        )  # fmt: skip

    def listing(self) -> str:
        """What runs, and the forms."""
        return self._page()

    def state(self) -> Response:
        """For the page that watches."""
        found = self.backend.update()
        return jsonify(
            phase=found["phase"], words=_(PHASES.get(found["phase"], found["phase"])),
            version=found["version"], done=found["done"], total=found["total"],
            busy=found["phase"] in UPDATING,
        )  # fmt: skip

    def upload(self) -> BaseResponse | tuple[str, int]:
        """A bundle, handed on as it arrives; then it is installed."""
        restart: list[bool] = []

        def begin(fields: dict[str, str], filename: str) -> Callable[[bytes], None]:
            if not is_right_token(fields.get("csrf", "")):
                raise BadRequest
            restart.append("restart" in fields)
            if not filename:
                raise _RefusedError(_("Choose the update’s file."))
            length = 0

            def take(part: bytes) -> None:
                nonlocal length
                length = self.backend.upload_update(length, part)

            return take

        if not self._uploading.acquire(blocking=False):
            drain(request.stream)
            return self._page({"file": _("Another upload is under way. Wait until it is done.")}), 409
        try:
            read_form(request.stream, request.mimetype_params.get("boundary", ""), begin)
            if not restart:
                raise BrokenFormError("no file")
            self.backend.install_update(None, restart[0])
        except _RefusedError as refusal:
            return self._refused("file", str(refusal))
        except BrokenFormError:
            if not restart:
                raise BadRequest from None  # nobody knows who sent it
            return self._refused("file", _("The upload broke off. Send it again."))
        except ControlError as failed:
            return self._refused("file", told(failed))
        finally:
            self._uploading.release()
        done(_("The update is here. It is verified, then written."))
        return redirect(BASE, 303)

    def _refused(self, field: str, words: str) -> tuple[str, int]:
        drain(request.stream)
        return self._page({field: words}), 422

    def install(self) -> BaseResponse | tuple[str, int]:
        """From an address."""
        address = request.form.get("address", "").strip()[:MAX_ADDRESS]
        if not address.startswith(("https://", "http://")):
            words = _("Write the address whole: it begins with https:// or http://.")
            return self._page({"address": words}, address), 422
        try:
            self.backend.install_update(address, "restart" in request.form)
        except ControlError as failed:
            return self._page({"address": told(failed)}, address), 422
        done(_("The box fetches the update now."))
        return redirect(BASE, 303)

    def restart(self) -> str:
        """The page is made first: what makes it goes down too."""
        page = self.desk.page("restarting.html", area="system", reset=False)
        self.backend.restart()
        return page

    def blueprint(self) -> Blueprint:
        """Their addresses."""
        pages = Blueprint("updates", __name__)
        pages.add_url_rule(BASE, "listing", self.listing, methods=["GET"])
        pages.add_url_rule(f"{BASE}/state.json", "state", self.state, methods=["GET"])
        pages.add_url_rule(f"{BASE}/upload", "upload", self.upload, methods=["POST"])
        pages.add_url_rule(f"{BASE}/install", "install", self.install, methods=["POST"])
        pages.add_url_rule(f"{BASE}/restart", "restart", self.restart, methods=["POST"])
        return pages
