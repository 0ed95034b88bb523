"""Figures for people: sizes, speeds, ages, moments."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from webui.words import _, n_


def size(count: float) -> str:
    """1.90 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{_three(count)} {unit}"
        count /= 1000
    return f"{_three(count)} TB"


def _three(value: float) -> str:
    """Three digits that count: 1.90, 76.2, 184."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def milliseconds(value: float | None) -> str:
    """11.8; under one with two decimals, for a server next door; a dash where nothing was dialled yet."""
    return "–" if value is None else f"{value:.2f}" if value < 1 else f"{value:.1f}"


def speed(mbit: int) -> str:
    """100 Mbit/s, 2.5 Gbit/s."""
    return f"{mbit / 1000:g} Gbit/s" if mbit >= 1000 else f"{mbit} Mbit/s"


def rate(bits: float) -> tuple[str, str]:
    """(61.4, Mbit/s)."""
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bits < 999.5:
            return (f"{bits:.0f}" if unit == "bit/s" else f"{bits:.1f}"), unit
        bits /= 1000
    return f"{bits:.1f}", "Gbit/s"


def age(seconds: float) -> str:
    """2:14, 3:02:14, or 9 days."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return _("%(num)s days", num=hours // 24)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(seconds: float) -> str:
    """just now, 4 minutes ago, 9 days ago."""
    if seconds < 60:
        return _("just now")
    minutes = int(seconds / 60)
    if minutes < 60:
        return n_("%(num)s minute ago", "%(num)s minutes ago", minutes)
    hours = minutes // 60
    if hours < 48:
        return n_("%(num)s hour ago", "%(num)s hours ago", hours)
    return n_("%(num)s day ago", "%(num)s days ago", hours // 24)


def moment(seconds: float, zone: str = "UTC") -> str:
    """2026-11-25 14:30 on the clock of the box."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def clock(seconds: float, zone: str = "UTC") -> str:
    """14:30 on the clock of the box."""
    return moment(seconds, zone)[-5:]


FILTERS = {
    "size": size, "speed": speed, "age": age, "ago": ago, "milliseconds": milliseconds, "moment": moment,
    "clock": clock,
}  # fmt: skip
