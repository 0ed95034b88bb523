"""IPv6 servers of the LAN, for the tests of published services: python -m tests.netns.lan_servers FOLDER."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

ADDRESSES = ("fd00:1::2", "fd00:1::3")


def _tcp(address: str) -> None:
    """Who talks to whom, then everything that comes, to the client's half-close."""
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 9001))
    listener.listen(1024)
    while True:
        connection, peer = listener.accept()
        threading.Thread(target=_answer, args=(connection, address, peer[0]), daemon=True).start()


def _answer(connection: socket.socket, address: str, peer: str) -> None:
    connection.settimeout(30)
    try:
        with connection:
            content = bytearray(f"{address} from {peer}: ".encode())
            while data := connection.recv(1 << 18):
                content += data
            connection.sendall(content)
    except OSError:
        return


def _udp(address: str) -> None:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind((address, 9101))
    while True:
        data, peer = sock.recvfrom(65_535)
        sock.sendto(f"{address} from {peer[0]}: ".encode() + data, peer)


class _Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    scheme = "http"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802 - the library's spelling
        assert isinstance(self.server, _Server)
        body = f"{self.server.server_address[0]!s} {self.server.scheme}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Not wanted."""


def _web(address: str, port: int, certificate: Path | None) -> None:
    server = _Server((address, port), _Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    server.serve_forever()


def main() -> None:
    """Serve until ended."""
    certificate = Path(sys.argv[1]) / "lan-servers.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", certificate, "-out", certificate.with_suffix(".crt"), "-days", "2", "-subj", "/CN=lan"],
        check=True, capture_output=True,
    )  # fmt: skip
    with certificate.open("a") as out:
        out.write(certificate.with_suffix(".crt").read_text())
    for address in ADDRESSES:
        for target, words in (
            (_tcp, (address,)),
            (_udp, (address,)),
            (_web, (address, 9080, None)),
            (_web, (address, 9443, certificate)),
        ):
            threading.Thread(target=target, args=words, daemon=True).start()
    time.sleep(0.3)
    print("ready", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
