"""isthmus-control by hand: refusals, the plan, last-good, who may ask."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.control.client import CALL_TIMEOUT
from tests.lab.netns import Namespace, stop
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


class Bare:
    """A namespace with two ports, where isthmus-control runs alone and nothing else does.

    [ lan0 === far-lan0 ]  [ wan0 === far-wan0 ], all of it in the one namespace
    """

    def __init__(self, folder: Path, namespace: Namespace) -> None:
        self.namespace = namespace
        self.config = folder / "config.toml"
        self.runtime = folder / "run"
        self.state = folder / "state"
        for path in (self.runtime, self.state):
            path.mkdir()
        for port in ("lan0", "wan0"):
            self.tell("ip", "link", "add", port, "type", "veth", "peer", "name", f"far-{port}")
            self.tell("ip", "link", "set", port, "up")
            self.tell("ip", "link", "set", f"far-{port}", "up")

    def tell(self, *words: str | Path) -> str:
        """What a program in the namespace prints."""
        return self.namespace.run(*words).stdout

    def command(self, workers: int, *more: str) -> list[str | Path]:
        """isthmus-control with a configuration for so many workers."""
        self.config.write_text(CONFIG.replace("workers = 2", f"workers = {workers}"))
        return [
            BIN / "isthmus-control", "--config", self.config, "--runtime", self.runtime,
            "--state", self.state, "--no-networkd", *more,
        ]  # fmt: skip

    def made(self) -> tuple[int, int, bool, bool]:
        """(workers' devices, rules with a mark, the LAN address is set, the firewall is there)."""
        return (
            self.tell("ip", "-br", "link").count("isth"),
            self.tell("ip", "-6", "rule").count("fwmark"),
            "fd00:1::1/64" in self.tell("ip", "-6", "addr", "show", "dev", "lan0"),
            "table inet isthmus" in self.tell("nft", "list", "tables"),
        )

    def status(self) -> dict[str, object]:
        """isthmus status --json."""
        done = subprocess.run(
            [BIN / "isthmus", "--runtime", str(self.runtime), "status", "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found: dict[str, object] = json.loads(done.stdout)
        return found


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    """A fresh namespace for each test: these break what the session's box needs whole."""
    with Namespace("bare") as namespace:
        yield Bare(tmp_path, namespace)


def test_applying_again_changes_nothing_and_fewer_workers_leave_nothing_behind(bare: Bare) -> None:
    for _ in range(2):
        bare.namespace.run(*bare.command(4, "--once"))
        assert bare.made() == (4, 5, True, True)
    bare.namespace.run(*bare.command(1, "--once"))
    assert bare.made() == (1, 2, True, True)


def fake_nft(folder: Path, words: str) -> str:
    """A PATH with an nft of ours in front; ``words`` is its shell script."""
    folder.mkdir()
    tool = folder / "nft"
    tool.write_text(f"#!/bin/sh\n{words}\n")
    tool.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_a_step_that_fails_takes_the_others_back(bare: Bare, tmp_path: Path) -> None:
    # It likes the ruleset when asked, and refuses it then.
    path = fake_nft(tmp_path / "bin", '[ "$1" = -c ] && exit 0; echo "out of memory" >&2; exit 1')
    done = bare.namespace.run("env", f"PATH={path}", *bare.command(2, "--once"), check=False)
    assert done.returncode == 1
    assert "out of memory" in done.stdout
    assert bare.made() == (0, 0, False, False)
    assert not (bare.runtime / "unbound.conf").exists()
    bare.namespace.run(*bare.command(2, "--once"))
    assert bare.made() == (2, 3, True, True)


def test_a_failed_change_leaves_what_was_in_force(bare: Bare, tmp_path: Path) -> None:
    bare.namespace.run(*bare.command(2, "--once"))
    path = fake_nft(tmp_path / "bin", '[ "$1" = -c ] && exit 0; exit 1')
    assert bare.namespace.run("env", f"PATH={path}", *bare.command(3, "--once"), check=False).returncode == 1
    assert bare.made() == (2, 3, True, True)


def start(bare: Bare, *before: str) -> subprocess.Popen[str]:
    """The daemon, once its socket is there."""
    process = bare.namespace.spawn(*before, *bare.command(1), log=subprocess.DEVNULL)
    wait_for((bare.runtime / "control.sock").exists, "control's socket")
    return process


def test_the_host_name_is_set_and_taken_back() -> None:
    """In a UTS namespace of its own: the machine that tests keeps its name."""
    script = """
import socket, sys
from pathlib import Path
from appliance.errors import IsthmusError
from appliance.network.apply import Applier
from appliance.network.plan import SetHostname, WriteFile
applier = Applier(Path(sys.argv[1]))
applier.apply([SetHostname("crossing")])
print(socket.gethostname())
try:
    applier.apply([SetHostname("other"), WriteFile("runtime", "no-such-folder", "")])
except IsthmusError:
    print(socket.gethostname())
"""
    # a runtime folder that no folder can be made in
    words = ("unshare", "--uts", "--net", BIN / "python", "-c", script, "/proc/nowhere")
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["crossing", "crossing"]


def test_a_firewall_that_is_not_in_force_is_a_health_issue(bare: Bare, tmp_path: Path) -> None:
    path = fake_nft(tmp_path / "bin", 'echo "no nftables here" >&2; exit 1')
    process = start(bare, "env", f"PATH={path}")
    try:
        checks = bare.status()["checks"]
        assert isinstance(checks, list)
        (found,) = [check for check in checks if check["id"] == "network"]
        assert found["state"] == "bad"
        assert "no nftables here" in found["detail"]
    finally:
        stop(process)


def test_a_full_disk_does_not_stop_control(bare: Bare) -> None:
    bare.state.rmdir()
    bare.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "full", bare.state], check=True)
    try:
        with (bare.state / "fill").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass  # full, as wanted
        process = start(bare)
        try:
            assert bare.made() == (1, 2, True, True)  # traffic does not wait for the disk
            checks = bare.status()["checks"]
            assert isinstance(checks, list)
            assert {"network", "disk"} <= {check["id"] for check in checks if check["state"] == "bad"}
            assert process.poll() is None
        finally:
            stop(process)
    finally:
        subprocess.run(["umount", bare.state], check=True)


@pytest.mark.slow
def test_a_proxy_that_hangs_is_down_and_the_status_comes(bare: Bare) -> None:
    (bare.runtime / "proxy").mkdir()
    process = start(bare)
    try:
        with socket.socket(socket.AF_UNIX) as hung:
            hung.bind(str(bare.runtime / "proxy" / "proxy.sock"))
            hung.listen()
            begun = time.monotonic()
            assert bare.status()["proxy_up"] is False
            assert time.monotonic() - begun < CALL_TIMEOUT
    finally:
        stop(process)
