"""One box for all tests of the image: booted once, judged from its LAN and its WAN.

    client (IPv6 only) ── LAN port [ the image in QEMU ] WAN port ── router and server (IPv4 only)

See tests/lab for the hosts' addresses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest

from tests.lab.box import IMAGE
from tests.lab.lab import ClientView, Lab
from tests.lab.rows import Rows

Say = Callable[[str], None]


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Say:
    """Prints a progress line past pytest's capture: whoever watches sees that a slow boot is still one."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def show(text: str) -> None:
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            print(f"\n  {time.strftime('%H:%M:%S')}  {text}", end="", flush=True)

    return show


@pytest.fixture(scope="session")
def lab(say: Say) -> Iterator[Lab]:
    """The booted box between its two hosts."""
    if not IMAGE.exists():
        missing = f"{IMAGE} is not built: make image"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    with Lab(say) as running:
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
