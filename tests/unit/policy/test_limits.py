"""Whom a limit counts, and whose meter that is."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from appliance.config.rules import Limit
from appliance.policy.limits import MIB, Party, compile_limits

ADA = Party(ip_address("fd00:1::2").packed, "fd00:1::2", "ada", frozenset({"staff"}))
TABLET = Party(ip_address("fd00:1::3").packed, "fd00:1::3", device="tablet")


@pytest.mark.parametrize(
    ("limit", "party", "subject"),
    [
        ({}, ADA, "fd00:1::2"),
        ({}, TABLET, "tablet"),
        ({"each": "user"}, ADA, "ada"),
        ({"each": "user"}, TABLET, None),
        ({"each": "all"}, TABLET, "all"),
        ({"users": ["ada"]}, ADA, "fd00:1::2"),
        ({"users": ["bob"]}, ADA, None),
        ({"groups": ["staff"], "each": "all"}, ADA, "all"),
        ({"groups": ["staff"]}, TABLET, None),
        ({"devices": ["tablet"]}, TABLET, "tablet"),
        ({"devices": ["tablet"]}, ADA, None),
        ({"sources": ["fd00:1::2/128"]}, ADA, "fd00:1::2"),
        ({"sources": ["fd00:1::2/128"]}, TABLET, None),
        ({"sources": ["192.0.2.0/24"]}, ADA, None),
    ],
)
def test_subjects(limit: dict[str, Any], party: Party, subject: str | None) -> None:
    (compiled,) = compile_limits([Limit.model_validate({"name": "l", "sessions": 1, **limit})])
    assert compiled.subject(party) == subject


def test_amounts_are_octets() -> None:
    (compiled,) = compile_limits([Limit(name="l", mib_per_day=2, mib_per_month=3)])
    assert (compiled.per_day, compiled.per_month) == (2 * MIB, 3 * MIB)
    assert compiled.sessions is None
    assert not compiled.is_shared
