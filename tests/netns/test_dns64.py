"""The real isthmus-dns64 between the real dig and the real unbound, all on loopback.

dig ---- [::1]:front isthmus-dns64 ---- 127.0.0.1:back unbound (zone "test")
                                   |--- 127.0.0.1:judge an unbound that validates: ZONES
                                   `--- 127.0.0.1:odd  a server that errs on purpose
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
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import dns.dnssec
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.session.asked import FILE, AskedNames
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


VALIDATOR = """\
server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1@{port}
  do-ip6: no
  module-config: "validator iterator"
  trust-anchor: "signed.test. {anchor}"
  trust-anchor: "bogus.test. {anchor}"
  local-zone: "test." nodefault
{zones}
"""
AUTHORITY = """\
auth-zone:
  name: "{name}"
  zonefile: "{name}.zone"
  for-downstream: no
  for-upstream: yes
"""
HEAD = """\
$TTL 900
@ IN SOA ns root 1 3600 600 86400 120
@ IN NS ns
ns IN A 192.31.196.1
"""
ZONES = {
    "chain.test": "one 70 IN CNAME two\ntwo 80 IN CNAME host\nhost 900 IN A 192.31.196.80\n"
    "real 70 IN CNAME six\nsix IN AAAA 2001:db8::6\nsix IN A 192.31.196.80\n"
    "lost 70 IN CNAME nowhere\nfar 70 IN CNAME v4.signed.test.\n"
    "old 90 IN DNAME new\nhost.new 900 IN A 192.31.196.81\n",
    "signed.test": "v4 IN A 192.31.196.80\nv6 IN AAAA 2001:db8::6\nboth IN CNAME v4\n",
    "bogus.test": "v4 IN A 192.31.196.80\n",
}


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
            "--runtime",
            str(folder / f"run-{port}"),
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


def start_unbound(folder: Path, port: int, configuration: str) -> subprocess.Popen[str]:
    path = folder / "unbound.conf"
    path.write_text(configuration)
    command = [str(unguarded("unbound", folder)), "-d", "-c", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, "unbound did not start"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("unbound")
    port = free_port()
    many = "".join(f'  local-data: "some.test. 900 IN A 192.31.196.{i}"\n' for i in range(20))
    many += "\n".join(f'  local-data: "many.test. 900 IN A 192.31.{i // 250}.{i % 250}"' for i in range(400))
    process = start_unbound(folder, port, UNBOUND.format(folder=folder, port=port, many=many))
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


def test_the_data_path_is_told_who_asked_for_which_name(back: int, tmp_path: Path) -> None:
    port, process = start_front(tmp_path, back)
    try:
        names = AskedNames(tmp_path / f"run-{port}" / "dns64" / FILE)
        client, address = ip_address("::1").packed, ip_address("64:ff9b::c01f:c450").packed
        now = time.monotonic()
        for words in (("AAAA", "V4.test"), ("+tcp", "AAAA", "v4.test")):
            assert short(port, *words) == ["64:ff9b::c01f:c450"]
            now += 1
            assert names.lookup(client, address, now) == "v4.test"
        short(port, "A", "v4.test")
        assert names.lookup(client, ip_address("::ffff:192.31.196.80").packed, now) == "v4.test"
        assert names.lookup(address, client, now) == ""
        assert (tmp_path / f"run-{port}" / "dns64" / FILE).stat().st_mode & 0o777 == 0o640
    finally:
        stop(process)


def test_a_front_that_cannot_write_answers_all_the_same(back: int, tmp_path: Path) -> None:
    first, one = start_front(tmp_path, back)
    (tmp_path / "taken").symlink_to(tmp_path / f"run-{first}")
    port = free_port()
    words = ["--listen", "::1", "--port", str(port), "--upstream", f"127.0.0.1:{back}"]
    words += ["--config", str(tmp_path / f"config-{back}-3.toml"), "--runtime", str(tmp_path / "taken")]
    with subprocess.Popen([FRONT, *words], stderr=subprocess.PIPE, text=True) as second:
        try:
            assert second.stderr is not None
            line = second.stderr.readline()
            assert "sessions will not be known by the names that were asked for" in line
            assert "listening" in second.stderr.readline()
            assert short(port, "AAAA", "v4.test") == ["64:ff9b::c01f:c450"]
        finally:
            second.terminate()
            stop(one)


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
        ["unshare", "-n", "sh", "-c", script, "sh", FRONT, "--config", str(path), "--runtime", str(tmp_path)],
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


def sign(path: Path, origin: str) -> str:
    """Sign the zone in place with a new key, and give its DS record's data."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(key.public_key(), "ECDSAP256SHA256", flags=257)
    zone = dns.zone.from_file(str(path), origin, relativize=False)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(zone, transaction, keys=[(key, public)], lifetime=86_400)
    zone.to_file(str(path), relativize=False)
    return str(dns.dnssec.make_ds(origin, public, "SHA256"))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A front whose unbound validates; it knows another key for "bogus.test" than that is signed with."""
    folder = tmp_path_factory.mktemp("judge")
    for name, records in ZONES.items():
        (folder / f"{name}.zone").write_text(f"$ORIGIN {name}.\n{HEAD}{records}")
    anchor = "DS " + sign(folder / "signed.test.zone", "signed.test.")
    sign(folder / "bogus.test.zone", "bogus.test.")
    zones = "".join(AUTHORITY.format(name=name) for name in ZONES)
    port = free_port()
    unbound = start_unbound(
        folder, port, VALIDATOR.format(folder=folder, port=port, anchor=anchor, zones=zones)
    )
    front, process = start_front(folder, port)
    yield front
    assert stop(process) == 0
    stop(unbound)


def answer_rows(found: str) -> list[list[str]]:
    """The answer section's records: name, TTL, type, data; signatures left out."""
    section = found.partition("ANSWER SECTION:\n")[2].partition("\n\n")[0]
    fields = [line.split(None, 4) for line in section.splitlines()]
    return [[name, ttl, rtype, data] for name, ttl, _class, rtype, data in fields if rtype != "RRSIG"]


