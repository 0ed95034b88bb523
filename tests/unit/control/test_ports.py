"""Ports that "auto" stands for: chosen once, kept, and moved by nobody but an admin."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.config import Config, parse
from appliance.control.ports import SETTLED_SECONDS, Ports
from appliance.network import observe
from appliance.network.observe import PortError, Roles

AUTO = Config()
TWO = ["enp1s0", "enp2s0"]
THREE = [*TWO, "enp3s0"]
GUESTS = '[[segment]]\nname = "guests"\ninterface = "{}"\n'


@dataclass
class Machine:
    """A box whose cards are plugged in and pulled, and whose clock is set."""

    state: Path
    wired: list[str] = field(default_factory=lambda: list(TWO))
    others: list[str] = field(default_factory=list)
    now: float = 1_000.0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Control, anew."""
        self.ports = Ports(self.state)

    def look(self, config: Config = AUTO, pending: bool = False) -> Roles:
        """What control does every two seconds; ``pending``: a commit waits to be confirmed."""
        self.now += 2
        roles = self.ports.look(config, self.now)
        if not pending:
            self.ports.keep(config, roles, self.now)
        return roles

    def settle(self, config: Config = AUTO, pending: bool = False) -> Roles:
        """As long as it takes to keep a choice."""
        self.look(config, pending)
        self.now += SETTLED_SECONDS
        return self.look(config, pending)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """It, with two ports, before its first start."""
    made = Machine(tmp_path)
    monkeypatch.setattr(observe, "wired_ports", lambda: list(made.wired))
    monkeypatch.setattr(
        observe, "if_nameindex", lambda: list(enumerate(["lo", *made.wired, *made.others], 1))
    )
    return made


def where(roles: Roles) -> tuple[str, ...]:
    """WAN, LAN, further LANs."""
    assert not roles.missing
    return (roles.wan, *roles.lans)


def test_a_card_that_is_plugged_in_moves_nothing(machine: Machine) -> None:
    assert where(machine.settle()) == ("enp1s0", "enp2s0")
    machine.wired = ["usb0", *TWO]
    assert where(machine.look()) == ("enp1s0", "enp2s0")
    assert where(machine.settle()) == ("enp1s0", "enp2s0")
    machine.start()
    assert where(machine.look()) == ("enp1s0", "enp2s0")
    assert where(machine.settle()) == ("enp1s0", "enp2s0")


def test_a_card_that_goes_moves_nothing_and_is_missing(machine: Machine) -> None:
    machine.wired = list(THREE)
    machine.settle()
    for gone, setting in (("enp1s0", "wan.interface"), ("enp2s0", "lan.interface")):
        machine.wired = [name for name in THREE if name != gone]
        for _ in range(2):
            roles = machine.settle()
            assert (roles.wan, *roles.lans) == ("enp1s0", "enp2s0")
            assert roles.missing == ((setting, gone),)
            machine.start()
    machine.wired = list(THREE)
    assert where(machine.look()) == ("enp1s0", "enp2s0")


def test_a_first_start_waits_for_ports_that_come_one_after_the_other(machine: Machine) -> None:
    machine.wired = ["enp2s0"]
    for _ in range(2):
        with pytest.raises(PortError, match=r"lan.interface: no wired port is left"):
            machine.look()
        machine.now += SETTLED_SECONDS
    machine.wired = ["enp2s0", "enp3s0"]
    assert where(machine.look()) == ("enp2s0", "enp3s0")
    machine.now += SETTLED_SECONDS - 4
    machine.wired = list(THREE)
    assert where(machine.look()) == ("enp1s0", "enp2s0")
    assert machine.ports.kept() == {}
    machine.settle()
    assert machine.ports.kept() == {"wan": "enp1s0", "lan": "enp2s0"}


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"wan": ["enp2s0"], "lan": 3}', '{"other": "enp9s0"}'])
def test_a_damaged_file_is_as_none(machine: Machine, text: str) -> None:
    (machine.state / "ports").write_text(text)
    assert where(machine.settle()) == ("enp1s0", "enp2s0")
    assert json.loads((machine.state / "ports").read_text()) == {"wan": "enp1s0", "lan": "enp2s0"}


def test_a_disk_in_another_box_chooses_anew(machine: Machine) -> None:
    machine.settle()
    machine.start()
    machine.wired = []  # as at a start: the ports come later
    assert len(machine.look().missing) == 2
    machine.wired = ["eno1"]
    assert len(machine.settle().missing) == 2
    machine.wired = ["eno1", "eno2"]
    assert len(machine.look().missing) == 2  # its own may yet come
    assert where(machine.settle()) == ("eno1", "eno2")
    machine.wired = ["aaa0", "eno1", "eno2"]
    machine.start()
    assert where(machine.settle()) == ("eno1", "eno2")


