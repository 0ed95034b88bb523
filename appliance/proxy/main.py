"""isthmus-proxy: the data path's entry point."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance import engine
from appliance.config import load
from appliance.dataplane import worker_count
from appliance.errors import ConfigError, IsthmusError
from appliance.proxy.supervisor import Supervisor

EXIT_CONFIG = 2
EXIT_DATAPLANE = 3


def main(argv: list[str] | None = None) -> int:
    """Run the supervisor and its workers until SIGTERM. Exit status: 0, 2 configuration, 3 data plane."""
    parser = argparse.ArgumentParser(
        prog="isthmus-proxy",
        description="Carries the LAN's IPv6 sessions to IPv4 servers. isthmus-control must have run "
        "before: it makes the devices, routes and firewall rules that this needs.",
    )
    parser.add_argument("--config", type=Path, default=Path("/var/lib/isthmus/config.toml"))
    parser.add_argument(
        "--runtime", type=Path, default=Path("/run/isthmus"), help="folder for proxy/proxy.sock"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("/var/lib/isthmus"),
        help="folder with tls/: the box's certificates",
    )
    parser.add_argument(
        "--log",
        type=Path,
        help="file for one JSON line a session; /var/log/isthmus/sessions.jsonl where that folder is",
    )
    parser.add_argument(
        "--check", action="store_true", help="say whether this could serve with the configuration, and end"
    )
    options = parser.parse_args(argv)
    log_path = options.log
    if log_path is None and os.access("/var/log/isthmus", os.W_OK):
        log_path = Path("/var/log/isthmus/sessions.jsonl")
    try:
        config = load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    if options.check:
        return 0
    cpus = len(os.sched_getaffinity(0))
    try:
        workers = worker_count(config.proxy.workers, cpus)
        supervisor = Supervisor(
            options.config, config, workers, options.runtime / "proxy", log_path, options.state / "tls"
        )
    except IsthmusError as error:
        print(f"isthmus-proxy: {error.message}. {error.hint}", file=sys.stderr)
        return EXIT_DATAPLANE
    print(f"isthmus-proxy: {workers} workers, the engine is {engine.describe()}", file=sys.stderr)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
