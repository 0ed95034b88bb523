"""Settings that came with a box: from which file, and what is said of one that is not taken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import load
from appliance.config.codec import MAX_CONFIG_BYTES
from appliance.system import health
from appliance.update import first, machine
from appliance.update.first import MARKER, NotTakenError, pick, take
from appliance.update.versions import UpdateError

GOOD = '[system]\nhostname = "attic"\n'


def test_the_box_s_own_name_goes_before_cloud_init_s(tmp_path: Path) -> None:
    assert pick(tmp_path) is None
    (tmp_path / "user-data").write_text("#cloud-config\nhostname: attic\n")
    assert pick(tmp_path) is None  # somebody else's
    (tmp_path / "user-data").write_text(f"{MARKER}\n{GOOD}")
    assert pick(tmp_path) == f"{MARKER}\n{GOOD}"
    (tmp_path / "isthmus.toml").write_text(GOOD)
    assert pick(tmp_path) == GOOD


@pytest.mark.parametrize(
    ("content", "words"),
    (
        (b"[system]\nhostname = 7\nnonsense = 1\n", "system.hostname"),
        (b"\xff\xfe", "no UTF-8"),
        (b"#" * (MAX_CONFIG_BYTES + 1), "larger than"),
    ),
)
def test_with_a_mistake_nothing_is_taken(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "isthmus.toml").write_bytes(content)
    with pytest.raises(NotTakenError, match=words):
        take(tmp_path, [lambda: pick(tmp_path)])
    assert not (tmp_path / "config.toml").exists()


def test_the_first_source_that_has_some_counts_and_only_on_a_new_box(tmp_path: Path) -> None:
    assert take(tmp_path, [lambda: None, lambda: GOOD, lambda: "never"])
    assert load(tmp_path / "config.toml").system.hostname == "attic"
    assert not take(tmp_path, [lambda: "never"])
    assert load(tmp_path / "config.toml").system.hostname == "attic"


def test_what_is_wrong_is_said_on_the_screen_and_by_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drive, box, runtime = tmp_path / "drive", tmp_path / "box", tmp_path / "run"
    for folder in (drive, box, runtime):
        folder.mkdir()
    asked = []

    @contextlib.contextmanager
    def mounted(device: Path, folder: Path, types: str, *options: str) -> Iterator[Path]:
        asked.append((device, types, options))
        yield drive

    monkeypatch.setattr(machine, "disk", lambda: Path("/dev/vda"))
    monkeypatch.setattr(machine, "boot_device", lambda whole: Path(f"{whole}1"))
    monkeypatch.setattr(machine, "mounted", mounted)
    monkeypatch.setattr(first, "DRIVES", (drive,))
    (drive / "isthmus.toml").write_text("[system]\nnonsense = 1\n")
    assert first.main([str(box), str(runtime)]) == 0
    assert "not taken" in capsys.readouterr().out
    (check,) = health.first_settings(runtime / first.PROBLEM)
    assert check.state == "warn" and "system.nonsense" in check.detail
    assert asked == [(Path("/dev/vda1"), "vfat", ("ro",))]

    (runtime / first.PROBLEM).unlink()
    (drive / "isthmus.toml").unlink()
    (drive / "user-data").write_text(f"{MARKER}\n{GOOD}")
    assert first.main([str(box), str(runtime)]) == 0
    assert load(box / "config.toml").system.hostname == "attic"
    assert health.first_settings(runtime / first.PROBLEM) == []


def test_a_drive_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(whole: Path) -> Path:
        raise UpdateError("disk", "The disk has no EFI system partition.")

    monkeypatch.setattr(machine, "disk", lambda: Path("/dev/vda"))
    monkeypatch.setattr(machine, "boot_device", refused)
    assert first.main([str(tmp_path), str(tmp_path)]) == 0
    assert "no EFI system partition" in capsys.readouterr().out
    assert not (tmp_path / "config.toml").exists()
