"""The configuration: one TOML file, parsed once at the edge into frozen models.

``load(path)`` reads the file; ``parse(text)`` takes it as text. Both give a ``Config`` or raise
``ConfigError`` with every problem at once, each with its path.
"""

from appliance.config.codec import dump, load, parse
from appliance.config.schema import Config

__all__ = ["Config", "dump", "load", "parse"]
