"""The plain modules of the engine, whichever engine runs: what is compiled shows nothing of its inside."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from appliance import engine

FOLDER = Path(engine.__file__).parent / "proxy"


def plain(name: str) -> ModuleType:
    """``appliance/proxy/NAME.py`` itself."""
    spec = importlib.util.spec_from_file_location(f"plain_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
