"""All routes: what Flask serves, and what the documents tell of."""

from __future__ import annotations

from webui.api.handlers import box, configuration, people, tests
from webui.api.route import Answer, Call, Route


def _described(_call: Call) -> Answer:
    from webui.api.openapi import document

    return Answer(document())


ROUTES: tuple[Route, ...] = (
    *box.ROUTES,
    *configuration.ROUTES,
    *people.ROUTES,
    *tests.ROUTES,
    Route(
        "GET", "/openapi.json", "getDescription", "box", "This API, as OpenAPI 3.1", "GetSetup", _described,
        {"type": "object"}, free=True,
    ),
)  # fmt: skip
