"""What the owner sees afterwards: the history of a box's sessions, and an end put to those that are open."""

from __future__ import annotations

import contextlib
import errno
import json
import select
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlClient, call
from tests.lab.netns import stop
from tests.netns.conftest import BIN, SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import BLACK_HOLE, BOX, FILES, FILES_ADDRESS, NAME, SCHEMES, curl, running
from tests.netns.hosts import connect, udp_socket
from tests.netns.test_lifecycle import reload, workers

pytestmark = [pytest.mark.netns, needs_root]

RULES = f"""
[log]
squid = true
[[rule]]
name = "no-address"
action = "deny"
destinations = ["{FILES_ADDRESS}/32"]
ports = [7004]
"""
FILES6 = "64:ff9b::c01f:c451"
BLACK_HOLE6 = "64:ff9b::c01f:c901"


def start_history(box: Box) -> None:
    """isthmus-history beside the proxy."""
    box.start(
        "history", BIN / "isthmus-history", "--config", box.runtime / "config.toml",
        "--runtime", box.runtime, "--state", box.state / "history", "--log", box.sessions_log,
        "--squid", box.logs / "access.log",
    )  # fmt: skip
    socket_path = box.runtime / "history" / "history.sock"
    wait_for(socket_path.exists, f"the history's socket\n{box.log('history')}")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box with an explicit proxy, a rule and a history."""
    folder = tmp_path_factory.mktemp("monitoring")
    with running(folder, RULES) as box:
        with (folder / "www" / "huge.bin").open("wb") as file:
            file.truncate(1 << 30)
        start_history(box)
        yield box


def isthmus(box: Box, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line."""
    return subprocess.run(
        [BIN / "isthmus", "--runtime", box.runtime, *words], capture_output=True, text=True, check=False
    )


