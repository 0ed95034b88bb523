"""Migrations: older files are read, newer ones refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.config import parse
from appliance.config.migrate import MIGRATIONS, VERSION, migrate
from appliance.config.schema import Config
from appliance.errors import ConfigError


def _ports_to_port(plain: dict[str, Any]) -> None:
    plain["console"] = {"port": plain.pop("console_port")}


def _rename(plain: dict[str, Any]) -> None:
    plain["screen"] = plain.pop("console")


STEPS = {1: _ports_to_port, 2: _rename}


def test_each_step_is_taken_in_turn() -> None:
    assert migrate({"schema_version": 1, "console_port": 8443}, STEPS, 3) == {
        "schema_version": 3,
        "screen": {"port": 8443},
    }
    assert migrate({"schema_version": 2, "console": {}}, STEPS, 3) == {"schema_version": 3, "screen": {}}
    assert migrate({"schema_version": 3, "x": 1}, STEPS, 3) == {"schema_version": 3, "x": 1}
    assert migrate({"x": 1}, STEPS, 3) == {"x": 1}


@pytest.mark.parametrize("version", ["1", 0, -1, True, 1.5, None, [1]])
def test_what_is_no_version_is_refused(version: object) -> None:
    with pytest.raises(ConfigError, match="schema_version: is to be a whole number from 1 to 3"):
        migrate({"schema_version": version}, STEPS, 3)


def test_a_version_that_is_read_no_longer_is_refused() -> None:
    with pytest.raises(ConfigError, match="version 1 is no longer read"):
        migrate({"schema_version": 1}, {2: _rename}, 3)


def test_a_newer_file_is_refused_in_words() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"schema_version = {VERSION + 1}\nsome_new_table = 1\n")
    [problem] = caught.value.problems
    assert problem.path == "schema_version"
    assert f"version {VERSION + 1}" in problem.message and "Update the box" in problem.hint


def test_the_schema_is_of_the_current_version() -> None:
    assert Config().schema_version == VERSION
    assert sorted(MIGRATIONS) == list(range(1, VERSION))