def test_chains_of_a_real_resolver(judged: int) -> None:
    """RFC 6147 section 5.1.5: the whole chain is there, in its order, each record with its own TTL."""
    assert answer_rows(dig(judged, "AAAA", "one.chain.test")) == [
        ["one.chain.test.", "70", "CNAME", "two.chain.test."],
        ["two.chain.test.", "80", "CNAME", "host.chain.test."],
        ["host.chain.test.", "120", "AAAA", "64:ff9b::c01f:c450"],
    ]
    # unbound gives the CNAME that it makes of a DNAME a TTL of 0 or of 90.
    under_a_dname = answer_rows(dig(judged, "AAAA", "host.old.chain.test"))
    assert [[name, rtype, data] for name, _ttl, rtype, data in under_a_dname] == [
        ["old.chain.test.", "DNAME", "new.chain.test."],
        ["host.old.chain.test.", "CNAME", "host.new.chain.test."],
        ["host.new.chain.test.", "AAAA", "64:ff9b::c01f:c451"],
    ]
    assert short(judged, "AAAA", "real.chain.test") == ["2001:db8::6", "six.chain.test."]
    assert short(judged, "AAAA", "far.chain.test") == ["64:ff9b::c01f:c450", "v4.signed.test."]
    lost = dig(judged, "AAAA", "lost.chain.test")
    assert "status: NXDOMAIN" in lost
    assert answer_rows(lost) == [["lost.chain.test.", "70", "CNAME", "nowhere.chain.test."]]


def flags(found: str) -> set[str]:
    return set(found.partition("flags:")[2].partition(";")[0].split())


def test_signed_names_with_a_real_validator(judged: int) -> None:
    """RFC 6147 section 5.5."""
    real = dig(judged, "+dnssec", "AAAA", "v6.signed.test")
    assert "ad" in flags(real) and "RRSIG" in real
    for name, aaaa in (("v4", "64:ff9b::c01f:c450"), ("both", "64:ff9b::c01f:c450")):
        for words in (["+noadflag"], ["+adflag"], ["+dnssec"], ["+cdflag"]):
            found = dig(judged, *words, "AAAA", f"{name}.signed.test")
            assert answer_rows(found)[-1][2:] == ["AAAA", aaaa], words
            assert "ad" not in flags(found), words
            assert "RRSIG AAAA" not in found
        assert "ad" in flags(dig(judged, "+dnssec", "A", f"{name}.signed.test"))
        asked_by_a_validator = dig(judged, "+dnssec", "+cdflag", "AAAA", f"{name}.signed.test")
        assert aaaa not in asked_by_a_validator
        assert "NSEC" in asked_by_a_validator, "the proof that there is no AAAA"


