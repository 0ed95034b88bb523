"""python -m tests.whole [WORDS FOR PYTEST]: what make test runs.

    unit tests, on all cores ──► browser, image ──► namespaces, a file on each core
    those that only wait ──────────────────────────► (beside the others; their words come last)

QEMU's guests lose their clock where several tests want the processors, so nothing but what waits runs beside
them. Tests in namespaces mostly wait, too: two files at once take three fifths of the time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LOG = REPOSITORY / "build/waits.log"
# pytest's status where none of the tests is meant, as with -k.
NOTHING = 5


def pytest(*words: str) -> list[str]:
    """The command."""
    return [sys.executable, "-m", "pytest", *words]


def main(words: list[str]) -> int:
    """The exit status: 0 where all of them passed."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as log:
        beside = subprocess.Popen(pytest("-m", "waits", *words), cwd=REPOSITORY, stdout=log, stderr=log)
    cores = str(os.cpu_count() or 1)
    others = "not waits and not firmware"
    try:
        found = [
            subprocess.run(command, cwd=REPOSITORY, check=False).returncode
            # A file's tests share a box, or ports: they stay together.
            for command in (
                pytest("-n", cores, "--dist", "loadfile", "-m", others, "tests/unit", *words),
                pytest("-m", others, "--ignore=tests/unit", "--ignore=tests/netns", *words),
                pytest("-n", cores, "--dist", "loadfile", "-m", others, "tests/netns", *words),
            )
        ]
        found.append(beside.wait())
    finally:
        if beside.poll() is None:
            beside.send_signal(signal.SIGINT)  # its fixtures take their namespaces away
            beside.wait()
    print("\nThose that wait, beside the others:\n", LOG.read_text(), sep="")
    return max((status for status in found if status != NOTHING), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
