"""What networkd is told beside control's files, on the box."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_marks_rules_are_left_alone() -> None:
    """A box with a static WAN carried nothing: networkd had taken away the rules that lead to the workers."""
    found = ConfigParser()
    found.read(ROOT / "rootfs-overlay/usr/lib/systemd/networkd.conf.d/isthmus.conf")
    assert found["Network"]["ManageForeignRoutingPolicyRules"] == "no"
