"""The exports: what a syslog server reads over TLS and TCP, and squid's file."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.session import export
from appliance.session.export import MAX_QUEUE, Syslog, Target, framed, syslog_message
from appliance.session.follow import Batch
from appliance.session.history import Place
from appliance.session.rotation import DAY
from appliance.session.row import parse
from appliance.session.squid import SquidFile, squid_line
from tests.unit.session.rows import CARRIED, DENIED, line, row

# RFC 5424 section 6: HEADER and STRUCTURED-DATA as they are of use here.
MESSAGE = re.compile(
    rb"<(?P<pri>[0-9]{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<host>[!-~]{1,255}) "
    rb"(?P<app>[!-~]{1,48}) - (?P<id>[!-~]{1,32}) - (?P<text>.*)",
    re.DOTALL,
)


def batch(*lines: bytes) -> Batch:
    """Lines as the follower gives them."""
    bare = [one.rstrip() for one in lines]
    return Batch([parse(one) for one in bare], bare, Place(1, 1, "", 1))


def numbered(first: int, count: int) -> Batch:
    return batch(*(line(bytes_to_wan=number) for number in range(first, first + count)))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Or fail."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """(certificate that is its own authority, key) for ``host``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{host}.crt", folder / f"{host}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


class Server:
    """A syslog server on loopback. ``messages``: what came, out of its frames."""

    def __init__(self, context: ssl.SSLContext | None, port: int = 0) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.messages: list[bytes] = []
        self.connections: list[socket.socket] = []
        self.versions: list[str | None] = []
        self.refuses = False  # what comes is closed at once
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            try:
                if self.refuses:
                    connection.close()
                    continue
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                    self.versions.append(connection.version())
                self.connections.append(connection)
                self._read(connection)
            except (OSError, ssl.SSLError):
                connection.close()

    def _read(self, connection: socket.socket) -> None:
        data = b""
        while got := connection.recv(65_536):
            data += got
            while (head := re.match(rb"([1-9][0-9]*) ", data)) and len(data) >= head.end() + int(head[1]):
                end = head.end() + int(head[1])
                self.messages.append(data[head.end() : end])
                data = data[end:]

    def cut(self) -> None:
        """End the connection that there is."""
        connection = self.connections.pop()
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()

    def numbers(self) -> list[int]:
        """Of the lines that came."""
        return [json.loads(MESSAGE.fullmatch(one)["text"])["bytes_to_wan"] for one in self.messages]  # type: ignore[index]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses that a test would have to wait for."""
    monkeypatch.setattr(export, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(export, "LAST_PAUSE", 0.05)


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """(a server for "localhost", the authority of its certificate)."""
    path, key = certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    with closing(Server(context)) as server:
        yield server, path


def test_messages_over_tls(tls: tuple[Server, Path]) -> None:
    server, authority = tls
    with closing(Syslog(Target("localhost", server.port, True, authority), "box")) as syslog:
        syslog.write(batch(line(), line(DENIED)))
        wait_for(lambda: len(server.messages) == 2, syslog.problem)
        assert syslog.describe()["up"] is True
        assert (syslog.sent, syslog.dropped, syslog.describe()["waiting"]) == (2, 0, 0)
    assert server.versions == ["TLSv1.3"]
    carried, denied = (MESSAGE.fullmatch(one) for one in server.messages)
    assert carried is not None and denied is not None
    assert (carried["pri"], carried["id"], carried["app"]) == (b"134", b"carried", b"isthmus-proxy")
    assert (carried["time"], carried["host"]) == (b"2027-01-15T08:00:00.250Z", b"box")
    assert json.loads(carried["text"]) == CARRIED
    assert (denied["pri"], denied["id"]) == (b"133", b"denied")


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_server_that_is_not_the_one_gets_nothing(
    tls: tuple[Server, Path], tmp_path: Path, wrong: str
) -> None:
    server, authority = tls
    host = "localhost"
    if wrong == "authority":
        authority, _key = certificate(tmp_path, "other.example")
    else:
        host = "127.0.0.1"  # the certificate is not for it
    with closing(Syslog(Target(host, server.port, True, authority), "box")) as syslog:
        syslog.write(batch(line()))
        wait_for(lambda: "not trusted" in syslog.problem, "a refusal")
        assert syslog.describe()["up"] is False
        assert syslog.describe()["waiting"] == 1
    assert server.messages == []


def test_a_server_that_goes_and_comes_loses_nothing() -> None:
    with closing(Server(None)) as server:
        syslog = Syslog(Target("127.0.0.1", server.port, False), "box")
        with closing(syslog):
            syslog.write(numbered(0, 3))
            wait_for(lambda: len(server.messages) == 3, syslog.problem)
            server.refuses = True
            server.cut()
            syslog.write(numbered(3, 200))
            wait_for(lambda: not syslog.up, "the end of the connection")
            server.refuses = False
            wait_for(lambda: max(server.numbers()) == 202, syslog.problem)
            found = server.numbers()
            # After a cut the last ones may come again; none is missing, and they are in order.
            assert sorted(set(found)) == list(range(203))
            assert syslog.dropped == 0


def test_the_queue_is_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_QUEUE >= 1_000
    monkeypatch.setattr(export, "MAX_QUEUE", 10)
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    syslog = Syslog(Target("127.0.0.1", port, False), "box")
    with closing(syslog):
        wait_for(lambda: bool(syslog.problem), "a problem")
        assert f"tcp://127.0.0.1:{port}: " in syslog.problem
        syslog.write(numbered(0, 25))
        assert (syslog.describe()["waiting"], syslog.dropped) == (10, 15)
        with closing(Server(None, port)) as server:
            wait_for(lambda: len(server.messages) == 10, syslog.problem)
            assert server.numbers() == list(range(15, 25))
        syslog.erase()
        assert syslog.describe()["waiting"] == 0


def test_a_host_that_is_none_is_a_problem_in_words() -> None:
    with closing(Syslog(Target("no-such-host.invalid", 6514, True), "box")) as syslog:
        wait_for(lambda: "tls://no-such-host.invalid:6514: " in syslog.problem, "a problem")


@given(st.integers(0, 1 << 50), st.sampled_from(["denied", "closed", "timeout"]))
def test_a_frame_is_as_long_as_it_says(moment: int, reason: str) -> None:
    data = line(end=reason, time=moment / 1000).rstrip()
    try:
        found = framed(syslog_message(parse(data), data, "box"))
    except (OverflowError, ValueError):
        assert moment > 250_000_000_000_000, "a year that no calendar has"
        return
    length, _space, message = found.partition(b" ")
    assert int(length) == len(message)
    assert MESSAGE.fullmatch(message)


# -- squid ---------------------------------------------------------------------------------------


def test_lines_of_squids_format() -> None:
    assert squid_line(row(user="ann")) == (
        "1800000000.250   1500 fd00:1::2 TCP_TUNNEL/200 20000 CONNECT www.a.example:443 ann "
        "HIER_DIRECT/192.31.196.80 -"
    )
    assert squid_line(row(DENIED)) == (
        "1800000001.500      0 fd00:1::3 TCP_DENIED/403 0 CONNECT ads.b.example:443 - HIER_NONE/- -"
    )
    assert " TCP_MISS/504 0 UDP 192.31.196.80:443 " in squid_line(
        row(kind="udp", end="timeout", name="", bytes_to_wan=0, bytes_to_lan=0)
    )
    bare = {
        key: value for key, value in CARRIED.items() if key not in ("name", "named_by", "origin", "server")
    }
    assert squid_line(row(bare)).endswith(" TCP_TUNNEL/200 20000 CONNECT - - HIER_NONE/- -")
    assert "[2001:db8::80]:443" in squid_line(row(origin="2001:db8::80", name=""))


@given(st.text(max_size=60), st.text(max_size=20), st.sampled_from(["denied", "closed", "rate"]))
def test_a_line_has_ten_fields_whatever_is_in_it(origin: str, user: str, reason: str) -> None:
    try:
        found = row(origin=origin, name="", user=user.replace(" ", ""), end=reason)
    except ValueError:
        return  # no row
    assert len(squid_line(found).split(" ")) - squid_line(found).count("  ") >= 10
    assert "\n" not in squid_line(found)


def test_squids_file_is_appended_to_and_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    file = SquidFile(path)
    file.write(numbered(0, 2))
    file.write(numbered(2, 1))
    assert len(path.read_text().splitlines()) == 3
    assert path.stat().st_mode & 0o777 == 0o640
    begin = CARRIED["time"]
    file.forget(0, begin + 1)
    assert path.exists(), "neither large nor old"
    file.forget(0, begin + DAY)
    assert not path.exists()
    file.write(numbered(3, 1))
    assert len((tmp_path / "access.log.1").read_text().splitlines()) == 3
    moved = (tmp_path / "access.log.1").stat().st_mtime
    file.forget(moved - DAY - 1, begin)
    assert (tmp_path / "access.log.1").exists()
    file.forget(moved - DAY + 1, begin)
    assert not (tmp_path / "access.log.1").exists(), "some of it may be too old"
    file.erase()
    assert path.read_text() == ""
    assert file.describe()["sent"] == 4


def test_squids_file_on_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SquidFile(tmp_path / "no folder" / "access.log")
    file.write(numbered(0, 2))
    assert file.describe()["dropped"] == 2
    assert "access.log cannot be written" in str(file.describe()["problem"])
    (tmp_path / "no folder").mkdir()
    monkeypatch.setattr("os.write", lambda fd, data: len(data) // 2)
    file.write(numbered(0, 2))
    assert "space" in file.problem and (tmp_path / "no folder" / "access.log").read_bytes() == b""
    monkeypatch.undo()
    file.write(numbered(0, 2))
    assert file.problem == "" and file.sent == 2
