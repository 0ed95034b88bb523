"""What an IPv6-only client gets from the box, with no setting of its own."""

from __future__ import annotations

import hashlib
import json
import time
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from tests.lab.lab import MISSING_SERVER, SERVER, SERVER_NAME, WAN_ROUTER, ClientView, Lab, translated
from tests.lab.rows import WELL_KNOWN, Rows
from tests.lab.servers import content

pytestmark = pytest.mark.image

ULA = IPv6Network("fd00::/8")
UPLOAD_SIZE = 16 * 1024 * 1024
# The box refuses in milliseconds; emulated and beside other work it gets a second.
REFUSAL_TIMEOUT = 1.0


def test_the_advertisement_alone_gives_address_route_dns_and_pref64(lab: Lab, view: ClientView) -> None:
    """No DHCPv6, no manual setting: a generated ULA /64, the box as ::1, RFC 8781's option."""
    told = view.advertisement
    (prefix,) = told.prefixes
    assert prefix.prefixlen == 64 and prefix.subnet_of(ULA)
    assert view.box == prefix[1]
    assert all(address in prefix for address in view.addresses)
    assert "proto ra" in view.default_route
    assert told.pref64 == (WELL_KNOWN,)
    assert told.router.is_link_local and told.lifetime > 0


def test_dns(rows: Rows) -> None:
    """The IPv4-only name has the translated address."""
    rows.dns()


def test_the_well_known_name_tells_the_prefix(lab: Lab, view: ClientView) -> None:
    """RFC 7050: ipv4only.arpa."""
    said = lab.client.run("dig", "+short", "AAAA", "ipv4only.arpa").stdout.split()
    assert set(said) == {"64:ff9b::c000:aa", "64:ff9b::c000:ab"}


def test_http(rows: Rows) -> None:
    """A page, and the server sees the box."""
    rows.http()


def test_https(rows: Rows) -> None:
    """A page over TLS, end to end."""
    rows.https()


@pytest.mark.parametrize("scheme", ["http", "https", "socks"])
def test_explicit_proxy(rows: Rows, scheme: str) -> None:
    """The listeners that a box has without any setting, with its own certificate."""
    getattr(rows, f"{scheme}_proxy")()


def test_time(rows: Rows) -> None:
    """The textbook case: a PC and its time server."""
    rows.clock()


def test_ping(rows: Rows) -> None:
    """Echo there and back."""
    rows.ping()


def test_download(rows: Rows) -> None:
    """64 MiB arrive whole."""
    rows.download()


def test_upload(lab: Lab, view: ClientView, tmp_path: Path) -> None:
    """16 MiB leave whole."""
    body = tmp_path / "body"
    digest = hashlib.sha256()
    with body.open("wb") as out:
        for chunk in content(UPLOAD_SIZE):
            out.write(chunk)
            digest.update(chunk)
    url = f"http://{SERVER_NAME}/upload"
    said = lab.client.run("curl", "-sS", "--fail", "--max-time", "60", "--data-binary", f"@{body}", url)
    assert json.loads(said.stdout)["sha256"] == digest.hexdigest()


def test_a_closed_port_is_refused_at_once(lab: Lab, view: ClientView) -> None:
    """Honest TCP: the client sees what the IPv4 server would have told it."""
    started = time.monotonic()
    address = translated(WELL_KNOWN, SERVER)
    done = lab.client.run("curl", "-sS", "--max-time", "10", f"http://[{address}]:9/", check=False)
    assert done.returncode == 7, done.stdout  # curl: failed to connect
    assert time.monotonic() - started < REFUSAL_TIMEOUT


def test_an_unreachable_host_is_told_at_once(lab: Lab, view: ClientView) -> None:
    """The router's ICMP error reaches the client as ICMPv6, long before any time-out."""
    started = time.monotonic()
    address = translated(WELL_KNOWN, MISSING_SERVER)
    done = lab.client.run("curl", "-sS", "--max-time", "10", f"http://[{address}]/", check=False)
    assert done.returncode == 7, done.stdout
    assert time.monotonic() - started < REFUSAL_TIMEOUT


def test_a_private_address_is_not_carried(lab: Lab, view: ClientView) -> None:
    """RFC 6052 section 3.1: the well-known prefix never stands for a private address."""
    inside = WELL_KNOWN[0x0A000001]
    done = lab.client.run("curl", "-sS", "--max-time", "5", f"http://[{inside}]/", check=False)
    assert done.returncode != 0


def test_the_box_itself_is_not_reached_through_the_prefix(lab: Lab, view: ClientView) -> None:
    """Its WAN address under the prefix leads to no service of the box."""
    inside = translated(WELL_KNOWN, lab.wan_address())
    done = lab.client.run("curl", "-ksS", "--max-time", "5", f"https://[{inside}]/", check=False)
    assert done.returncode != 0, done.stdout


def test_no_service_failed(lab: Lab, view: ClientView) -> None:
    """systemd says on the console what did not start."""
    failed = [line for line in lab.box.console().splitlines() if "Failed to start" in line]
    assert not failed


def test_the_client_has_no_ipv4(lab: Lab, view: ClientView) -> None:
    """The client has no IPv4 at all: what it reached, it reached over IPv6."""
    shown = lab.client.run("ip", "-4", "-o", "address", "show", "scope", "global").stdout
    assert not shown.strip()
    direct = lab.client.run("ping", "-c", "1", "-W", "1", WAN_ROUTER, check=False)
    assert direct.returncode != 0
