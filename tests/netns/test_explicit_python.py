"""The explicit proxy through Python's libraries: requests, httpx, aiohttp, PySocks, python-socks.

They run in this process, on a thread that is inside the client's namespace.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import unquote, urlsplit

import aiohttp
import httpx
import pytest
import requests
import socks
from python_socks.sync import Proxy

from tests.netns.conftest import SERVER, SERVER6, Box, needs_root, wait_for
from tests.netns.explicit import (
    BLACK_HOLE,
    BOX,
    NAME,
    SCHEMES,
    UNREACHABLE,
    box_certificate,
)
from tests.netns.hosts import sessions

pytestmark = [
    pytest.mark.netns,
    needs_root,
    # Some of the libraries leave what failed to the collector to close.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TIMEOUT = 15.0
WANTED = {"hello": "from IPv4", "peer": "203.0.113.2"}
Fetch = Callable[[Box, str, str], object]


@pytest.fixture(scope="module")
def own(explicit_box: Box) -> Box:
    """The box that the tests of the explicit proxy share."""
    return explicit_box


def trust(box: Box) -> ssl.SSLContext:
    """Believes the box and the servers behind it."""
    assert box.server_certificate is not None
    context = ssl.create_default_context(cafile=box.server_certificate)
    context.load_verify_locations(box_certificate(box))
    return context


def by_requests(box: Box, proxy: str, url: str) -> object:
    """requests, with PySocks under it."""
    bundle = box.config.parents[1] / "trusted.pem"
    assert box.server_certificate is not None
    bundle.write_bytes(box_certificate(box).read_bytes() + box.server_certificate.read_bytes())
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": proxy, "https": proxy}
        with session.get(url, timeout=TIMEOUT, verify=str(bundle)) as response:
            response.raise_for_status()
            return response.json()


def by_httpx(box: Box, proxy: str, url: str) -> object:
    """httpx, with socksio under it."""
    context = trust(box)
    way = httpx.Proxy(proxy, ssl_context=context if proxy.startswith("https") else None)
    with httpx.Client(proxy=way, verify=context, timeout=TIMEOUT, trust_env=False) as client:
        return client.get(url).raise_for_status().json()


def by_aiohttp(box: Box, proxy: str, url: str) -> object:
    """aiohttp, which has HTTP proxies."""

    async def ask() -> object:
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session,
            session.get(url, proxy=proxy, ssl=trust(box)) as response,
        ):
            return await response.json()

    try:
        return asyncio.run(ask())
    finally:
        gc.collect()  # it leaves connections of TLS inside TLS, and refused ones, to the collector


def over(box: Box, sock: socket.socket, url: str) -> object:
    """GET over a connected socket."""
    parts = urlsplit(url)
    with sock:
        if parts.scheme == "https":
            sock = trust(box).wrap_socket(sock, server_hostname=parts.hostname)
        with sock:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while got := sock.recv(65_536):
                data += got
    return json.loads(data.partition(b"\r\n\r\n")[2])


def port_of(url: str) -> int:
    """What the URL says, or its scheme's own."""
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def by_pysocks(box: Box, proxy: str, url: str) -> object:
    """PySocks itself."""
    way = urlsplit(proxy)
    kind = {"http": socks.HTTP, "socks4": socks.SOCKS4, "socks5": socks.SOCKS5}[way.scheme.rstrip("ah")]
    sock = socks.create_connection(
        (urlsplit(url).hostname, port_of(url)), timeout=TIMEOUT, proxy_type=kind,
        proxy_addr=way.hostname, proxy_port=way.port, proxy_rdns=way.scheme[-1] in "ahp",
        proxy_username=unquote(way.username) if way.username else None,
        proxy_password=unquote(way.password) if way.password else None,
    )  # fmt: skip
    return over(box, sock, url)


def by_python_socks(box: Box, proxy: str, url: str) -> object:
    """python-socks."""
    way = Proxy.from_url(
        proxy.replace("5h:", "5:").replace("4a:", "4:"), rdns=urlsplit(proxy).scheme[-1] in "ah"
    )
    host = urlsplit(url).hostname
    assert host is not None
    return over(box, way.connect(host, port_of(url), timeout=TIMEOUT), url)


CLIENTS: dict[str, tuple[Fetch, tuple[str, ...]]] = {
    "requests": (by_requests, tuple(SCHEMES)),
    "httpx": (by_httpx, tuple(name for name in SCHEMES if "socks4" not in name)),
    "aiohttp": (by_aiohttp, ("http", "https", "auto-http", "auto-https", "user-http", "user-https")),
    "PySocks": (by_pysocks, tuple(name for name in SCHEMES if "https" not in name)),
    "python-socks": (by_python_socks, tuple(name for name in SCHEMES if "https" not in name)),
}
# Where it is the client that looks a name up it finds none, here; httpx always leaves that to the proxy.
LOOKS_UP = ("socks4", "socks5", "user-socks5")


def hosts(client: str, scheme: str) -> list[str]:
    """What this client can ask for by this scheme."""
    found = [SERVER]
    if scheme not in LOOKS_UP or client == "httpx":
        found.insert(0, NAME)
    if "socks4" not in scheme:
        found.append(f"[{SERVER6}]")
    return found


CASES = [(client, scheme) for client, (_fetch, schemes) in CLIENTS.items() for scheme in schemes]


