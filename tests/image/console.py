"""The box's web console, as curl and openssl in the client see it."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from tests.lab.lab import ClientView, Lab

# Emulated, Python needs ten seconds to bring the console up; a loaded machine more.
CONSOLE_TIMEOUT = 120.0


def certificate(lab: Lab, view: ClientView) -> str:
    """The console's certificate, as its PEM text; waits for the console, the last daemon to be up."""
    deadline = time.monotonic() + CONSOLE_TIMEOUT
    while True:
        said = lab.client.run(
            *("openssl", "s_client", "-connect", f"[{view.box}]:443", "-servername", "isthmus"),
            check=False,
            timeout=30,
        )
        found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", said.stdout, re.DOTALL)
        if found:
            return found[0]
        assert time.monotonic() < deadline, said.stdout
        time.sleep(1)


def shown_certificate(lab: Lab, view: ClientView, *what: str) -> str:
    """What openssl x509 prints of the console's certificate: "-pubkey", "-fingerprint"."""
    words = ["openssl", "x509", "-noout", *what]
    done = subprocess.run(words, input=certificate(lab, view), capture_output=True, text=True, check=True)
    return done.stdout


def post(lab: Lab, view: ClientView, path: str, **fields: str) -> str:
    """Load a page of the console and send its form; the status of the answer, "" where there is no form."""
    jar = Path("/tmp") / f"{lab.client.name}.cookies"
    curl = ("curl", "-sk", "--max-time", "30", "-b", jar, "-c", jar)
    address = f"https://[{view.box}]{path}"
    page = lab.client.run(*curl, address, check=False, timeout=60).stdout
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    if token is None:
        return ""
    data = [
        word for name, value in {"csrf": token[1], **fields}.items() for word in ("-d", f"{name}={value}")
    ]
    answer = lab.client.run(
        *curl, "-o", "/dev/null", "-w", "%{http_code}", *data, address, check=False, timeout=60
    )
    jar.unlink(missing_ok=True)
    return answer.stdout
