"""What the kernel is told of a rate."""

from __future__ import annotations

import socket
import sys

import pytest

from appliance.proxy import quotas


@pytest.mark.parametrize("rate", [quotas.MIN_RATE, (1 << 31) - 1, 1 << 31, quotas.UNPACED])
def test_every_rate_that_the_kernel_knows(rate: int) -> None:
    """Above 2**31 too: one that was no more ended the worker once."""
    with socket.socket() as sock:
        quotas.pace([sock.fileno()], rate)
        told = sock.getsockopt(socket.SOL_SOCKET, quotas.SO_MAX_PACING_RATE, 4)
        assert int.from_bytes(told, sys.byteorder) == rate
