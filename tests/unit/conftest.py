"""Hypothesis: a slow machine is no failure; ``--hypothesis-profile=long`` looks much further."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("short", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("short"), max_examples=5_000)
settings.load_profile("short")
