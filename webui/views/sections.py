"""A page with one form over sections of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from webui.desk import Desk, done
from webui.forms.form import Form
from webui.forms.layout import Part, Root
from webui.forms.plain import problems
from webui.views.stale import conflict
from webui.words import _


@dataclass(frozen=True, slots=True)
class Page:
    """What has to be known of it. ``suggested``: names for fields that refer to no table."""

    key: str
    url: str
    area: str
    title: str
    about: str
    parts: tuple[Part, ...]
    roots: Mapping[str, Root]
    template: str = "sections.html"
    tab: str = ""  # of another page, where it has none of its own
    suggested: Mapping[str, Callable[[Desk], Sequence[str]]] = field(default_factory=dict)


def blueprint(page: Page, desk: Desk) -> Blueprint:
    """Shows the form, and takes it."""
    pages = Blueprint(page.key, __name__)

    def form() -> Form:
        suggested = {name: list(find(desk)) for name, find in page.suggested.items()}
        return Form(page.parts, page.roots, desk.config(), desk.active(), desk.zone(), suggested=suggested)

    def drawn(shown: Form, of: str, errors: Sequence[Any] = ()) -> str:
        return desk.page(
            page.template, area=page.area, key=page.tab or page.key, title=page.title, about=page.about,
            action=page.url, parts=shown.shown(errors), unplaced=shown.unplaced(errors), of=of,
            wrong=bool(errors),
        )  # fmt: skip

    @pages.get(page.url)
    def show() -> str:
        made = form()
        return drawn(made, made.token())

    @pages.post(page.url)
    def save() -> BaseResponse | str | tuple[str, int]:
        before = form()
        typed = before.typed(request.form)
        of = request.form.get("of", "")
        if "more" in request.form or "drop" in request.form:
            return drawn(typed, of)
        if of != before.token():
            return conflict(desk, before, typed, _(page.title), page.url)
        errors = typed.ours(problems(typed.config))
        if errors:
            return drawn(typed, of, errors), 422
        if typed.config == before.config:
            done(_("Nothing was changed."))
        else:
            desk.keep(typed.config)
            done(_("%(what)s: saved to the pending changes.", what=_(page.title)))
        return redirect(page.url, 303)

    return pages
