"""make bench: Isthmus beside its rivals, interleaved, in namespaces of this machine. It is told by variables:

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

from tests.bench import contenders, dns64, policy, soak
from tests.bench.contenders import Contender
from tests.bench.quiet import Quiet
from tests.bench.report import UNITS, Results
from tests.bench.soak import Judgement
from tests.bench.topology import (
    BUILD,
    LOAD,
    LOAD_CORE,
    Topology,
    build_load,
    cpu_seconds,
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
    "sessions-bare": ["sessions", "-n", "32"],
    "sessions-ruled": ["sessions", "-n", "32"],
    "ping-pong": ["pingpong", "-n", "64", "-s", "1024"],
    "udp": ["udp", "-n", "64"],
    # So many that nobody runs out of descriptors, whose flows live for minutes by RFC 6146.
    "udp-new": ["udpnew", "-n", "32", "-m", "6000"],
    "connect": ["sessions", "-n", "32"],
    "socks": ["sessions", "-n", "32"],
    "http-kept": ["pingpong", "-n", "32", "-s", "1024"],
    "http-new": ["sessions", "-n", "32", "-s", "1024"],
    "tls-handshake": ["sessions", "-T", "-n", "32", "-s", "1024"],
    "tls-resumed": ["sessions", "-T", "-R", "-n", "32", "-s", "1024"],
    "tls-bulk": ["bulk", "-T", "-n", "4"],
}


def load(topology: Topology, contender: Contender, test: str, window: float) -> dict[str, Any]:
    """Prepare the contender for the test, and one run of it."""
    contender.prepare(test)
    return run_load(topology, contender, test, window)


def run_load(
    topology: Topology, contender: Contender, test: str, window: float, *words: str
) -> dict[str, Any]:
    """One run of the load program; RuntimeError where it carried nothing or wrong data.

    ``words`` are further options; of one given twice the load program takes the last.
    """
    where = contender.elsewhere.get(test, contender.where)
    mode, *options = LOADS[test]
    done = topology.client.run(
        "taskset", "-c", LOAD_CORE, LOAD, mode, *options, *words, "-t", f"{window}", *where,
        check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{contender.name}, {test}: {done.stdout}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["wrong"] or not (found["rounds"] or found["bytes"]) or found["errors"] > _tolerated(found):
        raise RuntimeError(f"{contender.name}, {test}: {done.stdout}")
    # The first of each flow is a new session. Tolerated: a worker's ticket key that changes, say.
    if test == "tls-resumed" and found["resumed"] < 0.9 * found["rounds"] - 64:
        raise RuntimeError(f"{contender.name}, {test}: new sessions: {done.stdout}")
    return found


def _tolerated(found: dict[str, Any]) -> int:
    """Sessions that may fail in a run: rivals lose some too, and the table shows how many."""
    return max(10, int(found["rounds"]) // 1000)


def measure(topology: Topology, contender: Contender, test: str, results: Results, quiet: Quiet) -> None:
    """One round of one test."""
    if test == "idle-memory":
        contender.prepare(test)
        results.add(test, contender.name, idle_memory(topology, contender))
        return

    def once() -> tuple[dict[str, Any], float]:
        before = cpu_seconds(contender.pids())
        found = run_load(topology, contender, test, WINDOW)
        # Asked anew: it may have forked since, or lost children, whose time their parent has.
        return found, cpu_seconds(contender.pids()) - before

    (found, spent), others = quiet.run(once, lambda: contender.prepare(test))
    extras = {"others": others}
    if LOADS[test][0] == "bulk":
        gigabytes = found["bytes"] / 1e9
        if contender.pids():
            extras["cpu_s_per_gb"] = spent / gigabytes
        results.add(test, contender.name, gigabytes * 8 / found["seconds"], **extras)
        return
    extras |= {"p50_us": found["p50_us"], "p99_us": found["p99_us"]}
    if contender.pids():
        extras["cpu_us"] = spent / found["rounds"] * 1e6
    if found["retries"]:
        extras["lost"] = found["retries"]
    if found["errors"]:
        extras["errors"] = found["errors"]
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


def soak_isthmus(topology: Topology, contender: Contender, seconds: float) -> Judgement:
    """The soak of a fresh worker; it is not prepared between the loads, which would replace it."""
    contender.prepare("udp-new")

    def carry(test: str, window: float) -> int:
        words = ["-m", str(soak.NEW_FLOWS)] if test == "udp-new" else []
        return int(run_load(topology, contender, test, window, *words)["rounds"])

    return soak.soak(contender.pids()[0], carry, seconds, say)


def main() -> int:
    """The exit status: 0 unless a contender failed."""
    if len(sys.argv) > 1:  # "--help" must not run for half an hour
        sys.exit(__doc__)
    if os.geteuid() != 0:
        sys.exit("the bench needs root for its namespaces: sudo make bench")
    missing = contenders.missing_programs()
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; make bench installs them")
    tests = chosen("TESTS", list(UNITS))
    names = chosen("CONTENDERS", [*contenders.ALL, "unbound"])
    seconds = float(os.environ.get("SOAK", "0"))
    if seconds and "isthmus" not in names:
        sys.exit("SOAK is of isthmus: name it in CONTENDERS")
    build_load()
    results, quiet = Results(), Quiet()
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
                    measure(topology, contender, "idle-memory", results, quiet)
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
                            measure(topology, contender, test, results, quiet)
                        except (RuntimeError, subprocess.TimeoutExpired) as error:
                            failed.append(str(error))
        if any(test.startswith("dns64") for test in tests):
            failed += dns64.run(topology, tests, names, ROUNDS, WINDOW, results, quiet, say)
        if "isthmus" in names:
            policy.run(tests, ROUNDS, results, say)
        # Before the soak: what was measured is kept, however that ends.
        print(results.table())
        print(results.bars())
        print(quiet.summary())
        results.write(BUILD.parent / "bench.json")
        print(f"\nfigures: {BUILD.parent / 'bench.json'}\n", flush=True)
        if seconds:
            isthmus = next(one for one in taking_part if one.name == "isthmus")
            try:
                soaked = soak_isthmus(topology, isthmus, seconds)
                print(f"\n{soaked.text}")
                failed += [soaked.problem] if soaked.problem else []
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failed.append(f"soak: {error}")
    for problem in failed:
        print(f"FAILED {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
