"""What one tab typed, after another changed the same: both are shown, nothing is overwritten unseen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flask import request

from webui.desk import Desk
from webui.forms.form import Form, in_words
from webui.forms.plain import at, steps
from webui.forms.shape import Kind, shape_of
from webui.words import _

# What the page sends again itself.
_OWN = {"csrf", "of", "more", "drop"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that differs: as typed here, and as it is now."""

    label: str
    mine: str
    now: str


def differences(form: Form, typed: Form) -> list[Difference]:
    """The settings in which what was typed differs from what is there now."""
    found = []
    for part in form.parts:
        root = form.roots[part.root]
        for one in part.fields:
            shape = shape_of(root.model, one.name)
            path = (*root.path, *steps(one.name))
            now, mine = at(form.config, path, shape.default), at(typed.config, path, shape.default)
            if mine != now and not (shape.kind is not Kind.CHECK and not mine and not now):
                found.append(Difference(_(one.label), in_words(one, shape, mine), in_words(one, shape, now)))
    return found


def conflict(desk: Desk, form: Form, typed: Form, title: str, back: str) -> tuple[str, int]:
    """The page with both, and the ways out of it."""
    sent: Iterable[tuple[str, str]] = request.form.items(multi=True)
    again = [(name, value) for name, value in sent if name not in _OWN]
    page = desk.page(
        "stale.html", title=title, differences=differences(form, typed), again=again, of=form.token(),
        back=back,
    )  # fmt: skip
    return page, 409
