"""One box for all tests of the image: booted once, judged from its LAN and its WAN.

    client (IPv6 only) ── LAN port [ the image in QEMU ] WAN port ── router and server (IPv4 only)

See tests/lab for the hosts' addresses.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest

from tests.lab.box import IMAGE
from tests.lab.lab import ClientView, Lab
from tests.lab.rows import Rows


def _say(text: str) -> None:
    # past pytest's capture: whoever watches CI sees that a slow boot is still a boot
    print(f"  {time.strftime('%H:%M:%S')}  {text}", file=sys.__stderr__, flush=True)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The booted box between its two hosts."""
    if not IMAGE.exists():
        missing = f"{IMAGE} is not built: make image"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    with Lab(_say) as running:
        running.box.wait()
        yield running


@pytest.fixture(scope="session")
def view(lab: Lab) -> ClientView:
    """What the client learnt by router advertisement, once DNS64 answers it."""
    found = lab.await_client()
    lab.await_resolver(found)
    return found


@pytest.fixture
def rows(lab: Lab, view: ClientView) -> Rows:
    """The client's everyday doings."""
    return Rows(lab, view)
