"""Lists through the real firewall: fetched on the WAN, taken up by the DNS front, kept through a dead server.

client (IPv6 only) --- lan0 [ box: isthmus-lists, isthmus-dns64 ] wan0 --- server (the list, names)
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.control.client import ControlClient
from tests.lab.netns import stop
from tests.netns.conftest import BIN, CONFIG, GATEWAY, Box, needs_root, wait_for
from tests.netns.hosts import connect, serving

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


def start_lists(box: Box) -> subprocess.Popen[str]:
    """isthmus-lists, with the configuration in force."""
    return box.start(
        "lists", BIN / "isthmus-lists", "--config", box.runtime / "config.toml",
        "--runtime", box.runtime, "--state", box.state / "lists",
    )  # fmt: skip


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
        lists = start_lists(box)
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


# Names of each format: denied, with those below them or not, and what an exception leaves.
FORMATS = {
    "hosts": "# a comment\n0.0.0.0 one.hosts.example  # another\n:: two.hosts.example\n",
    "domains": "all.domains.example\n*.below.domains.example\n",
    "adblock": (
        "[Adblock Plus 2.0]\n! a comment\n||ads.adblock.example^\n"
        "@@||fine.ads.adblock.example^\nexample##.banner\n||ads.example/part.js\n"
    ),
    "rpz": (
        "$TTL 60\n@ SOA localhost. root.localhost. 1 3600 600 86400 60\n  NS localhost.\n"
        "name.rpz.example CNAME .\n*.below.rpz.example CNAME *.\n"
        "*.wide.rpz.example CNAME .\nfine.wide.rpz.example CNAME rpz-passthru.\n"
    ),
}
DENIED = (
    "one.hosts.example", "two.hosts.example", "all.domains.example", "www.all.domains.example",
    "www.below.domains.example", "ads.adblock.example", "www.ads.adblock.example", "name.rpz.example",
    "www.below.rpz.example", "www.wide.rpz.example",
)  # fmt: skip
PASSES = (
    "www.one.hosts.example", "fine.ads.adblock.example", "www.fine.ads.adblock.example", "ads.example",
    "www.name.rpz.example", "below.rpz.example", "fine.wide.rpz.example", "domains.example",
)  # fmt: skip


@pytest.mark.parametrize("told", ["by the configuration", "by their first lines"])
def test_each_format_on_the_wire(tmp_path: Path, told: str) -> None:
    folder = tmp_path / "web"
    folder.mkdir()
    text = '[[rule]]\nname = "no-ads"\naction = "deny"\nlists = ["hosts", "domains", "adblock", "rpz"]\n'
    for name, content in FORMATS.items():
        (folder / name).write_text(content)
        text += f'[[name_list]]\nname = "{name}"\nsource = "http://{GATEWAY}:8000/{name}"\n'
        text += f'format = "{name}"\n' if told == "by the configuration" else ""
    with Box(tmp_path / "box") as box:
        box.config.write_text(CONFIG + text)
        zone = tmp_path / "zone.conf"
        zone.write_text(ZONE)
        box.start("names", "unbound", "-d", "-c", zone, where=box.server)
        box.start("web", sys.executable, "-m", "http.server", "-d", folder, "8000", where=box.server)
        box.start_control()
        box.start_dns64()
        start_lists(box)

        def good() -> bool:
            return {statuses(box).get(name, {}).get("state") for name in FORMATS} == {"good"}

        wait_for(good, "the lists")
        wait_for(lambda: addresses(box, DENIED[0]) == ([], True), "the DNS front")
        wrong = [name for name in DENIED if addresses(box, name) != ([], True)]
        wrong += [name for name in PASSES if addresses(box, name) != (["64:ff9b::c01f:c450"], False)]
        assert not wrong, statuses(box)


BAD = r"""
import gzip, http.server, sys, time
NAMES = b"".join(b"n%d.example\n" % number for number in range(200_000))
GOOD = b"0.0.0.0 ads.example\n"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mode = open(sys.argv[1]).read().strip()
        body, coding = {
            "good": (GOOD, ""), "huge": (GOOD * 200_000, ""), "full": (NAMES, ""),
            "broken": (bytes(range(256)) * 40, "gzip"),
            "bomb": (gzip.compress(bytes(50 << 20), 9) if mode == "bomb" else b"", "gzip"),
            "slow": (GOOD, ""),
        }[mode]
        self.send_response(200)
        if coding:
            self.send_header("Content-Encoding", coding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mode == "slow":
            self.wfile.write(body[:4])
            time.sleep(600)
        self.wfile.write(body)
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("203.0.113.1", 8000), Handler).serve_forever()
"""


def test_whatever_a_list_is_the_box_serves_and_says_so(tmp_path: Path) -> None:
    """Huge, broken, exploding when unpacked, more than the disk takes, slow: the last good copy serves."""
    mode = tmp_path / "mode"
    mode.write_text("good")
    with Box(tmp_path / "box") as box:
        box.config.write_text(CONFIG + LISTS.replace("[[rule]]", "max_mib = 3\n[[rule]]"))
        zone = tmp_path / "zone.conf"
        zone.write_text(ZONE)
        disk = box.runtime / "lists"
        disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
        box.start("names", "unbound", "-d", "-c", zone, where=box.server)
        box.start("web", sys.executable, "-c", BAD, mode, where=box.server)
        box.start_control()
        box.start_proxy()
        box.start_dns64()
        try:
            lists = start_lists(box)
            with serving(box):
                wait_for(lambda: statuses(box).get("ads", {}).get("state") == "good", "the list")
                wait_for(lambda: addresses(box, "ads.example") == ([], True), "the DNS front")
                for bad, words in (
                    ("huge", "MiB"),
                    ("broken", "the copy of"),
                    ("bomb", "MiB"),
                    ("full", "No space left on device"),
                ):
                    mode.write_text(bad)
                    lists.send_signal(signal.SIGUSR1)
                    wait_for(lambda words=words: words in statuses(box)["ads"]["problem"], bad, 60)  # type: ignore[misc]
                    assert serves(box), bad
                    told = ControlClient(box.runtime).status()["checks"]
                    assert any(check["id"] == "list-ads" and words in check["detail"] for check in told), bad
                    mode.write_text("good")
                    lists.send_signal(signal.SIGUSR1)
                    wait_for(lambda: statuses(box)["ads"]["problem"] == "", f"well after {bad}", 60)
                mode.write_text("slow")
                lists.send_signal(signal.SIGUSR1)
                assert serves(box)
        finally:
            stop(box.processes["lists"])
            subprocess.run(["umount", "-l", disk], check=True)


def serves(box: Box) -> bool:
    """Whether names are answered and denied as before, and sessions go on."""
    with connect(box, 7004) as sock:
        sock.sendall(b"x")
        went = sock.recv(1) == b"x"
    return (
        went
        and addresses(box, "ads.example") == ([], True)
        and addresses(box, "good.example") == (["64:ff9b::c01f:c450"], False)
    )
