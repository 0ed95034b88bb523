"""DNS64 queries: the front with its unbound, beside unbound's own dns64 module. dnsperf asks."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench.quiet import Quiet
from tests.bench.report import Results
from tests.bench.topology import CONTENDER_CORE, LOAD_CORE, Topology, cpu_seconds
from tests.lab.netns import stop
from tests.netns.conftest import BIN, wait_for

CACHED_NAMES = 1_000
# More than any contender answers in a window, so that no name is asked twice.
NEW_NAMES = 60_000
_numbers = itertools.count()

# The IPv4 world's name server: every name below bench.example has one A record and no AAAA.
_UPSTREAM = """\
server:
  interface: 0.0.0.0
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  use-syslog: no
  logfile: ""
  pidfile: ""
  chroot: ""
  username: ""
  module-config: "iterator"
  local-zone: "bench.example." redirect
  local-data: "bench.example. 3600 A 192.31.196.80"
  local-data: "bench.example. 3600 SOA ns.bench.example. host.bench.example. 1 3600 600 86400 3600"
remote-control:
  control-enable: no
"""

_RIVAL = """\
server:
  interface: fd00:2::1
  access-control: ::/0 allow
  do-daemonize: no
  use-syslog: no
  logfile: ""
  pidfile: ""
  chroot: ""
  username: ""
  num-threads: 1
  module-config: "dns64 iterator"
  dns64-prefix: 64:ff9b::/96
  msg-cache-size: 64m
  rrset-cache-size: 64m
  do-not-query-localhost: no
forward-zone:
  name: "."
  forward-addr: 198.51.100.1
remote-control:
  control-enable: no
"""


def _names(path: Path, count: int, label: str) -> Path:
    path.write_text("".join(f"{label}{number}.bench.example AAAA\n" for number in range(count)))
    return path


def _measure(
    topology: Topology, server: str, names: Path | None, window: float, pids: list[int]
) -> tuple[float, float]:
    """Ask for these names, or for some that nobody has asked for yet.

    The queries answered in a second, and the processor seconds that the contender spent on each: where
    others take a part of its core, that is the fairer figure.
    """
    if names is None:
        names = _names(topology.folder / "new.txt", NEW_NAMES, f"r{next(_numbers)}n")
    before = cpu_seconds(pids)
    rate = _ask(topology, server, names, window)
    return rate, (cpu_seconds(pids) - before) / (rate * window)


def _ask(topology: Topology, server: str, names: Path, window: float) -> float:
    """Queries answered in a second; RuntimeError where some were lost or failed."""
    done = topology.client.run(
        "taskset", "-c", LOAD_CORE, "dnsperf", "-s", server, "-d", names, "-l", str(window), "-c", "8",
        "-T", "1", "-q", "200", "-O", "suppress=timeout", check=False, timeout=60,
    )  # fmt: skip
    rate = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
    codes = re.search(r"Response codes:\s+NOERROR \d+ \(([\d.]+)%\)", done.stdout)
    if rate is None or codes is None or float(codes[1]) < 99.9:
        raise RuntimeError(f"dns64, {server}: {done.stdout[-800:]}")
    return float(rate[1])


def run(
    topology: Topology,
    tests: list[str],
    names: list[str],
    rounds: int,
    window: float,
    results: Results,
    quiet: Quiet,
    say: Callable[[str], None],
) -> list[str]:
    """All rounds of the DNS64 tests; what failed, in words."""
    folder, box = topology.folder, topology.box
    upstream, rival = folder / "upstream.conf", folder / "rival.conf"
    upstream.write_text(_UPSTREAM)
    rival.write_text(_RIVAL)
    processes = [topology.pinned("dns-upstream", topology.server, LOAD_CORE, "unbound", "-d", "-c", upstream)]
    servers: dict[str, str] = {}
    pids: dict[str, list[int]] = {}
    if "isthmus" in names:
        behind = topology.pinned(
            "unbound-behind", box.box, CONTENDER_CORE, "unbound", "-d", "-c", box.runtime / "unbound.conf"
        )
        front = topology.pinned(
            "dns64", box.box, CONTENDER_CORE, BIN / "isthmus-dns64", "--config", box.config,
            "--runtime", box.runtime,
        )  # fmt: skip
        processes += [behind, front]
        servers["isthmus"] = "fd00:1::1"
        pids["isthmus"] = [behind.pid, front.pid]
    if "unbound" in names:
        module = topology.pinned("unbound", topology.rivals, CONTENDER_CORE, "unbound", "-d", "-c", rival)
        processes.append(module)
        servers["unbound"] = "fd00:2::1"
        pids["unbound"] = [module.pid]
    failed: list[str] = []
    for server in servers.values():
        wait_for(lambda server=server: _synthesises(topology, server), f"DNS64 at {server}")  # type: ignore[misc]
    cached = _names(folder / "cached.txt", CACHED_NAMES, "kept")
    for server in servers.values():
        _ask(topology, server, cached, 1)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: dns64")
        order = list(servers.items())
        if number % 2:
            order.reverse()
        for name, server in order:
            try:
                for test in ("dns64-cached", "dns64-new"):
                    if test in tests:
                        asked = cached if test == "dns64-cached" else None
                        once = partial(_measure, topology, server, asked, window, pids[name])
                        (rate, spent), others = quiet.run(once)
                        results.add(test, name, rate, others=others, cpu_us=spent * 1e6)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failed.append(str(error))
    for process in processes:
        stop(process)
    return failed


def _synthesises(topology: Topology, server: str) -> bool:
    done = topology.client.run(
        "dig", "+short", "+time=1", "+tries=1", "AAAA", "probe.bench.example", f"@{server}", check=False
    )
    return "64:ff9b::c01f:c450" in done.stdout
