"""The real isthmus-dns64 between the real dig and the real unbound, all on loopback.

dig ---- [::1]:front isthmus-dns64 ---- 127.0.0.1:back unbound (zones "test", "bogus.test" …)
                                   `--- 127.0.0.1:odd  a server that errs on purpose (second front)
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.lab.netns import unguarded
from tests.netns.conftest import CONFIG, Box, needs_root, wait_for

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(
        not shutil.which("unbound") or not shutil.which("dig"), reason="needs unbound and dig"
    ),
]

FRONT = str(Path(sys.executable).parent / "isthmus-dns64")
START_TIMEOUT = 10.0

UNBOUND = """\
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1@{port}
  do-ip6: no
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "test." static
  local-data: "test. 300 IN SOA ns.test. root.test. 1 2 3 4 200"
  local-data: "v4.test. 900 IN A 192.31.196.80"
  local-data: "private.test. 900 IN A 10.0.0.1"
  local-data: "v6.test. 900 IN AAAA 2001:db8::1"
  local-data: "v6.test. 900 IN A 192.31.196.80"
  local-data: "mapped.test. 900 IN AAAA ::ffff:192.31.196.80"
  local-data: "mapped.test. 900 IN A 192.31.196.80"
  local-data: 'web.test. 900 IN HTTPS 1 . ipv4hint="192.31.196.80"'
  local-zone: "196.31.192.in-addr.arpa." static
  local-data: "80.196.31.192.in-addr.arpa. 900 IN PTR v4.test."
{many}
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(5)
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def start_front(
    folder: Path, upstream: int, config: str = "", listen: str = "::1"
) -> tuple[int, subprocess.Popen[str]]:
    path = folder / f"config-{upstream}-{len(listen)}.toml"
    path.write_text("schema_version = 1\n" + config)
    port = free_port()
    process = subprocess.Popen(
        [
            FRONT,
            "--config",
            str(path),
            "--listen",
            listen,
            "--port",
            str(port),
            "--upstream",
            f"127.0.0.1:{upstream}",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "listening" in line, line
    return port, process


def dig(port: int, *arguments: str, server: str = "::1") -> str:
    command = ["dig", f"@{server}", "-p", str(port), "+tries=1", "+time=6", "+nocookie", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def short(port: int, *arguments: str, server: str = "::1") -> list[str]:
    return sorted(dig(port, "+short", *arguments, server=server).split())


@pytest.fixture(scope="module")
def back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("unbound")
    port = free_port()
    many = "\n".join(f'  local-data: "many.test. 900 IN A 192.31.{i // 250}.{i % 250}"' for i in range(400))
    path = folder / "unbound.conf"
    path.write_text(UNBOUND.format(folder=folder, port=port, many=many))
    command = [str(unguarded("unbound", folder)), "-d", "-c", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, "unbound did not start"
            time.sleep(0.05)
    yield port
    stop(process)


@pytest.fixture(scope="module")
def front(back: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port, process = start_front(tmp_path_factory.mktemp("front"), back)
    yield port
    assert stop(process) == 0


def test_names_of_every_kind(front: int) -> None:
    assert short(front, "AAAA", "v4.test") == ["64:ff9b::c01f:c450"]
    assert short(front, "+noedns", "AAAA", "V4.test") == ["64:ff9b::c01f:c450"]
    assert short(front, "+tcp", "AAAA", "v4.test") == ["64:ff9b::c01f:c450"]
    assert short(front, "A", "v4.test") == ["192.31.196.80"]
    assert short(front, "AAAA", "v6.test") == ["2001:db8::1"]
    assert short(front, "AAAA", "mapped.test") == ["64:ff9b::c01f:c450"]
    assert short(front, "AAAA", "private.test") == []
    assert "status: NXDOMAIN" in dig(front, "AAAA", "missing.test")
    assert "64:ff9b" not in dig(front, "HTTPS", "web.test")
    assert short(front, "+dnssec", "+cdflag", "AAAA", "v4.test") == []


def test_ttl_is_that_of_the_negative_answer(front: int) -> None:
    ttl = int(dig(front, "+noall", "+answer", "AAAA", "v4.test").split()[1])
    assert 150 < ttl <= 200


def test_reverse_look_up(front: int) -> None:
    assert short(front, "-x", "64:ff9b::c01f:c450") == ["80.196.31.192.in-addr.arpa.", "v4.test."]


def test_a_large_answer_comes_by_tcp(front: int) -> None:
    assert " tc" in dig(front, "+ignore", "AAAA", "many.test").split("flags:", 1)[1].split(";")[0]
    assert len(short(front, "AAAA", "many.test")) == 400


def test_pipelined_questions_on_one_connection(front: int) -> None:
    questions = [dns.message.make_query(name, "AAAA") for name in ("v4.test.", "v6.test.", "missing.test.")]
    with socket.create_connection(("::1", front), 5) as connection:
        stream = b"".join(len(q.to_wire()).to_bytes(2, "big") + q.to_wire() for q in questions)
        for octet in stream:
            connection.sendall(bytes([octet]))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65_535):
            received += data
    found = set()
    while received:
        length = int.from_bytes(received[:2], "big")
        found.add(dns.message.from_wire(received[2 : 2 + length]).id)
        received = received[2 + length :]
    assert found == {q.id for q in questions}


def test_the_wildcard_is_ipv6_only(back: int, tmp_path: Path) -> None:
    port, process = start_front(tmp_path, back, listen="::")
    try:
        assert short(port, "AAAA", "v4.test") == ["64:ff9b::c01f:c450"]
        with pytest.raises(OSError, match=r"refused"):
            socket.create_connection(("127.0.0.1", port), 1).close()
    finally:
        assert stop(process) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a second address on loopback needs a network namespace")
def test_wildcard_answers_from_the_address_that_was_asked(tmp_path: Path) -> None:
    """dig asks fd53::53 from ::1; by its routes alone the kernel would answer from ::1."""
    path = tmp_path / "config.toml"
    path.write_text("schema_version = 1\n")
    script = 'ip link set lo up && ip addr add fd53::53/128 dev lo nodad && exec "$@"'
    process = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", script, "sh", FRONT, "--config", str(path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        inside = ["nsenter", "-t", str(process.pid), "-n"]
        question = ["dig", "@fd53::53", "-b", "::1", "+tries=1", "+time=3", "+short", "ipv4only.arpa", "AAAA"]
        for _ in range(3):  # first by the wildcard's socket, then by the address's own
            done = subprocess.run(
                [*inside, *question], capture_output=True, text=True, timeout=10, check=False
            )
            assert done.stdout.split() == ["64:ff9b::c000:aa", "64:ff9b::c000:ab"], done.stdout
        listing = subprocess.run(
            [*inside, "ss", "-Hlun"], capture_output=True, text=True, timeout=10, check=False
        )
        assert "[fd53::53]:53" in listing.stdout and "[::]:53" in listing.stdout
    finally:
        assert stop(process) == 0


class Odd(threading.Thread):
    """Answers A always; AAAA by the name: "silent" never, else with the RCODE of the first label."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    def run(self) -> None:
        while True:
            packet, address = self.socket.recvfrom(4096)
            query = dns.message.from_wire(packet)
            if not query.question:
                return
            question = query.question[0]
            label = question.name.labels[0].decode().upper()
            answer = dns.message.make_response(query)
            if question.rdtype == dns.rdatatype.A and label != "BOGUS":
                answer.answer.append(dns.rrset.from_text(question.name, 900, "IN", "A", "192.31.196.80"))
            elif label in ("SILENT", "DEAD"):
                continue
            else:
                answer.set_rcode(dns.rcode.from_text(label) if label != "BOGUS" else dns.rcode.SERVFAIL)
            self.socket.sendto(answer.to_wire(), address)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    server = Odd()
    server.start()
    port, process = start_front(tmp_path_factory.mktemp("odd"), server.port)
    yield port
    assert stop(process) == 0
    server.socket.sendto(bytes(12), ("127.0.0.1", server.port))
    server.join(5)
    server.socket.close()


def test_errors_and_silence_on_aaaa_count_as_empty(odd: int) -> None:
    for label in ("servfail", "refused", "notimp"):
        assert short(odd, "AAAA", f"{label}.example") == ["64:ff9b::c01f:c450"]
    assert "status: NXDOMAIN" in dig(odd, "AAAA", "nxdomain.example")
    assert "status: SERVFAIL" in dig(odd, "AAAA", "bogus.example")
    began = time.monotonic()
    assert short(odd, "AAAA", "silent.example") == ["64:ff9b::c01f:c450"]
    assert 1.5 < time.monotonic() - began < 4


def test_ipv4only_and_servfail_with_the_upstream_down(tmp_path: Path) -> None:
    port, process = start_front(tmp_path, free_port())
    try:
        assert short(port, "A", "ipv4only.arpa") == ["192.0.0.170", "192.0.0.171"]
        assert short(port, "AAAA", "ipv4only.arpa") == ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]
        began = time.monotonic()
        assert "status: SERVFAIL" in dig(port, "AAAA", "v4.test")
        assert time.monotonic() - began < 5
    finally:
        assert stop(process) == 0


def test_a_bad_configuration_prints_all_problems_and_exits_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('schema_version = 1\n[dns]\nexclude_names = ["-"]\nupstreams = ["::1"]\n')
    done = subprocess.run(
        [FRONT, "--config", str(path)], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 2
    assert "dns.exclude_names" in done.stderr and "dns.upstreams" in done.stderr


def test_a_new_configuration_is_taken_up_and_a_bad_one_is_not(back: int, tmp_path: Path) -> None:
    """By SIGHUP, with questions going on all the time: none is lost."""
    port, process = start_front(tmp_path, back)
    path = next(tmp_path.glob("config-*.toml"))
    assert process.stderr is not None
    problems: list[str] = []
    ending = threading.Event()

    def keep_asking() -> None:
        while not ending.is_set():
            if short(port, "AAAA", "v6.test") != ["2001:db8::1"]:
                problems.append("a question was lost")

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        assert short(port, "AAAA", "v4.test") == ["64:ff9b::c01f:c450"]
        path.write_text('schema_version = 1\n[[translation]]\nprefix = "2001:db8:64::/96"\n')
        process.send_signal(signal.SIGHUP)
        assert "read anew" in process.stderr.readline()
        assert short(port, "AAAA", "v4.test") == ["2001:db8:64::c01f:c450"], "what was cached is forgotten"
        path.write_text('[[translation]]\nprefix = "2001:db8:64::/90"\n')
        process.send_signal(signal.SIGHUP)
        assert "the old configuration stays" in process.stderr.readline()
        assert short(port, "AAAA", "v4.test") == ["2001:db8:64::c01f:c450"]
    finally:
        ending.set()
        asking.join()
        stop(process)
    assert not problems


def test_names_keep_their_spelling(front: int) -> None:
    """Resolvers that mix the case of a question (0x20) find it again in the answer."""
    found = dig(front, "AAAA", "V4.TeSt")
    assert ";V4.TeSt." in found
    assert "V4.TeSt." in found.split("ANSWER SECTION:")[1]


def test_an_unknown_edns_version_is_refused(front: int) -> None:
    found = dig(front, "+edns=7", "+noednsneg", "AAAA", "v4.test")
    assert "status: BADVERS" in found


ISLAND = """
[[translation]]
prefix = "64:ff9b::/96"
[[translation]]
prefix = "2001:db8:1::/96"
networks = ["10.0.0.0/8"]
domains = ["corp.test"]
upstreams = ["203.0.113.9"]
"""


@needs_root
@pytest.mark.skipif(not shutil.which("dnsmasq"), reason="needs dnsmasq")
def test_an_islands_names_come_from_its_own_resolver(tmp_path: Path) -> None:
    """Two resolvers on the WAN side know "host.corp.test", each with its own address."""
    with Box(tmp_path) as box:
        box.config.write_text(CONFIG + ISLAND)
        box.server.run("ip", "addr", "add", "203.0.113.9/24", "dev", "eth0")
        for where, address in (("203.0.113.1", "192.31.196.80"), ("203.0.113.9", "10.1.2.3")):
            box.start(
                f"dnsmasq-{where}", "dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts",
                f"--listen-address={where}", "--bind-interfaces", "--pid-file",
                f"--host-record=host.corp.test,{address}",
                "--local=/test/", where=box.server,
            )  # fmt: skip
        box.start_control()
        box.start_dns64()

        def ask(*words: str) -> list[str]:
            done = box.client.run("dig", "+short", "+time=2", "+tries=1", *words, check=False)
            return [line for line in done.stdout.splitlines() if not line.startswith(";")]

        wait_for(lambda: ask("AAAA", "ipv4only.arpa") != [], "the front")
        wait_for(lambda: ask("A", "host.corp.test") != [], "the island's resolver")
        assert ask("AAAA", "host.corp.test") == ["2001:db8:1::a01:203"]
        assert ask("AAAA", "HOST.Corp.Test") == ["2001:db8:1::a01:203"]
        assert ask("-x", "2001:db8:1::a01:203") == ["3.2.1.10.in-addr.arpa.", "host.corp.test."]
        assert ask("AAAA", "ipv4only.arpa") == ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]