def rows(box: Box, *words: str) -> list[dict[str, Any]]:
    """`isthmus log`, the newest last."""
    done = isthmus(box, "log", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def fitting(found: list[dict[str, Any]], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that have these values."""
    return [one for one in found if all(one.get(key) == value for key, value in wanted.items())]


def row(box: Box, *words: str, **wanted: Any) -> dict[str, Any]:
    """The newest row that is like that, as soon as there is one."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = fitting(rows(box, *words), wanted)
        return bool(found)

    wait_for(there, f"a row like {words}, {wanted}", 10)
    return found[-1]


def open_sessions(box: Box, search: str) -> list[dict[str, Any]]:
    """`isthmus sessions`."""
    done = isthmus(box, "sessions", "--json", "--search", search)
    found: list[dict[str, Any]] = json.loads(done.stdout)["sessions"]
    return found


def the_session(box: Box, search: str, **wanted: Any) -> dict[str, Any]:
    """The one open session that is like that, as soon as there is one."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = fitting(open_sessions(box, search), wanted)
        return bool(found)

    wait_for(there, f"an open session with {search}", 10)
    return found[0]


def test_a_session_is_found_again(own: Box) -> None:
    with connect(own, 7004, SERVER6) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100)
        port = sock.getsockname()[1]
    found = row(own, "--search", SERVER, "--outcome", "carried", client_port=port)
    assert found["server"] == SERVER6
    assert found["bytes_to_wan"] == 5 and found["outcome"] == "carried"


def test_a_denied_one_names_its_rule_and_is_there_once(own: Box) -> None:
    with pytest.raises(PermissionError):
        connect(own, 7004, FILES6)
    found = row(own, "--denied", "--rule", "no-address")
    assert (found["origin"], found["origin_port"], found["reason"]) == (FILES_ADDRESS, 7004, "denied")
    assert isthmus(own, "log", "--denied").stdout.count("no-address") == 1


def test_a_refused_dial_is_one_row(own: Box) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect(own, 7_998, SERVER6)
    row(own, "--search", SERVER, "--outcome", "refused")
    time.sleep(2)  # for a second line, were there one
    assert len([one for one in rows(own, "--outcome", "refused") if one["origin_port"] == 7_998]) == 1


def test_a_name_by_the_explicit_proxy_and_the_sums(own: Box) -> None:
    assert curl(own, "-x", f"http://{BOX}:3128", f"http://{FILES}/").returncode == 0
    found = row(own, "--name", ".example", "--outcome", "carried")
    assert found["service"] == "http" and found["named_by"] == "asked"
    done = isthmus(own, "top", "names", "--json")
    assert found["name"] in [one["key"] for one in json.loads(done.stdout)]
    assert "CLIENTS" in isthmus(own, "top", "clients").stdout


def test_a_user_whom_a_rule_denied(own: Box) -> None:
    for scheme in ("user-https", "user-socks5h"):
        assert curl(own, "-x", SCHEMES[scheme], f"http://{FILES_ADDRESS}:7004/", "--fail").returncode
        service = {"user-https": "users", "user-socks5h": "plain"}[scheme]
        found = row(own, "--denied", "--user", "alice", "--service", service)
        assert (found["rule"], found["origin"], found["origin_port"]) == ("no-address", FILES_ADDRESS, 7004)


def test_the_file_in_squids_format_is_erased_also_where_it_is_not_written_any_more(own: Box) -> None:
    before = own.config.read_text()
    squid = own.logs / "access.log"
    curl(own, "-x", f"http://{BOX}:3128", f"http://{FILES}/")
    wait_for(lambda: squid.exists() and FILES in squid.read_text(), "the file")
    try:
        own.config.write_text(before.replace("squid = true", "squid = false"))
        own.processes["control"].send_signal(signal.SIGHUP)
        wait_for(lambda: "squid = false" in (own.runtime / "config.toml").read_text(), "control")
        time.sleep(1.5)  # the history looks twice a second
        size = squid.stat().st_size
        curl(own, "-x", f"http://{BOX}:3128", f"http://{FILES}/")
        row(own, "--name", FILES)
        assert squid.stat().st_size == size, "it is off"
        assert isthmus(own, "log", "erase").returncode == 0
        assert not squid.exists() or not squid.read_text()
    finally:
        own.config.write_text(before)
        own.processes["control"].send_signal(signal.SIGHUP)
        wait_for(lambda: "squid = true" in (own.runtime / "config.toml").read_text(), "control")
        time.sleep(1.5)
        curl(own, "-x", f"http://{BOX}:3128", f"http://{FILES}/")
        wait_for(lambda: squid.exists() and FILES in squid.read_text(), "the file again")


def test_squids_format(own: Box) -> None:
    row(own)
    done = isthmus(own, "log", "--squid")
    assert done.returncode == 0, done.stderr
    exported = (own.logs / "access.log").read_text().splitlines()
    assert done.stdout.splitlines()[-1] in exported
    for one in exported:
        assert len(one.split()) == 10


def test_what_is_wrong_is_said(own: Box) -> None:
    for words, told in (
        (["log", "--since", "yesterday"], "no time"),
        (["sessions", "kill"], "ID"),
        (["sessions", "kill", "0-999999"], "no session"),
        (["sessions", "kill", "rubbish"], "no session"),
    ):
        done = isthmus(own, *words)
        assert done.returncode == 1 and told in done.stderr


# -- killing -------------------------------------------------------------------------------------


def is_reset(sock: socket.socket) -> bool:
    """Whether the connection ends with a reset; over TLS it may say so before."""
    sock.settimeout(5)
    try:
        return sock.recv(100) == b"" and isinstance(sock, ssl.SSLSocket)
    except (ConnectionResetError, ssl.SSLEOFError):
        return True


def kill(box: Box, session: dict[str, Any]) -> None:
    done = isthmus(box, "sessions", "kill", session["id"])
    assert done.returncode == 0, done.stderr
    assert session["id"] not in [one["id"] for one in open_sessions(box, "")]
    assert isthmus(box, "sessions", "kill", session["id"]).returncode == 1


def test_a_transparent_session_is_killed(own: Box) -> None:
    with connect(own, 7004, SERVER6) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100)
        kill(own, the_session(own, SERVER, kind="tcp", client_port=sock.getsockname()[1]))
        assert is_reset(sock)
    assert row(own, "--search", SERVER, reason="killed")["bytes_to_wan"] == 5


def asked(box: Box, port: int, tls: bool, words: str) -> socket.socket:
    """A client's connection to the explicit proxy, by which these words have gone."""

    def make() -> socket.socket:
        sock = socket.create_connection(("fd00:1::1", port), 10)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock, suppress_ragged_eofs=False)
        sock.sendall(f"{words}\r\n\r\n".encode())
        return sock

    return box.client.call(make)


def tunnel(box: Box, port: int, tls: bool) -> socket.socket:
    """CONNECT to a server that says nothing before the client ends."""
    sock = asked(box, port, tls, f"CONNECT {SERVER}:7002 HTTP/1.1\r\nHost: {SERVER}:7002")
    assert sock.recv(200).startswith(b"HTTP/1.1 200")
    return sock


@pytest.mark.parametrize(("port", "tls"), [(3128, False), (3129, True)])
def test_a_tunnel_is_killed(own: Box, port: int, tls: bool) -> None:
    with tunnel(own, port, tls) as sock:
        kill(own, the_session(own, SERVER, client_port=sock.getsockname()[1]))
        assert is_reset(sock)


def test_a_request_whose_origin_does_not_answer_is_killed(own: Box) -> None:
    with connect(own, 3128, "fd00:1::1") as sock:
        sock.sendall(f"GET http://{BLACK_HOLE}/ HTTP/1.1\r\nHost: {BLACK_HOLE}\r\n\r\n".encode())
        found = the_session(own, BLACK_HOLE, client_port=sock.getsockname()[1])
        assert found["state"] == "dialling"
        kill(own, found)
        assert is_reset(sock)


def test_a_response_that_goes_on_and_on_is_killed(own: Box) -> None:
    """The file is large enough that it goes by splice, and the client takes none of it."""
    with connect(own, 3128, "fd00:1::1") as sock:
        sock.sendall(f"GET http://{FILES}/huge.bin HTTP/1.1\r\nHost: {FILES}\r\n\r\n".encode())
        assert sock.recv(12) == b"HTTP/1.1 200"
        kill(own, the_session(own, FILES, client_port=sock.getsockname()[1]))
        sock.settimeout(5)
        with pytest.raises(ConnectionResetError):
            while sock.recv(1 << 20):
                pass


def test_a_held_syn_is_killed(own: Box) -> None:
    sock = own.client.call(lambda: socket.socket(socket.AF_INET6))
    with sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect((BLACK_HOLE6, 80))
        kill(own, the_session(own, BLACK_HOLE, state="dialling"))
        select.select([], [sock], [], 5)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EACCES


def test_ping_is_killed(own: Box) -> None:
    assert "1 received" in own.client.run("ping", "-c1", "-W3", SERVER6).stdout
    kill(own, the_session(own, "icmp"))


def test_datagrams_of_an_association_are_killed(own: Box) -> None:
    with connect(own, 1080, "fd00:1::1") as control, udp_socket(own) as sock:
        control.sendall(b"\5\1\0" + b"\5\3\0\4" + bytes(16) + sock.getsockname()[1].to_bytes(2, "big"))
        assert control.recv(2) == b"\5\0"
        answer = control.recv(22)
        assert answer[:2] == b"\5\0"
        datagram = b"\0\0\0\1" + socket.inet_aton(SERVER) + (7101).to_bytes(2, "big") + b"hello"
        sock.sendto(
            datagram, (socket.inet_ntop(socket.AF_INET6, answer[4:20]), int.from_bytes(answer[20:], "big"))
        )
        assert sock.recv(200).endswith(b"hello")
        kill(own, the_session(own, "udp", service="socks"))


def test_datagrams_are_killed(own: Box) -> None:
    with udp_socket(own) as sock:
        sock.connect((SERVER6, 7101))
        sock.settimeout(5)
        sock.send(b"hello")
        port = sock.getsockname()[1]
        kill(own, the_session(own, "udp", client_port=port))
        sock.send(b"again")
        assert the_session(own, "udp", client_port=port)["state"] == "open"


# -- ends that come from the box -----------------------------------------------------------------


def download(box: Box, port: int, tls: bool) -> socket.socket:
    """A response without end, of which the client has taken the beginning."""
    sock = asked(box, port, tls, f"GET http://{FILES}/huge.bin HTTP/1.1\r\nHost: {FILES}")
    assert sock.recv(12).startswith(b"HTTP/1.1 200")
    return sock


@pytest.mark.parametrize("end", ["drained", "stopped"])
def test_what_ends_with_its_worker_is_reset_and_a_row(own: Box, end: str) -> None:
    """Not cut off in order, which would be a whole answer to a client that was told no length."""
    before = own.config.read_text()
    if end == "drained":
        own.config.write_text(before.replace("dial = 4", "dial = 4\ndrain = 1"))
        assert reload(own) is None
    socks = [connect(own, 7004, SERVER6)]
    socks[0].sendall(b"hello")
    assert socks[0].recv(5)
    socks += [tunnel(own, port, tls) for port, tls in ((3128, False), (3129, True))]
    socks += [download(own, port, tls) for port, tls in ((3128, False), (3129, True))]
    ports = {sock.getsockname()[1] for sock in socks}
    try:
        if end == "drained":
            own.processes["proxy"].send_signal(signal.SIGUSR2)
        else:
            stop(own.processes.pop("proxy"))
        for sock in socks:
            sock.settimeout(10)
            with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
                while sock.recv(1 << 20):
                    pass
                raise EOFError("an end in order")
        wait_for(lambda: ports <= {one["client_port"] for one in fitting(rows(own), {"reason": end})}, "rows")
    finally:
        for sock in socks:
            sock.close()
        own.config.write_text(before)
        if end == "drained":
            wait_for(lambda: not any(one["draining"] for one in workers(own)), "the old workers' end")
            assert reload(own) is None
        else:
            wait_for(lambda: not (own.runtime / "proxy" / "proxy.sock").exists(), "the proxy's end")
            own.start_proxy()


# -- the disk ------------------------------------------------------------------------------------


def test_a_full_disk_drops_history_and_no_traffic(tmp_path: Path) -> None:
    """The history's own file system is filled to its last octet, and emptied again."""
    with running(tmp_path) as own:
        folder = own.state / "history"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100M", "tmpfs", folder], check=True)
        try:
            filler = folder / "filler"
            with filler.open("wb") as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            start_history(own)

            def finding() -> list[str]:
                checks = json.loads(isthmus(own, "status", "--json").stdout)["checks"]
                return [check["detail"] for check in checks if check["id"] == "history"]

            with connect(own, 7004, SERVER6) as sock:
                sock.sendall(b"hello")
                assert sock.recv(100) == b"hello"
                port = sock.getsockname()[1]
            wait_for(lambda: bool(finding()), "the health check", 20)
            assert "Sessions go on" in finding()[0]
            assert isthmus(own, "log").returncode == 1
            filler.unlink()
            wait_for(lambda: not finding(), "the end of it", 20)
            assert row(own, client_port=port)["bytes_to_wan"] == 5
        finally:
            own.processes["history"].terminate()
            own.processes["history"].wait(10)
            subprocess.run(["umount", folder], check=True)


# -- privacy -------------------------------------------------------------------------------------


def reconfigure(box: Box, change: Callable[[str], str]) -> None:
    """Another configuration, taken up."""
    box.config.write_text(change(box.config.read_text()))
    box.processes["control"].send_signal(1)
    text = box.config.read_text()
    level = text.partition("privacy = ")[2].partition("\n")[0]
    wait_for(lambda: level in (box.runtime / "config.toml").read_text(), "the configuration", 10)
    assert call(box.runtime / "proxy" / "proxy.sock", "org.isthmus.proxy.Reload", {}, 10)["problem"] is None


def traces(box: Box) -> list[str]:
    """Files of the box's that hold the destination."""
    needles = [SERVER.encode(), SERVER6.encode(), FILES_ADDRESS.encode(), NAME.encode()]
    files = [
        box.sessions_log,
        *box.sessions_log.parent.glob(f"{box.sessions_log.name}.*"),
        box.logs / "access.log",
    ]
    files += list((box.state / "history").iterdir())
    return [path.name for path in files if path.exists() and any(one in path.read_bytes() for one in needles)]


def some_traffic(box: Box) -> None:
    with connect(box, 7004, SERVER6) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100)
    with pytest.raises(PermissionError):
        connect(box, 7004, FILES6)
    with pytest.raises(ConnectionRefusedError):
        connect(box, 7_998, SERVER6)
    assert curl(box, "-x", f"http://{BOX}:3128", f"http://{FILES}/").returncode == 0


