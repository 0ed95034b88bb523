"""What the box puts into a configuration that leaves it to choose: ports, generated prefixes. Pure.

What a commit leads to is judged with these in their places: a port may be the LAN's, and a prefix be in use,
though the configuration does not say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from appliance.config.schema import Config, resolved
from appliance.config.sides import AUTO
from appliance.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Ground:
    """``ports`` of "wan" and of each LAN by its name, ``prefixes`` of each LAN; those that are known."""

    ports: Mapping[str, str] = field(default_factory=dict)
    prefixes: Mapping[str, IPv6Network] = field(default_factory=dict)


def grounded(config: Config, ground: Ground) -> Config:
    """The configuration with all of it in its places."""
    return resolved(_with_ports(config, ground.ports), ground.prefixes)


def check(config: Config, ground: Ground) -> None:
    """ConfigError where a configuration that is valid for itself cannot be in force on this box."""
    found = _with_ports(config, ground.ports).side_checks(ground.prefixes)
    if found:
        raise ConfigError([Problem(path, message, hint, "conflict") for path, message, hint in found])


def _with_ports(config: Config, ports: Mapping[str, str]) -> Config:
    def at(name: str, interface: str) -> dict[str, str]:
        return {"interface": ports.get(name, interface) if interface == AUTO else interface}

    return config.model_copy(
        update={
            "wan": config.wan.model_copy(update=at("wan", config.wan.interface)),
            "lan": config.lan.model_copy(update=at("lan", config.lan.interface)),
            "segment": tuple(one.model_copy(update=at(one.name, one.interface)) for one in config.segment),
        }
    )