def test_two_ports_that_go_while_it_runs_are_missing(machine: Machine) -> None:
    """Of one card, say, whose driver is started anew."""
    machine.settle()
    machine.wired = ["usb0", "usb1"]
    assert len(machine.settle().missing) == 2
    machine.wired += TWO
    assert where(machine.look()) == ("enp1s0", "enp2s0")


def test_a_port_that_is_named_stays_where_its_side_becomes_auto(machine: Machine) -> None:
    machine.wired = list(THREE)
    machine.settle()
    named = parse('[lan]\ninterface = "enp3s0"')
    assert where(machine.settle(named)) == ("enp1s0", "enp3s0")
    assert where(machine.look()) == ("enp1s0", "enp3s0")
    machine.start()
    assert where(machine.look()) == ("enp1s0", "enp3s0")


def test_what_a_commit_moves_comes_back_with_a_rollback(machine: Machine) -> None:
    machine.wired = list(THREE)
    machine.settle()
    named = parse('[lan]\ninterface = "enp3s0"')
    assert where(machine.settle(named, pending=True)) == ("enp1s0", "enp3s0")
    assert where(machine.look()) == ("enp1s0", "enp2s0")


def test_a_side_whose_port_is_named_for_the_other_is_chosen_anew(machine: Machine) -> None:
    machine.settle()
    named = parse('[wan]\ninterface = "enp2s0"')
    assert where(machine.look(named, pending=True)) == ("enp2s0", "enp1s0")
    machine.wired = ["aaa0", *TWO]
    assert where(machine.settle(named, pending=True)) == ("enp2s0", "enp1s0")
    assert where(machine.settle(named)) == ("enp2s0", "enp1s0")
    assert where(machine.look()) == ("enp2s0", "enp1s0")


def test_a_named_port_and_one_that_is_chosen(machine: Machine) -> None:
    machine.others = ["veth0"]
    named = parse('[wan]\ninterface = "veth0"')
    assert where(machine.settle(named)) == ("veth0", "enp1s0")
    assert machine.ports.kept() == {"lan": "enp1s0"}  # no wired port: "auto" would not choose it
    machine.others = []
    assert machine.settle(named).missing == (("wan.interface", "veth0"),)
    assert where(machine.settle()) == ("enp2s0", "enp1s0")


def test_a_box_with_names_alone_keeps_none_that_is_not_wired(machine: Machine) -> None:
    machine.wired, machine.others = [], ["lan0", "wan0"]
    assert where(machine.settle(parse('[wan]\ninterface = "wan0"\n[lan]\ninterface = "lan0"')))
    assert not (machine.state / "ports").exists()


@pytest.mark.parametrize("wired", [TWO, THREE])
@pytest.mark.parametrize("port", TWO)
def test_a_vlan_on_a_port_in_use_moves_nothing(machine: Machine, wired: list[str], port: str) -> None:
    machine.wired = list(wired)
    machine.settle()
    config = parse(GUESTS.format(port) + "vlan = 20")
    assert where(machine.ports.roles(config)) == ("enp1s0", "enp2s0", port)
    assert where(machine.look(config)) == ("enp1s0", "enp2s0", port)


def test_two_ports_are_enough_for_a_vlan_at_the_first_start(machine: Machine) -> None:
    config = parse(GUESTS.format("enp2s0") + "vlan = 20")
    assert where(machine.settle(config)) == ("enp1s0", "enp2s0", "enp2s0")


def test_a_first_choice_takes_a_port_that_has_a_vlan_last(machine: Machine) -> None:
    """As versions chose that kept nothing: an update moves no LAN."""
    machine.wired = list(THREE)
    config = parse(GUESTS.format("enp2s0") + "vlan = 20")
    assert where(machine.settle(config)) == ("enp1s0", "enp3s0", "enp2s0")


def test_a_first_choice_leaves_ports_that_are_named(machine: Machine) -> None:
    machine.wired = list(THREE)
    assert where(machine.settle(parse(GUESTS.format("enp1s0")))) == ("enp2s0", "enp3s0", "enp1s0")
    assert where(machine.look()) == ("enp2s0", "enp3s0")


def test_a_lan_without_a_port_of_its_own_goes_with_the_lans(machine: Machine) -> None:
    machine.settle()
    machine.wired = ["enp1s0"]
    roles = machine.look(parse(GUESTS.format("auto") + "vlan = 20"))
    assert roles.lans == ("enp2s0", "enp2s0") and roles.missing == (("lan.interface", "enp2s0"),)
    told = observe.missing_ports(roles.missing)
    assert "there is no port “enp2s0”" in told.message
    assert told.hint == "Put its card in, or name another port. Ports here: enp1s0."
