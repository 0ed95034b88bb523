"""What follows a denial: its reference, the request for access, the exception; hits, devices and names.

client, a device called "tablet" --- [ box ] --- web.example, files.example, tracker.example
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import struct
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.conftest import BIN, Box, needs_root, wait_for
from tests.netns.explicit import ALICE, FILES, NAME, SCHEMES, curl, raw, running
from tests.netns.hosts import connect
from tests.netns.test_policy import last_row
from tests.unit.protocol.test_sniff import client_hello

pytestmark = [pytest.mark.netns, needs_root]

CARD = "02:00:5e:10:00:07"
DEVICE = f"""
[[device]]
name = "tablet"
macs = ["{CARD}"]
"""
RULES = f"""[[name_list]]
name = "trackers"
source = "%s"
format = "domains"
[[limit]]
name = "trickle"
users = ["alice"]
kbit_per_second = 800
[[rule]]
name = "no-files"
action = "deny"
urls = ["{FILES}/small*"]
[[rule]]
name = "no-trackers"
action = "deny"
lists = ["trackers"]
"""
FORM = re.compile(r'action="([^"]+)".*?name="reference" value="([^"]+)"', re.DOTALL)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with rules, a list, a named device, and the DNS front."""
    folder = tmp_path_factory.mktemp("access")
    (folder / "trackers.txt").write_text("tracker.example\n")
    with running(folder, RULES % (folder / "trackers.txt")) as box:
        box.client.run("ip", "link", "set", "eth0", "address", CARD)
        box.box.run("ip", "-6", "neigh", "flush", "dev", "lan0")
        box.config.write_text(box.config.read_text() + DEVICE)
        box.processes["control"].send_signal(signal.SIGHUP)
        # A name of the site's own that leads to the tracker.
        names = folder / "dnsmasq.conf"
        names.write_text(
            names.read_text()
            + "host-record=tracker.example,192.31.196.82\ncname=cloak.example,tracker.example\n"
        )
        box.processes["dnsmasq"].terminate()
        box.processes["dnsmasq"].wait()
        box.start("dnsmasq", "dnsmasq", "-k", "--pid-file", "-C", names, where=box.server)
        box.start("lists", BIN / "isthmus-lists", "--config", box.config, "--runtime", box.runtime,
                  "--state", box.state / "lists")  # fmt: skip
        box.start("dns64", BIN / "isthmus-dns64", "--config", box.config, "--runtime", box.runtime)
        wait_for(lambda: "::" in dig(box, NAME), f"the DNS\n{box.log('dns64')}")
        wait_for(
            lambda: "trackers" in "".join(str(p) for p in (box.runtime / "lists").rglob("*")),
            f"the list\n{box.log('lists')}",
        )
        wait_for(lambda: "tablet" in sessions_of(box), "the device")
        yield box


def sessions_of(box: Box) -> str:
    """The log, after one more session."""
    curl(box, "-x", SCHEMES["http"], f"http://{NAME}/")
    return box.sessions_log.read_text()


def dig(box: Box, name: str, kind: str = "AAAA") -> str:
    """The whole answer, in dig's words."""
    return box.client.run("dig", kind, name, "+tries=1", "@fd00:1::1", check=False).stdout


