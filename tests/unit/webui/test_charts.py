"""Charts: what is drawn lies inside the drawing, and the words beside it say the same."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.webui.conftest import get, signed_in
from tests.unit.webui.fake import FakeControl
from webui import charts
from webui.charts import HEIGHT, LEFT, WIDTH

UNTIL = 1.8e9


def _point(at: float, **more: Any) -> dict[str, Any]:
    return {
        "time": UNTIL - at, "open": 10, "opened": 1.0, "to_wan": 2e6, "to_lan": 9e6, "not_carried": 0, **more
    }  # fmt: skip


def _numbers(path: str) -> list[tuple[float, float]]:
    found = re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)
    return [(float(x), float(y)) for x, y in found]


@given(
    st.lists(
        st.tuples(st.integers(0, 1_799), st.floats(0, 1e12), st.floats(0, 1e12), st.integers(0, 10**7)),
        max_size=40, unique_by=lambda one: one[0],
    )
)  # fmt: skip
def test_all_that_is_drawn_is_inside(found: list[tuple[int, float, float, int]]) -> None:
    points = [
        _point(at, to_wan=wan, to_lan=lan, open=count, not_carried=count // 2)
        for at, wan, lan, count in sorted(found, reverse=True)
    ]
    for chart in (charts.throughput(points, UNTIL, "UTC"), charts.sessions(points, UNTIL, "UTC")):
        for line in chart.lines:
            for x, y in _numbers(line.stroke + line.area):
                assert LEFT - 0.1 <= x <= WIDTH and 0 <= y <= HEIGHT, (x, y)
        heights = [tick.at for tick in chart.up]
        assert heights == sorted(heights)
        assert all(0 <= at <= HEIGHT for at in heights)


def test_the_sentence_says_where_the_most_was() -> None:
    points = [_point(600), _point(300, to_lan=61.4e6, open=99, not_carried=3), _point(0)]
    traffic = charts.throughput(points, UNTIL, "UTC")
    assert traffic.sentence == "Most to the LAN: 61.4 Mbit/s at 07:55. Most to the WAN: 2.0 Mbit/s at 07:50."
    assert [line.now for line in traffic.lines] == ["2.0", "9.0"]
    assert [tick.words for tick in traffic.up] == ["4", "2", "0", "40", "80"]
    opened = charts.sessions(points, UNTIL, "UTC")
    assert opened.sentence == "Most at once: 99 at 07:55. Most not carried in a minute: 3 at 07:55."
    assert [row[1] for row in opened.rows] == ["10", "99", "10"]


def test_a_time_without_a_look_is_no_line() -> None:
    points = [_point(100), _point(95), _point(40), _point(35)]
    assert charts.sessions(points, UNTIL, "UTC").lines[0].stroke.count("M") == 2


def test_without_a_point_it_says_so() -> None:
    chart = charts.throughput([], UNTIL, "UTC")
    assert [line.stroke for line in chart.lines] == ["", ""]
    assert "Nothing was looked at yet" in chart.sentence


@pytest.mark.parametrize(("bits", "unit"), [(0, "bit/s"), (999, "bit/s"), (1_000, "kbit/s"), (5e9, "Gbit/s")])
def test_units(bits: float, unit: str) -> None:
    assert charts.unit_of(bits)[1] == unit


def test_hours_are_bars_with_what_was_not_carried_at_their_foot() -> None:
    hours = [
        {"start": UNTIL // 3_600 * 3_600 + 3_600 * at, "sessions": at, "refused": at // 2} for at in range(24)
    ]
    day = charts.by_hour(hours, "UTC")
    assert day.sentence.startswith("276 sessions, of which 132 were not carried; most in the hour from ")
    assert day.bars[23].whole > day.bars[23].part > day.bars[1].whole > day.bars[0].whole == 0
    assert day.rows[0][1:] == ("23", "11")
    assert charts.by_hour([], "UTC").sentence == "No session ended in this time."


def test_the_dashboard_draws_without_javascript_and_anew_only_what_is_new(
    client: FlaskClient, control: FakeControl
) -> None:
    signed_in(client, control)
    page = get(client, "/").text
    drawings = re.findall(r'<svg class="plot.*?</svg>', page, re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        ElementTree.fromstring(drawing)  # well-formed
    assert "Most to the LAN: 8.0 Mbit/s" in page
    live = get(client, "/live.json").json
    assert {"chart_throughput", "rows_sessions"} <= set(live["regions"])
    again = get(client, f"/live.json?seen={live['seen']}").json
    assert not {"chart_throughput", "rows_sessions"} & set(again["regions"])
    assert "health" in again["regions"]
