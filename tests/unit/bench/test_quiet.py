"""Measuring again where others disturbed."""

import os
import subprocess
import sys
import time

import pytest

from tests.bench.quiet import DISTURBED, MAX_TRIES, PATIENCE, Quiet, others_seconds


class Machine:
    """A clock, and others that take so many cores during each try of two seconds."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)
        self.clock = 0.0
        self.taken = 0.0
        self.tries = 0

    def measurement(self) -> int:
        share = self.shares[min(self.tries, len(self.shares) - 1)]
        self.tries += 1
        self.clock += 2.0
        self.taken += 2.0 * share
        return self.tries

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
        self.taken += seconds * 2  # what happens in a pause does not count

    def quiet(self) -> Quiet:
        return Quiet(lambda: self.taken, lambda: self.clock, self.sleep)


@pytest.mark.parametrize(
    ("shares", "chosen", "share", "tries"),
    [
        ((0.01,), 1, 0.01, 1),
        ((1.0, 0.5, 0.1), 3, 0.1, 3),
        ((1.0, 0.3, 0.9, 0.8), 2, 0.3, MAX_TRIES),
    ],
    ids=["quiet at once", "quiet later", "never quiet: the least disturbed"],
)
def test_the_quietest_try_counts(shares: tuple[float, ...], chosen: int, share: float, tries: int) -> None:
    machine = Machine(*shares)
    quiet = machine.quiet()
    found, taken = quiet.run(machine.measurement)
    assert (found, round(taken, 6)) == (chosen, share)
    assert machine.tries == tries
    assert quiet.disturbed == (share > DISTURBED)


def test_patience_ends() -> None:
    machine = Machine(1.0)
    quiet = machine.quiet()
    for _ in range(200):
        quiet.run(machine.measurement)
    assert quiet.patience <= 0
    # 200 measurements, and what patience was good for beside them.
    assert 200 < machine.tries < 200 + PATIENCE / 2
    assert "during 200 of 200 measurements" in quiet.summary()


SPIN = "import time\nwhile time.process_time() < 0.5: pass"


def test_the_work_of_our_children_is_not_others() -> None:
    before, begun = others_seconds(), time.monotonic()
    cores = os.cpu_count() or 1
    children = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(cores)]
    assert [child.wait() for child in children] == [0] * cores
    elsewhere, took = others_seconds() - before, time.monotonic() - begun
    # What is left of all cores' time beside our children's is the most that others can have had.
    assert elsewhere <= cores * (took - 0.5) + 0.1


def test_work_of_others_is_seen_though_they_have_ended() -> None:
    # Its parent leaves at once: it is no descendant of ours any more, and init's to wait for.
    before = others_seconds()
    orphan = f"import os\nif os.fork(): os._exit(0)\nos.setsid()\n{SPIN}"
    with subprocess.Popen([sys.executable, "-c", orphan], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()  # until the orphan has closed it
    time.sleep(0.1)
    assert others_seconds() - before >= 0.4
