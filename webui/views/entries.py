"""The pages of one list of named entries: the table, the form of one, and what is done to one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from flask import Blueprint, redirect, request
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as BaseResponse

from appliance.errors import Problem
from webui.desk import Desk, done, refused
from webui.forms.form import Form
from webui.forms.layout import Root
from webui.forms.plain import Plain, at, problems, replaced
from webui.forms.shape import shape_of
from webui.layouts.table import Table
from webui.views.stale import conflict
from webui.words import _, n_

# Rows of a page. Fewer hides neighbours that order is about; more makes a page of megabytes.
PER_PAGE = 100


def entries_of(table: Table, config: Plain) -> list[Plain]:
    """The list, which may not be there."""
    found: list[Plain] = at(config, table.path, [])
    return found


def index_of(table: Table, config: Plain, name: str) -> int | None:
    """Where the entry of that name is."""
    names = [str(entry.get(table.identity)) for entry in entries_of(table, config)]
    return names.index(name) if name in names else None


def speakers(table: Table, config: Plain, name: str) -> list[str]:
    """Who else names this entry: "rule “no-ads”"."""
    return [
        f"{_(kind)} “{entry['name']}”"
        for kind, setting in table.spoken_of
        for entry in config.get(kind, [])
        if name in entry.get(setting, [])
    ]


def renamed(table: Table, config: Plain, old: str, new: str) -> Plain:
    """The configuration with all that spoke of the old name speaking of the new one."""
    made = dict(config)
    for kind, setting in table.spoken_of:
        made[kind] = [
            {**entry, setting: [new if one == old else one for one in entry[setting]]}
            if old in entry.get(setting, ())
            else entry
            for entry in made.get(kind, [])
        ]
    return made


def marks(table: Table, config: Plain, active: Plain) -> dict[str, str]:
    """Which entries are "new" or "changed" against the running configuration, by name."""
    running = {str(e.get(table.identity)): e for e in entries_of(table, active)}
    found = {}
    for entry in entries_of(table, config):
        name = str(entry.get(table.identity))
        if name not in running:
            found[name] = "new"
        elif running[name] != entry:
            found[name] = "changed"
    return found


def copy_name(name: str, taken: set[str]) -> str:
    """A name for a copy that is free, at most 32 signs long."""
    number = 2
    while (made := f"{name[: 31 - len(str(number))]}-{number}") in taken:
        number += 1
    return made


Act = Callable[[list[Plain], int, set[str]], int | None]


def _move_up(entries: list[Plain], index: int, _taken: set[str]) -> int | None:
    if index > 0:
        entries[index - 1 : index + 1] = [entries[index], entries[index - 1]]
    return max(index - 1, 0)


def _move_down(entries: list[Plain], index: int, taken: set[str]) -> int | None:
    if index + 1 < len(entries):
        _move_up(entries, index + 1, taken)
    return min(index + 1, len(entries) - 1)


def _toggle(entries: list[Plain], index: int, _taken: set[str]) -> int | None:
    entries[index] = {**entries[index], "enabled": not entries[index].get("enabled", True)}
    return index


def _duplicate(entries: list[Plain], index: int, taken: set[str]) -> int | None:
    made = {**copy.deepcopy(entries[index]), "name": copy_name(str(entries[index]["name"]), taken)}
    entries.insert(index + 1, made)
    return index + 1


def _delete(entries: list[Plain], index: int, _taken: set[str]) -> int | None:
    del entries[index]
    return None


ACTS: dict[str, Act] = {
    "up": _move_up, "down": _move_down, "toggle": _toggle, "duplicate": _duplicate, "delete": _delete,
}  # fmt: skip


class Entries:
    """One table's pages. ``extra`` adds to what its template is given."""

    def __init__(
        self,
        table: Table,
        desk: Desk,
        extra: Callable[[], dict[str, Any]] | None = None,
        suggested: Callable[[], dict[str, Sequence[str]]] | None = None,
    ) -> None:
        self.table = table
        self.desk = desk
        self._extra = extra or dict
        self._suggested = suggested or dict

    def listing(self) -> str:
        """The table, a page of it."""
        table, config = self.table, self.desk.config()
        entries = entries_of(table, config)
        last = max(0, (len(entries) - 1) // PER_PAGE)
        asked = request.args.get("page", "")
        number = min(int(asked) if asked.isdecimal() and len(asked) < 7 else 0, last)
        marked = request.args.get("at", "")
        if marked and not asked:
            index = index_of(table, config, marked)
            number = (index or 0) // PER_PAGE
        first = number * PER_PAGE
        return self.desk.page(
            table.template, area=table.area, key=table.key, table=table,
            rows=list(enumerate(entries[first : first + PER_PAGE], first + 1)), total=len(entries),
            marks=marks(table, config, self.desk.active()), number=number, last=last,
            at=marked, did=request.args.get("did", ""), **self._extra(),
        )  # fmt: skip

    def _form(self, config: Plain, index: int) -> Form:
        root = Root((*self.table.path, index), self.table.model)
        return Form(
            self.table.parts, {"": root}, config, self.desk.active(), self.desk.zone(),
            suggested=self._suggested(),
        )  # fmt: skip

    def _fresh(self) -> tuple[Plain, int]:
        """The configuration with a new entry at its end."""
        config = self.desk.config()
        index = len(entries_of(self.table, config))
        if at(config, self.table.path) is None:
            config = replaced(config, self.table.path, [])
        model = self.table.model
        defaults = {name: shape_of(model, name).default for name in model.model_fields}
        entry = {name: value for name, value in defaults.items() if value is not None}
        return replaced(config, (*self.table.path, index), {**entry, **self.table.fresh}), index

    def _drawn(self, form: Form, name: str, of: str, errors: Sequence[Problem] = ()) -> str:
        return self.desk.page(
            "entry.html", area=self.table.area, key=self.table.key, table=self.table, name=name,
            parts=form.shown(errors), unplaced=form.unplaced(errors), of=of, wrong=bool(errors),
            action=f"{self.table.url}/edit?name={quote(name, safe='')}" if name else f"{self.table.url}/new",
            speakers=speakers(self.table, self.desk.config(), name) if name else [],
        )  # fmt: skip

    def _gone(self, name: str) -> BaseResponse:
        refused(_("There is no %(kind)s “%(name)s” any more.", kind=_(self.table.one), name=name))
        return redirect(self.table.url, 303)

    def new(self) -> str:
        """An empty form."""
        config, index = self._fresh()
        return self._drawn(self._form(config, index), "", "")

    def add(self) -> BaseResponse | str | tuple[str, int]:
        """Take a new entry."""
        config, index = self._fresh()
        return self._take(self._form(config, index), "", "")

    def edit(self) -> BaseResponse | str:
        """The form of one."""
        name = request.args.get("name", "")
        index = index_of(self.table, self.desk.config(), name)
        if index is None:
            return self._gone(name)
        form = self._form(self.desk.config(), index)
        return self._drawn(form, name, form.token())

    def save(self) -> BaseResponse | str | tuple[str, int]:
        """Take what was typed of one."""
        name = request.args.get("name", "")
        index = index_of(self.table, self.desk.config(), name)
        if index is None:
            return self._gone(name)
        form = self._form(self.desk.config(), index)
        return self._take(form, name, form.token())

    def _take(self, form: Form, name: str, token: str) -> BaseResponse | str | tuple[str, int]:
        table = self.table
        typed = form.typed(request.form)
        of = request.form.get("of", "")
        if "more" in request.form or "drop" in request.form:
            return self._drawn(typed, name, of)
        if of != token:
            title = f"{_(table.one).capitalize()} {name}"
            return conflict(self.desk, form, typed, title, f"{table.url}/edit?name={quote(name, safe='')}")
        config = typed.config
        path = typed.roots[""].path
        called = str(at(config, (*path, table.identity), ""))
        if name and called != name:
            config = renamed(table, config, name, called)
        errors = typed.ours(problems(config))
        if errors:
            return self._drawn(typed, name, of, errors), 422
        if config == form.config:
            done(_("Nothing was changed."))
        else:
            self.desk.keep(config)
            done(_("“%(name)s”: saved to the pending changes.", name=called))
        return redirect(f"{table.url}?at={quote(called, safe='')}", 303)

    def act(self) -> BaseResponse:
        """Move, turn on or off, copy or delete one."""
        table, config = self.table, self.desk.config()
        name, did = request.form.get("name", ""), request.form.get("act", "")
        index = index_of(table, config, name)
        if did not in {*ACTS, "before"}:
            raise BadRequest
        if index is None:
            return self._gone(name)
        entries = list(entries_of(table, config))
        if did == "delete":
            reason = self._stays(name, len(entries))
            if reason:
                refused(reason)
                return redirect(table.url, 303)
        if did == "before":
            place = index_of(table, config, request.form.get("before", ""))
            moved = entries.pop(index)
            place = len(entries) if place is None else place - (place > index)
            entries.insert(place, moved)
            now: int | None = place
        else:
            now = ACTS[did](entries, index, {str(e.get("name")) for e in entries})
        self.desk.keep(replaced(config, table.path, entries))
        if now is None:
            done(_("“%(name)s”: deleted in the pending changes.", name=name))
            return redirect(table.url, 303)
        called = str(entries[now].get(table.identity))
        if did == "duplicate":
            done(_("“%(name)s” is a copy of “%(of)s”, in the pending changes.", name=called, of=name))
        return redirect(f"{table.url}?at={quote(called, safe='')}&did={did}", 303)

    def _stays(self, name: str, count: int) -> str:
        """Why it cannot be deleted."""
        if count == 1 and self.table.keep_one:
            return _(self.table.keep_one)
        using = speakers(self.table, self.desk.config(), name)
        if not using:
            return ""
        others = n_("%(num)s entry speaks", "%(num)s entries speak", len(using))
        return _(
            "“%(name)s” stays: %(others)s of it: %(which)s. Change them first.",
            name=name,
            others=others,
            which=", ".join(using[:5]),
        )

    def blueprint(self) -> Blueprint:
        """Its addresses."""
        pages = Blueprint(self.table.key, __name__)
        url = self.table.url
        pages.add_url_rule(url, "listing", self.listing)
        pages.add_url_rule(f"{url}/new", "new", self.new)
        pages.add_url_rule(f"{url}/new", "add", self.add, methods=["POST"])
        pages.add_url_rule(f"{url}/edit", "edit", self.edit)
        pages.add_url_rule(f"{url}/edit", "save", self.save, methods=["POST"])
        pages.add_url_rule(f"{url}/act", "act", self.act, methods=["POST"])
        return pages
