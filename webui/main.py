"""isthmus-web: gunicorn with the console, over TLS, unprivileged."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from appliance.config import load
from appliance.control.client import ControlClient
from appliance.errors import ConfigError
from webui.acting import actor
from webui.app import create_app
from webui.certificates import Certificates
from webui.worker import BoundedWorker

EXIT_CONFIG = 2
EXIT_CERTIFICATE = 3
# A console has a handful of users; each polls every two seconds. More than MAX_PER_ADDRESS of the
# worker, so that one host cannot hold them all.
THREADS = 32
# A worker that does not run its loop for so long is replaced. A request's own limits: webui.worker.
STALL_SECONDS = 30
MAX_CONNECTIONS = 256
KEEPALIVE_SECONDS = 5  # more than the poll's two, so that a page polls over one connection
MAX_REQUEST_LINE = 2_048
MAX_HEADERS = 64
MAX_HEADER = 8_190
# Control makes the certificate at the first boot, once it knows the LAN's address.
CERTIFICATE_TIMEOUT = 30.0


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn, told everything here rather than by files or the environment."""

    def __init__(self, settings: dict[str, Any], backend: ControlClient, authority: Path) -> None:
        self._settings = settings
        self._authority = authority
        self._backend = backend
        super().__init__()

    def load_config(self) -> None:
        """Take our settings."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application; the cookie's key lives as long as the process: a restart signs out."""
        return create_app(self._backend, secrets.token_bytes(32), self._authority, self._backend)


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Exit status: 0, 2 configuration refused, 3 no certificate."""
    parser = argparse.ArgumentParser(
        prog="isthmus-web", description="The box's web console, over HTTPS. Needs isthmus-control."
    )
    parser.add_argument("--config", type=Path, default=Path("/var/lib/isthmus/config.toml"))
    parser.add_argument("--runtime", type=Path, default=Path("/run/isthmus"), help="folder with control.sock")
    parser.add_argument("--state", type=Path, default=Path("/var/lib/isthmus"), help="folder with tls/")
    parser.add_argument("--listen", default="[::]", help="address, in brackets if it is IPv6")
    parser.add_argument("--port", type=int, help="instead of the configuration's")
    options = parser.parse_args(argv)
    try:
        config = load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    certificate, key = (options.state / "tls" / name for name in ("console.crt", "console.key"))
    deadline = time.monotonic() + CERTIFICATE_TIMEOUT
    while not (certificate.exists() and key.exists()):
        if time.monotonic() > deadline:
            print(f"isthmus-web: no {certificate}; isthmus-control makes it", file=sys.stderr)
            return EXIT_CERTIFICATE
        time.sleep(0.2)
    nobody = ControlClient(options.runtime)  # a handshake is before all requests, and so before all admins
    certificates = Certificates(options.state / "tls" / "serving.pem", lambda: nobody.access()["names"][1:])
    settings = {
        "bind": f"{options.listen}:{options.port or config.console.port}",
        "workers": 1,
        "threads": THREADS,
        "worker_class": BoundedWorker,
        "worker_connections": MAX_CONNECTIONS,
        "timeout": STALL_SECONDS,
        "keepalive": KEEPALIVE_SECONDS,
        "limit_request_line": MAX_REQUEST_LINE,
        "limit_request_fields": MAX_HEADERS,
        "limit_request_field_size": MAX_HEADER,
        "certfile": str(certificate),
        "keyfile": str(key),
        "ssl_context": certificates.context,
        "worker_tmp_dir": "/dev/shm",  # noqa: S108 - gunicorn's heartbeat file: memory, never the disk
        "proc_name": "isthmus-web",
        "loglevel": "warning",
    }
    Server(settings, ControlClient(options.runtime, actor), options.state / "tls" / "authority.crt").run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
