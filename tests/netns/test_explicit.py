"""The explicit proxy through real clients: curl in every scheme that it has, and raw sockets for the rest."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.netns import stop
from tests.lab.servers import checksum
from tests.netns.conftest import BIN, SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import ALICE, BOX, NAME, SCHEMES, curl, raw
from tests.netns.hosts import sessions

pytestmark = [pytest.mark.netns, needs_root]


@pytest.fixture(scope="module")
def own(explicit_box: Box) -> Box:
    """The box that the tests of the explicit proxy share."""
    return explicit_box


# Where the client looks names up itself it finds none, here: those take addresses only.
BY_ADDRESS = {"socks4", "socks5", "user-socks5"}


def hosts(scheme: str) -> list[str]:
    """What a client can ask for by a scheme."""
    found = [SERVER] if scheme in ("socks4",) else [SERVER, f"[{SERVER6}]"]
    return (
        found
        if scheme in BY_ADDRESS
        else [NAME, *(h for h in found if "socks4" not in scheme or ":" not in h)]
    )


CASES = [(scheme, host) for scheme in SCHEMES for host in hosts(scheme)]


@pytest.mark.parametrize(("scheme", "host"), CASES, ids=[f"{s}-{h}" for s, h in CASES])
def test_curl(own: Box, scheme: str, host: str) -> None:
    for url in (f"http://{host}/", f"https://{host}/"):
        done = curl(own, "-x", SCHEMES[scheme], url)
        assert done.returncode == 0, done.stdout
        # The origin sees the box, and nothing of the client.
        assert json.loads(done.stdout) == {"hello": "from IPv4", "peer": "203.0.113.2"}


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h", "auto-https", "user-https"])
@pytest.mark.parametrize("secure", ["http", "https"])
def test_large_bodies_arrive_whole(own: Box, scheme: str, secure: str, tmp_path: Path) -> None:
    size = 8_000_000
    got = tmp_path / "got"
    done = curl(own, "-x", SCHEMES[scheme], "-o", got, f"{secure}://{NAME}/download/{size}")
    assert done.returncode == 0, done.stdout
    assert hashlib.sha256(got.read_bytes()).hexdigest() == checksum(size)
    sent = curl(own, "-x", SCHEMES[scheme], "--data-binary", f"@{got}", f"{secure}://{NAME}/upload")
    assert json.loads(sent.stdout) == {"sha256": checksum(size)}


@pytest.mark.parametrize("scheme", ["http", "https", "auto-http", "user-https"])
def test_a_kept_connection_carries_many_requests(own: Box, scheme: str) -> None:
    urls = [word for n in range(20) for word in ("-o", "/dev/null", f"http://{NAME}/download/{n}")]
    done = curl(own, "-x", SCHEMES[scheme], "-w", "%{http_code} %{num_connects}\n", *urls)
    assert done.stdout.split("\n")[:-1] == ["200 1", *["200 0"] * 19]


@pytest.mark.parametrize(
    ("scheme", "code"),
    [("http", "56"), ("socks5h", "97"), ("socks4a", "97"), ("https", "56")],
)
def test_a_refused_port(own: Box, scheme: str, code: str) -> None:
    done = curl(own, "-x", SCHEMES[scheme], "-w", "%{time_total}", f"https://{NAME}:81/")
    assert done.returncode == int(code), done.stdout
    assert float(done.stdout.split()[-1]) < 2


def test_errors_are_words(own: Box) -> None:
    done = curl(own, "-x", SCHEMES["http"], "-i", f"http://{NAME}:81/")
    assert done.stdout.startswith("HTTP/1.1 502")
    assert 'Proxy-Status: isthmus; error=connection_refused; details="refused"' in done.stdout
    assert f"{NAME} refused the connection." in done.stdout
    page = curl(own, "-x", SCHEMES["http"], "-i", "-H", "Accept: text/html", "http://none.example/")
    assert page.stdout.startswith("HTTP/1.1 502")
    assert "error=dns_error" in page.stdout
    assert "<h1>none.example does not exist.</h1>" in page.stdout


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1", "203.0.113.2", "169.254.169.254", "0.0.0.0", "[::1]", "[fd00:1::1]", "[fe80::1]",
     "[ff02::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1",
     "255.255.255.255"],
)  # fmt: skip
def test_what_is_never_reached(own: Box, target: str) -> None:
    done = curl(own, "-x", SCHEMES["http"], "-i", f"http://{target}:443/")
    assert done.stdout.startswith("HTTP/1.1 403"), done.stdout
    assert curl(own, "-x", SCHEMES["socks5h"], f"http://{target}:443/").returncode == 97


def test_connect_ports(own: Box) -> None:
    done = curl(own, "-x", SCHEMES["http"], "-p", f"http://{NAME}:23/")
    assert done.returncode == 56
    assert "403" in done.stdout


def users_of(box: Box, listener: str) -> list[str | None]:
    """Whose the sessions of a listener were, by the log."""
    return [
        row.get("user") for row in box.sessions_logged() if row.get("service") == listener and "end" in row
    ]


class TestUsers:
    """Who may pass where somebody is asked."""

    @pytest.mark.parametrize("port", [3130, 3131])
    @pytest.mark.parametrize("who", ["", "alice:wrong@", "nobody:open%20sesame%201@"])
    def test_wrong_ones_do_not(self, own: Box, port: int, who: str) -> None:
        scheme = "https" if port == 3130 else "http"
        done = curl(own, "-x", f"{scheme}://{who}{BOX}:{port}", "-i", f"http://{NAME}/")
        assert done.stdout.startswith("HTTP/1.1 407"), done.stdout
        assert 'Proxy-Authenticate: Basic realm="Isthmus", charset="UTF-8"' in done.stdout
        assert "from IPv4" not in done.stdout
        assert curl(own, "-x", f"socks5h://{who}{BOX}:3131", f"http://{NAME}/").returncode == 97

    def test_a_certificate_says_who(self, own: Box) -> None:
        way = ("-x", f"https://{BOX}:3132", "-i", f"http://{NAME}/download/5")
        folder = own.config.parents[1]
        assert curl(own, "--proxy-cert", folder / "alice.pem", *way).stdout.startswith("HTTP/1.1 200")
        assert curl(own, *way).stdout.startswith("HTTP/1.1 403")
        # Signed as well, but nobody that the configuration knows.
        assert curl(own, "--proxy-cert", folder / "mallory.pem", *way).stdout.startswith("HTTP/1.1 403")

    def test_the_record_says_who(self, own: Box) -> None:
        assert curl(own, "-x", SCHEMES["user-http"], f"http://{NAME}/download/3").returncode == 0

        def rows() -> list[dict[str, object]]:
            lines = own.sessions_log.read_text().splitlines()
            return [row for row in map(json.loads, lines) if row.get("user") == "alice"]

        wait_for(lambda: bool(rows()), "a line in the log", 5)
        assert rows()[-1]["name"] == NAME
        assert rows()[-1]["origin"] == SERVER

    def test_each_request_says_for_itself(self, own: Box) -> None:
        """Another proxy may send its users' requests by one connection: nobody goes as the one before."""
        get = f"GET http://{NAME}/download/4 HTTP/1.1\r\nHost: {NAME}\r\n"
        mine = f"Proxy-Authorization: Basic {base64.b64encode(ALICE.encode()).decode()}\r\n"
        wrong = f"Proxy-Authorization: Basic {base64.b64encode(b'alice:wrong').decode()}\r\n"
        once = (get + mine + "\r\n").encode()
        wait_for(lambda: b" 200 " in raw(own, 3131, once), "the end of the lock-out", 20)
        asked = "".join(get + who + "\r\n" for who in (mine, "", mine, wrong, mine))
        out = raw(own, 3131, asked.encode())
        assert re.findall(rb"HTTP/1.1 (\d+)", out) == [b"200", b"407", b"200", b"407", b"200"]

    def test_a_name_that_nobody_asked_for_is_nobodys(self, own: Box) -> None:
        """Some SOCKS clients offer a name and a password where nothing is asked."""
        user, _colon, password = ALICE.encode().partition(b":")
        known = b"\1" + bytes([len(user)]) + user + bytes([len(password)]) + password
        request = b"\5\1\0\1" + socket.inet_aton(SERVER) + (80).to_bytes(2, "big")
        out = raw(own, 1080, b"\5\1\2" + known + request + b"GET / HTTP/1.0\r\n\r\n", end=False)
        assert out.startswith(b"\5\2\1\0\5\0") and b"HTTP/1" in out
        wait_for(lambda: bool(users_of(own, "socks")), "a line in the log", 5)
        assert set(users_of(own, "socks")) == {None}

    def test_a_password_beside_a_certificate_changes_nothing(self, own: Box) -> None:
        way = ("-x", f"https://mallory:x@{BOX}:3132", "-i", f"http://{NAME}/download/5")
        done = curl(own, "--proxy-cert", own.config.parents[1] / "alice.pem", *way)
        assert done.stdout.startswith("HTTP/1.1 200")

        def socks() -> bytes:
            tls = ssl.create_default_context()
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            tls.load_cert_chain(own.config.parents[1] / "alice.pem")
            with tls.wrap_socket(socket.create_connection(("fd00:1::1", 3132), 10)) as sock:
                request = b"\5\1\0\1" + socket.inet_aton(SERVER) + (80).to_bytes(2, "big")
                sock.sendall(b"\5\1\2" + b"\1\7mallory\1x" + request + b"GET / HTTP/1.0\r\n\r\n")
                out = b""
                while got := sock.recv(65_536):
                    out += got
                return out

        assert b"HTTP/1" in own.client.call(socks)
        wait_for(lambda: len(users_of(own, "certificates")) >= 2, "two lines in the log", 5)
        assert set(users_of(own, "certificates")) == {"alice"}


