"""The explicit proxy through programs that people use: wget, git, apt-get, pip, nc, ssh.

curl, which has every scheme, is in test_explicit.py; Python's libraries are in test_explicit_python.py.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import (
    BLACK_HOLE,
    BOX,
    FILES,
    NAME,
    SCHEMES,
    UNREACHABLE,
    box_certificate,
    run,
)
from tests.netns.hosts import sessions
from tests.netns.wares import (
    PACKAGES,
    apt_settings,
    git_environment,
    git_repository,
    package_repository,
    python_index,
)

pytestmark = [pytest.mark.netns, needs_root]

WRONG = f"http://alice:wrong@{BOX}:3131"


@pytest.fixture(scope="module")
def own(explicit_box: Box) -> Box:
    """The box that the tests of the explicit proxy share, with wares on its file server."""
    www = explicit_box.config.parents[1] / "www"
    git_repository(www)
    package_repository(www)
    python_index(www)
    return explicit_box


def trusted(box: Box) -> tuple[Path, Path]:
    """The certificates of the box and of the servers behind it."""
    assert box.server_certificate is not None
    return box_certificate(box), box.server_certificate


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where it is not installed: image/setup.sh does."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@needs("wget")
class TestWget:
    """HTTP proxies are all it has."""

    @staticmethod
    def wget(box: Box, url: str, proxy: str, *words: str) -> subprocess.CompletedProcess[str]:
        way = [f"--execute={kind}_proxy={proxy}" for kind in ("http", "https")]
        trust = f"--ca-certificate={box.server_certificate}"
        return run(box, "wget", "-nv", "-O", "-", "--tries=1", "--timeout=15", trust, *way, *words, url)

    @pytest.mark.parametrize("host", [NAME, SERVER, f"[{SERVER6}]"])
    @pytest.mark.parametrize("scheme", ["http", "auto-http", "user-http"])
    def test_fetches(self, own: Box, scheme: str, host: str) -> None:
        for secure in ("http", "https"):
            done = self.wget(own, f"{secure}://{host}/", SCHEMES[scheme])
            assert "from IPv4" in done.stdout, done.stdout
            assert done.returncode == 0

    @pytest.mark.parametrize(
        ("url", "proxy", "says"),
        [
            (f"http://{NAME}:82/", SCHEMES["http"], "ERROR 502: Bad Gateway"),
            (f"https://{NAME}:81/", SCHEMES["http"], "Proxy tunneling failed: Bad Gateway"),
            (f"https://{NAME}:23/", SCHEMES["http"], "Proxy tunneling failed: Forbidden"),
            (f"http://{UNREACHABLE}/", SCHEMES["http"], "ERROR 502: Bad Gateway"),
            ("http://none.example/", SCHEMES["http"], "ERROR 502: Bad Gateway"),
            (f"http://{NAME}/", WRONG, "ERROR 407: Proxy Authentication Required"),
            (f"https://{NAME}/", WRONG, "Proxy tunneling failed: Proxy Authentication Required"),
        ],
    )
    def test_says_what_went_wrong(self, own: Box, url: str, proxy: str, says: str) -> None:
        begun = time.monotonic()
        done = self.wget(own, url, proxy)
        assert says in done.stdout, done.stdout
        assert done.returncode in (4, 8), "network failure, or the server's error"
        assert time.monotonic() - begun < 3


@needs("git")
class TestGit:
    """libcurl's schemes, with requests that have bodies."""

    @staticmethod
    def git(
        box: Box, folder: Path, proxy: str, *words: str | Path, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        settings = {
            "http.proxy": proxy, "http.proxySSLCAInfo": box_certificate(box),
            "http.sslCAInfo": box.server_certificate, "http.postBuffer": 65_536,
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return run(box, "git", *options, *words, **git_environment(folder))

    @pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5h", "user-https", "user-socks5h"])
    def test_clones_and_pushes(self, own: Box, scheme: str, tmp_path: Path) -> None:
        # In TLS inside TLS, libcurl 7 with GnuTLS (Debian 12's git) may miss that it has the answer.
        for secure in ("http",) if scheme.endswith("https") else ("https", "http"):
            work = tmp_path / secure
            url = f"{secure}://{FILES}/git/tiny.git"
            done = self.git(own, tmp_path, SCHEMES[scheme], "clone", "-q", url, work)
            assert done.returncode == 0, done.stdout
            assert (work / "README").read_text() == "tiny\n"
        # More than postBuffer: the request comes in chunks, with Expect or without.
        (work / "large").write_bytes(os.urandom(500_000))
        for words in (
            ("add", "large"),
            ("commit", "-q", "-m", scheme),
            ("push", "-q", "origin", f"HEAD:{scheme}"),
        ):
            done = self.git(own, tmp_path, SCHEMES[scheme], "-C", work, *words)
            assert done.returncode == 0, done.stdout

    @pytest.mark.parametrize(
        ("url", "proxy", "says"),
        [
            (f"http://{FILES}:81/x", SCHEMES["http"], "502"),
            (f"https://{FILES}:81/x", SCHEMES["http"], "CONNECT tunnel failed, response 502"),
            (f"https://{FILES}:81/x", SCHEMES["socks5h"], "(5)"),
            (f"http://{UNREACHABLE}/x", SCHEMES["socks5h"], "(4)"),
            (f"http://{FILES}:81/x", SCHEMES["socks4a"], "request rejected or failed"),
            (f"http://{FILES}/git/tiny.git", WRONG, "407"),
            (f"http://{FILES}/git/tiny.git", WRONG.replace("http", "socks5h"), "rejected"),
        ],
    )
    def test_says_what_went_wrong(self, own: Box, url: str, proxy: str, says: str, tmp_path: Path) -> None:
        begun = time.monotonic()
        done = self.git(own, tmp_path, proxy, "clone", url, tmp_path / "work")
        assert done.returncode == 128
        assert says in done.stdout, done.stdout
        assert time.monotonic() - begun < 3


@needs("apt-get")
class TestApt:
    """A world of its own for apt-get; it sends ten requests ahead."""

    @staticmethod
    def apt(
        box: Box, root: Path, proxy: str, *words: str, source: str = f"http://{FILES}/apt"
    ) -> subprocess.CompletedProcess[str]:
        conf = apt_settings(
            root,
            source,
            f'Acquire::http::Proxy "{proxy}";',
            f'Acquire::https::CaInfo "{box_certificate(box)}";',
            "Acquire::http::Timeout 15;",
        )
        return run(box, "apt-get", *words, APT_CONFIG=str(conf))

    @pytest.mark.parametrize("scheme", ["http", "https", "socks5h", "user-http", "user-https"])
    def test_installs(self, own: Box, scheme: str, tmp_path: Path) -> None:
        root = tmp_path / "root"
        done = self.apt(own, root, SCHEMES[scheme], "update")
        assert "W:" not in done.stdout, done.stdout
        words = ("install", "-y", "--download-only", *PACKAGES)
        done = run(own, "apt-get", *words, APT_CONFIG=str(root / "apt.conf"))
        assert done.returncode == 0, done.stdout
        assert len(list((root / "archives").glob("tiny*.deb"))) == len(PACKAGES)

    @pytest.mark.parametrize(
        ("proxy", "source", "says"),
        [
            (SCHEMES["http"], f"http://{FILES}:81/apt", "502  Bad Gateway"),
            (SCHEMES["http"], f"http://{UNREACHABLE}/apt", "502  Bad Gateway"),
            (SCHEMES["socks5h"], f"http://{FILES}:81/apt", "Connection refused"),
            (SCHEMES["socks5h"], f"http://{UNREACHABLE}/apt", "Host unreachable"),
            (WRONG, f"http://{FILES}/apt", "407  Proxy Authentication Required"),
            (WRONG.replace("http", "socks5h"), f"http://{FILES}/apt", "username or password incorrect"),
        ],
    )
    def test_says_what_went_wrong(self, own: Box, proxy: str, source: str, says: str, tmp_path: Path) -> None:
        begun = time.monotonic()
        done = self.apt(own, tmp_path / "root", proxy, "update", source=source)
        assert says in done.stdout, done.stdout
        assert time.monotonic() - begun < 3


class TestPip:
    """The environment's own pip, with an index of one package."""

    @staticmethod
    def pip(box: Box, folder: Path, proxy: str, *words: str) -> subprocess.CompletedProcess[str]:
        trust = folder / "trust.pem"
        trust.write_bytes(b"".join(path.read_bytes() for path in trusted(box)))
        options = ("--no-cache-dir", "--no-deps", "--retries=0", "--timeout=15", "--cert", str(trust))
        settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        pip = (sys.executable, "-m", "pip", "download", "-d", folder, "--trusted-host", FILES)
        return run(box, *pip, *options, "--proxy", proxy, *words, **settings)

    @pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5h", "user-https", "user-socks5h"])
    def test_downloads(self, own: Box, scheme: str, tmp_path: Path) -> None:
        secure = "http" if scheme in ("http", "socks4a") else "https"
        done = self.pip(own, tmp_path, SCHEMES[scheme], "--index-url", f"{secure}://{FILES}/simple/", "tiny")
        assert done.returncode == 0, done.stdout
        assert [path.name for path in tmp_path.glob("*.whl")] == ["tiny-1.0-py3-none-any.whl"]

    @pytest.mark.parametrize(
        ("proxy", "url", "says"),
        [
            (SCHEMES["http"], f"https://{FILES}:81/", "Tunnel connection failed: 502 Bad Gateway"),
            (SCHEMES["socks5h"], f"https://{FILES}:81/", "Connection refused"),
            (WRONG, f"https://{FILES}/simple/", "407 Proxy Authentication Required"),
        ],
    )
    def test_says_what_went_wrong(self, own: Box, proxy: str, url: str, says: str, tmp_path: Path) -> None:
        done = self.pip(own, tmp_path, proxy, f"{url}tiny-1.0-py3-none-any.whl")
        assert done.returncode in (1, 2)
        assert says in done.stdout, done.stdout


@needs("nc")
class TestNetcat:
    """OpenBSD's, which ssh uses to go through proxies."""

    WAYS = (
        ("connect", "3128"),
        ("5", "1080"),
        ("4", "1080"),
        ("connect", "8080"),
        ("5", "8080"),
        ("4", "8080"),
    )

    @pytest.mark.parametrize(("speaks", "port"), WAYS)
    def test_sends_and_gets(self, own: Box, speaks: str, port: str, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.write_bytes(os.urandom(300_000))
        nc = f"nc -N -w 10 -X {speaks} -x {BOX}:{port}"
        for host in (SERVER,) if speaks == "4" else (SERVER, NAME, SERVER6):
            done = run(own, "sh", "-c", f"{nc} {host} 7002 < {data}")
            assert done.stdout == hashlib.sha256(data.read_bytes()).hexdigest()

    @pytest.mark.parametrize(
        ("speaks", "port", "says"),
        [
            ("connect", "3128", 'Proxy error: "HTTP/1.1 502 Bad Gateway"'),
            ("5", "1080", "Connection refused"),
            ("4", "1080", "SOCKSv4 error: Request rejected or failed"),
        ],
    )
    def test_says_what_went_wrong(self, own: Box, speaks: str, port: str, says: str) -> None:
        done = run(own, "nc", "-w", "5", "-X", speaks, "-x", f"{BOX}:{port}", SERVER, "81")
        assert says in done.stdout, done.stdout
        assert done.returncode == 1

    @needs("ssh")
    @needs("dropbear")
    @pytest.mark.parametrize(("speaks", "port"), WAYS[:3])
    def test_carries_ssh(self, own: Box, ssh_server: Path, speaks: str, port: str) -> None:
        host = SERVER if speaks == "4" else NAME
        done = run(
            own, "ssh", "-F", "none", "-i", ssh_server / "key", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={ssh_server}/known_hosts", "-o", "HostKeyAlias=server",
            "-o", f"ProxyCommand=nc -X {speaks} -x {BOX}:{port} %h %p", f"root@{host}",
            "echo $SSH_CONNECTION",
        )  # fmt: skip
        assert done.stdout.startswith("203.0.113.2 "), done.stdout


@pytest.fixture(scope="module")
def ssh_server(own: Box, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server that lets root in by a key; its folder, with the client's files."""
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("key", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    convert = ("dropbearconvert", "openssh", "dropbear", folder / "host", folder / "dropbear")
    subprocess.run(convert, check=True, capture_output=True)
    (folder / "known_hosts").write_text("server " + (folder / "host.pub").read_text())
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "authorized_keys").write_text((folder / "key.pub").read_text())
    for path in (home, home / ".ssh"):
        path.chmod(0o700)
    # It looks into root's home: a folder of ours, as far as it can see.
    own.start(
        "ssh", "unshare", "-m", "sh", "-c",
        f'mount --bind {home} ~root && exec dropbear -F -E -s -r {folder}/dropbear -p {SERVER}:22 -P ""',
        where=own.server,
    )  # fmt: skip
    wait_for(lambda: "Not backgrounding" in own.log("ssh"), f"the ssh server\n{own.log('ssh')}")
    return folder


def test_what_nobody_answers_is_told_in_time(own: Box, tmp_path: Path) -> None:
    """All clients at once, each for itself: the box waits four seconds here (proxy.timers.dial)."""
    url = f"http://{BLACK_HOLE}/"
    ways: dict[str, tuple[Callable[[], subprocess.CompletedProcess[str]], str]] = {
        "wget": (
            lambda: TestWget.wget(own, f"https://{BLACK_HOLE}/", SCHEMES["http"]),
            "Proxy tunneling failed: Gateway Timeout",
        ),
        "git": (lambda: TestGit.git(own, tmp_path, SCHEMES["http"], "clone", url, tmp_path / "a"), "504"),
        "git-socks": (
            lambda: TestGit.git(own, tmp_path, SCHEMES["socks5h"], "clone", url, tmp_path / "b"),
            "(4)",
        ),
        "apt": (
            lambda: TestApt.apt(own, tmp_path / "c", SCHEMES["http"], "update", source=url),
            "504  Gateway Timeout",
        ),
        "pip": (
            lambda: TestPip.pip(
                own, tmp_path, SCHEMES["http"], f"https://{BLACK_HOLE}/tiny-1.0-py3-none-any.whl"
            ),
            "504 Gateway Timeout",
        ),
        "nc": (
            lambda: run(own, "nc", "-w", "9", "-X", "5", "-x", f"{BOX}:1080", BLACK_HOLE, "80"),
            "Host unreachable",
        ),
    }

    def ask(name: str) -> None:
        begun = time.monotonic()
        said = ways[name][0]().stdout
        assert ways[name][1] in said, f"{name}: {said}"
        assert 3 < time.monotonic() - begun < 9, name

    with ThreadPoolExecutor(len(ways)) as pool:
        list(pool.map(ask, (name for name in ways if shutil.which(name.partition("-")[0]) or name == "pip")))


def test_nothing_stays_behind(own: Box) -> None:
    wait_for(lambda: sessions(own)["total"] == 0, "the end of all sessions", 5)
