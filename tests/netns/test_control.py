"""isthmus-control by hand: refusals, the plan, last-good, who may ask."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.netns.conftest import BIN, CONFIG, Box, needs_root, wait_for

pytestmark = [pytest.mark.netns, needs_root]

BAD = '[wan]\ninterface = "no port"\n[lan]\nprefix = "fd00::/48"\n[dns]\nupstreams = ["300.1.1.1"]\n'


def control(box: Box, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """One run of isthmus-control inside the box's namespace."""
    return box.box.run(BIN / "isthmus-control", *words, check=False, timeout=30)


def test_a_bad_configuration_is_refused_whole(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(BAD)
    before = box.box.run("nft", "-s", "list", "ruleset").stdout
    for words in (("--check",), ("--once",)):
        done = control(box, "--config", path, "--runtime", tmp_path / "r", "--state", tmp_path / "s", *words)
        assert done.returncode == 2
        for place in ("wan.interface", "lan.prefix", "dns.upstreams[0]"):
            assert place in done.stdout
    assert box.box.run("nft", "-s", "list", "ruleset").stdout == before
    assert not (tmp_path / "r" / "unbound.conf").exists()


def test_the_plan_is_printed_and_not_carried_out(box: Box, tmp_path: Path) -> None:
    done = control(
        box, "--config", box.config, "--runtime", tmp_path, "--state", box.state, "--no-networkd", "--plan"
    )
    assert done.returncode == 0, done.stdout
    for words in (
        "make tun isth0",
        "firewall",
        "address fd00:1::1/64 on lan0",
        "write runtime file unbound.conf",
    ):
        assert words in done.stdout
    assert not (tmp_path / "unbound.conf").exists()


def test_a_mistake_later_keeps_the_last_good_and_is_a_health_issue(box: Box) -> None:
    def configuration_check() -> dict[str, str]:
        done = subprocess.run(
            [BIN / "isthmus", "--runtime", str(box.runtime), "status", "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        checks: list[dict[str, str]] = json.loads(done.stdout)["checks"]
        return next(check for check in checks if check["id"] == "configuration")

    assert configuration_check()["state"] == "ok"
    try:
        box.config.write_text(BAD)
        box.processes["control"].send_signal(1)  # SIGHUP
        wait_for(lambda: configuration_check()["state"] == "bad", "the health issue", 10)
        assert "wan.interface" in configuration_check()["detail"]
    finally:
        box.config.write_text(CONFIG)
        box.processes["control"].send_signal(1)
    wait_for(lambda: configuration_check()["state"] == "ok", "all well again", 10)


def test_a_missing_port_is_said_in_words(box: Box) -> None:
    def port_check() -> dict[str, str]:
        done = subprocess.run(
            [BIN / "isthmus", "--runtime", str(box.runtime), "status", "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        checks: list[dict[str, str]] = json.loads(done.stdout)["checks"]
        return next(check for check in checks if check["id"] == "port-wan")

    box.box.run("ip", "link", "set", "wan0", "name", "gone0", check=False)
    box.box.run("ip", "link", "set", "wan0", "down", check=False)
    assert port_check()["state"] == "bad"
    box.box.run("ip", "link", "set", "gone0", "name", "wan0", check=False)
    box.box.run("ip", "link", "set", "wan0", "up")
    box.box.run("ip", "route", "replace", "default", "via", "203.0.113.1")
    wait_for(lambda: port_check()["state"] == "ok", "the port back", 10)


def test_the_cli_says_what_to_do_when_nothing_answers(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "isthmus", "--runtime", str(tmp_path), "status"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Is the daemon behind it running?" in done.stderr
