"""make bench: Isthmus beside its rivals, interleaved, in namespaces of this machine.

ROUNDS=5  TESTS=bulk-1,sessions  CONTENDERS=isthmus,haproxy  WINDOW=2  SOAK=600
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import contenders, dns64
from tests.bench.contenders import Contender
from tests.bench.report import UNITS, Results
from tests.bench.topology import (
    BUILD,
    LOAD,
    LOAD_CORE,
    Topology,
    build_load,
    cpu_seconds,
    family,
    private_memory,
)

WINDOW = float(os.environ.get("WINDOW", "2"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
IDLE_SESSIONS = 9_000
READY_TIMEOUT = 15.0
# What the load program does for each test.
LOADS: dict[str, list[str]] = {
    "bulk-1": ["bulk", "-n", "1"],
    "bulk-8": ["bulk", "-n", "8"],
    "sessions": ["sessions", "-n", "32"],
    "sessions-honest": ["sessions", "-n", "32"],
    "ping-pong": ["pingpong", "-n", "64", "-s", "1024"],
    "udp": ["udp", "-n", "64"],
    # So many that nobody runs out of descriptors, whose flows live for minutes by RFC 6146.
    "udp-new": ["udpnew", "-n", "32", "-m", "6000"],
}


def load(topology: Topology, contender: Contender, test: str, window: float) -> dict[str, Any]:
    """Prepare the contender for the test, and one run of it."""
    contender.prepare(test)
    return run_load(topology, contender, test, window)


def run_load(topology: Topology, contender: Contender, test: str, window: float) -> dict[str, Any]:
    """One run of the load program; RuntimeError where it carried nothing or wrong data."""
    where = contender.udp_where or contender.where if test in contenders.UDP else contender.where
    mode, *options = LOADS[test]
    done = topology.client.run(
        "taskset", "-c", LOAD_CORE, LOAD, mode, *options, "-t", f"{window}", *where, check=False, timeout=60
    )
    if done.returncode:
        raise RuntimeError(f"{contender.name}, {test}: {done.stdout}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not (found["rounds"] or found["bytes"]) or found["errors"] > max(10, found["rounds"] // 1000):
        raise RuntimeError(f"{contender.name}, {test}: {done.stdout}")
    return found


def measure(topology: Topology, contender: Contender, test: str, results: Results) -> None:
    """One round of one test."""
    if test == "idle-memory":
        contender.prepare(test)
        results.add(test, contender.name, idle_memory(topology, contender))
        return
    contender.prepare(test)
    pids = contender.pids()
    before = cpu_seconds(pids)
    found = run_load(topology, contender, test, WINDOW)
    spent = cpu_seconds(pids) - before
    if test.startswith("bulk"):
        gigabytes = found["bytes"] / 1e9
        extras = {"cpu_s_per_gb": spent / gigabytes} if pids else {}
        results.add(test, contender.name, gigabytes * 8 / found["seconds"], **extras)
    else:
        extras = {"p50_us": found["p50_us"], "p99_us": found["p99_us"]}
        if pids:
            extras["cpu_us"] = spent / found["rounds"] * 1e6
        if found["retries"]:
            extras["lost"] = found["retries"]
        results.add(test, contender.name, found["rounds"] / found["seconds"], **extras)


def warm_up(topology: Topology, contender: Contender) -> list[str]:
    """Let it carry each kind of data once, when it is ready; a test that it cannot do is taken from it."""
    failed = []
    for test in contender.tests:
        ending = time.monotonic() + READY_TIMEOUT
        while True:
            try:
                load(topology, contender, "ping-pong" if test == "idle-memory" else test, 0.3)
                break
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                if time.monotonic() > ending:
                    failed.append(str(error))
                    contender.tests = tuple(t for t in contender.tests if t != test)
                    break
                time.sleep(0.3)
    return failed


def idle_memory(topology: Topology, contender: Contender) -> float:
    """User-space bytes that a session costs which has said one word and waits."""
    before = private_memory(contender.pids())
    command = topology.client.command(
        "taskset", "-c", LOAD_CORE, LOAD, "idle", "-n", str(IDLE_SESSIONS), *contender.where
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        after = private_memory(contender.pids())
        assert process.stdin is not None
        process.stdin.close()
    if found["rounds"] < IDLE_SESSIONS * 0.99:
        raise RuntimeError(f"{contender.name}, idle-memory: only {found['rounds']} sessions came about")
    time.sleep(1.5)  # until both ends have forgotten them
    return (after - before) / int(found["rounds"])


def chosen(variable: str, names: list[str]) -> list[str]:
    """The names of an environment variable, or all."""
    wanted = [name for name in os.environ.get(variable, "").split(",") if name]
    unknown = set(wanted) - set(names)
    if unknown:
        sys.exit(f"{variable}: there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return wanted or names


def say(text: str) -> None:
    """Progress."""
    print(f"  {time.strftime('%H:%M:%S')}  {text}", flush=True)


def soak(topology: Topology, contender: Contender, seconds: float) -> bool:
    """Sessions, kept connections and datagrams for a long time: memory and descriptors stay flat."""
    pids = family(contender.pids()[0])
    samples = []
    ending = time.monotonic() + seconds
    while time.monotonic() < ending:
        for test in ("sessions-honest", "ping-pong", "udp", "udp-new", "bulk-8"):
            load(topology, contender, test, 2)
        time.sleep(1.5)
        descriptors = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
        samples.append((private_memory(pids), descriptors))
        say(f"soak: {samples[-1][0] / 1e6:.1f} MB, {descriptors} descriptors")
    # UDP flows live for minutes: what is compared is the second half of the time with itself.
    half = samples[len(samples) // 2 :]
    growth = half[-1][0] / half[0][0]
    print(f"\nsoak of {seconds:.0f} s: memory {half[0][0] / 1e6:.1f} → {half[-1][0] / 1e6:.1f} MB")
    return growth < 1.1


def main() -> int:
    """The exit status: 0 unless a contender failed."""
    if os.geteuid() != 0:
        sys.exit("the bench needs root for its namespaces: sudo make bench")
    missing = contenders.missing_programs()
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; make bench installs them")
    tests = chosen("TESTS", list(UNITS))
    names = chosen("CONTENDERS", [*contenders.ALL, "unbound"])
    build_load()
    results = Results()
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as name, Topology(Path(name)) as topology:
        say("starting the contenders")
        taking_part = [contenders.ALL[name](topology) for name in names if name in contenders.ALL]
        for contender in taking_part:
            contender.tests = tuple(t for t in contender.tests if t in tests)
            failed += warm_up(topology, contender)
        # Once, and first: who keeps a pool has paid for its sessions by the second time.
        for contender in taking_part:
            if "idle-memory" in contender.tests:
                try:
                    measure(topology, contender, "idle-memory", results)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failed.append(str(error))
                contender.tests = tuple(t for t in contender.tests if t != "idle-memory")
        for number in range(ROUNDS):
            for test in tests:
                if not any(test in contender.tests for contender in taking_part):
                    continue
                say(f"round {number + 1} of {ROUNDS}: {test}")
                # Rotated, so that nobody always runs after the same neighbour.
                order = taking_part[number % len(taking_part) :] + taking_part[: number % len(taking_part)]
                for contender in order:
                    if test in contender.tests:
                        try:
                            measure(topology, contender, test, results)
                        except (RuntimeError, subprocess.TimeoutExpired) as error:
                            failed.append(str(error))
        if any(test.startswith("dns64") for test in tests):
            failed += dns64.run(topology, tests, names, ROUNDS, WINDOW, results, say)
        soaking = float(os.environ.get("SOAK", "0"))
        if soaking and not soak(topology, next(c for c in taking_part if c.name == "isthmus"), soaking):
            failed.append("soak: memory grew")
    print(results.table())
    print(results.bars())
    results.write(BUILD.parent / "bench.json")
    print(f"\nfigures: {BUILD.parent / 'bench.json'}")
    for problem in failed:
        print(f"FAILED {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
