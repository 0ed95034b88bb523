"""Clients of a published service that goes while they are being served."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from appliance.config.schema import Config
from appliance.policy.services import TargetsByName
from appliance.proxy.published import PublishedTcp, Service, place_of
from appliance.proxy.relay import Pipes, RelayContext
from appliance.proxy.targets import Targets
from tests.unit.protocol.test_sniff import client_hello
from tests.unit.proxy import simulation
from tests.unit.proxy.simulation import World

CLIENT, LISTENER = 600, 499
MAPPED = bytes(10) + b"\xff\xff" + bytes(4)
BY_NAME = {
    "name": "web", "port": 44_443, "protocol": "tcp", "route": "sni", "targets": [],
    "names": [{"hosts": ["a.example"], "targets": ["[fd00::5]:443"]}],
}  # fmt: skip
PLAIN = {"name": "web", "port": 44_443, "protocol": "tcp", "route": "none", "targets": ["[fd00::5]:443"]}


class Kernel(simulation.Kernel):
    """One client, who says ``said``."""

    def __init__(self) -> None:
        super().__init__()
        self.open |= {CLIENT: "client", LISTENER: "listener"}
        self.came: list[int] = []
        self.said: list[bytes] = []
        self._heard = b""

    def adopt(self, fd: int) -> None:
        """It is known."""

    def accept(self, listener: int) -> int:
        self.endpoints = MAPPED + MAPPED + bytes(4)
        return self.came.pop() if self.came else -errno.EAGAIN

    def receive(self, fd: int) -> int:
        if not self.said:
            return -errno.EAGAIN
        self._heard = self.said.pop(0)
        return len(self._heard)

    def received(self, start: int, end: int) -> bytes:
        return self._heard[start:end]


def serving(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> tuple[Kernel, Targets, PublishedTcp, Service]:
    """A service without a real listener, nor probes of its targets."""
    monkeypatch.setattr(Targets, "_look", lambda _self, _second: 0)
    kernel = Kernel()
    world = World(kernel, {"published": [settings]})
    targets = Targets(world)
    targets.configure(world.config)
    published = PublishedTcp(world, RelayContext(world, Pipes(kernel, 1)), targets)
    service = Service.__new__(Service)
    service.settings = world.config.published[0]
    service.targets = TargetsByName(service.settings)
    service._owner, service._kernel, service.fd = published, kernel, LISTENER
    published._services[place_of(service.settings)] = service
    return kernel, targets, published, service


def without(targets: Targets, published: PublishedTcp) -> None:
    """A configuration that has no service any more."""
    targets.configure(Config())
    published.configure(Config(), 1)


def test_a_client_that_says_its_name_when_the_service_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, targets, published, service = serving(monkeypatch, BY_NAME)
    published.take_up(service, CLIENT, MAPPED + MAPPED + bytes(4))
    (incoming,) = published.waiting
    without(targets, published)
    kernel.said.append(client_hello("a.example"))
    incoming.on_event(1)
    assert not published.waiting and "client" in kernel.resets


def test_a_handshake_that_waits_in_the_listener_of_a_service_that_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, targets, published, _service = serving(monkeypatch, PLAIN)
    kernel.came.append(CLIENT)
    without(targets, published)
    assert not published.waiting and not published._services and "client" in kernel.resets
