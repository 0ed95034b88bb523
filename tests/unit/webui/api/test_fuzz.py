"""The API against its own description: schemathesis makes up requests, right and wrong ones.

Each answer has a status, a type and a body that the document tells of, and none is a 5xx.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.unit.webui.api.conftest import Served
from webui.api.route import PREFIX, Route
from webui.api.table import ROUTES

# Requests made up for each route: so few keep the suite quick; API_EXAMPLES=1000 for a night.
EXAMPLES = int(os.environ.get("API_EXAMPLES", "10"))
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip


class Fuzzed:
    """A box that nobody minds, and how it describes itself."""

    def __init__(self, folder: Path) -> None:
        self.served = Served(folder)
        self.headers = {"Host": "isthmus", "Authorization": f"Bearer {self.served.token('admin', 'fuzz')}"}
        self.document: Any = schemathesis.openapi.from_wsgi(
            f"{PREFIX}/openapi.json", self.served.app, headers={"Host": "isthmus"}
        )


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    """One for all routes: what one left is there for the next."""
    made = Fuzzed(tmp_path_factory.mktemp("fuzzed"))
    yield made
    made.served.close()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.id)
def test_each_answer_is_as_it_is_told(route: Route, fuzzed: Fuzzed) -> None:
    operation = fuzzed.document[route.path][route.method]

    @given(operation.as_strategy())
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: Any) -> None:
        case.validate_response(case.call(headers=fuzzed.headers), checks=CHECKS)

    ask()
