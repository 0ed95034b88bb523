"""What the dashboard draws: rates of the proxy's counters, with gaps where there was nothing to look at."""

from __future__ import annotations

from typing import Any

from appliance.control.samples import EVERY, KEPT_SECONDS, Samples


class _Proxy:
    """Counters that go up, of a proxy that can be away or begin anew."""

    def __init__(self) -> None:
        self.now = 1.8e9
        self.up = True
        self.total = 0
        self.failed = 0

    def status(self) -> dict[str, Any] | None:
        counters = {
            "tcp": 3, "udp": 2, "icmp": 1, "opened": self.total, "bytes_to_wan": 1_000 * self.total,
            "bytes_to_lan": 2_000 * self.total, "refused": self.failed, "unreachable": 0, "denied": 0,
            "limited": 0,
        }  # fmt: skip
        return {"counters": counters} if self.up else None

    def pass_(self, samples: Samples, times: int, each: int = 10, failed: int = 0) -> None:
        for _time in range(times):
            self.now += EVERY
            self.total += each
            self.failed += failed
            samples.take()


def _made() -> tuple[_Proxy, Samples]:
    proxy = _Proxy()
    return proxy, Samples(proxy.status, lambda: proxy.now)


def test_rates_are_of_each_interval() -> None:
    proxy, samples = _made()
    samples.take()
    proxy.pass_(samples, 3)
    points = samples.points()
    assert [point["time"] for point in points] == [1.8e9 + EVERY * at for at in (1, 2, 3)]
    assert {key: points[0][key] for key in ("open", "opened", "to_wan", "to_lan", "not_carried")} == {
        "open": 6, "opened": 2.0, "to_wan": 16_000.0, "to_lan": 32_000.0, "not_carried": 0,
    }  # fmt: skip


def test_what_was_not_carried_is_counted_over_a_minute() -> None:
    proxy, samples = _made()
    samples.take()
    proxy.pass_(samples, 30, failed=1)
    assert samples.points()[0]["not_carried"] == 1
    assert samples.points()[-1]["not_carried"] == 60 / EVERY


def test_a_proxy_that_began_anew_has_no_rate_below_nothing() -> None:
    proxy, samples = _made()
    proxy.pass_(samples, 3, failed=5)
    proxy.total = proxy.failed = 0
    proxy.pass_(samples, 3, failed=1)
    points = samples.points()
    assert len(points) == 4
    assert min(point["opened"] for point in points) >= 0
    assert points[-1]["not_carried"] == 2


def test_a_proxy_that_is_away_leaves_a_gap() -> None:
    proxy, samples = _made()
    proxy.pass_(samples, 2)
    proxy.up = False
    proxy.pass_(samples, 10)
    proxy.up = True
    proxy.pass_(samples, 1)
    points = samples.points()
    assert points[1]["time"] - points[0]["time"] == 11 * EVERY
    assert points[1]["opened"] == 110 / (11 * EVERY)


def test_half_an_hour_is_kept() -> None:
    proxy, samples = _made()
    proxy.pass_(samples, int(2 * KEPT_SECONDS / EVERY))
    points = samples.points()
    assert len(points) == KEPT_SECONDS / EVERY
    assert points[0]["time"] >= proxy.now - KEPT_SECONDS
    proxy.now += KEPT_SECONDS + 1
    assert samples.points() == []
