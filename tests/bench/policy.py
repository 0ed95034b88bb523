"""What a decision costs, by itself: with few and many rules, and with a list of a million names."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from appliance.config import Config
from appliance.policy.decide import CompiledPolicy
from appliance.policy.name_table import KEY, TableBuilder
from appliance.policy.request import Moment, Names, Request
from appliance.session.tables import SUFFIX, Tables
from tests.bench.report import Results

RULES = {"decide-1": 1, "decide-1000": 1_000, "decide-100000": 100_000}
NAMES = "decide-names"
MILLION = 1_000_000
DECISIONS = 20_000
CLIENT = IPv6Address("fd00:1::2").packed
ORIGIN = (IPv4Address("192.31.196.80").packed,)
WHOLE = 1  # the flag of a name with all below it


def rules(count: int) -> list[dict[str, Any]]:
    """So many rules of all kinds, none of which matches; the same each time."""
    chance = random.Random(count)
    found = []
    for number in range(count):
        rule: dict[str, Any] = {"name": f"r{number}", "action": "deny"}
        match number % 4:
            case 0:
                rule["domains"] = [f"d{number}.example.com"]
            case 1:
                rule["destinations"] = [str(IPv4Network((chance.getrandbits(24) << 8 & 0x7FFFFFFF, 24)))]
            case 2:
                rule["sources"] = [str(IPv6Network((chance.getrandbits(64) << 64 | 1 << 127, 64)))]
            case _:
                rule |= {"domains": [f"*.e{number}.example.org"], "ports": [443]}
        found.append(rule)
    return found


def run(tests: list[str], rounds: int, results: Results, say: Callable[[str], None]) -> None:
    """Microseconds of a decision that no rule makes: each that could is looked at."""
    moment = Moment(time.time(), frozenset())
    for test, count in RULES.items():
        if test in tests:
            say(test)
            begun = time.perf_counter()
            config = Config.model_validate({"rule": rules(count)})
            read = time.perf_counter() - begun
            begun = time.perf_counter()
            policy = CompiledPolicy(config)
            compiled = time.perf_counter() - begun
            for _ in range(rounds):
                results.add(test, "isthmus", _decide(policy, moment, {}), read_s=read, compile_s=compiled)
    if NAMES in tests:
        say(NAMES)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            begun = time.perf_counter()
            builder = TableBuilder(os.urandom(KEY))
            for number in range(MILLION):
                builder.add(f"n{number}.ads{number % 997}.example".encode(), WHOLE)
            with (folder / f"ads{SUFFIX}").open("wb") as stream:
                builder.write(stream)
            built = time.perf_counter() - begun
            tables = Tables(folder)
            tables.refresh(time.monotonic())
            octets = (folder / f"ads{SUFFIX}").stat().st_size / 1e6
            rule = {"name": "no-ads", "action": "deny", "lists": ["ads"]}
            policy = CompiledPolicy(
                Config.model_validate({"rule": [rule], "name_list": [{"name": "ads", "source": "/ads"}]})
            )
            for _ in range(rounds):
                results.add(
                    NAMES, "isthmus", _decide(policy, moment, tables), build_s=built, megabytes=octets
                )


def _decide(policy: CompiledPolicy, moment: Moment, lists: Mapping[str, Names]) -> float:
    begun = time.perf_counter()
    for _ in range(DECISIONS):
        request = Request("transparent", "tcp", CLIENT, 443, name="www.some.site.example", readings=ORIGIN)
        policy.decide(request, moment, lists)
    return (time.perf_counter() - begun) / DECISIONS * 1e6
