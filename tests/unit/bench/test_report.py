"""The bench's table, ratios and bars."""

import json
from pathlib import Path

import pytest

from tests.bench.report import BARS, UNITS, Results


def results(**medians: float) -> Results:
    """One figure for each "contender_test", with - for _ in the test."""
    made = Results()
    for name, figure in medians.items():
        contender, _, test = name.partition("_")
        made.add(test.replace("_", "-"), contender, figure)
    return made


def test_the_ratio_is_of_the_medians() -> None:
    made = Results()
    for figure in (10.0, 30.0, 11.0):
        made.add("bulk-1", "isthmus", figure)
    for figure in (5.0, 5.5, 500.0):
        made.add("bulk-1", "haproxy", figure, cpu_s_per_gb=0.75)
    row = next(line for line in made.table().splitlines() if "haproxy" in line)
    assert row.split()[:4] == ["haproxy", "5.5", "isthmus/this", "2.00"]
    assert "5 – 500" in row
    assert "cpu_s_per_gb 0.75" in row


def test_without_a_figure_of_our_own_there_is_no_ratio() -> None:
    assert "isthmus/this     –" in results(haproxy_ping_pong=3.0).table()


@pytest.mark.parametrize(
    ("own", "word"), [(1.8, "held"), (1.79, "MISSED")], ids=["just enough", "just too little"]
)
def test_more_is_better(own: float, word: str) -> None:
    made = results(isthmus_bulk_1=own, haproxy_bulk_1=1.0)
    assert f"  {word:<6} bulk-1          {own:.2f} ≥ 1.8 × haproxy" in made.bars().splitlines()


@pytest.mark.parametrize(("own", "word"), [(100.0, "held"), (101.0, "MISSED")])
def test_of_memory_less_is_better(own: float, word: str) -> None:
    line = results(isthmus_idle_memory=own, haproxy_idle_memory=100.0).bars().splitlines()[-1]
    assert line.split() == [word, "idle-memory", f"{own / 100:.2f}", "≤", "1.0", "×", "haproxy"]


def test_honest_is_held_against_accept_first() -> None:
    assert (
        "MISSED sessions-honest 0.79" in results(isthmus_sessions=100.0, isthmus_sessions_honest=79.0).bars()
    )


def test_a_side_that_was_not_measured_is_named() -> None:
    bars = results(isthmus_udp=5.0, tayga_udp=5.0, nginx_udp_new=1.0, tayga_udp_new=4.0).bars()
    lines = [line.split() for line in bars.splitlines()[1:]]
    assert ["MISSED", "udp", "1.00", "≥", "1.05", "×", "tayga"] in lines
    assert ["ABSENT", "udp", "nginx", "has", "no", "figure"] in lines
    assert ["ABSENT", "udp-new", "isthmus", "has", "no", "figure"] in lines


def test_the_file(tmp_path: Path) -> None:
    made = results(isthmus_udp_new=5.0)
    made.add("udp-new", "isthmus", 7.0, cpu_us=20.0)
    made.write(tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text()) == [
        {
            "test": "udp-new", "contender": "isthmus", "median": 6.0, "unit": "flows/s",
            "rounds": [5.0, 7.0], "cpu_us": 20.0,
        }
    ]  # fmt: skip


def test_every_bar_is_of_tests_that_exist() -> None:
    assert {test for own, other, *_ in BARS for test in (own, other)} <= set(UNITS)


def test_a_slow_moment_for_all_does_not_change_a_ratio() -> None:
    results = Results()
    for ours, theirs in ((10.0, 5.0), (2.0, 1.0), (9.0, 4.5), (8.0, 100.0), (4.0, 2.0)):
        results.add("bulk-1", "isthmus", ours)
        results.add("bulk-1", "haproxy", theirs)
    assert results.ratio("bulk-1", "isthmus", "bulk-1", "haproxy") == 2.0
    assert results.ratio("bulk-1", "isthmus", "bulk-1", "squid") is None
