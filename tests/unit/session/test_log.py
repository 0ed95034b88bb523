"""The log of sessions: nothing of a destination is written where the configuration says so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.session.log import Log
from appliance.session.record import Session
from appliance.session.row import parse

SERVER = "64:ff9b::c01f:c450"
ORIGIN = "192.31.196.80"
NAME = "www.secret.example"
PORT = 4_711
ENDPOINTS = (
    bytes.fromhex("fd000001000000000000000000000002") + bytes.fromhex("0064ff9b0000000000000000c01fc450")
    + (40_000).to_bytes(2, "big") + PORT.to_bytes(2, "big")
)  # fmt: skip


def session() -> Session:
    made = Session(7, "tcp", ENDPOINTS, ORIGIN, 10.0)
    made.name, made.named_by, made.user, made.service, made.rule = NAME, "asked", "ann", "http", "staff"
    made.to_wan, made.to_lan = 12, 345
    return made


def refusal() -> dict[str, Any]:
    return {
        "kind": "tcp", "refused": "denied", "client": "fd00:1::2", "origin": ORIGIN, "origin_port": PORT,
        "name": NAME, "rule": "staff", "something": f"new about {NAME}",
    }  # fmt: skip


def written(path: Path, privacy: str) -> str:
    """What the log holds after a session and a refusal."""
    log = Log(path, 3)
    log.configure(privacy)
    log.ended(session(), "closed", 12.5)
    log.refused(refusal())
    log.flush()
    assert log.dropped == 0
    return path.read_text()


def test_everything(tmp_path: Path) -> None:
    ended, refused = (json.loads(line) for line in written(tmp_path / "log", "full").splitlines())
    assert (ended["server"], ended["server_port"], ended["origin"], ended["name"]) == (
        SERVER,
        PORT,
        ORIGIN,
        NAME,
    )
    assert (refused["origin"], refused["name"]) == (ORIGIN, NAME)


def test_no_destinations(tmp_path: Path) -> None:
    text = written(tmp_path / "log", "no-destinations")
    for trace in (SERVER, "64:ff9b", ORIGIN, "secret", str(PORT), "asked"):
        assert trace not in text
    ended, refused = (parse(line.encode()) for line in text.splitlines())
    assert (ended.client, ended.client_port, ended.user, ended.service) == (
        "fd00:1::2",
        40_000,
        "ann",
        "http",
    )
    assert (ended.rule, ended.to_wan, ended.to_lan, ended.age) == ("staff", 12, 345, 2_500)
    assert (refused.client, refused.rule, refused.outcome) == ("fd00:1::2", "staff", "denied")


def test_counters_alone(tmp_path: Path) -> None:
    assert written(tmp_path / "log", "counters") == ""


@pytest.mark.parametrize("privacy", ["full", "no-destinations"])
def test_every_line_is_one(tmp_path: Path, privacy: str) -> None:
    bare = Session(1, "icmp", ENDPOINTS, ORIGIN, 10.0)
    line = bare.log_line(0, 11.0, 1_800_000_000.0, "idle", privacy == "full")
    assert json.loads(line)["service"] is None
    assert parse(line.encode()).user == ""


def test_what_the_disk_does_not_take_is_counted(tmp_path: Path) -> None:
    log = Log(tmp_path / "no folder" / "log", 0)
    log.ended(session(), "closed", 12.5)
    assert log.dropped == 1


def test_half_a_line_costs_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full takes the beginning of what is written; later it has room again."""
    path = tmp_path / "log"
    log = Log(path, 0)
    write = os.write
    for room in (100, 0, 1 << 20):
        monkeypatch.setattr(os, "write", lambda fd, data, room=room: write(fd, data[:room]))
        log.ended(session(), "closed", 12.5)
        log.ended(session(), "closed", 12.5)
        log.flush()
    monkeypatch.undo()
    assert log.dropped == 4
    good = [line for line in path.read_text().splitlines() if line.endswith("}")]
    assert len(good) == 2 and all(parse(line.encode()) for line in good)