def test_no_destination_is_on_the_disk_where_none_is_to_be(tmp_path: Path) -> None:
    """Erased first, so that what is found is new; then by each level."""
    with running(tmp_path, RULES + '[policy]\nprivacy = "full"\n') as own:
        start_history(own)
        some_traffic(own)
        row(own, "--denied")
        assert "sessions.jsonl" in traces(own)
        reconfigure(own, lambda text: text.replace('privacy = "full"', 'privacy = "no-destinations"'))
        assert isthmus(own, "log", "erase").returncode == 0
        assert traces(own) == []
        assert rows(own) == []
        some_traffic(own)
        assert row(own, "--denied", "--rule", "no-address")["origin"] is None
        wait_for(lambda: len(rows(own)) >= 4, "all rows", 10)
        assert traces(own) == []
        clients = json.loads(isthmus(own, "top", "clients", "--json").stdout)
        assert sum(one["sessions"] for one in clients) >= 4
        reconfigure(own, lambda text: text.replace('privacy = "no-destinations"', 'privacy = "counters"'))
        assert isthmus(own, "log", "erase").returncode == 0
        before = json.loads(isthmus(own, "status", "--json").stdout)["counters"]
        some_traffic(own)
        time.sleep(2.5)  # for what must not come
        after = json.loads(isthmus(own, "status", "--json").stdout)["counters"]
        assert after["denied"] == before["denied"] + 1
        assert own.sessions_log.read_text() == ""
        assert rows(own) == []


@pytest.mark.parametrize("limit", [7, 200], ids=["together", "one after the other"])
def test_pages_have_every_session_of_all_workers_once(own: Box, limit: int) -> None:
    """Of several clients, whom the workers share; each page goes on where the last one ended."""
    control = ControlClient(own.runtime)
    with contextlib.ExitStack() as stack:
        for number in range(12):
            source = f"fd00:1::{0x500 + number:x}"
            own.client.run("ip", "addr", "replace", f"{source}/64", "dev", "eth0", "nodad")
            for _session in range(2):
                stack.enter_context(connect(own, 7004, source=source))
        wait_for(lambda: control.sessions(limit, "fd00:1::5")[1] == 24, "all sessions")
        seen: list[str] = []
        workers, ages, cursor = set(), [], ""
        while True:
            found, total, cursor = control.sessions_page(limit, "fd00:1::5", cursor)
            assert total == 24
            assert len(found) <= limit
            seen += [one["id"] for one in found]
            ages += [one["age"] for one in found]
            workers |= {one["worker"] for one in found}
            if not cursor:
                break
        assert len(seen) == len(set(seen)) == 24
        assert workers == {0, 1}
        if limit > 24:  # in one page ages are of one moment
            assert ages == sorted(ages)
