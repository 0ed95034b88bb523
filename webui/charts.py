"""Charts as SVG: what crossed in the last half hour, and by the hour. Pure.

The table beside each says the same.

Drawn by the box, so that they are there without JavaScript; with it the page asks for new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from webui.figures import clock, moment
from webui.words import _, n_

# The drawing's own measures; a page scales it to its plate.
WIDTH, HEIGHT = 380, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 6, 8, 24
_SPAN = 1_800.0  # seconds of the live charts
_TEN_MINUTES = 600
_BUCKET = 30  # seconds of a row in the table
_STEPS = (1, 2, 4, 6, 8, 10)
_UNITS = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s")
_HOUR = 3_600
# A gap in which nothing was looked at ends a line: some of control's looks were missed.
_GAP = 20.0

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark at an axis: where, and its words."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """A series. ``area`` and ``stroke`` are paths; ``now``: the last value in words."""

    kind: str
    words: str
    now: str
    stroke: str
    area: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """All that a template draws. ``rows`` are those of the table: the time, then a value for each line."""

    id: str
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    base: float
    sentence: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """An hour: where its bar begins, and how high its parts are, from the base up."""

    x: float
    whole: float
    part: float


@dataclass(frozen=True, slots=True)
class Bars:
    """Sums by the hour."""

    bars: tuple[Bar, ...]
    width: float
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    sentence: str
    rows: tuple[tuple[str, str, str], ...]


def above(value: float, least: float) -> float:
    """The next round figure above: 1, 2, 4, 6, 8 or 10 of a power of ten."""
    top = max(value * 1.05, least)
    power = 10.0 ** math.floor(math.log10(top))
    return next(step for step in _STEPS if step * power >= top * 0.999_999) * power


def unit_of(most: float) -> tuple[float, str]:
    """(what to divide bits a second by, the unit's name)."""
    index = 0 if most < 1 else min(int(math.log10(most)) // 3, len(_UNITS) - 1)
    return 1000.0**index, _UNITS[index]


def _figure(value: float) -> str:
    return f"{value:g}" if value == int(value) or value < 1 else f"{value:.1f}".removesuffix(".0")


def _rate(bits: float, scale: float) -> str:
    value = bits / scale
    return f"{value:.1f}" if scale > 1 else f"{value:.0f}"


def _x(time: float, since: float, span: float = _SPAN) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (time - since) / span


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Points that belong to one line."""
    found: list[list[Point]] = []
    for point in points:
        if not found or point["time"] - found[-1][-1]["time"] > _GAP:
            found.append([])
        found[-1].append(point)
    return found


def _paths(
    points: Sequence[Point], since: float, value: Callable[[Point], float], y: Callable[[float], float]
) -> tuple[str, str]:
    """(the line, the area between it and 0)."""
    strokes, areas = [], []
    for run in _runs(points):
        places = [f"{_x(one['time'], since):.1f} {y(value(one)):.1f}" for one in run]
        strokes.append("M" + "L".join(places))
        first, last = _x(run[0]["time"], since), _x(run[-1]["time"], since)
        areas.append(f"M{first:.1f} {y(0):.1f}L" + "L".join(places) + f"L{last:.1f} {y(0):.1f}Z")
    return "".join(strokes), "".join(areas)


def _minutes(until: float, since: float, zone: str) -> tuple[Tick, ...]:
    first = math.ceil((since + 60) / _TEN_MINUTES) * _TEN_MINUTES
    return tuple(
        Tick(round(_x(at, since), 1), clock(at, zone))
        for at in range(int(first), int(until) + 1, _TEN_MINUTES)
    )


def _table(
    points: Sequence[Point], zone: str, *texts: Callable[[Sequence[Point]], str]
) -> tuple[tuple[str, ...], ...]:
    """Half minutes, the newest first."""
    buckets: dict[int, list[Point]] = {}
    for point in points:
        buckets.setdefault(int(point["time"]) // _BUCKET * _BUCKET, []).append(point)
    return tuple(
        (f"{clock(start, zone)}:{start % 60:02}", *(text(found) for text in texts))
        for start, found in reversed(buckets.items())
    )


def _mean(points: Sequence[Point], name: str) -> float:
    return sum(float(one[name]) for one in points) / len(points)


def _most(points: Sequence[Point], name: str) -> Point:
    return max(points, key=lambda one: float(one[name]))


def throughput(points: Sequence[Point], until: float, zone: str) -> Chart:
    """Bits a second: to the WAN above the line, to the LAN below."""
    since = until - _SPAN
    lan = _most(points, "to_lan") if points else {"to_lan": 0.0}
    wan = _most(points, "to_wan") if points else {"to_wan": 0.0}
    scale, unit = unit_of(max(lan["to_lan"], wan["to_wan"]))
    up, down = above(wan["to_wan"] / scale, 1) * scale, above(lan["to_lan"] / scale, 1) * scale

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (up - value) / (up + down)

    last = points[-1] if points else {"to_wan": 0.0, "to_lan": 0.0}
    lines = tuple(
        Line(kind, words, _rate(last[name], scale), *_paths(points, since, value, y))
        for kind, words, name, value in (
            ("4", _("To the WAN, %(unit)s", unit=unit), "to_wan", lambda one: float(one["to_wan"])),
            ("6", _("To the LAN, %(unit)s", unit=unit), "to_lan", lambda one: -float(one["to_lan"])),
        )
    )
    sentence = _("Nothing was looked at yet; the box looks every five seconds.")
    if points:
        sentence = _(
            "Most to the LAN: %(lan)s %(unit)s at %(lan_at)s. "
            "Most to the WAN: %(wan)s %(unit)s at %(wan_at)s.",
            lan=_rate(lan["to_lan"], scale), lan_at=clock(lan["time"], zone), unit=unit,
            wan=_rate(wan["to_wan"], scale), wan_at=clock(wan["time"], zone),
        )  # fmt: skip
    return Chart(
        "throughput", lines, _minutes(until, since, zone),
        tuple(Tick(round(y(one), 1), _figure(abs(one) / scale)) for one in (up, up / 2, 0, -down / 2, -down)),
        round(y(0), 1), sentence,
        _table(
            points, zone, lambda found: _rate(_mean(found, "to_wan"), scale),
            lambda found: _rate(_mean(found, "to_lan"), scale),
        ),
    )  # fmt: skip


def sessions(points: Sequence[Point], until: float, zone: str) -> Chart:
    """Open sessions, and those that were not carried in a minute."""
    since = until - _SPAN
    best = _most(points, "open") if points else {"open": 0}
    worst = _most(points, "not_carried") if points else {"not_carried": 0}
    top = above(max(best["open"], worst["not_carried"]), 10)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (top - value) / top

    last = points[-1] if points else {"open": 0, "not_carried": 0}
    stroke, area = _paths(points, since, lambda one: float(one["open"]), y)
    lines = (
        Line("ink", _("Open"), str(last["open"]), stroke, area),
        Line(
            "bad", _("Not carried a minute"), str(last["not_carried"]),
            _paths(points, since, lambda one: float(one["not_carried"]), y)[0],
        ),
    )  # fmt: skip
    sentence = _("Nothing was looked at yet; the box looks every five seconds.")
    if points:
        sentence = _("Most at once: %(num)s at %(time)s.", num=best["open"], time=clock(best["time"], zone))
        if worst["not_carried"]:
            sentence += " " + _(
                "Most not carried in a minute: %(num)s at %(time)s.",
                num=worst["not_carried"], time=clock(worst["time"], zone),
            )  # fmt: skip
        else:
            sentence += " " + _("All were carried.")
    return Chart(
        "sessions", lines, _minutes(until, since, zone),
        tuple(Tick(round(y(one), 1), _figure(one)) for one in (top, top / 2, 0)), round(y(0), 1), sentence,
        _table(
            points, zone, lambda found: f"{_mean(found, 'open'):.0f}",
            lambda found: str(max(int(one["not_carried"]) for one in found)),
        ),
    )  # fmt: skip


def by_hour(points: Sequence[Point], zone: str, width: int = 2 * WIDTH) -> Bars:
    """Sessions of each hour (type HistoryPoint), those that were not carried at the foot of each bar."""
    best = max(points, key=lambda one: int(one["sessions"]), default={"sessions": 0, "start": 0.0})
    top = above(best["sessions"], 10)
    height = HEIGHT - TOP - BOTTOM
    step = (width - LEFT - RIGHT) / max(len(points), 1)
    bars = tuple(
        Bar(
            round(LEFT + index * step + step * 0.1, 1),
            round(height * int(one["sessions"]) / top, 1),
            round(height * int(one["refused"]) / top, 1),
        )
        for index, one in enumerate(points)
    )
    across = tuple(
        Tick(round(LEFT + (index + 0.5) * step, 1), clock(one["start"], zone))
        for index, one in enumerate(points)
        if int(clock(one["start"], zone)[:2]) % 4 == 0
    )
    every = sum(int(one["sessions"]) for one in points)
    refused = sum(int(one["refused"]) for one in points)
    sentence = n_("%(num)s session", "%(num)s sessions", every)
    if every:
        sentence = _(
            "%(all)s, of which %(refused)s were not carried; most in the hour from %(time)s: %(most)s.",
            all=sentence, refused=refused, time=clock(best["start"], zone), most=best["sessions"],
        )  # fmt: skip
    else:
        sentence = _("No session ended in this time.")
    return Bars(
        bars, round(step * 0.8, 1), across,
        tuple(
            Tick(round(TOP + height * (top - one) / top, 1), _figure(one)) for one in (top, top / 2, 0)
        ),
        sentence,
        tuple(
            (moment(one["start"], zone), str(one["sessions"]), str(one["refused"]))
            for one in reversed(points)
        ),
    )  # fmt: skip
