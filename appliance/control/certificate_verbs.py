"""The verbs of org.isthmus.control for certificates."""

from __future__ import annotations

from typing import Any

from appliance.control.uploads import Certificates
from appliance.control.verbs import ROOT, committing


class CertificateVerbs:
    """Methods are named as in the interface file."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def ListCertificates(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling, here and below
        """What serves whom."""
        with committing():
            return {"certificates": self._certificates.listed()}

    def UploadCertificate(self, certificate: str, key: str, author: str | None) -> dict[str, Any]:  # noqa: N802
        """One from elsewhere."""
        with committing():
            return {"warning": self._certificates.upload(certificate, key, author or ROOT)}

    def RemoveCertificate(self, author: str | None) -> dict[str, Any]:  # noqa: N802
        """The box's own again."""
        with committing():
            self._certificates.remove(author or ROOT)
        return {}

    def RenewCertificates(self, author: str | None) -> dict[str, Any]:  # noqa: N802
        """New ones of the box's own."""
        with committing():
            self._certificates.renew(author or ROOT)
        return {}
