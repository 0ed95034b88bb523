"""The IPv4-only web server of the lab: python -m tests.lab.servers ADDRESS CERTIFICATE KEY.

GET / tells whom the server sees; GET /download/N is N bytes that anyone can compute; POST /upload
answers with the SHA-256 of what came. HTTP on port 80, HTTPS on 443.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

_CHUNK = 256 * 1024


def content(size: int) -> Iterator[bytes]:
    """The bytes of /download/SIZE, in chunks: each 32-byte block is the hash of its number's chunk."""
    seed = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(_CHUNK // 32))
    for index in range(0, size, _CHUNK):
        # a chunk that is lost, doubled or moved shows: each begins with its own offset
        yield (index.to_bytes(8, "big") + seed[8:])[: size - index]


def checksum(size: int) -> str:
    """SHA-256 of /download/SIZE."""
    digest = hashlib.sha256()
    for chunk in content(size):
        digest.update(chunk)
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        """/ or /download/N."""
        if self.path.startswith("/download/") and self.path[10:].isdecimal():
            size = int(self.path[10:])
            self._head(size, "application/octet-stream")
            for chunk in content(size):
                self.wfile.write(chunk)
        else:
            self._json({"hello": "from IPv4", "peer": self.client_address[0]})

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        """/upload."""
        left = int(self.headers.get("Content-Length", "0"))
        digest = hashlib.sha256()
        while left > 0 and (chunk := self.rfile.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        self._json({"sha256": digest.hexdigest()})

    def _head(self, size: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode() + b"\n"
        self._head(len(body), "application/json")
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """One line for each request, on standard output (the lab's log)."""
        print(self.client_address[0], format % args, flush=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def server_bind(self) -> None:
        """Not the base class's: that asks DNS for the address's name, where none answers for many seconds."""
        TCPServer.server_bind(self)


def main() -> None:
    """Serve until killed."""
    address, certificate, key = sys.argv[1:4]
    plain = _Server((address, 80), _Handler)
    secure = _Server((address, 443), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(certificate), Path(key))
    # the handshake belongs to the connection's own thread: a slow client must not stop the others
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    secure.serve_forever()


if __name__ == "__main__":
    main()
