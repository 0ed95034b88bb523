"""What was turned away at a limit. Each limit's name and number stands where it is enforced."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counters:
    """Since the start."""

    over_share: int = 0  # questions of a client that has too many unanswered ones
    over_waiters: int = 0  # clients that wait for one and the same answer
    over_pending: int = 0  # questions that the upstream had no room for
    over_fetches: int = 0  # truncated answers that could not be fetched by TCP
    over_connections: int = 0  # TCP clients, all together or of one address
    over_unsent: int = 0  # TCP clients that did not fetch their answers
    mismatched: int = 0  # upstream answers to nothing that was asked

    def since(self, earlier: Counters) -> str:
        """What has grown, in words; empty where nothing has."""
        grown = {f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)}
        return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in grown.items() if count)
