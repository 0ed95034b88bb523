"""Random policies: what `decide` and `isthmus explain` say of a request is what the wire shows.

Of plain HTTP by the explicit proxy `decide` is told the URL and the content, which `explain` cannot know.

    client: fd00:1::2 asks the DNS, fd00:1::3 does all else --- [ box ] --- web.example, files.example

No request depends on another: whom the DNS has told a name opens no session here.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from appliance.config import Config
from appliance.config.codec import validate
from appliance.control.client import ControlClient
from appliance.control.explain import Compiled, explain, question
from appliance.policy.clock import Clock
from appliance.policy.decide import CompiledPolicy
from appliance.policy.forbidden import forbidden_of
from appliance.policy.request import Request, Verdict
from appliance.session.neighbours import Neighbours
from tests.netns.conftest import BIN, Box, needs_root, wait_for
from tests.netns.explicit import ALICE, FILES, FILES_ADDRESS, NAME, running
from tests.unit.protocol.quic import crypto, initial
from tests.unit.protocol.test_sniff import client_hello

pytestmark = [pytest.mark.netns, needs_root]

ASKS, GOES = "fd00:1::2", "fd00:1::3"
WEB6, FILES6 = "64:ff9b::c01f:c450", "64:ff9b::c01f:c451"
WEB = "192.31.196.80"
LEADS_TO = {NAME: WEB, FILES: FILES_ADDRESS}
# Seconds after which no new policy is tried: commits take their time on a busy machine.
ENOUGH = 45.0
TRIES = 35

# Subjects and conditions that rules speak of. The client's card is the tablet's; "never" is another day than
# this one and its neighbours.
CARD = "02:00:5e:10:00:21"
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WORDS = f"""
[[device]]
name = "tablet"
macs = ["{CARD}"]
[[device]]
name = "phone"
macs = ["02:00:5e:10:00:22"]
[[schedule]]
name = "always"
[[schedule]]
name = "never"
days = ["{_DAYS[(time.gmtime().tm_wday + 3) % 7]}"]
[[group]]
name = "guests"
[[user]]
name = "bob"
groups = ["guests"]
[[name_list]]
name = "ads"
source = "%s"
"""


class Ads:
    """The list, as ``decide`` asks it."""

    def find(self, name: str) -> str:
        return NAME if name == NAME or name.endswith(f".{NAME}") else ""


# What is published: by its port alone, and by Host.
PLAIN_PORT, SHARED_PORT, GUEST_PORT = 8090, 8091, 7778
SERVICES = f"""
[[published]]
name = "guest"
port = {PLAIN_PORT}
targets = ["[{GOES}]:{GUEST_PORT}"]
[[published]]
name = "shared"
port = {SHARED_PORT}
route = "host"
names = [{{ hosts = ["{NAME}", "{FILES}"], targets = ["[{GOES}]:{GUEST_PORT}"] }}]
"""
GUEST = f"""
import contextlib, socket
server = socket.create_server(("{GOES}", {GUEST_PORT}), family=socket.AF_INET6)
print("ready", flush=True)
while True:
    one = server.accept()[0]
    with contextlib.suppress(OSError), one:
        if one.recv(9999):
            one.sendall(b"guest")
"""

# Each flow has a port of its own: a policy cuts none that there is.
UDP_PORTS = itertools.count(20_000)


def some(*words: str) -> st.SearchStrategy[list[str]]:
    """At least one of these."""
    return st.lists(st.sampled_from(words), min_size=1, unique=True)


def a_rule(conditions: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A rule that has some of these conditions."""
    return st.fixed_dictionaries({"action": st.sampled_from(["allow", "deny"])}, optional=conditions)


