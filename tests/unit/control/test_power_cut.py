"""Control is killed at each of its steps on the disk: what is there afterwards is old or new, and whole."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.config import load, parse
from appliance.config.transaction import Phase
from appliance.files import put
from tests.unit.control.crash import OLD, WAITING, die_at, do, made, prepare

VERBS = ("final", "pending", "candidate", *WAITING)


def whole(folder: Path) -> str:
    """ "old" or "new"; nothing else is there."""
    text = (folder / "config.toml").read_text()
    if text == OLD:
        return "old"
    config = parse(text)
    assert config.policy.default == "deny" or str(config.lan.prefix) == "fd00:2::/64"
    return "new"


@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_every_step(tmp_path: Path, verb: str) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    prepare(origin, verb)
    steps: int | None = None
    step, seen = 0, set()
    while steps is None:
        step += 1
        folder = tmp_path / f"step {step}"
        shutil.copytree(origin, folder)
        steps = die_at(step, folder, verb)
        seen.add(whole(folder))

        commits = made(folder)  # the same boot, within the deadline
        ledger = commits.revisions.ledger
        assert ledger.phase in (Phase.SETTLED, Phase.UNCONFIRMED)
        assert commits.revisions.text(ledger.active) == (folder / "config.toml").read_text()
        load(folder / "config.toml")
        if ledger.phase is Phase.UNCONFIRMED:
            assert verb in ("pending", *WAITING) and whole(folder) == "new"
            waiting = commits.waiting()
            assert waiting is not None and waiting.remaining == 90.0
        assert commits.drafting.view("ann").problems == ()

        commits = made(folder, boot="boot 2")  # the power comes back
        assert commits.revisions.ledger.phase is Phase.SETTLED
        left = {path.name for path in (folder / "revisions").iterdir()}
        records = commits.revisions.ledger.records
        assert left == {"ledger.json", *(f"{record.number:06}.toml" for record in records)}
        if verb in ("pending", "rollback", "late", "recover"):
            assert whole(folder) == "old"
        # And it works on.
        config = dict(commits.drafting.view("bob").config)
        config["console"] = {"port": 8443}
        commits.drafting.put("bob", config, commits.revisions.ledger.active, None)
        candidate = commits.drafting.view("bob").candidate
        commits.commit("bob", "", candidate.based_on, None, None)
        commits.confirm("ann", None)
        assert load(folder / "config.toml").console.port == 8443
        shutil.rmtree(folder)
    assert step == steps + 1 and step > 5, "the last run is the one that lived"
    assert seen == {"candidate": {"old"}, "confirm": {"new"}}.get(verb, {"old", "new"})


@pytest.mark.parametrize("number", range(10))
def test_killed_at_random_steps_of_long_histories(tmp_path: Path, number: int) -> None:
    verb = f"history {number}"
    origin, full = tmp_path / "origin", tmp_path / "full"
    origin.mkdir()
    prepare(origin, "candidate")
    shutil.copytree(origin, full)
    steps = die_at(0, full, verb)
    assert steps is not None and steps > 30
    known = {path.read_text() for path in (full / "revisions").glob("0*.toml")}
    assert len(known) > 1
    for step in random.Random(number).sample(range(1, steps + 1), 10):
        folder = tmp_path / str(step)
        shutil.copytree(origin, folder)
        assert die_at(step, folder, verb) is None
        text = (folder / "config.toml").read_text()
        assert text in known
        for boot in ("boot 1", "boot 2"):
            commits = made(folder, boot)
            ledger = commits.revisions.ledger
            assert commits.revisions.text(ledger.active) == (folder / "config.toml").read_text()
            assert ledger.phase is Phase.SETTLED or (boot == "boot 1" and commits.waiting() is not None)
        assert (folder / "config.toml").read_text() in known
        shutil.rmtree(folder)


def test_what_a_name_stands_for_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two writes of a commit nothing is left for the system to write in an order of its own."""
    origin = tmp_path / "box"
    origin.mkdir()
    prepare(origin, "pending")
    calls: list[tuple[str, str]] = []
    paths: dict[int, str] = {}
    real: dict[str, Callable[..., Any]] = {n: getattr(os, n) for n in ("open", "write", "fsync", "replace")}

    def opened(path: Any, *words: Any, **more: Any) -> Any:
        descriptor = real["open"](path, *words, **more)
        paths[descriptor] = str(path)
        return descriptor

    def wrote(descriptor: int, data: bytes) -> Any:
        calls.append(("write", paths[descriptor]))
        return real["write"](descriptor, data)

    def synced(descriptor: int) -> None:
        calls.append(("sync", paths[descriptor]))
        real["fsync"](descriptor)

    def replaced(old: Any, new: Any) -> None:
        calls.append(("replace", str(new)))
        real["replace"](old, new)

    for name, wrapped in (("open", opened), ("write", wrote), ("fsync", synced), ("replace", replaced)):
        monkeypatch.setattr(os, name, wrapped)
    do(origin, "pending")
    monkeypatch.undo()
    puts = [index for index, (what, _path) in enumerate(calls) if what == "replace"]
    assert [Path(calls[at][1]).name for at in puts] == [
        "000002.toml",
        "ledger.json",
        "config.toml",
        "ledger.json",
    ]
    for at in puts:
        new = Path(calls[at][1])
        fresh = str(new.with_name(f".{new.name}.new"))
        assert [calls[at - 2], calls[at - 1], calls[at + 1]] == [
            ("write", fresh),
            ("sync", fresh),
            ("sync", str(new.parent)),
        ]


