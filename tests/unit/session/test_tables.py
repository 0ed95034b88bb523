"""Tables in a folder: taken up when they are replaced, kept when what replaces them is broken."""

from __future__ import annotations

from pathlib import Path

from appliance.policy.name_table import EXACT, TableBuilder
from appliance.session.tables import LOOK, Tables


def write(folder: Path, name: str, *names: str) -> None:
    builder = TableBuilder(bytes(16))
    for one in names:
        builder.add(one.encode(), EXACT)
    fresh = folder / f".{name}.new"
    with fresh.open("wb") as out:
        builder.write(out)
    fresh.replace(folder / f"{name}.table")


def test_they_follow_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    tables = Tables(folder)
    assert not tables.refresh(0.0) and not tables
    folder.mkdir()
    write(folder, "ads", "a.example")
    assert not tables.refresh(LOOK / 2)  # it has just looked
    assert tables.refresh(LOOK) and tables["ads"].find("a.example") == "a.example"
    first = tables["ads"]
    write(folder, "more", "b.example", "c.example")
    assert tables.refresh(2 * LOOK) and set(tables) == {"ads", "more"}
    assert tables["ads"] is first and tables["more"].names == 2
    write(folder, "ads", "b.example")
    assert tables.refresh(3 * LOOK)
    assert not tables["ads"].find("a.example") and tables["ads"].find("b.example")
    assert first.find("a.example")  # who still holds it may look into it
    (folder / "more.table").unlink()
    assert tables.refresh(4 * LOOK) and set(tables) == {"ads"}


def test_hits_are_counted_over_replacements(tmp_path: Path) -> None:
    write(tmp_path, "ads", "a.example")
    tables = Tables(tmp_path)
    tables.refresh(0.0)
    for name in ("a.example", "b.example", "a.example"):
        tables["ads"].find(name)
    write(tmp_path, "ads", "b.example")
    tables.refresh(LOOK)
    tables["ads"].find("b.example")
    assert tables.hits() == {"ads": 3}


def test_a_broken_table_leaves_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, "ads", "a.example")
    tables = Tables(tmp_path)
    tables.refresh(0.0)
    for number, broken in enumerate((b"", b"isth-nt1", bytes(4096)), 1):
        (tmp_path / ".new").write_bytes(broken)
        (tmp_path / ".new").replace(tmp_path / "ads.table")
        tables.refresh(number * LOOK)
        assert tables["ads"].find("a.example") and tables.problems["ads"]
    write(tmp_path, "ads", "b.example")
    tables.refresh(9 * LOOK)
    assert tables["ads"].find("b.example") and not tables.problems
