"""The rows: what an IPv6-only client does with an IPv4-only server, and how each ended."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Network

from tests.lab.lab import SERVER, SERVER_NAME, TIME_NAME, ClientView, Lab, translated
from tests.lab.servers import checksum

WELL_KNOWN = IPv6Network("64:ff9b::/96")

DOWNLOAD_SIZE = 64 * 1024 * 1024
# Emulated, the box carries some 20 to 60 MB/s; a loaded CI machine may give a tenth.
DOWNLOAD_TIMEOUT = 120
_REQUEST_TIMEOUT = 15
_TIME_TIMEOUT = 30
# chronyd reports how far the clocks are apart; both are this machine's own.
_MAX_CLOCK_ERROR = 1.0


class RowError(Exception):
    """A row did not end as it should; the text is for the table."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    what: str
    how: str
    passed: bool
    result: str
    seconds: float


class Rows:
    """The client's doings, one method each; each returns a word on what it saw or raises RowError."""

    def __init__(self, lab: Lab, view: ClientView) -> None:
        self._lab = lab
        self._view = view

    def all(self) -> list[Row]:
        """Every row, in order; a failed one does not stop the rest."""
        plan: list[tuple[str, str, Callable[[], str]]] = [
            ("address, route", "router advertisement", self.advertised),
            ("DNS", f"dig AAAA {SERVER_NAME}", self.dns),
            ("HTTP", f"curl http://{SERVER_NAME}/", self.http),
            ("HTTPS", f"curl https://{SERVER_NAME}/", self.https),
            ("HTTP proxy", f"curl -x http://[box]:3128 https://{SERVER_NAME}/", self.http_proxy),
            ("HTTPS proxy", f"curl -x https://[box]:3129 http://{SERVER_NAME}/", self.https_proxy),
            ("SOCKS proxy", f"curl -x socks5h://[box]:1080 http://{SERVER_NAME}/", self.socks_proxy),
            ("time", f"chronyd -Q {TIME_NAME}", self.clock),
            ("ping", f"ping {SERVER_NAME}", self.ping),
            ("download", f"curl, {DOWNLOAD_SIZE >> 20} MiB, SHA-256", self.download),
        ]
        return [_timed(*entry) for entry in plan]

    def _run(self, *command: str, timeout: float = _REQUEST_TIMEOUT) -> str:
        try:
            done = self._lab.client.run(*command, check=False, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise RowError(f"no end after {timeout:.0f} s") from None
        if done.returncode:
            raise RowError((done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1])
        return done.stdout

    def advertised(self) -> str:
        """The client has an address and a default route, and was told resolver and PREF64."""
        told = self._view.advertisement
        if WELL_KNOWN not in told.pref64:
            raise RowError(f"no PREF64 {WELL_KNOWN} in the advertisement")
        return f"{self._view.addresses[0]}, PREF64 {told.pref64[0]}"

    def dns(self) -> str:
        """The IPv4-only name has an IPv6 address."""
        answer = self._run("dig", "+short", "AAAA", SERVER_NAME).strip()
        if answer != str(translated(WELL_KNOWN, SERVER)):
            raise RowError(f"got “{answer}”, not {translated(WELL_KNOWN, SERVER)}")
        return answer

    def http(self) -> str:
        """A page over HTTP; the server sees the box, not the client."""
        return self._page(self._run("curl", "-sS", "--fail", f"http://{SERVER_NAME}/"))

    def https(self) -> str:
        """The same over HTTPS, the certificate checked."""
        authority = str(self._lab.folder / "server.crt")
        return self._page(
            self._run("curl", "-sS", "--fail", "--cacert", authority, f"https://{SERVER_NAME}/")
        )

    def _by_proxy(self, scheme: str, port: int, url: str) -> str:
        """The page through the box's explicit proxy; the box looks the name up."""
        authority = str(self._lab.folder / "server.crt")
        proxy = f"{scheme}://[{self._view.box}]:{port}"
        way = ("-x", proxy, "--proxy-insecure", "--cacert", authority)
        return self._page(self._run("curl", "-sS", "--fail", *way, url))

    def http_proxy(self) -> str:
        """CONNECT."""
        return self._by_proxy("http", 3128, f"https://{SERVER_NAME}/")

    def https_proxy(self) -> str:
        """A request whose first leg is encrypted."""
        return self._by_proxy("https", 3129, f"http://{SERVER_NAME}/")

    def socks_proxy(self) -> str:
        """SOCKS 5, the name left to the box."""
        return self._by_proxy("socks5h", 1080, f"http://{SERVER_NAME}/")

    def _page(self, body: str) -> str:
        peer = json.loads(body)["peer"]
        if peer != self._lab.wan_address():
            raise RowError(f"the server saw {peer}, not the box ({self._lab.wan_address()})")
        return f"200, the server saw {peer}"

    def clock(self) -> str:
        """An NTP client gets the time: UDP both ways."""
        pidfile = f"pidfile /run/chrony/{self._lab.client.name}.pid"
        said = self._run(
            *("chronyd", "-Q", "-t", str(_TIME_TIMEOUT - 5), "-u", "root", pidfile, "cmdport 0"),
            *("bindcmdaddress /", f"server {TIME_NAME} iburst maxsamples 1"),
            timeout=_TIME_TIMEOUT,
        )
        # “System clock wrong by -0.000016 seconds (ignored)”
        wrong = [line.split("wrong by ")[1].split()[0] for line in said.splitlines() if "wrong by " in line]
        if not wrong or abs(float(wrong[0])) > _MAX_CLOCK_ERROR:
            raise RowError(said.strip().splitlines()[-1] if said.strip() else "no time")
        return f"off by {abs(float(wrong[0])) * 1000:.1f} ms"

    def ping(self) -> str:
        """Echo requests come back."""
        said = self._run("ping", "-6", "-n", "-c", "3", "-i", "0.3", "-W", "3", SERVER_NAME)
        times = next((line for line in said.splitlines() if "min/avg/max" in line), "")
        if " 0% packet loss" not in said or not times:
            raise RowError("replies are missing")
        return f"3 of 3, {float(times.split('=')[1].split('/')[1]):.1f} ms"

    def download(self) -> str:
        """A big body arrives whole."""
        target = self._lab.folder / "download"
        started = time.monotonic()
        url = f"http://{SERVER_NAME}/download/{DOWNLOAD_SIZE}"
        self._run("curl", "-sS", "--fail", "-o", str(target), url, timeout=DOWNLOAD_TIMEOUT)
        took = time.monotonic() - started
        with target.open("rb") as body:
            found = hashlib.file_digest(body, "sha256").hexdigest()
        target.unlink()
        if found != checksum(DOWNLOAD_SIZE):
            raise RowError("the checksum differs")
        return f"checksum right, {DOWNLOAD_SIZE / took / 1e6:.0f} MB/s"


def _timed(what: str, how: str, action: Callable[[], str]) -> Row:
    started = time.monotonic()
    try:
        result, passed = action(), True
    except RowError as failure:
        result, passed = str(failure), False
    except (OSError, ValueError, LookupError) as error:  # an answer that makes no sense is a failed row
        result, passed = f"{type(error).__name__}: {error}", False
    return Row(what, how, passed, result, time.monotonic() - started)


def table(rows: list[Row]) -> str:
    """The rows as text, with columns as wide as they need to be."""
    cells = [("", "what", "how", "result", "time")]
    for row in rows:
        mark = "ok" if row.passed else "FAILED"
        cells.append((mark, row.what, row.how, row.result, f"{row.seconds:.2f} s"))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)
