"""What is installed has everything that it needs to run as it does here."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_the_engine_was_compiled_from_is_installed() -> None:
    """Otherwise a box finds other sources than those that were compiled, and runs the plain engine."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["appliance"]
    files = [path for kind in ("pxd", "pyx") for path in (ROOT / "appliance").glob(f"**/*.{kind}")]
    assert files
    for path in files:
        name = path.relative_to(ROOT / "appliance").as_posix()
        assert any(fnmatch.fnmatch(name, pattern.replace("**/", "*/")) for pattern in patterns), name
