"""What the file server of the tests offers: a repository of git's, of Debian packages, and of Python's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

# As many as apt-get asks for in one breath: its pipeline is ten deep.
PACKAGES = [f"tiny{number}" for number in range(12)]
_CONTROL = """\
Package: {name}
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@web.example>
Description: tiny
"""


def git_environment(folder: Path) -> dict[str, str]:
    """For a git that knows nothing of whoever runs the tests."""
    who = {
        f"GIT_{role}_{what}": f"x@{role}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    return {**who, **nothing, "HOME": str(folder)}


def git_repository(www: Path) -> None:
    """WWW/git/tiny.git, bare, with one commit; whoever may reach it may push."""
    work, bare = www.parent / "work", www / "git" / "tiny.git"
    environment = git_environment(www.parent)

    def git(*words: str | Path) -> None:
        subprocess.run(["git", *words], env={**os.environ, **environment}, check=True, capture_output=True)

    git("init", "-q", "-b", "main", work)
    (work / "README").write_text("tiny\n")
    git("-C", work, "add", "README")
    git("-C", work, "commit", "-q", "-m", "first")
    git("clone", "-q", "--bare", work, bare)
    git("-C", bare, "config", "http.receivepack", "true")


def package_repository(www: Path) -> None:
    """WWW/apt: twelve empty packages and their index, flat and not signed."""
    apt = www / "apt"
    apt.mkdir()
    index = []
    for name in PACKAGES:
        control = _CONTROL.format(name=name)
        tree = www.parent / "packages" / name
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(control)
        deb = apt / f"{name}.deb"
        subprocess.run(
            ["dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True
        )
        data = deb.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        index.append(f"{control}Filename: ./{name}.deb\nSize: {len(data)}\nSHA256: {digest}\n")
    (apt / "Packages").write_text("\n".join(index))


def apt_settings(root: Path, source: str, *lines: str) -> Path:
    """apt.conf of an apt that has ROOT for a world, and SOURCE for its only source."""
    for folder in ("lists/partial", "archives/partial", "etc/parts", "etc/preferences.d", "log"):
        (root / folder).mkdir(parents=True)
    (root / "status").touch()
    (root / "sources.list").write_text(f"deb [trusted=yes] {source} ./\n")
    conf = root / "apt.conf"
    places = {
        "Dir::State": root, "Dir::State::lists": root / "lists", "Dir::State::status": root / "status",
        "Dir::Cache": root, "Dir::Cache::archives": root / "archives", "Dir::Log": root / "log",
        "Dir::Etc": root / "etc", "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": root / "etc/parts", "Dir::Etc::parts": root / "etc/parts",
        "Dir::Etc::main": os.devnull, "Dir::Etc::netrcparts": root / "etc/parts",
        "APT::Sandbox::User": "root", "Acquire::Retries": "0", "Acquire::Languages": "none",
        "APT::Get::List-Cleanup": "false",
    }  # fmt: skip
    conf.write_text("".join(f'{name} "{value}";\n' for name, value in places.items()) + "\n".join(lines))
    return conf


def python_index(www: Path) -> None:
    """WWW/simple: an index with one wheel."""
    folder = www / "simple" / "tiny"
    folder.mkdir(parents=True)
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    (folder / "index.html").write_text('<a href="tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>')