def isthmus(box: Box, *words: str) -> str:
    """The command line, as root at the box."""
    done = subprocess.run(
        [BIN / "isthmus", "--runtime", str(box.runtime), *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def page(box: Box) -> str:
    """What a browser is shown of FILES."""
    return curl(box, "-x", SCHEMES["http"], "-H", "Accept: text/html", f"http://{FILES}/small").stdout


def send(box: Box, path: str, reference: str, note: str, *words: str) -> str:
    """What the form is answered with."""
    form = urllib.parse.urlencode({"reference": reference, "note": note})
    return curl(box, "-x", SCHEMES["http"], *words, "-d", form, f"http://{FILES}{path}").stdout


def hits(box: Box, what: str) -> dict[str, int]:
    """`isthmus rules` or `isthmus lists`: how often each has decided today."""
    found: list[dict[str, Any]] = json.loads(isthmus(box, what, "--json"))
    return {one["name"]: one["today"] for one in found}


class TestAskingForAccess:
    """By the page, to the admin, and back."""

    def test_from_the_page_to_the_exception(self, own: Box) -> None:
        found = FORM.search(page(own))
        assert found is not None
        path, reference = found.groups()
        row = last_row(own, refused="denied", reference=reference)
        assert (row["rule"], row["device"]) == ("no-files", "tablet")
        assert "passed on" in send(own, path, reference, "For <b>school</b>")
        assert "already" in send(own, path, reference, "Please")
        (request,) = json.loads(isthmus(own, "requests", "--json"))
        assert request["id"] == reference
        assert (request["host"], request["device"], request["note"]) == (FILES, "tablet", "For <b>school</b>")
        said = isthmus(own, "requests", "grant", reference, "--for", "2h")
        assert "allows it until" in said
        wait_for(lambda: "blocked on this network" not in page(own), "the exception")
        assert json.loads(isthmus(own, "requests", "--json")) == []
        rules = [one["name"] for one in json.loads(isthmus(own, "rules", "--json"))]
        assert rules[0].startswith("access-") and rules[1] == "no-files"
        newest = isthmus(own, "history").splitlines()
        assert any(reference in line for line in newest), newest
        isthmus(own, "remove", f"rule.{rules[0]}")
        isthmus(own, "commit", "-m", "enough")
        wait_for(lambda: "blocked on this network" in page(own), "the rule again")

    def test_refused(self, own: Box) -> None:
        found = FORM.search(page(own))
        assert found is not None
        assert "passed on" in send(own, *found.groups(), "")
        isthmus(own, "requests", "refuse", found[2])
        assert isthmus(own, "requests") == "Nobody waits for access.\n"
        assert "blocked on this network" in page(own)

    @pytest.mark.parametrize("words", [("--interface", "fd00:1::2"), ()])
    def test_nobody_asks_by_what_another_was_told(self, own: Box, words: tuple[str, ...]) -> None:
        found = FORM.search(page(own))
        assert found is not None
        reference = found[2] if words else "0000-0000"
        assert "too old to ask by" in send(own, found[1], reference, "", *words)
        assert isthmus(own, "requests") == "Nobody waits for access.\n"

    def test_nobody_asks_where_no_destination_is_to_be_written_down(self, own: Box) -> None:
        found = FORM.search(page(own))
        assert found is not None
        assert "passed on" in send(own, *found.groups(), "")
        isthmus(own, "set", "policy.privacy", "no-destinations")
        isthmus(own, "commit", "-m", "nothing of where to")
        try:
            wait_for(lambda: FORM.search(page(own)) is None, "a page without the form")
            assert "blocked on this network" in page(own)
            assert found[2] in isthmus(own, "requests")  # as the log does, it stays until it is erased
            with contextlib.suppress(subprocess.CalledProcessError):  # there is no history here to erase
                isthmus(own, "log", "erase")
            assert isthmus(own, "requests") == "Nobody waits for access.\n"
        finally:
            isthmus(own, "unset", "policy.privacy")
            isthmus(own, "commit", "-m", "as before")
        wait_for(lambda: FORM.search(page(own)) is not None, "the form again")

    def test_a_form_is_short_and_a_post(self, own: Box) -> None:
        found = FORM.search(page(own))
        assert found is not None
        assert "405" in curl(own, "-i", "-x", SCHEMES["http"], f"http://{FILES}{found[1]}").stdout
        assert "405" in send(own, found[1], found[2], "x" * 5_000, "-i")

    def test_connect_names_it_too(self, own: Box) -> None:
        head = raw(
            own, 3128, b"CONNECT tracker.example:443 HTTP/1.1\r\nHost: tracker.example\r\n\r\n"
        ).decode()
        told = re.search(r'details="rule no-trackers, reference ([0-9A-Z-]{9})"', head)
        assert told is not None, head
        assert f"(Reference: {told[1]})" in head
        assert last_row(own, reference=told[1])["rule"] == "no-trackers"


class TestQuestions:
    """Denied names of the DNS are in the log, and counted."""

    def test_a_denied_question_is_a_row(self, own: Box) -> None:
        before = hits(own, "rules")["no-trackers"], hits(own, "lists")["trackers"]
        wait_for(lambda: "ANSWER: 0" in dig(own, "www.tracker.example"), "the list")
        row = last_row(own, kind="dns", name="www.tracker.example")
        assert (row["refused"], row["rule"], row["device"]) == ("denied", "no-trackers", "tablet")
        assert row["client"].startswith("fd00:1::")
        wait_for(lambda: hits(own, "rules")["no-trackers"] > before[0], "the rule's hits")
        assert hits(own, "lists")["trackers"] > before[1]

    def test_a_name_that_leads_to_a_denied_one(self, own: Box) -> None:
        """Also from the cache."""
        for _ in range(2):
            answer = dig(own, "cloak.example")
            assert "ANSWER: 0" in answer and "no-trackers" in answer
        assert last_row(own, kind="dns", name="cloak.example")["rule"] == "no-trackers"


def test_a_client_that_says_another_name_than_it_asked_for(own: Box) -> None:
    """The DNS was asked for NAME, the ClientHello says another: the row has both, and both are judged."""
    answer = own.client.run("dig", "+short", "-b", "fd00:1::2", "AAAA", NAME, "@fd00:1::1").stdout.strip()

    def say(name: str) -> bytes:
        with socket.create_connection((answer, 443), 5, source_address=("fd00:1::2", 0)) as sock:
            sock.settimeout(5)
            sock.sendall(client_hello(name))
            try:
                return sock.recv(1)
            except ConnectionResetError:
                return b""

    assert own.client.call(lambda: say("else.example"))
    row = last_row(own, name="else.example", origin_port=443)
    assert (row["dns_name"], row["named_by"]) == (NAME, "sni")
    assert not own.client.call(lambda: say("a.tracker.example"))
    row = last_row(own, name="a.tracker.example", origin_port=443)
    assert (row["end"], row["rule"], row["dns_name"]) == ("denied", "no-trackers", NAME)
    assert own.client.call(lambda: say(NAME))
    assert "dns_name" not in last_row(own, name=NAME, origin_port=443)


def test_the_open_session_names_its_device(own: Box) -> None:
    with connect(own, 7004):
        text = isthmus(own, "sessions", "--search", "tablet")
    assert "[tablet]" in text or "tablet:" in text


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_bandwidth_where_tls_ends_here(own: Box, scheme: str) -> None:
    """An exchange and a tunnel of a user's whose leg is encrypted: 500 kB at 100 kB a second."""
    www = own.config.parent.parent / "www"
    (www / "bulk.bin").write_bytes(bytes(500_000))
    begun = time.monotonic()
    words = ("-x", SCHEMES["user-https"], "--fail", "-o", "/dev/null", "-w", "%{size_download}")
    done = curl(own, *words, f"{scheme}://{FILES}/bulk.bin")
    assert done.stdout == "500000", done.stderr
    assert time.monotonic() - begun > 2
    done = curl(own, "-x", SCHEMES["https"], *words[2:], f"{scheme}://{FILES}/bulk.bin")
    assert done.stdout == "500000", done.stderr


def test_bandwidth_of_datagrams_by_socks(own: Box) -> None:
    """800 kbit/s are 100 kB a second each way, and half a second's more at once; what is over is dropped."""

    def ask() -> tuple[int, float]:
        with (
            socket.create_connection(("fd00:1::1", 3131), 10) as control,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock,
        ):
            user, _colon, password = ALICE.partition(":")
            control.sendall(b"\5\1\2")
            assert control.recv(2) == b"\5\2"
            said = b"\1" + bytes([len(user)]) + user.encode() + bytes([len(password)]) + password.encode()
            control.sendall(said)
            assert control.recv(2) == b"\1\0"
            control.sendall(b"\5\3\0\4" + bytes(16) + b"\0\0")
            (at,) = struct.unpack("!H", control.recv(100)[20:22])
            place = b"\0\0\0\1" + socket.inet_aton("192.31.196.80") + struct.pack("!H", 7101)
            sock.settimeout(1)
            begun, back = time.monotonic(), 0
            for _ in range(500):
                sock.sendto(place + bytes(1_000), ("fd00:1::1", at))
                time.sleep(0.001)
            with contextlib.suppress(TimeoutError):
                while sock.recv(2_000):
                    back += 1
            return back, time.monotonic() - begun

    back, seconds = own.client.call(ask)
    assert 20 <= back <= 100 + 100 * seconds
    assert back < 400
