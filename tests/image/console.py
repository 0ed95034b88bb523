"""The box's web console, as curl and openssl in the client see it."""

from __future__ import annotations

import re
import subprocess
import time
from html.parser import HTMLParser
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


class _Forms(HTMLParser):
    """The forms of a page: where each goes, and what it would send as it is."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Fields that are there and on."""
        told = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((told.get("action", ""), {}))
        if not self.forms:
            return
        fields = self.forms[-1][1]
        if tag == "input" and told.get("name"):
            chosen = told.get("type") not in ("checkbox", "radio") or "checked" in told
            if chosen and told.get("type") != "submit":
                fields[told["name"]] = told.get("value", "on")
        elif tag == "select":
            self._select = told.get("name", "")
        elif tag == "option" and self._select and "selected" in told:
            fields[self._select] = told.get("value", "")


class Admin:
    """Somebody who is signed in. ``close`` it."""

    def __init__(self, lab: Lab, view: ClientView, password: str) -> None:
        self._lab = lab
        self._base = f"https://[{view.box}]"
        self._jar = Path("/tmp") / f"{lab.client.name}.admin"
        deadline = time.monotonic() + CONSOLE_TIMEOUT
        while "csrf" not in self.page("/signin") and time.monotonic() < deadline:  # it starts, or anew
            time.sleep(1)
        said = self.send("/signin", "/signin", password=password)
        while said[:1] in ("0", "5") and time.monotonic() < deadline:  # control is not up yet
            time.sleep(1)
            said = self.send("/signin", "/signin", password=password)
        assert said == "303", f"{said}\n{self.page('/signin')[-3000:]}"

    def close(self) -> None:
        """Forget the session."""
        self._jar.unlink(missing_ok=True)

    def _curl(self, *words: str, timeout: float = 60) -> str:
        curl = ("curl", "-sk", "--max-time", str(timeout), "-b", self._jar, "-c", self._jar)
        return self._lab.client.run(*curl, *words, check=False, timeout=timeout + 30).stdout

    def page(self, path: str) -> str:
        """It as it is shown."""
        return self._curl(self._base + path)

    def fields(self, path: str, action: str) -> dict[str, str]:
        """What the page's form for ``action`` would send as it is; the token alone where it has none."""
        page = self.page(path)
        forms = [(where or path, form) for where, form in _Forms(page).forms if "csrf" in form]
        assert forms, page[:2000]
        found = [form for where, form in forms if where == action]
        return found[-1] if found else {"csrf": forms[0][1]["csrf"]}

    def send(self, path: str, action: str, **fields: str) -> str:
        """Send the page's form with these fields changed; the status of the answer, "000" for none."""
        return self.save(path, action, Path("/dev/null"), **fields)

    def save(self, path: str, action: str, target: Path, **fields: str) -> str:
        """Send the page's form with these fields changed, and keep what is answered; the status."""
        data: list[str] = []
        for name, value in {**self.fields(path, action), **fields}.items():
            data += ["--data-urlencode", f"{name}={value}"]
        return self._curl("-o", str(target), "-w", "%{http_code}", *data, self._base + action)

    def upload(self, path: str, action: str, file: Path, timeout: float, **fields: str) -> str:
        """Send the page's form with a file in its field “file”; the status of the answer."""
        data: list[str] = []
        for name, value in {**self.fields(path, action), **fields}.items():
            if name != "file":
                data += ["--form-string", f"{name}={value}"]
        data += ["-F", f"file=@{file}", "-o", "/dev/null", "-w", "%{http_code}"]
        return self._curl(*data, self._base + action, timeout=timeout)


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
