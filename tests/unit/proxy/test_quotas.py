"""What the kernel is told of a rate; sessions of workers that are no more."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from appliance.config.schema import Config
from appliance.proxy import quotas
from appliance.proxy.arbiter import Arbiter
from appliance.proxy.quotas import Quotas
from appliance.proxy.relay import Pipes, RelayContext
from appliance.session.meters import Meters, Period
from tests.unit.proxy.simulation import Kernel, World


@pytest.mark.parametrize("rate", [quotas.MIN_RATE, (1 << 31) - 1, 1 << 31, quotas.UNPACED])
def test_every_rate_that_the_kernel_knows(rate: int) -> None:
    """Above 2**31 too: one that was no more ended the worker once."""
    with socket.socket() as sock:
        quotas.pace([sock.fileno()], rate)
        told = sock.getsockopt(socket.SOL_SOCKET, quotas.SO_MAX_PACING_RATE, 4)
        assert int.from_bytes(told, sys.byteorder) == rate


def limited() -> Config:
    """A configuration with a limit for each client."""
    return Config.model_validate({"limit": [{"name": "few", "sessions": 100}]})


def test_sessions_of_workers_that_are_no_more_count_nothing(tmp_path: Path) -> None:
    world = World(Kernel())
    mine = Quotas(world, RelayContext(world, Pipes(world.kernel, 1)), tmp_path / "meters", 0)
    mine.configure(limited(), 4)
    third = Meters(tmp_path / "meters", 3)
    place = third.meter("few", "fd00:1::2")
    third.set_sessions(place, 5)
    mine.configure(limited(), 4)
    assert third.read(place, Period(1, 1)).sessions == 5
    mine.configure(limited(), 2)
    assert third.read(place, Period(1, 1)).sessions == 0


def test_a_limit_that_comes_again_has_no_sessions_of_before(tmp_path: Path) -> None:
    world = World(Kernel())
    mine = Quotas(world, RelayContext(world, Pipes(world.kernel, 1)), tmp_path / "meters", 0)
    mine.configure(limited(), 1)
    client = bytes(15) + b"\2"
    assert mine.admit(client, "")
    session = world.open("tcp", client + bytes(20), "192.0.2.1", "open")
    mine.every_second()
    other = Meters(tmp_path / "meters", 1)
    place = other.meter("few", "::2")
    assert other.read(place, Period(1, 1)).sessions == 1
    world.ended(session, "closed")
    mine.configure(Config(), 1)
    mine.configure(limited(), 1)
    assert other.read(place, Period(1, 1)).sessions == 0


CLIENT = bytes(15) + b"\2"


def octets(limits: Quotas, world: World, path: Path, name: str = "few", subject: str = "::2") -> int:
    """What is counted for a subject in this day."""
    limits.every_second()
    found = {(limit, whom): reading.day for limit, whom, reading in Meters(path, 9).all(limits._period)}
    return found.get((name, subject), 0)


def test_what_a_session_moved_before_there_was_a_limit_is_not_counted(tmp_path: Path) -> None:
    world = World(Kernel())
    mine = Quotas(world, RelayContext(world, Pipes(world.kernel, 1)), tmp_path / "meters", 0)
    mine.configure(Config(), 1)
    session = world.open("tcp", CLIENT + bytes(20), "192.0.2.1", "open")
    session.to_lan = 1 << 30
    mine.configure(limited(), 1)
    assert octets(mine, world, tmp_path / "meters") == 0
    session.to_lan += 100
    assert octets(mine, world, tmp_path / "meters") == 100
    mine.configure(Config(), 1)
    session.to_lan += 1_000
    mine.configure(limited(), 1)
    assert octets(mine, world, tmp_path / "meters") == 100


def test_a_new_configuration_leaves_no_room_for_more_sessions(tmp_path: Path) -> None:
    """Not even for the second until all are counted again."""
    world = World(Kernel())
    mine = Quotas(world, RelayContext(world, Pipes(world.kernel, 1)), tmp_path / "meters", 0)
    config = Config.model_validate({"limit": [{"name": "few", "sessions": 2}]})
    mine.configure(config, 1)
    for _ in range(2):
        assert mine.admit(CLIENT, "")
        world.open("tcp", CLIENT + bytes(20), "192.0.2.1", "open")
    assert not mine.admit(CLIENT, "")
    mine.configure(config, 1)
    assert not mine.admit(CLIENT, "")


class OnePhone(Arbiter):
    """All clients are addresses of one device."""

    def device_of(self, client: bytes) -> str:
        return "phone"


def test_new_sessions_of_a_device_are_counted_over_its_addresses(tmp_path: Path) -> None:
    """Its addresses are different workers'."""
    config = Config.model_validate({"limit": [{"name": "rate", "new_per_second": 3}]})
    made = []
    for worker in range(2):
        world = World(Kernel())
        world.now = 7.5
        world.arbiter = OnePhone()
        one = Quotas(world, RelayContext(world, Pipes(world.kernel, 1)), tmp_path / "meters", worker)
        one.configure(config, 2)
        made.append(one)
    found = [made[number % 2].admit(bytes(15) + bytes([number % 2]), "") for number in range(8)]
    assert found == [True] * 3 + [False] * 5


RATED = {"limit": [{"name": "slow", "each": "client", "kbit_per_second": 512}]}


def rated(tmp_path: Path, hosts: dict[str, tuple[float, int]] | None = None) -> tuple[Quotas, World]:
    """512 kbit/s for each client."""
    world = World(Kernel(hosts), RATED)
    mine = Quotas(world, RelayContext(world, Pipes(world.kernel, 1)), tmp_path / "meters", 0)
    mine.configure(world.config, 1)
    return mine, world


def test_new_flows_bring_no_burst_of_their_own(tmp_path: Path) -> None:
    """Of 200 new ones a second, of 64 KiB each, as much passes as of one."""
    mine, world = rated(tmp_path)
    passed = 0
    for second in range(5):
        for number in range(200):
            assert world.admit(CLIENT) is None
            ends = CLIENT + bytes(16) + (200 * second + number).to_bytes(2, "big") + b"\1\xbb"
            session = world.open("udp", ends, "192.0.2.1", "open")
            mine.opened(session)
            for _ in range(64):
                if session.rate and world.within_rate(session, True, 1_024):
                    session.to_wan += 1_024
                    passed += 1_024
        mine.every_second()
        world.now += 1
    assert passed <= 65_536 + 5 * 64_000
    assert passed >= 4 * 64_000


def test_dials_that_failed_are_forgotten(tmp_path: Path) -> None:
    mine, world = rated(tmp_path)
    for number in range(100):
        session = world.open("tcp", CLIENT + bytes(16) + number.to_bytes(4, "big"), "192.0.2.1", "dialling")
        mine.every_second()
        world.drop(session)
    mine.every_second()
    assert not mine._known


def test_sessions_that_are_over_take_no_share(tmp_path: Path) -> None:
    """A browser's exchanges of one second, one after the other, have all of the rate each."""
    mine, world = rated(tmp_path)
    for number in range(10):
        session = world.open("tcp", CLIENT + bytes(16) + number.to_bytes(4, "big"), "192.0.2.1", "open")
        mine.opened(session)
        assert session.rate == 64_000
        world.ended(session, "closed")