NAMES = some(NAME, f"={FILES}", "example", "*.example")
USERS = some("alice", "bob")
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "lists": st.just(["ads"]),
    "devices": some("tablet", "phone"),
    "schedules": some("always", "never"),
    "users": USERS,
    "groups": some("staff", "guests"),
    "domains": NAMES,
    "destinations": some(f"{WEB}/32", f"{FILES_ADDRESS}/32", "192.31.196.0/24", "fd00:1::/64"),
    "ports": some("80", "443", "7000-7200", "53", "8090-8091"),
    "protocols": some("tcp", "udp", "icmp"),
    "ways": some("transparent", "http", "connect", "socks", "dns", "published"),
    "sources": some(f"{ASKS}/128", f"{GOES}/128", "fd00:1::/64", "203.0.113.0/24"),
}
# With fewer others beside them: a rule of many conditions matches seldom.
OF_PAGES: dict[str, st.SearchStrategy[Any]] = {
    "urls": some(f"{FILES}/*", f"{FILES}/long*", "*/long.txt", f"{NAME}/", "*.mp4"),
    "content_types": some("text/*", "text/plain", "video/*", "application/json"),
    "larger_than": st.sampled_from([0, 50, 5_000]),
    "domains": NAMES,
    "users": USERS,
}
RULES = st.lists(a_rule(CONDITIONS) | a_rule(OF_PAGES), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with all that a request can come by."""
    folder = tmp_path_factory.mktemp("agreement")
    ads = folder / "ads.txt"
    ads.write_text(f"{NAME}\n")
    with running(folder, SERVICES + WORDS % ads) as box:
        box.client.run("ip", "link", "set", "eth0", "address", CARD)
        box.box.run("ip", "-6", "neigh", "flush", "dev", "lan0")
        box.start("lists", BIN / "isthmus-lists", "--config", box.config, "--runtime", box.runtime,
                  "--state", box.state / "lists")  # fmt: skip
        tables = box.runtime / "lists"
        wait_for(lambda: "ads" in "".join(str(path) for path in tables.rglob("*")), "the list")
        box.start("guest", sys.executable, "-c", GUEST, where=box.client)
        wait_for(lambda: "ready" in box.log("guest"), "the published server")
        (folder / "www" / "long.txt").write_bytes(b"text\n" * 1_200)
        (folder / "www" / "short.mp4").write_bytes(bytes(40))
        box.start("dns64", BIN / "isthmus-dns64", "--config", box.config, "--runtime", box.runtime)
        wait_for(lambda: "ANSWER: 1" in dig(box, NAME), f"the DNS\n{box.log('dns64')}")
        yield box


def dig(box: Box, name: str) -> str:
    """The answer of the box's DNS."""
    return box.client.run("dig", "-b", ASKS, "+tries=1", "AAAA", name, "@fd00:1::1", check=False).stdout


def said(box: Box, host: str, port: int, words: bytes, size: int = 1) -> bytes:
    """What comes back for ``words``; nothing where the session is refused, or ends without a word."""

    def ask() -> bytes:
        found = b""
        with (
            suppress(PermissionError, ConnectionResetError),
            socket.create_connection((host, port), 5, source_address=(GOES, 0)) as sock,
        ):
            sock.sendall(words)
            while len(found) < size and (data := sock.recv(4_096)):
                found += data
        return found

    return box.client.call(ask)


def datagram(box: Box) -> bool:
    """Whether the echo of WEB answers."""

    def ask() -> bool:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((GOES, next(UDP_PORTS)))
            sock.settimeout(5)
            sock.connect((WEB6, 7101))
            sock.send(b"x")
            with suppress(PermissionError):
                return bool(sock.recv(100))
            return False

    return box.client.call(ask)


def pinged(box: Box) -> bool:
    """Whether WEB answers a ping."""
    done = box.client.run("ping", "-I", GOES, "-c1", "-W3", WEB6, check=False).stdout
    assert "1 received" in done or "prohibited" in done, done
    return "1 received" in done


Seen = tuple[bool, str]


def asked_of_proxy(box: Box, method: str, target: str, host: str, user: str | None = None) -> Seen:
    """Whether it is carried, and the rule where it is not; alice says who she is."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
    if user is not None:
        head += f"Proxy-Authorization: Basic {base64.b64encode(ALICE.encode()).decode()}\r\n"
    answer = said(box, "fd00:1::1", 3128 if user is None else 3131, f"{head}\r\n".encode(), 12)
    rule = re.search(rb'details="rule ([a-z0-9-]+)', answer)
    assert answer.startswith(b"HTTP/1.1 "), answer
    return answer[9:12] != b"403", rule[1].decode() if rule else ""


def connected(box: Box, name: str, user: str | None = None) -> Seen:
    """The same of CONNECT."""
    return asked_of_proxy(box, "CONNECT", f"{name}:443", name, user)


def by_socks(box: Box, name: str) -> bool:
    words = b"\5\1\0" + b"\5\1\0\3" + bytes([len(name)]) + name.encode() + struct.pack("!H", 443)
    reply = said(box, "fd00:1::1", 1080, words, 12)[2:4]
    assert reply in (b"\5\0", b"\5\2"), reply
    return reply == b"\5\0"


def in_tunnel(box: Box, listener: str, name: str) -> bool:
    """Whether a tunnel to the address of WEB carries a client that says ``name`` in it."""
    place = socket.inet_aton(WEB) + struct.pack("!H", 443)
    opening, end = b"\5\1\0\5\1\0\1" + place, b"\0\0"
    if listener == "connect":
        opening, end = f"CONNECT {WEB}:443 HTTP/1.1\r\nHost: {WEB}\r\n\r\n".encode(), b"\r\n\r\n"

    def ask() -> bool:
        with (
            suppress(ConnectionResetError),
            socket.create_connection(
                ("fd00:1::1", 3128 if listener == "connect" else 1080), 5, source_address=(GOES, 0)
            ) as sock,
        ):
            sock.sendall(opening)
            found = b""
            while not (found.endswith(end) and len(found) >= 12):
                data = sock.recv(4_096)
                if not data:
                    return False
                found += data
            if found[9:12] != b"200" and found[3:4] != b"\0":
                return False
            sock.sendall(client_hello(name))
            return bool(sock.recv(100))
        return False

    return box.client.call(ask)


def in_quic(box: Box, name: str) -> bool:
    """Whether the echo of WEB answers Initials that say ``name``."""

    def ask() -> bool:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((GOES, next(UDP_PORTS)))
            sock.settimeout(5)
            sock.connect((WEB6, 7101))
            with suppress(PermissionError):
                sock.send(initial(crypto(0, client_hello(name)[5:]).ljust(1162, b"\0")))
                return bool(sock.recv(2_000))
            return False

    return box.client.call(ask)


def at_service(box: Box, port: int, host: str) -> bool:
    """Whether a client of the WAN is served."""

    def ask() -> bool:
        with suppress(ConnectionResetError), socket.create_connection(("203.0.113.2", port), 5) as sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return sock.recv(100) == b"guest"
        return False

    return box.server.call(ask)


def by_dns(box: Box, name: str) -> Seen:
    answer = dig(box, name)
    rule = re.search(r"\(rule ([a-z0-9-]+)\)", answer)
    return "ANSWER: 1" in answer, rule[1] if rule else ""


def _bare(ask: Callable[[], bool]) -> Seen:
    return ask(), ""


# What is asked: protocol, target, addresses, and how the wire shows it.
REQUESTS: list[tuple[str, str, list[str], Callable[[Box], Seen]]] = [
    ("tcp", f"{WEB}:7004", [], lambda box: _bare(lambda: said(box, WEB6, 7004, b"x") == b"x")),
    ("udp", f"{WEB}:7101", [], lambda box: _bare(lambda: datagram(box))),
    ("icmp", WEB, [], lambda box: _bare(lambda: pinged(box))),
]
ALICES: list[tuple[str, str, list[str], Callable[[Box], Seen]]] = []  # those where alice says who she is
for _name, _place in ((NAME, WEB6), (FILES, FILES6)):
    _hello, _request = client_hello(_name), f"GET / HTTP/1.1\r\nHost: {_name}\r\n\r\n".encode()
    _to = [LEADS_TO[_name]]
    REQUESTS += [
        ("tcp", f"{_name}:443", _to, lambda b, p=_place, w=_hello: (bool(said(b, p, 443, w)), "")),  # type: ignore[misc]
        ("tcp", f"{_name}:80", _to, lambda b, p=_place, w=_request: (bool(said(b, p, 80, w)), "")),  # type: ignore[misc]
        ("connect", f"{_name}:443", _to, lambda b, n=_name: connected(b, n)),  # type: ignore[misc]
        ("socks", f"{_name}:443", _to, lambda b, n=_name: (by_socks(b, n), "")),  # type: ignore[misc]
        ("dns", _name, [], lambda b, n=_name: by_dns(b, n)),  # type: ignore[misc]
        # Where the address was written out, and the name comes with the first octets.
        ("udp", f"{_name}:7101", [WEB], lambda b, n=_name: (in_quic(b, n), "")),  # type: ignore[misc]
        ("connect", f"{_name}:443", [WEB], lambda b, n=_name: (in_tunnel(b, "connect", n), "")),  # type: ignore[misc]
        ("socks", f"{_name}:443", [WEB], lambda b, n=_name: (in_tunnel(b, "socks", n), "")),  # type: ignore[misc]
        ("published", f"{_name}:{SHARED_PORT}", [], lambda b, n=_name: (at_service(b, SHARED_PORT, n), "")),  # type: ignore[misc]
    ]
    ALICES.append(("connect", f"{_name}:443", _to, lambda b, n=_name: connected(b, n, "alice")))  # type: ignore[misc]
REQUESTS.append(
    (
        "published",
        f"203.0.113.2:{PLAIN_PORT}",
        [],
        lambda box: (at_service(box, PLAIN_PORT, "203.0.113.2"), ""),
    )
)
# What is asked of the proxy by plain HTTP: host, path, and what the origin says of the content.
HELLO = len(json.dumps({"hello": "from IPv4", "peer": "203.0.113.2"})) + 1
PAGES = [
    (NAME, "/", "application/json", HELLO),
    (FILES, "/long.txt", "text/plain", 6_000),
    (FILES, "/short.mp4", "video/mp4", 40),
]
# Who asks.
CLIENTS = {"dns": ASKS, "published": "203.0.113.1"}


def page_verdicts(config: Config, page: tuple[str, str, str, int], user: str) -> list[Verdict]:
    """Of what is known of a page's request: at first, with its address, with its content."""
    host, path, content_type, size = page
    policy, now = CompiledPolicy(config), time.time()
    client = ip_address(GOES).packed
    request = Request(
        "http", "tcp", client, 80, name=host, user=user, groups=policy.groups_of(user),
        device=Neighbours(config.device).device_of(client, now), url=host + path,
    )  # fmt: skip
    moment = Clock(config.schedule, config.system.timezone).at(now)
    found = [policy.decide(request, moment, {"ads": Ads()})]
    request.readings = forbidden_of(config).readings(ip_address(LEADS_TO[host]).packed)
    found.append(policy.decide(request, moment, {"ads": Ads()}))
    request.content_type, request.size = content_type, size
    return [*found, policy.decide(request, moment, {"ads": Ads()})]


def put_in_force(control: ControlClient, default: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Commit a policy; the configuration that is in force."""
    control.discard_candidate("test")
    candidate = control.candidate("test")
    config = candidate["config"]
    config["policy"]["default"] = default
    config["rule"] = [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)]
    kept = control.put_candidate("test", config, candidate["based_on"])
    if kept["changes"]:
        control.commit("test", "a random policy", kept["based_on"], kept["version"], 0)
    found: dict[str, Any] = control.active()["config"]
    return found


BEGUN: list[float] = []


@settings(
    max_examples=TRIES, deadline=None, print_blob=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(default=st.sampled_from(["allow", "deny"]), rules=RULES)
def test_all_three_agree(own: Box, default: str, rules: list[dict[str, Any]]) -> None:
    BEGUN.append(time.monotonic())
    if BEGUN[-1] - BEGUN[0] > ENOUGH:
        return
    control = ControlClient(own.runtime)
    config = put_in_force(control, default, rules)
    for user in config["user"]:
        user.pop("password", None)
    compiled = validate(config)
    # The DNS front has it by a signal of its own.
    lines = own.log("dns64").count("read anew") + 1
    own.processes["dns64"].send_signal(1)
    wait_for(lambda: own.log("dns64").count("read anew") >= lines, "the DNS front")
    note(f"default {default}; rules {json.dumps(rules)}")
    for number, (protocol, target, addresses, ask) in enumerate(REQUESTS + ALICES):
        client = CLIENTS.get(protocol, GOES)
        user = "alice" if number >= len(REQUESTS) else None
        told = control.explain(client, user, target, protocol, addresses)
        asked = question(protocol, client, user, target, addresses)
        # Where the neighbours are that have the devices' cards.
        decided = own.box.call(partial(explain, compiled, asked, {"ads": Ads()}, Compiled()))
        assert (told["allow"], told["rule"]) == (decided["allow"], decided["rule"]), (protocol, target)
        assert protocol == "dns" or not told["pending"], (protocol, target, told)
        allowed, rule = ask(own)
        assert allowed is told["allow"], (protocol, target, told)
        if rule and not allowed:
            # A name that is denied whatever it leads to is not looked up: then the rule is the one of that.
            early = control.explain(client, user, target, protocol, [])
            assert rule in (told["rule"], early["rule"]), (protocol, target, told, early)
    for page, user in itertools.product(PAGES, (None, "alice")):
        host, path = page[:2]
        verdicts = own.box.call(partial(page_verdicts, compiled, page, user or ""))
        assert not verdicts[-1].pending, (page, user, verdicts)
        if path == "/":
            told = control.explain(GOES, user, f"{host}:80", "http", [LEADS_TO[host]])
            assert verdicts[1] == Verdict(*(told[field] for field in Verdict._fields)), (page, user, told)
        allowed, rule = asked_of_proxy(own, "GET", f"http://{host}{path}", host, user)
        assert allowed is verdicts[-1].allow, (page, user, verdicts)
        if not allowed:
            said_no = next(verdict for verdict in verdicts if not (verdict.allow or verdict.pending))
            assert rule == said_no.rule, (page, user, verdicts)
