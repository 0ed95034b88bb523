"""The monitoring verbs: what control passes on, and what it says where there is nobody to ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from varlink.error import VarlinkError

from appliance.control.monitoring import Monitor, MonitoringVerbs
from appliance.session.keeper import Keeper
from appliance.session.verbs import Interface, Server
from appliance.system import health
from tests.unit.session.rows import line


class Proxy:
    """Stands in for org.isthmus.proxy."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any] | None] = {
            "Kill": {"killed": True},
            "EraseLog": {"problem": None},
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any] | None:
        self.asked.append((method, parameters))
        return self.answers[method]


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture
def verbs(tmp_path: Path, proxy: Proxy) -> MonitoringVerbs:
    """The verbs without a history."""
    made = MonitoringVerbs()
    made.monitor = Monitor(tmp_path, proxy)
    return made


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A history of one session, on its socket."""
    (tmp_path / "history").mkdir()
    (tmp_path / "log").write_bytes(line())
    made = Keeper(tmp_path, tmp_path / "log")
    made.turn(0.0, 1_800_000_010.0)
    with Server(tmp_path / "history" / "history.sock", Interface(made, list)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()
    made.close()


def words(raised: pytest.ExceptionInfo[VarlinkError]) -> str:
    found = raised.value.as_dict()
    assert found["error"] == "org.isthmus.control.Refused"
    assert found["parameters"]["hint"]
    return str(found["parameters"]["message"])


def test_questions_are_passed_on(verbs: MonitoringVerbs, keeper: Keeper) -> None:
    found = verbs.SearchHistory({"name": "a.example"}, None, 5)
    assert [row["client"] for row in found["rows"]] == ["fd00:1::2"]
    assert found["cursor"] == ""
    (one,) = verbs.TopHistory("rule", 1_800_000_000, 1_800_000_010, None, 5)["sums"]
    assert one["key"] == "default"
    assert len(verbs.HistorySeries(None, None, 1_800_000_000, 1_800_007_200, 3_600)["points"]) == 2
    assert verbs.GetHistoryStatus()["status"]["rows"] == 1


def test_refusals_are_passed_on(verbs: MonitoringVerbs, keeper: Keeper) -> None:
    with pytest.raises(VarlinkError) as raised:
        verbs.SearchHistory({"outcome": "well"}, None, 5)
    assert "no outcome" in words(raised)


def test_without_a_history(verbs: MonitoringVerbs) -> None:
    with pytest.raises(VarlinkError) as raised:
        verbs.SearchHistory({}, None, 5)
    assert "does not answer" in words(raised)
    with pytest.raises(VarlinkError) as raised:
        MonitoringVerbs().GetHistoryStatus()
    assert "no history" in words(raised)


def test_killing(verbs: MonitoringVerbs, proxy: Proxy) -> None:
    assert verbs.KillSession("1-7") == {"killed": True}
    assert proxy.asked == [("Kill", {"id": "1-7"})]
    proxy.answers["Kill"] = {"killed": False}
    assert verbs.KillSession("1-7") == {"killed": False}
    proxy.answers["Kill"] = None
    with pytest.raises(VarlinkError) as raised:
        verbs.KillSession("1-7")
    assert "proxy does not answer" in words(raised)


def test_erasing_says_what_is_left(verbs: MonitoringVerbs, keeper: Keeper, proxy: Proxy) -> None:
    assert verbs.EraseHistory() == {}
    assert verbs.SearchHistory({}, None, 5)["rows"] == []
    for answer, told in (
        (None, "the proxy does not answer"),
        ({"problem": "A read-only disk."}, "read-only"),
    ):
        proxy.answers["EraseLog"] = answer
        with pytest.raises(VarlinkError) as raised:
            verbs.EraseHistory()
        assert told in words(raised)


def test_health() -> None:
    well = {"problem": None, "exports": [{"kind": "squid", "target": "/x", "problem": None}]}
    assert health.history(well, expected=True) == health.history(None, expected=False) == []
    (gone,) = health.history(None, expected=True)
    assert gone.state == "warn" and "isthmus-history" in gone.detail
    export = {
        "kind": "syslog",
        "target": "tls://a:6514",
        "problem": "It is away.",
        "waiting": 3,
        "dropped": 2,
    }
    full, away = health.history({"problem": "The disk is full.", "exports": [export]}, expected=True)
    assert full.detail == "The disk is full."
    assert away.detail == "It is away. 3 lines wait, 2 could not be sent."
