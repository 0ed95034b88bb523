"""unpack_wheel.py WHEEL ROOT: lay a pure Python wheel below ROOT as Debian lays out a package.

pip would write the build host's interpreter into the scripts, and its Python version into the path.
"""

from __future__ import annotations

import configparser
import sys
import zipfile
from pathlib import Path

SCRIPT = """#!/usr/bin/python3
import sys

from {module} import {function}

sys.exit({function}())
"""


def unpack(wheel: Path, root: Path) -> None:
    """Lay the wheel's modules into dist-packages and a script for each entry point into /usr/bin."""
    packages = root / "usr/lib/python3/dist-packages"
    binaries = root / "usr/bin"
    packages.mkdir(parents=True, exist_ok=True)
    binaries.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
        listing = next(name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        entries = configparser.ConfigParser(delimiters=("=",))
        entries.read_string(archive.read(listing).decode())
    for name, target in entries["console_scripts"].items():
        module, function = target.split(":")
        script = binaries / name
        script.write_text(SCRIPT.format(module=module, function=function))
        script.chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
