"""docs/configuration.md is what the schema says."""

from __future__ import annotations

from pathlib import Path

from appliance.config.document import render
from appliance.config.help import every

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text() == render(), "make docs"


def test_every_setting_is_in_it() -> None:
    text = render()
    for one in every():
        name = one.path.rpartition(".")[2]
        where = f"[[{one.path}]]" if one.many else f"[{one.path}]"
        assert f"## `{where}`" in text if one.kind == "table" else f"| `{name}` |" in text
    assert all(line.count(" | ") >= 3 for line in text.splitlines() if line.startswith("| `"))
