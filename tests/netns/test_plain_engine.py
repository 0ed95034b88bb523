"""The plain engine, the reference and the fall-back, under the tests of the compiled one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.conftest import needs_root

ROOT = Path(__file__).resolve().parents[2]
# A process of its own: which engine runs is decided when the package is imported.
TIMEOUT = 600


@pytest.mark.netns
@pytest.mark.slow
@needs_root
@pytest.mark.parametrize(
    "tests",
    [
        ["tests/unit/proxy"],
        ["tests/netns/test_proxy.py", "tests/netns/test_published.py", "tests/netns/test_lifecycle.py"],
    ],
    ids=["unit", "netns"],
)
def test_the_plain_engine_passes(tests: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT, env=os.environ | {"ISTHMUS_ENGINE": "plain"}, capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