def urls(client: str, scheme: str) -> Iterator[str]:
    """What to fetch: all that the client can say to a proxy of this kind."""
    tunnels_all = client in ("PySocks", "python-socks")  # whose HTTP is CONNECT, and not to port 80
    http = scheme.endswith(("http", "https"))
    for host in hosts(client, scheme):
        for secure in ("https",) if http and tunnels_all else ("http", "https"):
            # httpx takes the brackets off an address that it asks the proxy for.
            if not (http and client == "httpx" and secure == "http" and "[" in host):
                yield f"{secure}://{host}/"


# requests takes no trust for the proxy where the URL itself is of http.
@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize(("client", "scheme"), CASES, ids=[f"{c}-{s}" for c, s in CASES])
def test_fetches(own: Box, client: str, scheme: str) -> None:
    fetch = CLIENTS[client][0]
    for url in urls(client, scheme):
        assert own.client.call(partial(fetch, own, SCHEMES[scheme], url)) == WANTED, url


WRONG = f"//alice:wrong@{BOX}:3131"
# What each client says of each failure: by its HTTP proxy, and by SOCKS 5. The first three URLs are for all.
REFUSED, UNROUTED, NOT_ALLOWED = f"https://{NAME}:81/", f"https://{UNREACHABLE}/", f"https://{NAME}:23/"
NOBODY = "https://none.example/"
ERRORS: dict[str, dict[str, tuple[str, str]]] = {
    "requests": {
        REFUSED: ("Tunnel connection failed: 502 Bad Gateway", "0x05: Connection refused"),
        UNROUTED: ("Tunnel connection failed: 502 Bad Gateway", "0x04: Host unreachable"),
        NOT_ALLOWED: ("Tunnel connection failed: 403 Forbidden", ""),
        NOBODY: ("Tunnel connection failed: 502 Bad Gateway", "0x04: Host unreachable"),
        WRONG: ("Tunnel connection failed: 407 Proxy Authentication", "SOCKS5 authentication failed"),
    },
    "httpx": {
        REFUSED: ("502 Bad Gateway", "Connection refused"),
        UNROUTED: ("502 Bad Gateway", "Host unreachable"),
        NOT_ALLOWED: ("403 Forbidden", ""),
        NOBODY: ("502 Bad Gateway", "Host unreachable"),
        WRONG: ("407 Proxy Authentication Required", "Invalid username/password"),
    },
    "aiohttp": {
        REFUSED: ("502, message='Bad Gateway'", ""),
        UNROUTED: ("502, message='Bad Gateway'", ""),
        NOT_ALLOWED: ("403, message='Forbidden'", ""),
        NOBODY: ("502, message='Bad Gateway'", ""),
        WRONG: ("407, message='Proxy Authentication Required'", ""),
    },
    "PySocks": {
        REFUSED: ("502: Bad Gateway", "0x05: Connection refused"),
        UNROUTED: ("502: Bad Gateway", "0x04: Host unreachable"),
        NOT_ALLOWED: ("403: Forbidden", ""),
        NOBODY: ("502: Bad Gateway", "0x04: Host unreachable"),
        WRONG: ("407: Proxy Authentication Required", "SOCKS5 authentication failed"),
    },
    "python-socks": {
        REFUSED: ("502 Bad Gateway", "Connection refused"),
        UNROUTED: ("502 Bad Gateway", "Host unreachable"),
        NOT_ALLOWED: ("403 Forbidden", ""),
        NOBODY: ("502 Bad Gateway", "Host unreachable"),
        WRONG: ("407 Proxy Authentication Required", "Username and password authentication failure"),
    },
}
FAILURES = [
    (client, scheme, url)
    for client, errors in ERRORS.items()
    for url, said in errors.items()
    for scheme in ("http", "socks5h")[: 1 + bool(said[1])]
]


@pytest.mark.parametrize(("client", "scheme", "url"), FAILURES)
def test_says_what_went_wrong(own: Box, client: str, scheme: str, url: str) -> None:
    says = ERRORS[client][url][scheme == "socks5h"]
    proxy = SCHEMES[scheme]
    if url == WRONG:
        proxy, url = f"{scheme}:{WRONG}", f"https://{NAME}/"
    begun = time.monotonic()
    with pytest.raises(Exception) as caught:
        own.client.call(partial(CLIENTS[client][0], own, proxy, url))
    assert says in str(caught.value)
    assert time.monotonic() - begun < 3


def test_what_nobody_answers_is_told_in_time(own: Box) -> None:
    """All at once: the box waits four seconds here (proxy.timers.dial)."""
    url = f"https://{BLACK_HOLE}/"

    def ask(case: tuple[str, str, str]) -> None:
        client, scheme, says = case
        begun = time.monotonic()
        with pytest.raises(Exception) as caught:
            own.client.call(partial(CLIENTS[client][0], own, SCHEMES[scheme], url))
        assert says in str(caught.value)
        assert 3 < time.monotonic() - begun < 9, client

    cases = [(client, "http", "504") for client in CLIENTS]
    cases += [(client, "socks5h", ERRORS[client][UNROUTED][1]) for client in CLIENTS if client != "aiohttp"]
    with ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(ask, cases))


def test_nothing_stays_behind(own: Box) -> None:
    wait_for(lambda: sessions(own)["total"] == 0, "the end of all sessions", 5)
