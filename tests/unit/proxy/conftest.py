"""What all tests of the proxy's parts share."""

from __future__ import annotations

import pytest

from appliance.proxy import loop


@pytest.fixture(autouse=True)
def no_fault_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in a handler is to fail the test that meets it."""
    monkeypatch.setattr(loop, "MAX_FAULTS", 0)
