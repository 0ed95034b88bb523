"""Backups: what goes in comes out on another box, and nothing else opens or changes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.config import load
from appliance.control.backup import IDENTITY, MAGIC, MAX_BACKUP, BackupError, Backups, seal, unseal
from appliance.control.client import ControlClient, ControlError
from appliance.control.server import ControlServer
from appliance.errors import ConfigError
from appliance.system.passwords import PasswordTooWeakError
from tests.unit.control.test_commits import HASH, TEXT, Bench
from tests.unit.control.test_server import server

__all__ = ["server"]

PHRASE = "correct horse battery"


def backups(bench: Bench) -> tuple[Backups, list[str]]:
    done: list[str] = []
    return Backups(bench.folder, bench.drafting, lambda: done.append("renewed")), done


def fill(folder: Path, word: str) -> None:
    (folder / "tls").mkdir()
    for name in IDENTITY:
        if "uploaded" not in name:
            (folder / name).write_text(f"{word} {name}")


def test_onto_another_box(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = Bench(tmp_path / "old")
    fill(old.folder, "old")
    (old.folder / "ports").write_text('{"wan": "eno1", "lan": "eno2"}')
    data = backups(old)[0].make(PHRASE)
    assert HASH.encode() not in data and b"fd00" not in data

    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.toml").write_text('[system]\nhostname = "new"\n')
    new = Bench(tmp_path / "new")
    fill(new.folder, "new")
    (new.folder / "tls" / "uploaded.crt").write_text("new")
    made, done = backups(new)
    view = made.restore("ann", data, PHRASE, identity=False)
    assert view.cuts and {"lan.prefix", "system.hostname", "user.ann"} <= {one.path for one in view.changes}
    assert HASH not in json.dumps(view.config)
    assert (new.folder / "tls" / "authority.key").read_text().startswith("new") and not done
    new.commit("ann")
    new.commits.confirm("ann", None)
    assert load(new.file) == load(old.file)

    made.restore("ann", data, PHRASE, identity=True)
    assert done == ["renewed"]
    assert "eno1" not in json.dumps(unseal(data, PHRASE)) and not (new.folder / "ports").exists()
    for name in IDENTITY:
        path = new.folder / name
        if "uploaded" in name:
            assert not path.exists()
        else:
            assert path.read_text() == f"old {name}"
            assert path.stat().st_mode & 0o777 == (0o644 if name.endswith(".crt") else 0o600)


def test_a_generated_prefix_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(TEXT.replace("fd00:1::/64", "generated"))
    bench = Bench(tmp_path)
    made, _done = backups(bench)
    data = made.make(PHRASE)
    assert unseal(data, PHRASE)["lan_prefix"] == "fd99::/64"
    assert made.restore("ann", data, PHRASE, identity=False).config["lan"]["prefix"] == "fd99::/64"


def test_generated_prefixes_of_more_lans_go_with_it(tmp_path: Path) -> None:
    more = '[[segment]]\nname = "cams"\nvlan = 30\n[[segment]]\nname = "guests"\nvlan = 20\n'
    (tmp_path / "config.toml").write_text(TEXT.replace("fd00:1::/64", "generated") + more)
    (tmp_path / "lan-prefix").write_text("fd99:0:0:1::/64\n")
    (tmp_path / "segment-subnets").write_text('{"guests": 2, "cams": 3}')
    made, _done = backups(Bench(tmp_path))
    segments = made.restore("ann", made.make(PHRASE), PHRASE, identity=False).config["segment"]
    assert [one["prefix"] for one in segments] == ["fd99:0:0:3::/64", "fd99:0:0:2::/64"]


def test_only_the_passphrase_opens_it_and_no_octet_may_change(tmp_path: Path) -> None:
    data = seal({"config": ""}, PHRASE)
    assert unseal(data, PHRASE) == {"config": ""}
    with pytest.raises(BackupError, match="passphrase is wrong"):
        unseal(data, PHRASE + "s")
    for at in (len(MAGIC), len(MAGIC) + 16, len(MAGIC) + 28, len(data) - 1):
        with pytest.raises(BackupError, match="damaged"):
            unseal(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], PHRASE)
    for cut in (len(MAGIC), len(MAGIC) + 5, len(data) - 1):
        with pytest.raises(BackupError, match="damaged"):
            unseal(data[:cut], PHRASE)
    for other, words in ((b"", "begins with"), (b"isthmus-backup-2\nx", "newer version")):
        with pytest.raises(BackupError) as refused:
            unseal(other, PHRASE)
        assert words in refused.value.hint
    for content in ({}, {"config": 3}):
        with pytest.raises(BackupError, match="no configuration"):
            unseal(seal(content, PHRASE), PHRASE)
    with pytest.raises(PasswordTooWeakError, match="at least 10"):
        seal({}, "short")
    made = backups(Bench(tmp_path))[0]
    with pytest.raises(ConfigError, match="reads up to"):
        made.restore("ann", seal({"config": "schema_version = 99"}, PHRASE), PHRASE, identity=False)
    with pytest.raises(BackupError, match="at most"):
        made.restore("ann", bytes(MAX_BACKUP + 1), PHRASE, identity=False)


def test_what_somebody_put_into_one_writes_no_other_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    made, _done = backups(bench)
    data = seal({"config": "", "identity": {"../evil": "x", "tls/authority.key": 3}}, PHRASE)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert made.restore("ann", data, PHRASE, identity=True).problems == ()
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.parent.name for path in after - before} == {"candidates"}
    assert not (tmp_path.parent / "evil").exists()


def test_over_the_socket(server: ControlServer, tmp_path: Path) -> None:
    client = ControlClient(tmp_path)
    (tmp_path / "config.toml").write_text(TEXT)
    client.set_user("bob", ["staff"], "correct horse", new=True)
    data = client.backup(PHRASE)
    client.remove_user("bob")
    with pytest.raises(ControlError, match="passphrase is wrong"):
        client.restore_backup("ann", data, "another passphrase", identity=False)
    with pytest.raises(ControlError, match="at least 10"):
        client.backup("short")
    with pytest.raises(ControlError, match="no base64"):
        client._call("RestoreBackup", author="ann", data="§", passphrase=PHRASE, identity=False)
    candidate = client.restore_backup("ann", data, PHRASE, identity=True)
    assert [change["path"] for change in candidate["changes"]] == ["user.bob"]
    assert (tmp_path / "renewed").exists()
