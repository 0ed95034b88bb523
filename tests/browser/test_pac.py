"""Chromium inside the client's namespace, which finds its way by the PAC file of the box.

    Chromium --- client --- [ box: explicit proxy ] --- web.example (IPv4 only)

Nothing on the LAN resolves the name: only the proxy can.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.browser.looks import ARGUMENTS, CHROMIUM
from tests.netns.conftest import Box, wait_for
from tests.netns.explicit import BOX, NAME, run, running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium package on this system"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with every listener, and servers behind it."""
    with running(tmp_path_factory.mktemp("pac")) as box:
        yield box


def key_digest(certificate: Path | str) -> str:
    """The SHA-256 of a certificate's key, as Chromium's switch takes it."""
    pem = certificate.read_bytes() if isinstance(certificate, Path) else certificate.encode()
    key = x509.load_pem_x509_certificate(pem).public_key()
    raw = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(raw).digest()).decode()


def load(box: Box, url: str, folder: Path, *trusted: str) -> str:
    """The page as Chromium shows it; ``trusted``: keys whose certificates it takes."""
    assert CHROMIUM is not None
    done = run(
        box, CHROMIUM, "--headless", *ARGUMENTS, f"--user-data-dir={folder}", "--dump-dom",
        f"--ignore-certificate-errors-spki-list={','.join(trusted)}",
        f"--proxy-pac-url=http://{BOX}/proxy.pac", url, HOME=str(folder),
    )  # fmt: skip
    return done.stdout


def wait_for_session(box: Box, name: str, service: str) -> None:
    """The log says that sessions with a name went by one listener alone."""

    def services() -> set[str]:
        lines = map(json.loads, box.sessions_log.read_text().splitlines())
        return {line["service"] for line in lines if line.get("name") == name}

    wait_for(lambda: services() == {service}, f"the session's line by {service}", 5)


@pytest.mark.parametrize("secure", ["http", "https"])
def test_a_page_by_name(box: Box, secure: str, tmp_path: Path) -> None:
    assert box.server_certificate is not None
    name = f"{secure}.{NAME}"
    assert "from IPv4" in load(box, f"{secure}://{name}/", tmp_path, key_digest(box.server_certificate))
    wait_for_session(box, name, "http")


class TestEncryptedFirst:
    """With pac_prefers_tls."""

    @pytest.fixture
    def preferring(self, box: Box) -> Iterator[Box]:
        """Configured so for a while."""
        before = box.config.read_text()
        self.configure(box, before + "pac_prefers_tls = true\n", f"HTTPS {BOX}:3129; ")
        yield box
        self.configure(box, before, f'"PROXY {BOX}:3128; ')

    @staticmethod
    def configure(box: Box, config: str, said: str) -> None:
        box.config.write_text(config)
        box.processes["control"].send_signal(signal.SIGHUP)
        ask = ("curl", "-sS", f"http://{BOX}/proxy.pac")
        wait_for(lambda: said in box.client.run(*ask, check=False).stdout, "the new PAC file")

    def test_a_browser_that_trusts_the_box(self, preferring: Box, tmp_path: Path) -> None:
        certificate = preferring.client.call(lambda: ssl.get_server_certificate(("fd00:1::1", 3129)))
        name = f"trusting.{NAME}"
        assert "from IPv4" in load(preferring, f"http://{name}/", tmp_path, key_digest(certificate))
        wait_for_session(preferring, name, "https")

    def test_a_browser_that_does_not(self, preferring: Box, tmp_path: Path) -> None:
        """Chromium takes the next one; not every browser would."""
        name = f"wary.{NAME}"
        assert "from IPv4" in load(preferring, f"http://{name}/", tmp_path)
        wait_for_session(preferring, name, "http")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"http://{NAME}:81/", f"{NAME} refused the connection."),
        ("http://none.example/", "none.example does not exist."),
    ],
)
def test_an_error_page(box: Box, url: str, says: str, tmp_path: Path) -> None:
    assert f"<h1>{says}</h1>" in load(box, url, tmp_path)
