"""Real clients through the whole box by hand: dig, curl, chronyd, with names from the DNS64 front."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.netns import stop, unguarded
from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for

pytestmark = [pytest.mark.netns, needs_root]

DNSMASQ = """\
no-resolv
no-hosts
listen-address=203.0.113.1
bind-interfaces
address=/ipv4.example/192.31.196.80
local=/ipv4.example/
"""
CHRONY = """\
local stratum 3
allow all
bindaddress 192.31.196.80
cmdport 0
pidfile {folder}/chronyd.pid
driftfile {folder}/drift
"""


@pytest.fixture(scope="module")
def named(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """The box with its DNS, a DNS server on the WAN, a web server and a time server behind it."""
    folder = tmp_path_factory.mktemp("servers")
    (folder / "dnsmasq.conf").write_text(DNSMASQ)
    (folder / "chrony.conf").write_text(CHRONY.format(folder=folder))
    www = folder / "www"
    www.mkdir()
    (www / "index.html").write_text("four\n")
    (www / "large").write_bytes(hashlib.sha256(b"x").digest() * (1 << 20))
    tls = folder / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", tls, "-out", folder / "server.crt", "-subj", "/CN=ipv4.example",
         "-addext", "subjectAltName=DNS:ipv4.example", "-days", "2"],
        check=True, capture_output=True,
    )  # fmt: skip
    box.start("dnsmasq", "dnsmasq", "-k", "--pid-file", "-C", folder / "dnsmasq.conf", where=box.server)
    box.processes["http"] = box.server.spawn(
        "python3", "-m", "http.server", "80", "--bind", SERVER, "--directory", www, log=subprocess.DEVNULL
    )
    box.processes["https"] = box.server.spawn(
        "openssl", "s_server", "-accept", f"{SERVER}:443", "-cert", folder / "server.crt",
        "-key", tls, "-WWW", "-quiet", log=subprocess.DEVNULL, cwd=www,
    )  # fmt: skip
    box.start(
        "chrony", unguarded("chronyd", folder), "-d", "-x", "-f", folder / "chrony.conf", where=box.server
    )
    box.start_dns64()
    ask = ("dig", "+short", "+time=1", "+tries=1", "AAAA", "ipv4.example")
    wait_for(lambda: "c01f:c450" in box.client.run(*ask, check=False).stdout, "a synthesised address")
    box.server_certificate = folder / "server.crt"
    yield box


def curl(box: Box, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """curl inside the client."""
    return box.client.run("curl", "-sS", "--max-time", "20", *words, check=False)


def test_dig_sees_synthesis_and_the_discovery_name(named: Box) -> None:
    assert named.client.run("dig", "+short", "AAAA", "ipv4.example").stdout.strip() == SERVER6
    found = named.client.run("dig", "+short", "AAAA", "ipv4only.arpa").stdout.split()
    assert sorted(found) == ["64:ff9b::c000:aa", "64:ff9b::c000:ab"]


def test_http(named: Box) -> None:
    assert curl(named, "http://ipv4.example/").stdout == "four\n"


def test_https(named: Box) -> None:
    assert named.server_certificate is not None
    done = curl(named, "--cacert", named.server_certificate, "https://ipv4.example/index.html")
    assert done.stdout == "four\n", done


def test_large_download(named: Box, tmp_path: Path) -> None:
    done = curl(named, "-o", tmp_path / "large", "http://ipv4.example/large")
    assert done.returncode == 0, done.stdout
    wanted = hashlib.sha256(hashlib.sha256(b"x").digest() * (1 << 20)).hexdigest()
    assert hashlib.sha256((tmp_path / "large").read_bytes()).hexdigest() == wanted


def test_closed_port_is_refused(named: Box) -> None:
    done = curl(named, "-w", "%{time_total}", "http://ipv4.example:81/")
    assert done.returncode == 7
    assert float(done.stdout.split()[-1]) < 1


def test_chronyd_sets_a_pc_by_an_ipv4_time_server(named: Box, tmp_path: Path) -> None:
    config = tmp_path / "client.conf"
    config.write_text(f"server ipv4.example iburst\npidfile {tmp_path}/pid\ncmdport 0\n")
    done = named.client.run(unguarded("chronyd", tmp_path), "-Q", "-t", "15", "-f", config, check=False)
    assert "System clock wrong by" in done.stdout, done.stdout


def test_nothing_answers_on_the_wan(named: Box) -> None:
    ask = ("dig", "+time=1", "+tries=1", "@203.0.113.2", "ipv4.example")
    assert named.server.run(*ask, check=False).returncode != 0
    done = named.server.run("curl", "-sS", "--max-time", "2", "https://203.0.113.2/", check=False)
    assert done.returncode == 28, done.stdout  # silence, not a refusal


class TestUpstreams:
    """Resolvers of the WAN that do not answer."""

    @pytest.fixture
    def asking(self, named: Box) -> Iterator[Box]:
        """The box's resolver is started anew with what control writes, and as before afterwards."""
        before = named.config.read_text()
        named.server.run("ip", "addr", "add", "203.0.113.9/24", "dev", "eth0")  # nobody answers there
        yield named
        named.server.run("ip", "addr", "del", "203.0.113.9/24", "dev", "eth0")
        use_upstreams(named, before)

    @staticmethod
    def ask(box: Box, name: str) -> tuple[str, float]:
        """dig's status for a name, and the seconds it took."""
        begun = time.monotonic()
        done = box.client.run("dig", "+tries=1", "+time=10", "AAAA", name, check=False)
        return done.stdout, time.monotonic() - begun

    def test_the_second_one_takes_over(self, asking: Box) -> None:
        use_upstreams(
            asking, asking.config.read_text().replace('["203.0.113.1"]', '["203.0.113.9", "203.0.113.1"]')
        )
        for number in range(3):
            answer, seconds = self.ask(asking, f"n{number}.ipv4.example")
            assert "64:ff9b::c01f:c450" in answer, answer
            assert seconds < 2, "requirements: within 2 s"

    def test_without_any_there_is_an_error_in_time(self, asking: Box) -> None:
        use_upstreams(asking, asking.config.read_text().replace('["203.0.113.1"]', '["203.0.113.9"]'))
        answer, seconds = self.ask(asking, "dead.ipv4.example")
        assert "SERVFAIL" in answer, answer
        assert seconds < 5, "requirements: within 5 s"


def use_upstreams(box: Box, config: str) -> None:
    """Write the configuration, let control take it up, and restart the resolver as systemd would."""
    box.config.write_text(config)
    path = box.runtime / "unbound.conf"
    before = path.read_text()
    box.processes["control"].send_signal(signal.SIGHUP)
    wait_for(lambda: path.read_text() != before, "control's new unbound.conf", 10)
    stop(box.processes["unbound"])
    box.start("unbound", unguarded("unbound", box.state), "-d", "-c", path)
    wait_for(
        lambda: "NOERROR" in box.box.run("dig", "-p", "5335", "@127.0.0.1", "localhost", check=False).stdout,
        "unbound",
        10,
    )