def test_pipelined_requests_are_answered_in_order(own: Box) -> None:
    request = "GET http://{name}/download/{n} HTTP/1.1\r\nHost: {name}\r\n\r\n"
    out = raw(own, 3128, "".join(request.format(name=NAME, n=n) for n in range(1, 9)).encode())
    assert [int(n) for n in re.findall(rb"Content-Length: (\d+)", out)] == list(range(1, 9))


def test_thousands_of_pipelined_requests(own: Box) -> None:
    """Each is answered at once: none may be answered from within the answer to the one before."""
    out = raw(own, 3128, b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000)
    assert out.count(b"HTTP/1.1 404") == 2_000


@pytest.mark.parametrize("port", [3128, 8080])
def test_malformed_requests_are_refused(own: Box, port: int) -> None:
    head = f"POST http://{NAME}/upload HTTP/1.1\r\nHost: {NAME}\r\n"
    both = head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert raw(own, port, both.encode()).startswith(b"HTTP/1.1 400")


def test_a_tunnel_keeps_half_closes(own: Box) -> None:
    """The peer answers with the digest of what came before the end, sent ahead of the proxy's reply."""
    data = b"x" * 100_000
    out = raw(own, 3128, f"CONNECT {SERVER}:7002 HTTP/1.1\r\n\r\n".encode() + data)
    assert out.startswith(b"HTTP/1.1 200 Connection established\r\n\r\n")
    assert out.endswith(hashlib.sha256(data).hexdigest().encode())


