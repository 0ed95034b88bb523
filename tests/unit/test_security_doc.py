"""docs/security.md names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A claim in each table but a few: a document that names none would pass otherwise.
LEAST = 40


def _tests_of(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_threat_model_names_exists() -> None:
    text = (ROOT / "docs/security.md").read_text()
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))
    assert len(named) >= LEAST
    assert text.count("tests/") == len(re.findall(r"`tests/[\w/]+\.py(?:::\w+)?`", text)), (
        "a name is malformed"
    )
    gone = sorted(f"{path}::{name}" for path, name in named if name not in _tests_of(ROOT / path))
    assert not gone