def test_bogus_names_with_a_real_validator(judged: int) -> None:
    for words in ([], ["+dnssec"]):
        assert "status: SERVFAIL" in dig(judged, *words, "AAAA", "v4.bogus.test")
    # Who does not want validation gets what an unsigned name gets; who validates, nothing of ours.
    assert short(judged, "+cdflag", "AAAA", "v4.bogus.test") == ["64:ff9b::c01f:c450"]
    assert short(judged, "+dnssec", "+cdflag", "AAAA", "v4.bogus.test") == []


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

    def end(self) -> None:
        """Stop answering."""
        self.socket.sendto(bytes(12), ("127.0.0.1", self.port))
        self.join(5)
        self.socket.close()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    server = Odd()
    server.start()
    port, process = start_front(tmp_path_factory.mktemp("odd"), server.port)
    yield port
    assert stop(process) == 0
    server.end()


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


def test_a_question_on_its_way_outlives_a_new_configuration(tmp_path: Path) -> None:
    """AAAA is being waited for while SIGHUP comes: the answer comes, by the rules it was asked under."""
    server = Odd()
    server.start()
    port, process = start_front(tmp_path, server.port)
    path = next(tmp_path.glob("config-*.toml"))
    assert process.stderr is not None
    try:
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(short, port, *words, "AAAA", "silent.example") for words in ([], ["+tcp"])]
            time.sleep(0.5)
            path.write_text('schema_version = 1\n[[translation]]\nprefix = "2001:db8:64::/96"\n')
            process.send_signal(signal.SIGHUP)
            assert "read anew" in process.stderr.readline()
            assert not any(question.done() for question in waiting)
            waiting.append(pool.submit(short, port, "AAAA", "silent.example"))
            answers = [question.result() for question in waiting]
        old, new = ["64:ff9b::c01f:c450"], ["2001:db8:64::c01f:c450"]
        assert answers == [old, old, new]
        assert short(port, "AAAA", "silent.example") == new
    finally:
        assert stop(process) == 0
        server.end()


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ("[dns", "this is no TOML"),
        ('[dns]\nupstreams = ["::1"]\n', "dns.upstreams"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("\udcff", "is not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_every_bad_configuration_is_refused_in_words(
    back: int, tmp_path: Path, bad: str | None, word: str
) -> None:
    port, process = start_front(tmp_path, back)
    path = next(tmp_path.glob("config-*.toml"))
    try:
        path.unlink()
        if bad is not None:
            path.write_text(bad, errors="surrogateescape")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        told = process.stderr.readline() + process.stderr.readline()
        assert "the old configuration stays" in told and word in told
        assert short(port, "AAAA", "v4.test") == ["64:ff9b::c01f:c450"]
    finally:
        assert stop(process) == 0


def test_a_signal_while_the_first_configuration_is_read_waits(back: int, tmp_path: Path) -> None:
    """The file is a pipe, so that the front is known to be reading it."""
    path = tmp_path / "config.toml"
    os.mkfifo(path)
    port = free_port()
    process = subprocess.Popen(
        [
            FRONT,
            "--runtime",
            str(tmp_path),
            "--config",
            path,
            "--listen",
            "::1",
            "--port",
            str(port),
            "--upstream",
            f"127.0.0.1:{back}",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        with path.open("w") as stream:
            process.send_signal(signal.SIGHUP)
            newer = tmp_path / "newer.toml"
            newer.write_text('schema_version = 1\n[[translation]]\nprefix = "2001:db8:64::/96"\n')
            newer.rename(path)
            stream.write("schema_version = 1\n")
        assert "listening" in process.stderr.readline()
        assert "read anew" in process.stderr.readline()
        assert short(port, "AAAA", "v4.test") == ["2001:db8:64::c01f:c450"]
    finally:
        assert stop(process) == 0


def test_a_small_client_is_told_to_come_by_tcp(front: int) -> None:
    """Its size counts, not ours: 20 addresses fit into 1232 octets and not into 512."""
    for words in (["+noedns"], ["+bufsize=512"]):
        assert "tc" in flags(dig(front, "+ignore", *words, "AAAA", "some.test"))
        assert len(short(front, *words, "AAAA", "some.test")) == 20
    found = dig(front, "+ignore", "+bufsize=1232", "AAAA", "some.test")
    assert "tc" not in flags(found) and len(answer_rows(found)) == 20


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
