"""Lists through the real firewall: fetched on the WAN, taken up by the DNS front, kept through a dead server.

client (IPv6 only) --- lan0 [ box: isthmus-lists, isthmus-dns64 ] wan0 --- server (the list, names)
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.netns import stop
from tests.netns.conftest import BIN, CONFIG, GATEWAY, Box, needs_root, wait_for

pytestmark = [
    needs_root,
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("nft") is None or shutil.which("unbound") is None, reason="nft, unbound"),
]

LISTS = f"""\
[[name_list]]
name = "ads"
source = "http://{GATEWAY}:8000/ads.txt"
[[rule]]
name = "no-ads"
action = "deny"
lists = ["ads"]
"""
ZONE = """\
server:
  interface: 0.0.0.0
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  use-syslog: no
  logfile: ""
  pidfile: ""
  chroot: ""
  username: ""
  module-config: "iterator"
  local-zone: "example." redirect
  local-data: "example. 300 A 192.31.196.80"
  local-data: "example. 300 SOA ns.example. host.example. 1 3600 600 86400 300"
remote-control:
  control-enable: no
"""


def statuses(box: Box) -> dict[str, dict[str, Any]]:
    path = box.runtime / "lists" / "status.json"
    if not path.exists():
        return {}
    return {one["name"]: one for one in json.loads(path.read_text())["lists"]}


def addresses(box: Box, name: str, rtype: str = "AAAA") -> tuple[list[str], bool]:
    """What a client is told, and whether it is told that a rule denies it."""
    done = box.client.run("dig", "+tries=2", "+time=2", rtype, name, "@fd00:1::1", check=False)
    rows = [line.split()[-1] for line in done.stdout.splitlines() if line and not line.startswith(";")]
    return [row for row in rows if ":" in row or row.startswith("192.")], "rule no-ads" in done.stdout


def test_a_list_from_the_wan_denies_names(tmp_path: Path) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "ads.txt").write_text("0.0.0.0 ads.example\n")
    with Box(tmp_path / "box") as box:
        box.config.write_text(CONFIG + LISTS)
        zone = tmp_path / "zone.conf"
        zone.write_text(ZONE)
        box.start("names", "unbound", "-d", "-c", zone, where=box.server)
        web = box.start("web", sys.executable, "-m", "http.server", "-d", folder, "8000", where=box.server)
        box.start_control()
        box.start_dns64()
        lists = box.start(
            "lists", BIN / "isthmus-lists", "--config", box.runtime / "config.toml",
            "--runtime", box.runtime, "--state", box.state / "lists",
        )  # fmt: skip
        wait_for(lambda: statuses(box).get("ads", {}).get("state") == "good", "the list")
        wait_for(lambda: addresses(box, "good.example")[0] == ["64:ff9b::c01f:c450"], "the DNS front")
        for rtype in ("AAAA", "A", "HTTPS"):
            assert addresses(box, "ads.example", rtype) == ([], True)
        assert addresses(box, "www.ads.example") == (["64:ff9b::c01f:c450"], False)  # hosts name hosts
        stop(web)
        lists.send_signal(signal.SIGUSR1)
        wait_for(
            lambda: "refuses the connection; the copy of" in statuses(box)["ads"]["problem"], "the reason"
        )
        assert addresses(box, "ads.example") == ([], True)
        (folder / "ads.txt").write_text("0.0.0.0 new.example\n")
        box.start("web", sys.executable, "-m", "http.server", "-d", folder, "8000", where=box.server)
        # It is tried again by itself.
        wait_for(lambda: statuses(box)["ads"]["problem"] == "", "the next try", timeout=40)
        wait_for(lambda: addresses(box, "new.example") == ([], True), "the new list")
        assert addresses(box, "ads.example") == (["64:ff9b::c01f:c450"], False)