def test_the_pac_file(own: Box) -> None:
    for url in (f"http://{BOX}/wpad.dat", f"http://{BOX}/proxy.pac", f"http://{BOX}:3128/proxy.pac"):
        done = own.client.run("curl", "-sS", "-i", url)
        assert "application/x-ns-proxy-autoconfig" in done.stdout
        # Those that ask nobody come first; the encrypted ones, which not every browser can have, not at all.
        ways = (f"PROXY {BOX}:3128", f"PROXY {BOX}:8080", f"PROXY {BOX}:3131", f"SOCKS5 {BOX}:1080")
        assert f'"{"; ".join(ways)}"' in done.stdout
    assert own.client.run("curl", "-sS", "-i", f"http://{BOX}/else").stdout.startswith("HTTP/1.1 404")
    # The port of the PAC file is no proxy.
    assert curl(own, "-x", f"http://{BOX}:80", "-i", f"http://{NAME}/").stdout.startswith("HTTP/1.1 403")


def test_wpad_is_a_name_of_the_box(own: Box) -> None:
    """Browsers that look for a proxy by themselves ask for it (there is no option 252 in IPv6)."""
    front = own.start(
        "dns64", BIN / "isthmus-dns64", "--config", own.config, "--runtime", own.runtime
    )  # which the other tests do without
    try:
        ask = ("dig", "+short", "+time=1", "+tries=1", "@fd00:1::1", "wpad", "AAAA")
        run = own.client.run
        wait_for(lambda: run(*ask, check=False).stdout.split() == ["fd00:1::1"], "the name")
        found = run("curl", "-sS", "--max-time", "10", "http://wpad/wpad.dat").stdout
        assert "function FindProxyForURL" in found
    finally:
        stop(front)


