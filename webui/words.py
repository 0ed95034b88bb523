"""Where every sentence of the console goes through, so that it can be translated.

There is no translation yet: what goes in comes out, with its ``%(name)s`` filled in.
"""

from __future__ import annotations

from gettext import NullTranslations
from typing import Any

from flask import Flask

_catalogue = NullTranslations()


def _(sentence: str, **values: Any) -> str:
    """The sentence in the reader's language."""
    found = _catalogue.gettext(sentence)
    return found % values if values else found


def n_(one: str, many: str, count: int, **values: Any) -> str:
    """One of two sentences by the count, which is ``%(num)s`` in them."""
    return _catalogue.ngettext(one, many, count) % {"num": count, **values}


def later(sentence: str) -> str:
    """Marks a sentence that is looked up where it is shown: layouts are made before anybody asks."""
    return sentence


def into_templates(app: Flask) -> None:
    """``_``, ``ngettext`` and ``{% trans %}`` in the templates; what they are given is escaped."""
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]  # the extension adds it
        _catalogue.gettext, _catalogue.ngettext, newstyle=True
    )
