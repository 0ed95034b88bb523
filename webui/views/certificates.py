"""The box's certificates: what serves whom, and one from elsewhere. What is done here is in force at once."""

from __future__ import annotations

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from appliance.control.client import ControlError
from webui.desk import Desk, done, refused
from webui.security import author
from webui.words import _


class Certificates:
    """The page of certificates."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.backend = desk.backend

    def _page(self, errors: dict[str, str] | None = None) -> str:
        return self.desk.page(
            "certificates.html", area="system", key="certificates",
            certificates=self.backend.certificates(), errors=errors or {},
        )  # fmt: skip

    def listing(self) -> str:
        """All of them, and the form for another."""
        return self._page()

    def upload(self) -> BaseResponse | tuple[str, int]:
        """Have the encrypted listeners serve one. What was typed is not shown again: a key is in it."""
        texts, errors = {}, {}
        for part, words in (
            ("certificate", _("Choose the certificate’s file, or paste it.")),
            ("key", _("Choose the key’s file, or paste it.")),
        ):
            texts[part] = _given(part)
            if not texts[part].strip():
                errors[part] = words
        if not errors:
            try:
                warning = self.backend.upload_certificate(texts["certificate"], texts["key"], author())
            except ControlError as failed:
                errors = _as_errors(failed)
            else:
                done(_("The encrypted listeners serve it now.") + (f" {warning}" if warning else ""))
                return redirect("/system/certificates", 303)
        return self._page(errors), 422

    def remove(self) -> BaseResponse:
        """The box's own again."""
        try:
            self.backend.remove_certificate(author())
        except ControlError as failed:
            refused(failed.message)
        else:
            done(_("The encrypted listeners serve the box’s own certificate now."))
        return redirect("/system/certificates", 303)

    def renew(self) -> BaseResponse:
        """New ones of the box's own."""
        try:
            self.backend.renew_certificates(author())
        except ControlError as failed:
            refused(failed.message)
        else:
            done(_("The box’s own certificates are new; their keys are the same."))
        return redirect("/system/certificates", 303)

    def blueprint(self) -> Blueprint:
        """Their addresses."""
        pages = Blueprint("certificates", __name__)
        base = "/system/certificates"
        pages.add_url_rule(base, "listing", self.listing, methods=["GET"])
        pages.add_url_rule(base, "upload", self.upload, methods=["POST"])
        pages.add_url_rule(f"{base}/remove", "remove", self.remove, methods=["POST"])
        pages.add_url_rule(f"{base}/renew", "renew", self.renew, methods=["POST"])
        return pages


def _given(part: str) -> str:
    """A file's text, or what was pasted; what is no text becomes what is no PEM."""
    file = request.files.get(f"{part}_file")
    if file is not None and file.filename:
        content: bytes = file.read()
        return content.decode("utf-8", "replace")
    return request.form.get(part, "")


def _as_errors(failed: ControlError) -> dict[str, str]:
    """Control's refusal, at its fields."""
    if failed.code == "unavailable":
        raise failed
    found = {one["path"]: f"{one['message']} {one['hint']}" for one in failed.details.get("problems", [])}
    return found or {"certificate": failed.message}
