"""The API against its own description: schemathesis makes up requests, right and wrong ones.

Each answer has a status and a body that the document tells of, and none is a 5xx.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.unit.webui.api.conftest import Served
from webui.api.route import PREFIX

# Requests made up for each operation: so few keep the suite quick; API_EXAMPLES=1000 for a night.
EXAMPLES = int(os.environ.get("API_EXAMPLES", "12"))
CHECKS = (
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
)  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A box that nobody minds."""
    made = Served(tmp_path_factory.mktemp("fuzzed"))
    made.admin_token = made.token("admin", "fuzz")
    yield made
    made.close()


@pytest.fixture
def described(fuzzed: Served) -> schemathesis.BaseSchema:
    """The description, as the box tells it."""
    return schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", fuzzed.app, headers={"Host": "isthmus"})


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much
    ],
)  # fmt: skip
def test_each_answer_is_as_it_is_told(case: schemathesis.Case, fuzzed: Served) -> None:
    headers = {"Host": "isthmus", "Authorization": f"Bearer {fuzzed.admin_token}"}
    case.call_and_validate(headers=headers, checks=list(CHECKS))
