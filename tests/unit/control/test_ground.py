"""What a commit leads to, with the ports and prefixes that the box has put in: refused, told, confirmed."""

from __future__ import annotations

import contextlib
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from appliance.config import Config, parse
from appliance.config.codec import dump
from appliance.config.schema import as_plain
from appliance.config.transaction import Phase
from appliance.control.box import Box
from appliance.control.drafting import View
from appliance.control.ports import Ports
from appliance.control.sides import Sides
from appliance.errors import ConfigError
from appliance.network import observe
from tests.unit.control.test_commits import Bench

LAN = IPv6Network("fd99:0:0:1::/64")
TWO, CAMERAS = "fd99:0:0:2::/64", '[[segment]]\nname = "cameras"\nvlan = 30\n'
EXPLICIT = f'[[segment]]\nname = "guests"\nvlan = 20\nprefix = "{TWO}"\n'


def guests(more: str) -> str:
    return f'[[segment]]\nname = "guests"\n{more}\n'


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """A box with three ports, after its first start: eth0 is the WAN, eth1 the LAN."""
    monkeypatch.setattr(observe, "wired_ports", lambda: ["eth0", "eth1", "eth2"])
    monkeypatch.setattr(observe, "if_nameindex", lambda: [(1, "eth0"), (2, "eth1"), (3, "eth2")])
    (tmp_path / "lan-prefix").write_text(f"{LAN}\n")
    (tmp_path / "ports").write_text('{"wan": "eth0", "lan": "eth1"}')
    return Box(tmp_path / "config.toml", tmp_path / "run", tmp_path, networkd=False)


class NoNetwork:
    """An Applier that changes nothing."""

    changed: frozenset[str] = frozenset()

    def apply(self, steps: object) -> None:
        pass

    def remove_surplus(self, workers: int) -> None:
        pass


@pytest.fixture
def bench(box: Box) -> Bench:
    """Its commits, by the default configuration."""
    box.config_path.write_text(dump(Config()))
    made = Bench(box.state)
    made.ground = box.ground
    return made


def judged(bench: Bench, text: str) -> View:
    return bench.drafting.replace("ann", as_plain(parse(text)))


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (guests('interface = "eth1"'), "segment[0].interface", "port eth1 is the LAN already"),
        (guests('interface = "eth0"'), "segment[0].interface", "“eth0” is the WAN already"),
        (
            '[lan]\nvlan = 20\n[[segment]]\nname = "guests"\ninterface = "eth1"\nvlan = 20',
            "segment[0].vlan",
            "VLAN 20 on port eth1 is the LAN already",
        ),
        (guests(f'vlan = 20\nprefix = "{LAN}"'), "segment[0].prefix", "the LAN's prefix"),
        ('[[translation]]\nprefix = "fd99::/48"', "translation[0].prefix", "which the box made"),
        ('[[translation]]\nprefix = "fd99:0:0:1::/96"', "translation[0].prefix", "which the box made"),
        ('[lan]\nclient_prefix = "fd99:0:0:1::/96"', "lan.client_prefix", "which the box made"),
        ('[[route]]\nname = "r"\nto = "fd99::/48"\nvia = "fd99:0:0:1::5"', "route[0].to", "LAN “lan” has"),
        ('[[route]]\nname = "r"\nto = "fd05::/48"\nvia = "fd99:0:0:1::1"', "route[0].via", "the box itself"),
    ],
)
def test_what_is_refused(bench: Bench, box: Box, text: str, path: str, words: str) -> None:
    found = {problem.path: problem for problem in judged(bench, text).problems}
    assert words in found[path].message and found[path].hint
    with pytest.raises(ConfigError):
        bench.commit("ann")
    assert bench.commits.revisions.ledger.phase is Phase.SETTLED and not bench.applied
    # By hand in the file it is no better.
    bench.file.write_text(text)
    bench.commits.adopt()
    assert len(bench.states()) == 1
    with contextlib.suppress(ConfigError):  # there is no last good one
        box.read()
    assert path in "".join(box.problems)


