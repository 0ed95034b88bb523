"""The gates: linters, types, shell scripts, the import rules, and what no committed file may contain."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

# Who may import what of the project, by folder under appliance/ (docs/architecture.md says why).
# A module may always import its own package and the shared ground.
SHARED = {
    "appliance",
    "appliance.errors",
    "appliance.addressing",
    "appliance.dataplane",
    "appliance.engine",
    "appliance.files",
    "appliance.host",
    "appliance.varlink_socket",
}
MAY_IMPORT = {
    "protocol": set[str](),
    "policy": {"config"},
    "session": {"config", "policy"},
    "config": set[str](),
    "dns64": {"config", "policy", "protocol", "session"},
    "lists": {"config", "policy", "session"},
    "proxy": {"config", "policy", "protocol", "session"},
    "network": {"config"},
    "lan": {"protocol"},
    "system": {"config", "network", "policy", "protocol"},
    "control": {"config", "network", "policy", "system", "session", "protocol", "update"},
    "update": {"config", "control", "lists", "network"},
}
# Entry points join implementations; they alone may.
ENTRY_POINTS = {"appliance/cli.py", *(f"appliance/{p}/main.py" for p in MAY_IMPORT)}
# No I/O, event loop, socket or clock in here.
PURE = (
    "appliance/protocol/",
    "appliance/policy/",
    "appliance/addressing.py",
    "appliance/config/fields.py",
    "appliance/config/islands.py",
    "appliance/config/rules.py",
    "appliance/config/schema.py",
    "appliance/errors.py",
)
IMPURE_MODULES = {
    "socket",
    "select",
    "selectors",
    "asyncio",
    "time",
    "subprocess",
    "os",
    "pyroute2",
    "threading",
}


def tracked(*suffixes: str) -> list[Path]:
    """Committed and new files with one of the endings."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [ROOT / name for name in listed if name.endswith(suffixes) and (ROOT / name).is_file()]


def imports_of(path: Path) -> set[str]:
    """Every module that the file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def run(*words: str | Path) -> None:
    """Run a linter; its report is the failure."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_check() -> None:
    run(BIN / "ruff", "check", ".")


def test_ruff_format() -> None:
    run(BIN / "ruff", "format", "--check", ".")


def test_mypy() -> None:
    run(BIN / "mypy")


def test_shellcheck() -> None:
    scripts = [
        path
        for path in tracked("")
        if path.suffix == ".sh"
        or path.read_bytes()[:64].startswith((b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash"))
    ]
    assert scripts
    run(BIN / "shellcheck", "-x", *scripts)


@pytest.mark.parametrize("path", [p for p in tracked(".py") if "appliance" in p.parts], ids=lambda p: p.name)
def test_import_rules(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    modules = imports_of(path)
    if name.startswith(PURE):
        assert not {module.split(".")[0] for module in modules} & IMPURE_MODULES, "this part does no I/O"
    assert not any(module.split(".")[0] in {"flask", "webui"} for module in modules), "Flask is webui's"
    if name in ENTRY_POINTS:
        return
    parts = name.split("/")
    package = parts[1] if len(parts) > 2 else ""
    if package != "network" and name != "appliance/proxy/tun.py":
        assert not any(module.split(".")[0] == "pyroute2" for module in modules), "pyroute2 is network's"
    if not package:
        return
    for module in modules:
        if module.startswith("appliance") and module not in SHARED:
            other = module.split(".")[1]
            assert other == package or other in MAY_IMPORT[package], f"{package} may not import {module}"


def test_the_console_sees_only_the_client_and_the_configuration() -> None:
    allowed = (
        "appliance.control.client",
        "appliance.config",
        "appliance.errors",
        "appliance.session.metrics",
    )
    for path in tracked(".py"):
        if path.relative_to(ROOT).parts[0] == "webui":
            for module in imports_of(path):
                if module.startswith("appliance."):
                    assert module.startswith(allowed), f"{path.name} imports {module}"
