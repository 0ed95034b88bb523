"""The figures: medians over the rounds, ratios to the rivals, the bars that are to be held."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

# Unit of a test's figure, and whether less is better.
UNITS = {
    "bulk-1": ("Gbit/s", False),
    "bulk-8": ("Gbit/s", False),
    "sessions": ("sessions/s", False),
    "sessions-honest": ("sessions/s", False),
    "ping-pong": ("round trips/s", False),
    "udp": ("round trips/s", False),
    "udp-new": ("flows/s", False),
    "connect": ("sessions/s", False),
    "socks": ("sessions/s", False),
    "http-kept": ("requests/s", False),
    "http-new": ("connections/s", False),
    "tls-handshake": ("connections/s", False),
    "tls-resumed": ("connections/s", False),
    "tls-bulk": ("Gbit/s", False),
    "idle-memory": ("bytes/session", True),
    "dns64-cached": ("queries/s", False),
    "dns64-new": ("queries/s", False),
    # New sessions with nothing but their relay, and with a thousand rules and the whole log.
    "sessions-bare": ("sessions/s", False),
    "sessions-ruled": ("sessions/s", False),
    "decide-1": ("µs", True),
    "decide-1000": ("µs", True),
    "decide-100000": ("µs", True),
    "decide-names": ("µs", True),
}

# (test, rival's test or the same, rival, at least; for less-is-better tests: at most).
BARS: tuple[tuple[str, str, str, float], ...] = (
    ("bulk-1", "bulk-1", "haproxy", 1.8),
    ("bulk-1", "bulk-1", "haproxy-tuned", 0.95),
    ("bulk-1", "bulk-1", "squid", 1.6),
    ("bulk-1", "bulk-1", "direct", 0.85),
    ("bulk-8", "bulk-8", "haproxy", 1.8),
    ("bulk-8", "bulk-8", "haproxy-tuned", 0.95),
    ("bulk-8", "bulk-8", "squid", 1.6),
    ("bulk-8", "bulk-8", "direct", 0.5),
    ("sessions", "sessions", "haproxy", 1.0),
    ("sessions", "sessions", "squid", 4.0),
    ("sessions", "sessions", "direct", 0.8),
    ("ping-pong", "ping-pong", "haproxy", 0.95),
    ("udp", "udp", "tayga", 1.05),
    ("udp", "udp", "nginx", 1.05),
    ("udp-new", "udp-new", "tayga", 0.85),
    ("connect", "connect", "squid", 3.0),
    ("http-kept", "http-kept", "squid", 1.8),
    ("http-new", "http-new", "squid", 2.5),
    ("tls-handshake", "tls-handshake", "haproxy", 0.9),
    ("tls-bulk", "tls-bulk", "haproxy", 0.9),
    ("idle-memory", "idle-memory", "haproxy", 1.0),
    ("dns64-cached", "dns64-cached", "unbound", 0.7),
    ("dns64-new", "dns64-new", "unbound", 0.6),
)
HONEST_SHARE = 0.8  # of Isthmus's own accept-first rate
RULED_SHARE = 0.9  # of its own rate without rules and log


@dataclass
class Results:
    """Every round's figure by test and contender; extras (CPU, percentiles) beside them."""

    figures: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    extras: dict[tuple[str, str], dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, test: str, contender: str, figure: float, **extras: float) -> None:
        """Book one round."""
        self.figures[test, contender].append(figure)
        for name, value in extras.items():
            self.extras[test, contender][name].append(value)

    def median(self, test: str, contender: str) -> float | None:
        """The median of all rounds, or None where there was none."""
        found = self.figures.get((test, contender))
        return statistics.median(found) if found else None

    def ratio(self, test: str, contender: str, rivals_test: str, rival: str) -> float | None:
        """The median of the rounds' ratios: a moment that was slow for all of them cancels out.

        Where the rounds do not pair up, the ratio of the medians; None without a figure.
        """
        own, other = self.figures.get((test, contender)), self.figures.get((rivals_test, rival))
        if not own or not other or not all(other):
            return None
        if len(own) != len(other):
            return statistics.median(own) / statistics.median(other)
        return statistics.median(a / b for a, b in zip(own, other, strict=True))

    def as_json(self) -> list[dict[str, object]]:
        """What build/bench.json holds."""
        return [
            {
                "test": test,
                "contender": contender,
                "median": statistics.median(rounds),
                "unit": UNITS[test][0],
                "rounds": rounds,
                **{name: statistics.median(values) for name, values in self.extras[test, contender].items()},
            }
            for (test, contender), rounds in self.figures.items()
        ]

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def table(self) -> str:
        """Each test's contenders with medians, and Isthmus's ratio to each."""
        lines = []
        for test in dict.fromkeys(test for test, _ in self.figures):
            unit, _less = UNITS[test]
            lines.append(f"\n{test} ({unit})")
            for (name, contender), rounds in self.figures.items():
                if name != test:
                    continue
                median = statistics.median(rounds)
                found = self.ratio(test, "isthmus", test, contender)
                ratio = "    –" if found is None else f"{found:5.2f}"
                spread = f"{min(rounds):,.4g} – {max(rounds):,.4g}"
                extras = "  ".join(
                    f"{key} {statistics.median(values):.3g}"
                    for key, values in self.extras[test, contender].items()
                )
                lines.append(
                    f"  {contender:<14}{median:>14,.4g}   isthmus/this {ratio}   {spread:<24} {extras}"
                )
        return "\n".join(lines)

    def bars(self) -> str:
        """The bars, held or missed; where only one side was measured, that the other lacks."""
        lines = ["\nbars"]
        for test, rivals_test, rival, bar in BARS:
            own, other = self.median(test, "isthmus"), self.median(rivals_test, rival)
            if own is None and other is None:
                continue
            ratio = self.ratio(test, "isthmus", rivals_test, rival)
            if ratio is None:
                lines.append(f"  ABSENT {test:<14}       {'isthmus' if own is None else rival} has no figure")
                continue
            less = UNITS[test][1]
            held = ratio <= bar if less else ratio >= bar
            sign = "≤" if less else "≥"
            lines.append(f"  {'held  ' if held else 'MISSED'} {test:<14} {ratio:5.2f} {sign} {bar} × {rival}")
        honest = self.ratio("sessions-honest", "isthmus", "sessions", "isthmus")
        if honest is not None:
            word = "held  " if honest >= HONEST_SHARE else "MISSED"
            lines.append(f"  {word} sessions-honest {honest:4.2f} ≥ {HONEST_SHARE} × accept-first")
        ruled = self.ratio("sessions-ruled", "isthmus", "sessions-bare", "isthmus")
        if ruled is not None:
            word = "held  " if ruled >= RULED_SHARE else "MISSED"
            lines.append(f"  {word} sessions-ruled  {ruled:4.2f} ≥ {RULED_SHARE} × bare")
        return "\n".join(lines)
