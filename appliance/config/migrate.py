"""Configurations of older versions, made into what this one reads. Pure.

A step takes a plain configuration of one version to the next one's. It changes what it is given, knows no
model of today, and is never changed once released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from appliance.config.paths import Plain
from appliance.errors import ConfigError, Problem

VERSION = 1
Step = Callable[[Plain], None]
# By the version that it starts from. None yet: version 1 is the first.
MIGRATIONS: Mapping[int, Step] = {}


def migrate(plain: Plain, steps: Mapping[int, Step] = MIGRATIONS, current: int = VERSION) -> Plain:
    """The configuration in version ``current``; ConfigError where it is of a newer one, or of none.

    What is passed in is not kept. A configuration without a version is of the current one.
    """
    version: Any = plain.get("schema_version", current)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _refuse(f"is to be a whole number from 1 to {current}.")
    if version > current:
        raise _refuse(
            f"the file is of version {version}, and this box reads up to {current}.",
            "Update the box, or take an older revision: `isthmus history`.",
        )
    while version < current:
        if version not in steps:
            raise _refuse(f"version {version} is no longer read.", "Update by way of an older release.")
        steps[version](plain)
        version += 1
        plain["schema_version"] = version
    return plain


def _refuse(message: str, hint: str = "") -> ConfigError:
    return ConfigError([Problem("schema_version", message, hint, "version")])