def test_the_authority_is_there_to_be_trusted(own: Box, tmp_path: Path) -> None:
    """With it a client needs no --proxy-insecure."""
    root = tmp_path / "authority.crt"
    assert own.client.run("curl", "-sS", "-o", root, f"http://{BOX}/authority.crt").returncode == 0
    # By its name: curl before 8 compares no IPv6 address with a proxy's certificate.
    place = ("--resolve", f"isthmus:3129:{BOX}", "-x", "https://isthmus:3129")
    words = ("-sS", "--max-time", "10", "--proxy-cacert", root, *place)
    done = own.client.run("curl", *words, f"http://{NAME}/", check=False)
    assert done.returncode == 0, done.stdout
    assert "from IPv4" in done.stdout


class TestAssociate:
    """UDP ASSOCIATE (RFC 1928 section 7), from an IPv6 client to IPv4 peers."""

    @pytest.fixture
    def association(self, own: Box) -> Iterator[tuple[socket.socket, socket.socket, tuple[str, int]]]:
        """The control connection, a datagram socket, and where datagrams are awaited."""

        def ask() -> tuple[socket.socket, socket.socket, tuple[str, int]]:
            control = socket.create_connection(("fd00:1::1", 1080), 5, ("fd00:1::2", 0))
            control.sendall(b"\x05\x01\x00")
            assert control.recv(2) == b"\x05\x00"
            control.sendall(b"\x05\x03\x00\x04" + bytes(18))
            reply = control.recv(100)
            assert reply[:4] == b"\x05\x00\x00\x04"
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.bind(("fd00:1::2", 0))
            sock.settimeout(3)
            where = socket.inet_ntop(socket.AF_INET6, reply[4:20]), int.from_bytes(reply[20:22], "big")
            return control, sock, where

        control, sock, where = own.client.call(ask)
        with control, sock:
            yield control, sock, where

    @staticmethod
    def header(host: str, port: int) -> bytes:
        raw = socket.inet_aton(host) if host[0].isdigit() else bytes((len(host),)) + host.encode()
        return b"\0\0\0" + (b"\1" if host[0].isdigit() else b"\3") + raw + port.to_bytes(2, "big")

    @pytest.mark.parametrize("host", [SERVER, NAME])
    def test_there_and_back(self, own: Box, host: str, association: Any) -> None:
        _control, sock, where = association
        assert where[0] == "fd00:1::1"
        for number in range(3):
            sock.sendto(self.header(host, 7101) + b"ping %d" % number, where)
            data = sock.recv(1000)
            assert data.startswith(self.header(SERVER, 7101))
            assert data.endswith(b"ping %d" % number)
        found = sessions(own, "--search", "udp")["sessions"]
        assert [one["name"] for one in found if one["service"] == "socks"][:1] == [host]

    def test_what_is_dropped(self, own: Box, association: Any) -> None:
        """Fragments, what is malformed, strangers, and peers that are never reached."""
        _control, sock, where = association
        good = self.header(SERVER, 7101) + b"good"
        sock.sendto(good, where)
        assert sock.recv(100).endswith(b"good")
        sock.sendto(b"\0\0\1" + good[3:], where)
        sock.sendto(b"\0\0\0\7", where)
        sock.sendto(self.header("127.0.0.1", 53) + b"no", where)
        sock.sendto(self.header("203.0.113.2", 53) + b"no", where)
        stranger = own.client.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        with stranger:
            stranger.bind(("fd00:1::3", 0))
            stranger.sendto(good, where)
            stranger.settimeout(0.3)
            with pytest.raises(TimeoutError):
                stranger.recv(100)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.sendto(good, where)
        assert sock.recv(100).endswith(b"good")

    def test_it_ends_with_its_connection(self, own: Box, association: Any) -> None:
        control, sock, where = association
        sock.sendto(self.header(SERVER, 7101) + b"x", where)
        assert sock.recv(100).endswith(b"x")
        control.close()
        wait_for(lambda: sessions(own, "--search", "udp")["total"] == 0, "the end of its sessions", 3)
        sock.settimeout(0.3)
        sock.sendto(self.header(SERVER, 7101) + b"x", where)
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            sock.recv(100)


def test_nothing_stays_behind(own: Box) -> None:
    wait_for(lambda: sessions(own)["total"] == 0, "the end of all sessions", 5)