def test_a_vlan_on_the_lans_port_moves_nothing(bench: Bench) -> None:
    view = judged(bench, guests('interface = "eth1"\nvlan = 20'))
    assert not view.problems and not view.cuts
    assert [effect.text for effect in view.effects] == ["Begins LAN “guests” on VLAN 20 on port eth1."]
    assert bench.commit("ann") == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[lan]\ninterface = "eth2"', ["Moves the LAN to port eth2: cuts it until cables fit."]),
        (
            '[wan]\ninterface = "eth1"',
            [
                "Moves the LAN to port eth0: cuts it until cables fit.",
                "Moves the WAN to port eth1: cuts it until cables fit.",
            ],
        ),
        ('[lan]\ninterface = "eth1"\n[wan]\ninterface = "eth0"', []),
        (f'[lan]\nprefix = "{LAN}"', []),
    ],
)
def test_what_moves_is_told_and_has_to_be_confirmed(bench: Bench, text: str, told: list[str]) -> None:
    view = judged(bench, text)
    assert not view.problems
    assert [effect.text for effect in view.effects if effect.cut] == told
    assert told or not view.effects


def test_before_anything_is_kept_what_moves_is_told_too(bench: Bench, box: Box) -> None:
    (box.state / "ports").unlink()
    view = judged(bench, guests('interface = "eth1"'))
    assert view.cuts
    assert any("Moves the LAN to port eth2" in effect.text for effect in view.effects)


def test_ports_are_kept_once_nothing_rolls_them_back(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ports, "_is_settled", lambda _self, _now: True)
    monkeypatch.setattr(box, "_applier", NoNetwork())
    box.config_path.write_text('[lan]\ninterface = "eth2"')
    box.read()
    box.apply({"lan": str(LAN)})
    assert box.ports.kept() == {"wan": "eth0", "lan": "eth1"}
    box.apply()
    assert box.ports.kept() == {"wan": "eth0", "lan": "eth2"}


def test_a_lan_that_goes_along_is_told(bench: Bench) -> None:
    judged(bench, guests("vlan = 20"))
    bench.commit("ann")
    view = judged(bench, '[lan]\ninterface = "eth2"\n' + guests("vlan = 20"))
    assert "Moves LAN “guests” to VLAN 20 on port eth2" in "".join(effect.text for effect in view.effects)


def test_a_view_is_made_anew_where_the_ports_are_others(bench: Bench, box: Box) -> None:
    assert not judged(bench, guests('interface = "eth2"')).problems
    (box.state / "ports").write_text('{"wan": "eth0", "lan": "eth2"}')
    assert bench.drafting.view("ann").problems


def test_a_subnet_that_somebody_named_is_not_given_out(tmp_path: Path) -> None:
    (tmp_path / "lan-prefix").write_text(f"{LAN}\n")
    sides = Sides(tmp_path)
    config = parse(
        EXPLICIT + CAMERAS + '[[translation]]\nprefix = "fd99:0:0:3::/64"\n'
        '[[route]]\nname = "r"\nto = "fd99:0:0:4::/62"\nvia = "fd99:0:0:2::9"'
    )
    assert sides.foreseen(config)["cameras"] == IPv6Network("fd99:0:0:8::/64")
    assert not (tmp_path / "segment-subnets").exists()
    assert sides.prefixes(config) == sides.foreseen(config)
    # And stays, whatever becomes free.
    assert sides.prefixes(parse(CAMERAS))["cameras"] == IPv6Network("fd99:0:0:8::/64")


def test_a_subnet_that_was_given_out_cannot_be_named(bench: Bench, box: Box) -> None:
    assert str(box.sides.prefixes(parse(CAMERAS))["cameras"]) == TWO
    [problem] = judged(bench, EXPLICIT + CAMERAS).problems
    assert problem.path == "segment[0].prefix"
    assert problem.message == (f"{TWO} overlaps the prefix of LAN “cameras”, {TWO}, which the box made.")
    assert "another" in problem.hint


def test_no_subnet_is_left(bench: Bench) -> None:
    texts = [guests("vlan = 20") + f'[[translation]]\nprefix = "{net}"' for net in ("fd99::/48", "fd99::/32")]
    assert all(judged(bench, text).problems for text in texts)


@pytest.mark.parametrize("text", ["{", "[1]", '{"cameras": null}'])
def test_subnets_that_cannot_be_read_are_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "lan-prefix").write_text(f"{LAN}\n")
    (tmp_path / "segment-subnets").write_text(text)
    assert str(Sides(tmp_path).prefixes(parse(CAMERAS))["cameras"]) == TWO


def test_a_file_that_does_not_fit_this_box_leaves_the_last_good_one(box: Box) -> None:
    """As of a version that did not look: what is in force stays, and health says what is wrong."""
    box.config_path.write_text('[[translation]]\nprefix = "fd99::/48"')
    (box.state / "config.last-good.toml").write_text('[system]\nhostname = "good"')
    box.read()
    assert box.config.system.hostname == "good"
    assert "translation[0].prefix" in box.problems[0]
    assert 'hostname = "good"' in (box.runtime / "config.toml").read_text()