@pytest.mark.parametrize(
    ("refused_at", "fate"),
    [
        (1, "old"),  # the revision
        (2, "old"),  # the ledger
        (3, "old"),  # the file
        (4, "new"),  # the ledger after the file: it is in force, and a start would see that
        (5, "old"),  # that it is confirmed
    ],
)
def test_a_disk_that_refuses_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused_at: int, fate: str
) -> None:
    prepare(tmp_path, "final")
    commits = made(tmp_path)
    real = os.write
    writes = 0

    def write(descriptor: int, data: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == refused_at:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    candidate = commits.drafting.view("ann").candidate
    if fate == "old":
        with pytest.raises(OSError, match="No space"):
            commits.commit("ann", "", candidate.based_on, None, None)
    else:
        commits.commit("ann", "", candidate.based_on, None, None)
    monkeypatch.undo()
    for machine in (commits, made(tmp_path)):
        assert machine.revisions.ledger.phase is Phase.SETTLED and whole(tmp_path) == fate
    # What was not put in force is not lost.
    assert (made(tmp_path).drafting.view("ann").changes == ()) == (fate == "new")


def test_a_rollback_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, "pending")
    do(tmp_path, "pending")
    commits = made(tmp_path, uptime=570.0)
    monkeypatch.setattr(commits.revisions, "_clock", lambda: made(tmp_path, uptime=600.0).revisions._clock())
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert not commits.tick() and not commits.tick()
    assert "the rollback cannot be written" in capsys.readouterr().err and whole(tmp_path) == "new"
    assert commits.tick() and whole(tmp_path) == "old"
    assert not commits.tick()


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"format": 1}'])
def test_a_broken_ledger_is_put_aside(
    tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, "confirm")
    made(tmp_path).confirm("ann", None)
    (tmp_path / "revisions" / "ledger.json").write_text(broken)
    commits = made(tmp_path)
    assert "put aside" in capsys.readouterr().err and whole(tmp_path) == "new"
    assert [record.author for record in commits.revisions.ledger.records] == ["file"]
    assert (tmp_path / "revisions" / "lost-000001.toml").read_text() == OLD
    assert (tmp_path / "revisions" / "ledger.broken.json").read_text() == broken


def test_a_file_that_is_gone_comes_back(tmp_path: Path) -> None:
    prepare(tmp_path, "final")
    (tmp_path / "config.toml").unlink()
    made(tmp_path)
    assert whole(tmp_path) == "old"


def test_files_are_for_nobody_else(tmp_path: Path) -> None:
    prepare(tmp_path, "pending")
    put(tmp_path / "x", "text ü")
    assert (tmp_path / "x").read_text() == "text ü"
    for path in [tmp_path / "x", *(tmp_path / "revisions").iterdir(), *(tmp_path / "candidates").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
